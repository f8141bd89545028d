"""The image of a rewritten prompt must still show the text that was drawn."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.factory import scene_scorer
from alignguard_train.guards.guarded_pipe import guarded
from alignguard_train.guards.protocol import Decision, by_threshold
from alignguard_train.guards.shield.consistency import DISAGREES, Consistency
from alignguard_train.guards.shield.scan import OutputScan, Watch
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_train.guards.composed import brightness, made
from tests.alignguard_train.guards.release import BASE

TEXT = "a red ball on the left of a meadow"
OTHER = "a blue box at the top of a desert"


class Says:
    """Scores by the prompt; keeps the images that it was given."""

    name, version, keys = "says", "1", ("match",)

    def __init__(self, **scores: float):
        self.scores, self.seen = scores, []

    def score(self, images, prompts):
        self.seen.append((images, list(prompts)))
        return [{"match": self.scores[prompt]} for prompt in prompts]


def test_rows_with_a_text_are_compared_by_the_mean_of_their_frames():
    scorer = Says(good=0.9, bad=0.1, odd=math.nan)
    videos = torch.zeros(4, 3, 3, 8, 8)
    videos[0] = 1.0
    found = Consistency(scorer=scorer, key="match", least=0.5).reasons(
        videos, ["good", "", "bad", "odd"]
    )
    assert found[:2] == ["", ""]
    assert found[2] == f"{DISAGREES}: match 0.10 below 0.50"
    assert found[3].startswith(DISAGREES), "a score that is no number does not pass"
    ((images, prompts),) = scorer.seen
    assert (images.shape, images.dtype) == ((9, 8, 8, 3), np.uint8)
    assert images[:3].min() == 255
    assert prompts == ["good"] * 3 + ["bad"] * 3 + ["odd"] * 3


def test_without_a_rewritten_row_nothing_is_scored():
    scorer = Says()
    consistency = Consistency(scorer=scorer, key="match", least=0.5)
    assert consistency.reasons(torch.zeros(2, 1, 3, 8, 8), ["", ""]) == ["", ""]
    assert scorer.seen == []


def test_a_key_that_the_scorer_does_not_give_is_refused_at_once():
    with pytest.raises(EngineError, match="scorer says has no key 'other'; it has match"):
        Consistency(scorer=Says(), key="other", least=0.5)


class Rewrites:
    """Rewrites what holds `bad` and looks at every image."""

    name, threshold = "rewrites", 0.5

    def __init__(self, least: float):
        self.scorer = Says(**{TEXT: 0.4})
        self.scan = OutputScan(
            detector=brightness, threshold=2.0, side=8,
            consistency=Consistency(scorer=self.scorer, key="match", least=least),
        )  # fmt: skip

    def decide(self, prompts):
        rewritten = Decision(
            action="rewrite", reason="made up", score=1, threshold=0.5, prompt=TEXT
        )
        return [rewritten if "bad" in one else by_threshold(0.0, 0.5) for one in prompts]

    def check(self, pipe):
        pass

    def watching(self, pipe, rows, steps, texts):
        return Watch(self.scan, pipe, rows, steps, texts)


@pytest.mark.parametrize("least", [0.3, 0.5])
def test_only_a_rewritten_row_whose_image_disagrees_is_blocked(least):
    pipe, guard = tiny_pipe("epsilon"), Rewrites(least)
    pipe.set_progress_bar_config(disable=True)
    drawn = guarded(pipe, guard)(  # pyright: ignore[reportArgumentType]
        ["a field", "a bad field"], num_images_per_prompt=2, height=16, width=16,
        num_inference_steps=3, output_type="np",
    )  # fmt: skip
    assert [prompts for _, prompts in guard.scorer.seen] == [[TEXT, TEXT]]
    first, second = drawn.decisions
    assert first.action == "allow"
    blocked = least > 0.4
    assert second.action == ("block" if blocked else "rewrite")
    assert second.reason.startswith(DISAGREES) == blocked
    assert drawn.nsfw_content_detected == [False, False, blocked, blocked]


def test_the_standins_scene_scorer_tells_an_image_of_the_text_from_one_of_another():
    """The base model draws both; the shield's scan compares each with one text."""
    consistency = Consistency(scorer=scene_scorer(), key="all_right", least=0.5)
    pipe = BASE.pipe
    pipe.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    images = pipe(
        [TEXT, OTHER], generator=noise, num_inference_steps=20, guidance_scale=3.0, output_type="pt"
    ).images
    found = consistency.reasons(images[:, None].float(), [TEXT, TEXT])
    assert found[0] == ""
    assert found[1].startswith(DISAGREES)


def test_a_shield_takes_a_scan_that_compares():
    scan = OutputScan(detector=brightness, threshold=2.0)
    compared = dataclasses.replace(
        scan, consistency=Consistency(scorer=Says(), key="match", least=0.5)
    )
    watch = made("shield").changed(scan=compared).watching(None, 1, 4, [TEXT])
    assert watch is not None
    assert watch._scan.consistency is compared.consistency
    assert watch._texts == [TEXT]
