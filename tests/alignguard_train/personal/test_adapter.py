"""The adapter on tiny Stable Diffusion 1.5 and XL: a no-op at start, two tokens, files."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences, encode_prompts
from alignguard_train.personal import adapter as module
from alignguard_train.personal.adapter import (
    AdapterFacts,
    PersonalAdapter,
    cross_attention,
    load_personal,
    save_personal,
)
from alignguard_train.personal.training import LivePersonal, train_personal
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl

KINDS = {"sd15": lambda: tiny_pipe("epsilon"), "sdxl": tiny_xl}
WIDTH = 5
PROMPTS = ["a ball", "a tree"]


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory) -> BaseModel:
    folder = tmp_path_factory.mktemp("models") / request.param
    KINDS[request.param]().save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu")


def new(base: BaseModel, **facts) -> PersonalAdapter:
    unet = base.pipe.unet
    context = unet.config.cross_attention_dim
    return PersonalAdapter(
        AdapterFacts(user_width=WIDTH, context=context, **facts), cross_attention(unet), seed=1
    )


def filled(adapter: PersonalAdapter) -> PersonalAdapter:
    """The adapter with keys and values that are not zero, as after a training."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in [*adapter.keys.values(), *adapter.values.values()]:
            layer.weight.normal_(generator=draw)
    return adapter


def vectors(rows: int = 1) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def predicted(base: BaseModel, states: torch.Tensor | None = None) -> torch.Tensor:
    """The UNet's prediction for two prompts; ``states`` instead of the prompts' own."""
    given = encode_prompts(PROMPTS, base)
    if states is not None:
        given = dataclasses.replace(given, states=states)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    arguments = base.arguments(given, noise)
    return base.pipe.unet(noise, torch.tensor([300, 700]), **arguments).sample


def with_user(base, adapter, user=None) -> torch.Tensor:
    states = encode_prompts(PROMPTS, base).states
    return predicted(base, adapter.with_user(states, vectors() if user is None else user))


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_a_new_adapter_is_the_base_model_bit_for_bit(base, scale):
    adapter, plain = new(base), predicted(base)
    with adapter.attached(base.pipe):
        adapter.switch.scale = scale
        assert torch.equal(with_user(base, adapter), plain)


def test_a_filled_adapter_draws_by_user_and_at_scale_0_the_base_model(base):
    adapter, plain = filled(new(base)), predicted(base)
    with adapter.attached(base.pipe):
        first = with_user(base, adapter)
        assert not torch.allclose(first, plain, atol=1e-3)
        assert not torch.allclose(first, with_user(base, adapter, -vectors()), atol=1e-4)
        adapter.switch.scale = 0.0
        assert torch.equal(with_user(base, adapter), plain)


def test_a_text_without_a_user_is_the_base_models(base):
    adapter, plain = filled(new(base)), predicted(base)
    with adapter.attached(base.pipe):
        assert torch.equal(predicted(base), plain)


def test_the_base_models_processors_come_back(base):
    before = {name: base.pipe.unet.get_submodule(name).processor for name in new(base).layers}
    with new(base).attached(base.pipe):
        assert base.pipe.unet.get_submodule(next(iter(before))).processor is not None
        assert {id(p) for p in base.pipe.unet.attn_processors.values()}.isdisjoint(
            {id(p) for p in before.values()}
        )
    assert {n: base.pipe.unet.get_submodule(n).processor for n in before} == before


def test_only_cross_attention_is_touched(base):
    adapter = new(base)
    assert adapter.layers
    assert all(name.endswith("attn2") for name in adapter.layers)


def test_the_text_branch_is_diffusers_own_attention_plus_the_users(base):
    """Attn(q, K c, V c) + s Attn(q, K_u u, V_u u) before the output layer, by hand."""
    adapter = filled(new(base))
    name = next(iter(adapter.layers))
    layer = base.pipe.unet.get_submodule(name)
    states = encode_prompts(PROMPTS, base).states
    pixels = torch.randn(2, 6, layer.to_q.in_features, generator=torch.Generator().manual_seed(5))
    tokens = adapter.tokens(vectors())
    assert tokens.shape == (1, 3, adapter.facts.context)

    def attention(keys, values):
        heads = [
            x.view(2, -1, layer.heads, x.shape[-1] // layer.heads).transpose(1, 2)
            for x in (layer.to_q(pixels), keys, values)
        ]
        q, k, v = heads
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    users = tokens.expand(2, -1, -1)
    key, value = (held[name.replace(".", "/")] for held in (adapter.keys, adapter.values))
    summed = attention(layer.to_k(states), layer.to_v(states))
    summed = summed + 0.5 * attention(key(users), value(users))
    with adapter.attached(base.pipe), torch.no_grad():
        adapter.switch.scale = 0.5
        found = layer(pixels, encoder_hidden_states=adapter.with_user(states, vectors()))
    assert torch.allclose(found, layer.to_out[0](summed), atol=1e-5)


@pytest.mark.parametrize("unconditional", ["base", "zero-profile"])
def test_the_unconditional_branch_has_as_many_tokens_and_is_the_base_model_if_asked(
    base, unconditional
):
    adapter, plain = filled(new(base, unconditional=unconditional)), predicted(base)
    states = encode_prompts(PROMPTS, base).states
    given = adapter.without_user(states)
    assert given.shape == adapter.with_user(states, vectors()).shape
    with adapter.attached(base.pipe):
        assert torch.equal(predicted(base, given), plain) == (unconditional == "base")


@pytest.mark.parametrize(
    "change",
    [
        lambda states: states[:, :-1],
        lambda states: torch.cat([states, states[:, :5]], 1),
    ],
)
def test_a_number_of_tokens_that_is_no_text_and_user_is_refused(base, change):
    """Else tokens of the prompt would be taken for a user."""
    with new(base).attached(base.pipe), pytest.raises(EngineError, match="tokens are neither"):
        predicted(base, change(encode_prompts(PROMPTS, base).states))


def test_a_vector_of_another_width_is_refused(base):
    with pytest.raises(EngineError, match=r"must have width 5 .multihot of 0 categories., got 6"):
        new(base).tokens(torch.zeros(1, 6))


def test_an_adapter_of_another_unet_is_refused(base):
    lost = dict(list(cross_attention(base.pipe.unet).items())[1:])
    facts = AdapterFacts(user_width=WIDTH, context=base.pipe.unet.config.cross_attention_dim)
    with pytest.raises(EngineError, match="of another UNet"):
        PersonalAdapter(facts, lost).attach(base.pipe)
    with pytest.raises(EngineError, match="context 7 against"):
        facts = dataclasses.replace(facts, context=7)
        PersonalAdapter(facts, cross_attention(base.pipe.unet)).attach(base.pipe)


def test_a_model_without_a_unet_is_refused():
    class Transformer:
        """A pipe of joint attention."""

    with pytest.raises(EngineError, match=r"personal: sd35 .Transformer. has no UNet"):
        module.check_has_unet(Transformer(), "sd35")


def test_a_file_with_the_setting_s_older_name_is_read(base, tmp_path):
    save_personal(new(base, unconditional="zero-profile"), tmp_path / "new")
    content = (tmp_path / "new").read_bytes()
    # The names differ in length, so spaces keep the header's size.
    old = content.replace(b'\\"unconditional\\": ', b'\\"nobody\\":        ')
    assert old != content
    (tmp_path / "old").write_bytes(old)
    assert load_personal(tmp_path / "old").facts.unconditional == "zero-profile"


def test_a_file_gives_the_same_adapter_and_equal_bytes(base, tmp_path):
    adapter = filled(
        new(base, encoder="hf_llm", categories=("a", "b"), unconditional="zero-profile")
    )
    adapter.user_mean.fill_(0.25)
    adapter.user_deviation.fill_(3.0)
    for name in ("one", "two"):
        save_personal(adapter, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    loaded = load_personal(tmp_path / "one")
    assert loaded.facts == adapter.facts
    with adapter.attached(base.pipe):
        first = with_user(base, adapter)
    with loaded.attached(base.pipe):
        assert torch.equal(with_user(base, loaded), first)


@pytest.mark.parametrize("fault", ["text", "lora", "lost", "shape"])
def test_a_file_that_is_no_personal_adapter_is_refused(base, tmp_path, fault):
    file = tmp_path / "file.safetensors"
    save_personal(new(base), file)
    tensors = load_file(file)
    facts = {"kind": module.KIND, "layers": new(base).layers}
    facts |= json.loads(json.dumps(dataclasses.asdict(new(base).facts)))
    if fault == "text":
        file.write_text("no tensors")
    elif fault == "lora":
        save_file({"unet.x.lora_A.weight": torch.zeros(1)}, file)
    else:
        name = next(iter(tensors))
        tensors = tensors | {name: torch.zeros(1, 1)}
        if fault == "lost":
            del tensors[name]
        save_file(tensors, file, {"personal": json.dumps(facts)})
    with pytest.raises(IntegrityError, match=r"file\.safetensors"):
        load_personal(file)


def gradients(base, adapter) -> tuple[float, float]:
    """Largest gradient of K_u and of V_u of a prediction, after one step on V_u."""
    adapter.requires_grad_(True)
    with adapter.attached(base.pipe):
        for _ in range(2):
            adapter.zero_grad()
            states = adapter.with_user(encode_prompts(PROMPTS, base).states, vectors())
            given = dataclasses.replace(encode_prompts(PROMPTS, base), states=states)
            noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
            arguments = base.arguments(given, noise)
            base.pipe.unet(noise, 300, **arguments).sample.pow(2).mean().backward()
            found = [
                max(layer.weight.grad.abs().max().item() for layer in held.values())
                for held in (adapter.keys, adapter.values)
            ]
            with torch.no_grad():
                for layer in adapter.values.values():
                    layer.weight -= 10 * layer.weight.grad
    return found[0], found[1]


def test_keys_have_a_gradient_after_the_first_step(base):
    keys, values = gradients(base, new(base))
    assert values > 0
    assert keys > 1e-3 * values


def test_with_one_token_the_keys_would_never_learn(base, monkeypatch):
    """The published adapter's defect: a softmax over one key is 1."""

    def one_token(self, standard):
        return self.norm(self.project(standard).view(len(standard), 2, -1))[:, :1]

    monkeypatch.setattr(PersonalAdapter, "_tokens", one_token)
    adapter = new(base)
    adapter.switch.tokens = 1
    keys, values = gradients(base, adapter)
    assert values > 0
    assert keys < 1e-5 * values  # rounding


def encoded_rows(base: BaseModel) -> EncodedPreferences:
    draw = torch.Generator().manual_seed(0)
    prompts = [f"a ball {i}" for i in range(4)]
    return EncodedPreferences(
        concepts=["a.x"] * 4,
        categories=["a"] * 4,
        chosen=torch.randn(4, 4, 8, 8, generator=draw),
        rejected=torch.randn(4, 4, 8, 8, generator=draw),
        unsafe=encode_prompts([f"{p} b" for p in prompts], base),
        safe=encode_prompts(prompts, base),
        empty=encode_prompts([""], base),
        about=vectors(4),
    )


def trained(base, tmp_path, **recipe):
    facts = AdapterFacts(user_width=WIDTH, context=base.pipe.unet.config.cross_attention_dim)
    standard = (torch.zeros(WIDTH).numpy(), torch.ones(WIDTH).numpy())
    how = {"steps": 4, "batch_size": 2, "warmup_steps": 0, "lr": 1e-2} | recipe
    return train_personal(
        base, encoded_rows(base), ExpertRecipe(**how), facts, standard, seed=0,
        checkpoint=tmp_path / "c",
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_training_starts_at_ln_2_moves_keys_and_leaves_the_base_model(base, tmp_path, optimizer):
    before = {name: p.clone() for name, p in base.pipe.unet.named_parameters()}
    plain = predicted(base)
    found = trained(base, tmp_path, optimizer=optimizer, gradient_checkpointing=True)
    assert found.history[0, 1].item() == pytest.approx(0.6931, abs=1e-4)
    assert all(layer.weight.abs().max() > 0 for layer in found.weights.keys.values())
    assert all(torch.equal(before[n], p) for n, p in base.pipe.unet.named_parameters())
    with found.weights.attached(base.pipe):
        assert not torch.equal(with_user(base, found.weights), plain)
        found.weights.switch.scale = 0.0
        assert torch.equal(with_user(base, found.weights), plain)


def test_the_reference_is_the_base_model_whatever_was_learned(base):
    """On the same rows: conditions with a user, the adapter off."""
    adapter, plain = filled(new(base)), predicted(base)
    live = LivePersonal(adapter=adapter)
    with adapter.attached(base.pipe):
        conditions = live.conditioned(encode_prompts(PROMPTS, base), vectors())
        with live.off():
            assert torch.equal(predicted(base, conditions.states), plain)
        assert not torch.equal(predicted(base, conditions.states), plain)


def test_each_branch_has_its_rows_user(base):
    adapter = filled(new(base))
    both = encode_prompts([*PROMPTS, *PROMPTS], base)
    given = LivePersonal(adapter=adapter).conditioned(both, vectors(2)).states
    tokens = adapter.tokens(vectors(2))
    assert torch.equal(given[:, -3:], torch.cat([tokens, tokens]))
    assert torch.equal(given[:, :-3], both.states)
