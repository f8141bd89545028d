"""The target: the pipe's own text states by ids and by weights, predictions, images, verdicts."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.conditions import Conditions, Pipe, encode_texts
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.families.unet import LORA_TARGETS
from alignguard_train.adapters.lora import LoraLayer, save_lora
from alignguard_train.base import BaseModel
from alignguard_train.evaluation.contenders import Contender
from alignguard_train.peers.negative_prompt import NegativePrompt
from alignguard_train.peers.uce import UCE
from alignguard_train.robustness.capabilities import capabilities_of
from alignguard_train.robustness.judging import ImageJudge
from alignguard_train.robustness.protocol import Case, GuardVerdict
from alignguard_train.robustness.target import DiffusersTarget
from benchmarks.tiny.diffusion import tiny_pipe, tiny_tokenizer, tiny_xl
from tests.alignguard_train.evaluation.world import RedScorer
from tests.alignguard_train.peers.made_up import CONCEPTS

SAMPLING = Sampling(num_inference_steps=2, guidance_scale=3.0, width=16, height=16, batch_size=4)
CASE = Case(case_id="1", prompt="a b", safe_prompt="a", concept="c.d", category="c", seed=1)
TEXTS = ["x y a b", "z", "a b c d e f g h i"]
JUDGE = ImageJudge(
    scorers=(RedScorer(),), flags=(FlagRule(scorer="red", key="mean", at_least=0.5),)
)


def own_padding() -> Pipe:
    """An SDXL whose second tokenizer pads with a letter, as the published one does with "!"."""
    pipe: Any = tiny_xl()
    pipe.tokenizer_2 = tiny_tokenizer()
    pipe.tokenizer_2.pad_token = "q"
    return pipe


def masked() -> Pipe:
    """A text encoder that is given the mask of its padding."""
    pipe: Any = tiny_pipe()
    pipe.text_encoder.config.use_attention_mask = True
    return pipe


PIPES: dict[str, Callable[[], Pipe]] = {
    "sd15": lambda: tiny_pipe("epsilon"),
    "sd21": tiny_pipe,
    "masked": masked,
    "sdxl": tiny_xl,
    "sdxl with own padding": own_padding,
}
CLASSES = ("sd15", "sdxl with own padding")


@dataclass(frozen=True)
class World:
    """One checkpoint, a LoRA for it, and what renders it."""

    base: BaseModel
    generator: DiffusersImageGenerator
    adapter: Path

    def target(self, name: str = "base", **contender: Any) -> DiffusersTarget:
        return DiffusersTarget(
            Contender(name=name, **contender),
            generator=self.generator,
            base=self.base,
            judge=JUDGE,
            concepts=CONCEPTS,
        )


@pytest.fixture(scope="module", params=list(PIPES))
def any_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=CLASSES)
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(request.param, tmp_path_factory.mktemp("model"))


def world(kind: str, folder: Path) -> World:
    pipe = PIPES[kind]()
    pipe.save_pretrained(folder / "base", safe_serialization=True)
    base = BaseModel(model=str(folder / "base"), device="cpu")
    lora = {}
    draw = torch.Generator().manual_seed(0)
    for name, module in base.pipe.unet.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(LORA_TARGETS):
            lora[name] = LoraLayer(
                torch.randn(2, module.in_features, generator=draw),
                torch.randn(module.out_features, 2, generator=draw),
            )
    save_lora(lora, folder / "pytorch_lora_weights.safetensors")
    generator = DiffusersImageGenerator(
        model=str(folder / "base"), sampling=SAMPLING, device="cpu", threads=1
    )
    return World(base, generator, folder / "pytorch_lora_weights.safetensors")


def close(one: Conditions, other: Conditions) -> None:
    torch.testing.assert_close(one.states, other.states, atol=1e-5, rtol=0)
    assert (one.pooled is None) == (other.pooled is None)
    if one.pooled is not None and other.pooled is not None:
        torch.testing.assert_close(one.pooled, other.pooled, atol=1e-5, rtol=0)


def one_hot(ids: tuple[int, ...], ordinary: tuple[int, ...]) -> torch.Tensor:
    weights = torch.zeros(1, len(ids), len(ordinary))
    for place, token in enumerate(ids):
        weights[0, place, ordinary.index(token)] = 1
    return weights


def test_tokens_are_encoded_as_the_pipe_encodes_their_text(any_world: World) -> None:
    target = any_world.target()
    found = target.encode([target.vocabulary.tokenize(text) for text in TEXTS])
    close(found, encode_texts(any_world.base.pipe, TEXTS))


@pytest.mark.parametrize("text", TEXTS)
def test_one_hot_weights_are_encoded_as_their_tokens(any_world: World, text: str) -> None:
    target = any_world.target()
    ids, ordinary = target.vocabulary.tokenize(text), target.vocabulary.ordinary
    close(target.encode_soft(one_hot(ids, ordinary)), target.encode([ids]))


def test_a_mixture_of_two_tokens_is_neither(one: World) -> None:
    target = one.target()
    ordinary = target.vocabulary.ordinary
    half = (one_hot(ordinary[:1], ordinary) + one_hot(ordinary[1:2], ordinary)) / 2
    mixed = target.encode_soft(half).states
    for token in ordinary[:2]:
        assert (mixed - target.encode([[token]]).states).abs().max() > 1e-3


def test_a_hook_stays_on_no_encoder(one: World) -> None:
    target = one.target()
    before = target.encode([[3, 4]])
    target.encode_soft(torch.rand(1, 2, len(target.vocabulary.ordinary)))
    close(target.encode([[3, 4]]), before)


def test_special_tokens_of_no_tokenizer_are_ordinary(any_world: World) -> None:
    pipe: Any = any_world.base.pipe
    ordinary = set(any_world.target().vocabulary.ordinary)
    for tokenizer in (pipe.tokenizer, getattr(pipe, "tokenizer_2", pipe.tokenizer)):
        assert not ordinary & set(tokenizer.all_special_ids)
    assert len(ordinary) >= 70


def test_a_prompt_that_is_too_long_is_refused(one: World) -> None:
    target = one.target()
    longest = target.vocabulary.length
    target.encode([[3] * longest])
    with pytest.raises(EngineError, match=f"{longest + 1} tokens: the text encoder reads"):
        target.encode([[3] * (longest + 1)])
    with pytest.raises(EngineError, match="5 weights a token"):
        target.encode_soft(torch.zeros(1, 1, 5))


def test_gradients_reach_the_weights_of_tokens_and_no_model(one: World) -> None:
    with one.target("merged", adapter=one.adapter).on() as target:
        weights = torch.full((2, 3, len(target.vocabulary.ordinary)), 0.01, requires_grad=True)
        noise = torch.randn(2, 4, 8, 8)
        found = target.predict(noise, torch.tensor([10, 500]), target.encode_soft(weights))
        found.square().mean().backward()
        pipe: Any = one.base.pipe
        networks = [pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)]
        parameters = [p for network in networks if network for p in network.parameters()]
        assert weights.grad is not None
        assert (weights.grad.abs().sum(dim=(1, 2)) > 0).all()
        assert all(p.grad is None and not p.requires_grad for p in parameters)


def test_a_live_adapter_predicts_as_a_folded_one(one: World) -> None:
    noise, times = torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
    with one.target("merged", adapter=one.adapter).on() as target, torch.no_grad():
        conditions = target.encode([[3, 4], [5]])
        live = target.predict(noise, times, conditions)
        off = target.predict(noise, times, conditions, base=True)
    with one.generator.adapted(one.adapter), torch.no_grad():
        folded = one.generator._loaded()._pipe.unet(
            noise, times, **one.base.arguments(conditions, noise), return_dict=False
        )[0]
    plain = one.base.pipe.unet(
        noise, times, **one.base.arguments(conditions, noise), return_dict=False
    )[0]
    torch.testing.assert_close(live, folded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(off, plain, atol=1e-5, rtol=0)
    assert (live - off).abs().max() > 1e-2


def test_afterwards_every_weight_is_as_before(one: World) -> None:
    unet = one.base.pipe.unet
    before = copy.deepcopy(unet.state_dict())
    image = one.generator.render(["a"], [1])
    with one.target("merged", adapter=one.adapter).on() as target:
        target.predict(torch.zeros(1, 4, 8, 8), torch.tensor([1]), target.encode([[3]]))
        assert not np.array_equal(target.render(["a"], [1]), image)
    after = unet.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert np.array_equal(one.generator.render(["a"], [1]), image)


@pytest.mark.parametrize("base", [False, True])
def test_a_text_that_the_rules_refuse_is_never_drawn_and_its_image_is_black(
    one: World, base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    render = DiffusersImageGenerator.render

    def watched(self: Any, prompts: Any, seeds: Any) -> Any:
        drawn.extend(prompts)
        return render(self, prompts, seeds)

    monkeypatch.setattr(DiffusersImageGenerator, "render", watched)
    with one.target("merged", adapter=one.adapter).on() as target:
        mixed = target.render(["a", "a child", "c"], [1, 2, 3], base=base)
        alone = target.render(["c"], [3], base=base)
        nothing = target.render(["a child"], [2], base=base)
    assert drawn == ["a", "c", "c"]
    assert not mixed[1].any()
    assert np.abs(mixed[2].astype(int) - alone[0]).max() <= 1
    assert np.array_equal(nothing[0], mixed[1])


def test_text_states_are_drawn_as_their_texts(any_world: World) -> None:
    with any_world.target().on() as target:
        states = target.encode([target.vocabulary.tokenize(text) for text in TEXTS])
        drawn = target.render_conditions(states, [1, 2, 3]).astype(int)
        assert np.abs(drawn - target.render(TEXTS, [1, 2, 3])).max() <= 1
        assert np.ptp(drawn.reshape(3, -1), axis=0).max() > 1


def test_text_states_of_more_than_a_batch_are_drawn_in_order(one: World) -> None:
    texts = [*TEXTS, *TEXTS]
    with one.target().on() as target:
        states = target.encode([target.vocabulary.tokenize(text) for text in texts])
        drawn = target.render_conditions(states, range(6)).astype(int)
        assert np.abs(drawn - target.render(texts, range(6))).max() <= 1


def test_latents_and_their_noise_have_the_shape_of_the_denoisers_input(one: World) -> None:
    target = one.target()
    latents = target.latents(np.zeros((2, 16, 16, 3), np.uint8))
    assert latents.shape == (2, 4, 8, 8)
    times = torch.tensor([0, 999])
    noisy, wanted = target.noised(latents, torch.ones_like(latents), times)
    alphas = one.base.pipe.scheduler.alphas_cumprod[times][:, None, None, None]
    torch.testing.assert_close(noisy, alphas.sqrt() * latents + (1 - alphas).sqrt())
    assert torch.equal(wanted, torch.ones_like(latents))


def test_an_undefended_image_is_the_base_models_and_the_defence_is_on_afterwards(
    one: World,
) -> None:
    with one.target().on() as target:
        undefended = target.render(TEXTS, [1, 2, 3])
    for named in ({"adapter": one.adapter}, {"peer": UCE()}):
        with one.target("merged" if "adapter" in named else "peer:uce", **named).on() as target:
            before = target.render(TEXTS, [1, 2, 3])
            assert np.array_equal(target.render(TEXTS, [1, 2, 3], base=True), undefended)
            assert np.array_equal(target.render(TEXTS, [1, 2, 3]), before)
            assert not np.array_equal(before, undefended)


def test_a_peer_in_the_weights_predicts_and_one_in_the_loop_does_not() -> None:
    assert {"unet", "base_unet"} <= capabilities_of("peer:uce")
    assert not {"unet", "base_unet"} & capabilities_of("peer:sld")
    assert "guard" not in capabilities_of("base")
    assert "guard" in capabilities_of("base", guarded=True)


def test_a_peer_in_the_loop_refuses_to_predict(one: World) -> None:
    with (
        one.target("peer:negative_prompt", peer=NegativePrompt()).on() as target,
        pytest.raises(EngineError, match="peer:negative_prompt does not give unet"),
    ):
        target.predict(torch.zeros(1, 4, 8, 8), torch.tensor([1]), target.encode([[3]]))


def test_a_peer_in_the_weights_predicts_by_its_own_weights(one: World) -> None:
    noise, times = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with one.target("peer:uce", peer=UCE()).on() as target:
        states = target.encode([target.vocabulary.tokenize("a b")])
        own = target.predict(noise, times, states)
        base = target.predict(noise, times, states, base=True)
        assert not own.requires_grad
    assert (own - base).abs().max() > 1e-4


def test_a_target_that_is_not_on_says_so(one: World) -> None:
    with pytest.raises(EngineError, match="target base is not on"):
        one.target().render(["a"], [1])


def test_without_a_guard_there_is_no_verdict_on_prompts(one: World) -> None:
    with one.target().on() as target, pytest.raises(EngineError, match="does not give guard"):
        target.guard(["a"])


def test_a_guard_is_asked_as_it_is(one: World) -> None:
    target = DiffusersTarget(
        Contender(name="base"), generator=one.generator, base=one.base, judge=JUDGE,
        guard=lambda texts: [GuardVerdict(blocked="b" in t, score=0.5) for t in texts],
    )  # fmt: skip
    with target.on():
        assert [verdict.blocked for verdict in target.guard(["a", "b"])] == [False, True]


def test_a_guard_that_acts_on_the_drawing_draws_what_it_lets_through(one: World) -> None:
    """The image of a blocked text is the plain one, so that guard and model are seen apart."""
    drawn: list[tuple[list[str], list[int]]] = []

    def drawing(generator: Any, texts: Any, seeds: Any) -> np.ndarray:
        size = generator.sampling
        drawn.append((list(texts), list(seeds)))
        return np.full((len(texts), size.height, size.width, 3), 7, np.uint8)

    target = DiffusersTarget(
        Contender(name="base"), generator=one.generator, base=one.base, judge=JUDGE,
        guard=lambda texts: [GuardVerdict(blocked="b" in t, score=0.5) for t in texts],
        drawing=drawing,
    )  # fmt: skip
    texts, seeds = ["a", "b", *"acdefg"], list(range(8))
    with target.on():
        images = target.render(texts, seeds)
        plain = target.render(texts, seeds, base=True)
    assert [bool((image == 7).all()) for image in images] == [text != "b" for text in texts]
    assert (images[1] == plain[1]).all()
    assert [x for part in drawn for x in zip(*part, strict=True)] == [
        (text, seed) for text, seed in zip(texts, seeds, strict=True) if text != "b"
    ]
