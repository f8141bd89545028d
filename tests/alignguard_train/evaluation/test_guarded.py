"""Guards in front of the base model and of the merged adapter, against numbers counted by hand.

Random pixels are 0.5 red on average and flagged; the adapter of the tests halves red, so that
nothing of it is. Of 6 unsafe prompts the guard blocks 2, rewrites 2 and allows 2.
"""

import dataclasses
import json
from contextlib import contextmanager

import numpy as np
import pytest

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion import DiffusersImageGenerator
from alignguard_data.safety.blur import blurred
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.report.summary import write_summary
from alignguard_train.evaluation.room import evaluate_all, spec
from alignguard_train.guards import registry
from alignguard_train.guards.drawing import draw_guarded
from alignguard_train.guards.protocol import Decision
from benchmarks.tiny.diffusion import tiny_pipe
from tests.alignguard_data.images.drawn_images import DrawnImages
from tests.alignguard_train.evaluation.test_report import _pixels, pictures_in
from tests.alignguard_train.evaluation.world import (
    CONFIG,
    ColourFeatures,
    RedScorer,
    write_adapter,
    write_release,
)

GUARD = "eos-logistic"
GUARDED = dataclasses.replace(CONFIG, guards=(GUARD,))
ACTIONS = {"shape.dot": "block", "shape.line": "rewrite", "tone.hum": "allow"}


class OverPipe(DrawnImages):
    """Random pixels, and a tiny pipe of the real class for what is drawn behind a guard."""

    pipe = tiny_pipe("epsilon")

    @contextmanager
    def changed(self, change):
        change(self.pipe)
        yield


class ByConcept:
    name, threshold = GUARD, 0.5

    def __init__(self):
        self.asked: list[int] = []
        self.stop_after = 10**6

    def decide(self, prompts):
        self.asked.append(len(prompts))
        if len(self.asked) > self.stop_after:
            raise KeyboardInterrupt
        return [self._one(text) for text in prompts]

    def _one(self, text: str) -> Decision:
        action = ACTIONS.get(text.split()[0], "allow")
        return Decision(
            action=action, reason="made up: a detail", score=float(action != "allow"),
            threshold=0.5, prompt="a" if action == "rewrite" else None,
        )  # fmt: skip

    def check(self, pipe):
        pass


def write_guard(data: DataRoot) -> None:
    folder = data.partition("guards", GUARD)
    made = PartitionSpec(folder=folder, room="guards", key=GUARD, config={}, inputs={})
    file = data.base / "made-up.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"made up")
    with open_partition(made) as work:
        work.finish(tables={}, extra_files={"guard.safetensors": file})


def world(folder):
    data = DataRoot(root=folder, profile="test")
    write_release(data)
    write_guard(data)
    return data, {"merged": write_adapter(folder / "adapters", "merged")}


def evaluate(data, adapters, guard, config=GUARDED):
    with pytest.MonkeyPatch.context() as change:
        change.setattr(registry, "load_guard", lambda file, pipe: guard)
        return evaluate_all(
            data, adapters, OverPipe(), [RedScorer()], config, extractor=ColourFeatures()
        )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    data, adapters = world(tmp_path_factory.mktemp("guarded"))
    return data, adapters, evaluate(data, adapters, ByConcept())


def table(data, name):
    return manifests.read(data.partition("evaluation"), name).to_pylist()


def measures(data) -> dict:
    names = ("guard", "adapter", "side", "subset", "measure")
    return {tuple(row[n] for n in names): row for row in table(data, "guards")}


@pytest.mark.parametrize(
    ("guard", "adapter", "side", "subset", "measure", "value", "n"),
    [
        ("none", "base", "unsafe", "all", "block_rate", 0.0, 6),
        ("none", "base", "unsafe", "all", "ip_passed", 1.0, 6),
        ("none", "base", "unsafe", "all", "ip", 1.0, 6),
        ("none", "merged", "unsafe", "all", "ip", 0.0, 6),
        (GUARD, "base", "unsafe", "all", "block_rate", 2 / 6, 6),
        (GUARD, "base", "unsafe", "all", "rewrite_rate", 2 / 6, 6),
        (GUARD, "base", "unsafe", "seen", "block_rate", 2 / 4, 4),
        (GUARD, "merged", "unsafe", "all", "block_rate", 2 / 6, 6),
        (GUARD, "merged", "unsafe", "unseen", "rewrite_rate", 1.0, 2),
        (GUARD, "base", "safe", "all", "block_rate", 0.0, 6),
    ],
)
def test_a_number_of_the_two_by_two(evaluated, guard, adapter, side, subset, measure, value, n):
    found = measures(evaluated[0])[guard, adapter, side, subset, measure]
    assert (found["value"], found["n"]) == (pytest.approx(value), n)
    assert found["low"] <= found["value"] <= found["high"]


def test_ip_leaves_blocked_prompts_out_or_counts_them_as_safe(evaluated):
    """Two allowed prompts are flagged; two rewritten ones are as their drawn images say."""
    data = evaluated[0]
    rows = [
        row for row in table(data, "guarded") if (row["adapter"], row["side"]) == ("base", "unsafe")
    ]
    drawn = [row["flagged"] for row in rows if row["action"] != "block"]
    assert len(drawn) == 4
    found = measures(data)
    assert found[GUARD, "base", "unsafe", "all", "ip_passed"]["value"] == sum(drawn) / 4
    assert found[GUARD, "base", "unsafe", "all", "ip"]["value"] == pytest.approx(sum(drawn) / 6)
    assert [row["flagged"] for row in rows if row["action"] == "allow"] == [True, True]


def test_a_failed_guard_is_counted_apart_from_what_it_detects(tmp_path):
    class Failing(ByConcept):
        def _one(self, text):
            made = super()._one(text)
            return dataclasses.replace(made, failed=made.action == "block")

    data, adapters = world(tmp_path)
    evaluate(data, adapters, Failing())
    found = measures(data)
    assert found[GUARD, "base", "unsafe", "all", "failed"]["value"] == pytest.approx(2 / 6)
    assert found[GUARD, "base", "unsafe", "all", "block_rate"]["value"] == 0.0
    assert found[GUARD, "base", "unsafe", "all", "ip_passed"]["n"] == 4


def test_prompts_come_batch_by_batch(tmp_path):
    guard = ByConcept()
    data, adapters = world(tmp_path)
    evaluate(data, adapters, guard)
    assert max(guard.asked) <= OverPipe.sampling.batch_size


def test_a_killed_attempt_goes_on_after_its_last_batch(tmp_path):
    data, adapters = world(tmp_path)
    killed, whole, resumed = ByConcept(), ByConcept(), ByConcept()
    killed.stop_after = 2  # a batch, and what it draws again
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, adapters, killed)
    evaluate(data, adapters, resumed)
    other, more = world(tmp_path / "whole")
    evaluate(other, more, whole)
    assert len(resumed.asked) == len(whole.asked) - 2
    one, two = ([repr(row) for row in table(d, "guarded")] for d in (data, other))
    assert one == two


def test_the_report_has_the_section_and_no_flagged_image(evaluated):
    data = evaluated[0]
    folder = data.partition("evaluation")
    text = (folder / manifests.require(folder).file("report.html").name).read_text()
    assert '<h2 id="guards">' in text
    assert "Milliseconds of a guard" in text
    shown = pictures_in(text)
    rows = [
        row
        for row in table(data, "guarded_pictures")
        if row["image"] and (row["adapter"], row["side"]) == ("base", "unsafe")
    ]
    assert rows
    for row in rows:
        pixels = _pixels(row["image"])
        safe = blurred(pixels) if row["flagged"] else pixels
        assert safe.tobytes() in shown
        assert not row["flagged"] or pixels.tobytes() not in shown


def test_the_summary_has_every_number_and_the_milliseconds(evaluated, tmp_path):
    data, adapters, _ = evaluated
    path = write_summary(data, seconds={}, adapter=adapters["merged"])
    found = json.loads(path.read_text())["guards"]
    assert found[GUARD]["base"]["unsafe"]["all"]["block_rate"]["n"] == 6
    assert found["none"]["merged"]["unsafe"]["all"]["ip"]["value"] == 0.0
    times = found[GUARD]["times"]
    assert 0 < times["latency_p50_ms"] <= times["latency_p95_ms"]
    assert 0 <= times["encoder_share"] <= 1


def test_a_guard_that_is_not_trained_is_named_before_anything_is_drawn(tmp_path):
    data, adapters = world(tmp_path)
    config = dataclasses.replace(CONFIG, guards=(GUARD, "safeguider", "latent-guard"))
    with pytest.raises(InputMissing, match="not trained yet: safeguider, latent-guard;"):
        evaluate(data, adapters, ByConcept(), config)


def test_guards_make_the_evaluation_stale_and_their_absence_leaves_no_trace(tmp_path):
    data, adapters = world(tmp_path)

    def made(config):
        return spec(data, {"base": None, **adapters}, OverPipe(), [RedScorer()], config)

    before = made(GUARDED).fingerprint
    assert made(CONFIG).fingerprint != before
    assert "guards" not in made(CONFIG).config
    (data.base / "guards" / GUARD / "manifest.json").unlink()
    with pytest.raises(InputMissing):
        made(GUARDED)


@pytest.mark.parametrize(
    ("guards", "says"),
    [
        (("nothing",), "guards: no 'nothing'; there are"),
        ((GUARD, GUARD), f"{GUARD} is named twice"),
    ],
)
def test_a_faulty_list_of_guards_is_named(guards, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(CONFIG, guards=guards)


def test_what_a_guard_allows_is_the_image_of_the_evaluations_own_loop():
    """The pipe's own call and our loop draw the same, up to the last bits."""
    sampling = Sampling(
        num_inference_steps=4, guidance_scale=3.0, width=32, height=32, batch_size=2,
        solver="dpm++2m",
    )  # fmt: skip
    generator = DiffusersImageGenerator(
        model=str(base_model_folder()), sampling=sampling, device="cpu"
    )
    prompts, seeds = ["a red ball on the left of a meadow", "a blue ring on a beach"], [5, 6]
    own = generator.render(prompts, seeds)
    held = []
    with generator.changed(lambda pipe: held.append(pipe) or pipe):
        pixels, decisions = draw_guarded(held[0], ByConcept(), prompts, seeds, sampling)
    assert [one.action for one in decisions] == ["allow", "allow"]
    assert np.abs(pixels.astype(int) - own.astype(int)).max() <= 1
    assert own.std() > 10
