"""AdvUnlearn: only the text encoder changes, the attack finds what it is for, and is answered."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import encode_texts
from alignguard_train.peers.adv_unlearn import AdvUnlearn, _Run, encode_behind
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.peers.made_up import CONCEPTS, PROMPTS, drawn, weights

QUICK = AdvUnlearn(steps=2, batch_size=2, lr=1e-3, sampling_steps=3, attack_steps=1)


def encoder_of(pipe) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in pipe.text_encoder.state_dict().items()}


@pytest.mark.parametrize("texts", ["name", "examples"])
def test_only_the_text_encoder_of_the_new_pipe_changes(texts):
    pipe = tiny_pipe()
    before, encoder, image = weights(pipe), encoder_of(pipe), drawn(pipe)
    made = dataclasses.replace(QUICK, texts=texts).apply(pipe, CONCEPTS)
    assert made.unet is pipe.unet
    assert all(torch.equal(x, before[name]) for name, x in pipe.unet.state_dict().items())
    assert all(torch.equal(x, encoder[name]) for name, x in encoder_of(pipe).items())
    changed = [n for n, x in encoder_of(made).items() if not torch.equal(x, encoder[n])]
    assert any("layers" in name for name in changed), changed
    assert not any(one.grad is not None for one in pipe.unet.parameters())
    assert not any(one.requires_grad for one in made.text_encoder.parameters())
    assert np.array_equal(drawn(pipe), image)


def test_without_benign_prompts_the_error_names_the_parameter():
    bare = [dataclasses.replace(one, examples=()) for one in CONCEPTS]
    with pytest.raises(ValueError, match="retain is empty and no concept has examples"):
        dataclasses.replace(QUICK, texts="name").apply(tiny_pipe("epsilon"), bare)


def test_no_step_changes_no_bit():
    pipe = tiny_pipe("epsilon")
    made = dataclasses.replace(QUICK, steps=0).apply(pipe, CONCEPTS)
    before = encoder_of(pipe)
    assert all(torch.equal(x, before[name]) for name, x in encoder_of(made).items())
    assert np.array_equal(drawn(made), drawn(pipe))


def test_the_same_seed_gives_the_same_encoder():
    pipe = tiny_pipe("epsilon")
    one, same, other = (
        encoder_of(dataclasses.replace(QUICK, seed=seed).apply(pipe, CONCEPTS))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(x, same[name]) for name, x in one.items())
    assert any(not torch.equal(x, other[name]) for name, x in one.items())


@pytest.mark.parametrize("prefix", [None, 0, 2])
def test_a_prefix_goes_between_begin_and_prompt(prefix):
    pipe = tiny_pipe("epsilon")
    if not prefix:
        empty = None if prefix is None else torch.zeros(2, 0, 1)
        if empty is not None:
            width = pipe.text_encoder.get_input_embeddings().weight.shape[1]
            empty = torch.zeros(2, 0, width)
        found = encode_behind(pipe, PROMPTS, empty).states
        assert torch.equal(found, encode_texts(pipe, PROMPTS).states)
        return
    # A prefix of real tokens is the prompt with these tokens before it.
    table = pipe.text_encoder.get_input_embeddings().weight
    ids = pipe.tokenizer("c d").input_ids[1:-1]
    assert len(ids) == prefix
    soft = table[torch.tensor(ids)].expand(2, -1, -1)
    found = encode_behind(pipe, PROMPTS, soft).states
    wanted = encode_texts(pipe, [f"c d {one}" for one in PROMPTS]).states
    assert torch.allclose(found, wanted, atol=1e-6)


def loss_at(peer: AdvUnlearn, made, pipe, *, attack_steps: int) -> tuple[float, float]:
    """The attack's loss and the erasing loss behind the attack's prefix, on fixed latents."""
    run = _Run(dataclasses.replace(peer, attack_steps=attack_steps), pipe, made, CONCEPTS[:1])
    prompts = [CONCEPTS[0].name] * 2
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    t = torch.tensor(500)
    with torch.no_grad():
        nothing, name = (encode_texts(pipe, [text] * 2) for text in ("", CONCEPTS[0].name))
        u, c = (run._predicted(one, latents, t) for one in (nothing, name))
        target = u - peer.eta * (c - u)
    prefix = run.attacked(prompts, latents, t, c)
    found = run._predicted(encode_behind(made, prompts, prefix), latents, t).detach()
    return float(run._error(found, c, t)), float(run._error(found, target, t))


def test_the_attack_brings_the_concept_back():
    """Over its steps the prediction comes nearer to the concept's and leaves the erased one."""
    pipe = tiny_pipe("epsilon")
    peer = AdvUnlearn(
        steps=15, batch_size=2, lr=3e-3, sampling_steps=2, attack_steps=0, eta=5.0, attack_lr=0.3
    )
    made = peer.apply(pipe, CONCEPTS[:1])
    few, many = (loss_at(peer, made, pipe, attack_steps=steps) for steps in (1, 20))
    assert many[0] < few[0]
    assert many[1] > few[1]


def test_training_brings_the_attacked_prediction_to_the_target():
    pipe = tiny_pipe("epsilon")
    peer = AdvUnlearn(
        steps=25, batch_size=2, lr=3e-3, sampling_steps=2, attack_steps=1, eta=5.0,
        retain_weight=0.0,
    )  # fmt: skip
    before = loss_at(peer, pipe, pipe, attack_steps=2)[1]
    after = loss_at(peer, peer.apply(pipe, CONCEPTS[:1]), pipe, attack_steps=2)[1]
    assert after < 0.7 * before


def test_benign_prompts_are_kept_by_their_weight():
    pipe = tiny_pipe("epsilon")
    peer = dataclasses.replace(QUICK, steps=12, eta=5.0)
    benign = [safe for one in CONCEPTS for _, safe in one.examples]
    wanted = encode_texts(pipe, benign).states

    def away(weight: float) -> float:
        made = dataclasses.replace(peer, retain_weight=weight).apply(pipe, CONCEPTS)
        return float((encode_texts(made, benign).states - wanted).pow(2).mean())

    assert away(100.0) < away(0.0)


def test_vanilla_classes_load_the_encoder(tmp_path):
    pipe = tiny_pipe("epsilon")
    made = QUICK.apply(pipe, CONCEPTS)
    made.text_encoder.save_pretrained(tmp_path)
    plain = StableDiffusionPipeline(
        **{**pipe.components, "text_encoder": CLIPTextModel.from_pretrained(tmp_path)},
        requires_safety_checker=False,
    )
    assert np.array_equal(drawn(plain), drawn(made))


def test_two_text_encoders_are_refused():
    with pytest.raises(EngineError, match="one text encoder"):
        QUICK.apply(tiny_xl(), CONCEPTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": -1}, "steps must not be negative, got -1"),
        ({"lr": 0}, "lr must be positive, got 0"),
        ({"prefix": 0}, "prefix must be positive, got 0"),
        ({"retain_weight": -0.1}, "retain_weight must not be negative, got -0.1"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        AdvUnlearn(**fields)
