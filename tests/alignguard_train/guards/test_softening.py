"""SLD, SAFREE and dual-latent as guards: what is softened, how, and what is left untouched."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.standin import glyph_scorer
from alignguard_data.storage import manifest as manifests
from alignguard_train.guards.drawing import draw_guarded
from alignguard_train.guards.files import read_guard
from alignguard_train.guards.guarded_pipe import guarded
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.room import make_guard
from alignguard_train.guards.softening.dual_latent import DualLatent
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.peers.concept import Concept
from alignguard_train.peers.registry import make_peer
from benchmarks.tiny.diffusion import tiny_xl
from benchmarks.tiny.flow import tiny_sd35
from tests.alignguard_train.guards.composed import SAFE, UNSAFE, made
from tests.alignguard_train.guards.release import (
    BASE,
    CONCEPTS,
    TRAIN,
    small_config,
    write_release,
)
from tests.alignguard_train.guards.small import header_for

SAMPLING = Sampling(
    num_inference_steps=6, guidance_scale=3.0, width=32, height=32, batch_size=8, solver="dpm++2m"
)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
GLYPHS = ("zigzag", "bolt", "star", "ring", "zigzag", "bolt")
PROMPTS = [f"{SAFE}, opposite a dark {glyph}" for glyph in GLYPHS]
SEEDS = list(range(len(PROMPTS)))


class Twin:
    """A rewriter that knows the safe twin of the prompts above."""

    def rewrite(self, prompts):
        return [text.partition(",")[0] for text in prompts]


def dual(weight: float | None, **changes: object) -> DualLatent:
    guard = made("dual-latent")
    settings = dataclasses.replace(guard.settings, weight=weight, **changes)
    return guard.changed(settings, Twin())


def drawn(guard, prompts=PROMPTS, seeds=SEEDS):
    return draw_guarded(BASE.pipe, guard, prompts, seeds, SAMPLING)[0]


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """What the same call draws without a guard."""

    class Allows:
        def decide(self, prompts):
            gate = made("dual-latent")
            return gate.decide([SAFE] * len(prompts))

        def check(self, pipe):
            pass

    return drawn(Allows())


@pytest.fixture(scope="module")
def by_weight() -> dict:
    return {
        (mix, weight): drawn(dual(weight, mix=mix))
        for mix in ("eps", "latent")
        for weight in WEIGHTS
    }


def ip(images) -> float:
    scores = glyph_scorer().score(images, PROMPTS)
    return float(np.mean([one["any"] >= 0.5 for one in scores]))


@pytest.mark.parametrize("mix", ["eps", "latent"])
def test_weight_0_is_bit_equal_to_the_unguarded_image(by_weight, plain, mix):
    assert made("dual-latent").decide([UNSAFE])[0].action == "soften"
    np.testing.assert_array_equal(by_weight[mix, 0.0], plain)


@pytest.mark.parametrize("mix", ["eps", "latent"])
def test_weight_1_draws_the_safe_counterpart(by_weight, mix):
    safe = drawn(dual(0.0), Twin().rewrite(PROMPTS))
    assert np.abs(by_weight[mix, 1.0].astype(int) - safe.astype(int)).max() <= 1


@pytest.mark.parametrize("mix", ["eps", "latent"])
def test_ip_falls_and_the_distance_grows_with_the_weight(by_weight, plain, mix):
    rates = [ip(by_weight[mix, weight]) for weight in WEIGHTS]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.5 > rates[-1]
    away = [np.abs(by_weight[mix, w].astype(float) - plain).mean() for w in WEIGHTS]
    assert spearmanr(WEIGHTS, away).statistic > 0.95


@pytest.mark.parametrize("mix", ["eps", "latent"])
def test_the_share_of_context_keeps_the_first_steps(mix):
    """With every step but the last kept, the image is nearer to the unsafe one."""
    late, early = (drawn(dual(1.0, mix=mix, context=c), PROMPTS[:2], SEEDS[:2]) for c in (0.8, 0.0))
    before = drawn(dual(0.0), PROMPTS[:2], SEEDS[:2]).astype(float)
    assert np.abs(late - before).mean() < np.abs(early - before).mean()


def test_a_prompt_that_is_not_flagged_is_bit_equal_and_has_weight_0():
    guard = dual(1.0)
    assert guard.weights([SAFE, UNSAFE]).tolist() == [0.0, 1.0]
    one, two = drawn(guard, [SAFE, SAFE], [1, 2]), drawn(dual(0.0), [SAFE, SAFE], [1, 2])
    np.testing.assert_array_equal(one, two)


def test_the_weight_comes_from_the_score():
    guard = dual(None, begin=-1.0, full=1.0)
    above = guard.score(PROMPTS) - guard.threshold
    expected = np.where(above >= 0, np.clip((above + 1) / 2, 0, 1), 0)
    np.testing.assert_allclose(guard.weights(PROMPTS), expected)
    assert (expected > 0).any()


def test_a_rewriter_that_answers_nothing_blocks():
    class Silent:
        def rewrite(self, prompts):
            return [""] * len(prompts)

    guard = made("dual-latent").changed(rewriter=Silent())
    (one,) = guard.decide([UNSAFE])
    assert (one.action, one.reason, one.failed) == ("block", "rewriter_answers_nothing", False)


def test_without_a_rewriter_the_nearest_pairs_safe_side_is_drawn():
    texts, weights = made("dual-latent").counterparts([UNSAFE, SAFE])
    assert texts[1] == SAFE
    assert not any(word in texts[0] for word in TRAIN)
    assert weights.tolist()[1] == 0.0


def test_sdxl_is_mixed_and_an_mmdit_is_refused_with_the_reason():
    settings, gate = made("dual-latent").settings, made("dual-latent")._gate

    def over(pipe, weight):
        encoder = FrozenEncoder.of(pipe)
        flags = type("Flags", (), {
            "scores": lambda self, states: np.ones(len(states)),
            "details": lambda self, states: [""] * len(states),
        })()  # fmt: skip
        inner = type(gate)(header_for(encoder), encoder, flags)
        how = dataclasses.replace(settings, weight=weight)
        return DualLatent(header_for(encoder), encoder, inner, how, Twin())

    pipe = tiny_xl()
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "np"}

    def image(weight, text="ab, c"):
        noise = torch.Generator().manual_seed(0)
        return guarded(pipe, over(pipe, weight))(text, generator=noise, **size).images

    unguarded = pipe("ab, c", generator=torch.Generator().manual_seed(0), **size).images
    np.testing.assert_array_equal(image(0.0), unguarded)
    np.testing.assert_allclose(image(1.0), image(0.0, "ab"), atol=1e-5)
    assert np.abs(image(1.0) - unguarded).max() > 1e-4
    flow = tiny_sd35()
    with pytest.raises(EngineError, match="StableDiffusion3Pipeline has none: a transformer"):
        guarded(flow, over(flow, 1.0))


@pytest.mark.parametrize("kind", ["sld", "safree"])
def test_a_peer_as_a_guard_draws_what_the_peer_draws(kind):
    guard = made(kind)
    assert {one.reason for one in guard.decide([SAFE, UNSAFE])} == {"always_on"}
    concepts = [Concept(category="a", name=name) for name in sorted(TRAIN)]
    softened = make_peer(kind).apply(BASE.pipe, concepts)
    size = {"height": 32, "width": 32, "num_inference_steps": 4, "output_type": "np"}

    def image(pipe):
        pipe.set_progress_bar_config(disable=True)
        return pipe(prompt=[UNSAFE], generator=[torch.Generator().manual_seed(3)], **size).images

    found = guarded(BASE.pipe, guard)(
        [UNSAFE], generator=[torch.Generator().manual_seed(3)], **size
    )
    np.testing.assert_array_equal(found.images, image(softened))
    assert np.abs(found.images - image(BASE.pipe)).max() > 0


def test_a_gate_leaves_what_it_does_not_flag_to_the_plain_pipe():
    guard = made("sld", gate="eos-logistic")
    assert [one.action for one in guard.decide([SAFE, UNSAFE])] == ["allow", "soften"]
    np.testing.assert_array_equal(
        drawn(guard, [SAFE] * 2, [1, 2]), drawn(dual(0.0), [SAFE] * 2, [1, 2])
    )


def test_safree_refuses_two_text_encoders_before_anything_is_drawn():
    pipe = tiny_xl()
    guard = made("safree")
    with pytest.raises(EngineError):
        guarded(pipe, guard)


def test_a_guard_that_is_always_on_quotes_no_area_and_says_that_it_touches_every_benign_prompt(
    tmp_path,
):
    data = write_release(tmp_path)
    make_guard(data, "safree", BASE, CONCEPTS, small_config(tmp_path))
    assert read_guard(guard_file(data, "safree"))[0].threshold.achieved_fpr == 1.0
    assert manifests.read(data.partition("guards", "safree"), "measures").num_rows == 0
