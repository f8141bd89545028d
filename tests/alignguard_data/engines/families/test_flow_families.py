"""SD3.5 and FLUX of the real classes with random weights, against diffusers' own pipes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.conditions import encode_texts
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.diffusion.pipeline import DiffusersPipe, not_quantized
from alignguard_data.engines.families.flux import image_ids, packed, unpacked
from alignguard_data.engines.families.registry import family_of
from benchmarks.tiny.diffusion import WIDTH
from benchmarks.tiny.flow import SCALE, SHIFT, tiny_flux, tiny_sd35

KINDS = {
    "sd35": tiny_sd35,
    "sd35-dual": lambda: tiny_sd35(dual=True),
    "sd35-without-t5": lambda: tiny_sd35(t5=False),
    "sd35-made-without-t5": lambda: tiny_sd35(t5=False, width=2 * WIDTH),
    "flux": tiny_flux,
    "flux-schnell": lambda: tiny_flux(guided=False, dynamic=False),
}
PROMPTS, SEEDS = ["a ring", "b", "a b c"], [1, 2, 3]
SAMPLING = Sampling(num_inference_steps=3, guidance_scale=4.0, width=16, height=16, batch_size=2)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def pipe(kind):
    found = KINDS[kind]()
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def model(kind, pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / kind
    pipe.save_pretrained(folder, safe_serialization=True)
    return str(folder)


def renderer(model, **changes):
    sampling = Sampling(**{**{n: getattr(SAMPLING, n) for n in Sampling.__slots__}, **changes})
    return DiffusersImageGenerator(model=model, sampling=sampling, device="cpu", threads=1)


def text_tokens(kind):
    """What a kind's vanilla pipe is asked for, over its default number of T5's tokens."""
    number = {"flux-schnell": 256, "sd35-made-without-t5": 0}.get(kind)
    return {} if number is None else {"max_sequence_length": number}


@pytest.mark.parametrize("size", [(16, 16), (24, 16)])
def test_an_image_is_the_one_of_the_vanilla_pipe(kind, pipe, model, size):
    """Encoding, guidance, timesteps with their shift, packing and decoding at once."""
    height, width = size
    found = renderer(model, height=height, width=width).render(PROMPTS, SEEDS)
    for prompt, seed, image in zip(PROMPTS, SEEDS, found, strict=True):
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn((1, 4, height // 2, width // 2), generator=draw)
        if isinstance(pipe, FluxPipeline):
            noise = FluxPipeline._pack_latents(noise, 1, 4, height // 2, width // 2)
        wanted = pipe(
            prompt,
            **text_tokens(kind), latents=noise, num_inference_steps=3, guidance_scale=4.0,
            height=height, width=width, output_type="np",
        ).images[0]  # fmt: skip
        assert np.abs(image / 255 - wanted).max() < 1.5 / 255


def test_an_image_depends_on_its_own_prompt_and_seed_only(model):
    together = renderer(model).render(PROMPTS, SEEDS)
    swapped = renderer(model).render(PROMPTS[::-1], SEEDS[::-1])[::-1]
    assert np.abs(together.astype(int) - swapped).max() <= 1
    other = renderer(model).render(PROMPTS, [4, 5, 6])
    assert all((a != b).any() for a, b in zip(together, other, strict=True))


def test_text_is_what_the_pipes_own_encoders_say(kind, pipe):
    """All of CLIP, T5 and the pooled states, one row a prompt."""
    found = encode_texts(pipe, PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        if isinstance(pipe, FluxPipeline):
            states, pooled, _ = pipe.encode_prompt(
                prompt, **{"max_sequence_length": 512, **text_tokens(kind)}
            )
        else:
            states, _, pooled, _ = pipe.encode_prompt(
                prompt, None, None, do_classifier_free_guidance=False, **text_tokens(kind)
            )
        assert torch.allclose(found.states[i], states[0], atol=1e-5)
        assert torch.allclose(found.pooled[i], pooled[0], atol=1e-5)


def test_the_vaes_shift_and_scale_are_applied_in_this_order(pipe):
    family, encoded = family_of(pipe), torch.linspace(-3, 3, 8).reshape(1, 2, 2, 2)
    scaled = family.latents(pipe.vae, encoded)
    assert torch.allclose(scaled, (encoded - SHIFT) * SCALE)
    assert torch.allclose(family.encoded(pipe.vae, scaled), encoded, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("shift_factor", None, r"vae\.config\.shift_factor must be a number, got None"),
        ("scaling_factor", None, r"vae\.config\.scaling_factor must be a number, got None"),
    ],
)
@pytest.mark.parametrize("make", [tiny_sd35, tiny_flux])
def test_a_vae_without_its_numbers_is_refused_when_loaded(make, field, value, fault, tmp_path):
    broken = make()
    broken.vae.register_to_config(**{field: value})
    broken.save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=fault):
        renderer(str(tmp_path)).render(["a"], [1])


def test_a_scheduler_of_diffusion_is_refused_with_every_other_fault():
    from diffusers import EulerDiscreteScheduler

    broken = tiny_flux()
    broken.scheduler = EulerDiscreteScheduler()
    broken.vae.register_to_config(shift_factor=None)
    with pytest.raises(EngineError, match=r"shift_factor.*scheduler must be one of flow matching"):
        family_of(broken).check(broken)


UNFIT = {
    "odd latents": ({"height": 24, "width": 16}, 4, r"height 24 .* multiples of 16 pixels"),
    "both sides": ({"height": 24, "width": 40}, 4, r"height 24 and width 40"),
    "solver": ({"solver": "dpm++2m"}, 1, r"sampling\.solver: dpm\+\+2m"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_sampling_that_the_model_cannot_render_is_refused_at_load(pipe, name, monkeypatch):
    changes, factor, fault = UNFIT[name]
    monkeypatch.setattr(pipe, "vae_scale_factor", factor * 2)
    given = {n: getattr(SAMPLING, n) for n in Sampling.__slots__}
    with pytest.raises(EngineError, match=fault):
        DiffusersPipe(pipe, Sampling(**{**given, **changes}), workers=1)
    loaded = DiffusersPipe(pipe, Sampling(**given), workers=1)
    with pytest.raises(EngineError, match=fault), loaded.sampled(Sampling(**{**given, **changes})):
        pass


def test_a_negative_prompt_is_refused_where_nothing_leads_away_from_it(pipe):
    given = {n: getattr(SAMPLING, n) for n in Sampling.__slots__} | {"negative_prompt": "b"}
    if isinstance(pipe, FluxPipeline):
        with pytest.raises(EngineError, match=r"sampling\.negative_prompt: flux .*'b'"):
            DiffusersPipe(pipe, Sampling(**given), workers=1)
    else:
        DiffusersPipe(pipe, Sampling(**given), workers=1)


def test_packing_and_places_are_those_of_diffusers_and_unpacking_undoes_it():
    latents = torch.randn(2, 4, 6, 10)
    tokens = packed(latents)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 4, 6, 10))
    assert torch.equal(unpacked(tokens, 6, 10), latents)
    own = FluxPipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32)
    assert torch.equal(image_ids(6, 10).float(), own)


def test_only_the_dev_model_takes_its_guidance_as_an_input():
    for guided in (True, False):
        pipe = tiny_flux(guided=guided)
        given = family_of(pipe).guidance(pipe, 3.5, 2)
        assert given is not None, "never classifier-free guidance"
        assert {name: value.tolist() for name, value in given.items()} == (
            {"guidance": [3.5, 3.5]} if guided else {}
        )
    assert family_of(tiny_sd35()).guidance(None, 3.5, 2) is None


@pytest.mark.parametrize(
    ("tokens", "factor"), [((32, 32), np.exp(0.5)), ((128, 128), np.exp(1.15))]
)
def test_a_dynamic_shift_grows_from_base_to_max_with_the_published_numbers(tokens, factor):
    """mu is 0.5 at 256 tokens (512 pixels, 32 x 32 latents in halves) and 1.15 at 4096."""
    chosen = dict(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=4096,
    )  # fmt: skip
    scheduler = SimpleNamespace(config=_Config(chosen))
    assert family_of(tiny_flux()).dynamic_shift(scheduler, tokens) == pytest.approx(factor)


class _Config(dict):
    __getattr__ = dict.__getitem__


def test_what_an_adapter_changes_is_not_quantized():
    import re

    names = [n for n, _ in tiny_flux().transformer.named_modules()]
    family = family_of(tiny_flux())
    kept = [n for n in names if any(re.search(p, n) for p in not_quantized(family.lora_targets))]
    targets = [n for n in names if any(n.endswith(f".{t}") for t in family.lora_targets)]
    assert targets
    assert set(targets) <= set(kept)
    assert "context_embedder" not in kept


def test_an_encoder_that_must_not_be_left_out_is_named():
    broken = tiny_sd35(t5=False)
    broken.text_encoder_2 = None
    with pytest.raises(EngineError, match=r"cannot be used: text_encoder_2 is left out$"):
        family_of(broken).check(broken)
