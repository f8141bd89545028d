"""SSR-N: several seeds of every unsafe prompt, drawn batch by batch, counted once per prompt."""

import dataclasses
import json

import pyarrow as pa
import pytest

from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.more_seeds import is_defence, with_any
from alignguard_train.evaluation.report.summary import write_summary
from alignguard_train.evaluation.room import evaluate_all, spec
from tests.alignguard_data.images.drawn_images import DrawnImages
from tests.alignguard_train.evaluation.test_room import NAMES, world
from tests.alignguard_train.evaluation.world import CONFIG, RedScorer

SEVERAL = dataclasses.replace(CONFIG, seeds=3)
DEFENCES = {"base", "merged", "all-single"}
UNSAFE = 6
"""Prompts of the test's release."""


def evaluate(data, adapters, generator=None, config=SEVERAL, **options):
    return evaluate_all(
        data, adapters, generator or DrawnImages(), [RedScorer()], config, **options
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    data, adapters = world(tmp_path_factory.mktemp("several"))
    generator, shown = DrawnImages(), []
    manifest = evaluate(data, adapters, generator, progress=shown.append)
    return data, adapters, manifest, generator, sum(shown)


def table(data, name):
    return manifests.read(data.partition("evaluation"), name).to_pylist()


def test_further_seeds_are_drawn_of_unsafe_prompts_of_every_defence_alike(evaluated):
    data, _, _, generator, _ = evaluated
    rows = table(data, "seeds")
    assert {row["adapter"] for row in rows} == DEFENCES
    assert len(rows) == len(DEFENCES) * UNSAFE * 2
    by_adapter = {
        name: [(r["pair_id"], r["number"], r["seed"]) for r in rows if r["adapter"] == name]
        for name in DEFENCES
    }
    assert by_adapter["merged"] == by_adapter["base"] == by_adapter["all-single"]
    images = {r["pair_id"]: r["seed"] for r in table(data, "images") if r["side"] == "unsafe"}
    seeds = {pair: {s for p, _, s in by_adapter["base"] if p == pair} for pair in images}
    assert all(len(own | {images[pair]}) == 3 for pair, own in seeds.items())
    assert len(generator.rendered) == 5 * 2 * UNSAFE + len(rows)


def test_verdicts_are_of_the_adapters_own_images(evaluated):
    """The base model's images are red and flagged, the adapters' are half as red and not."""
    data, *_ = evaluated
    assert all(row["flagged"] == (row["adapter"] == "base") for row in table(data, "seeds"))
    ssr = {
        row["adapter"]: (row["value"], row["n"])
        for row in table(data, "metrics")
        if (row["metric"], row["side"], row["subset"]) == ("ssr", "unsafe", "all")
    }
    assert ssr == {"base": (1.0, UNSAFE), "merged": (0.0, UNSAFE), "all-single": (0.0, UNSAFE)}


def test_a_prompt_counts_once_if_any_of_its_seeds_is_flagged():
    """p: only the third seed; q: only the first; r: none; s is of an adapter with one seed."""
    images = pa.table(
        {
            "adapter": ["merged", "merged", "merged", "merged", "expert:a"],
            "pair_id": ["p", "q", "r", "p", "s"],
            "side": ["unsafe", "unsafe", "unsafe", "safe", "unsafe"],
            "flagged": [False, True, False, True, True],
        }
    )
    again = pa.table(
        {
            "adapter": ["merged"] * 6,
            "pair_id": ["p", "p", "q", "q", "r", "r"],
            "flagged": [False, True, False, False, False, False],
        }
    )
    found = with_any(images, again)["any_flagged"].to_pylist()
    assert found[:3] == [1.0, 1.0, 0.0]
    assert [value != value for value in found[3:]] == [True, True]  # NaN


@pytest.mark.parametrize("name", ["expert:shape", "merge:average"])
def test_parts_and_baselines_are_drawn_once(name):
    assert not is_defence(name)


def test_an_interrupted_one_resumes_to_the_same_content(evaluated, tmp_path):
    """96 images; it stops after the base model's 12 first ones and 6 further ones."""
    _, _, wanted, _, _ = evaluated
    data, adapters = world(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, adapters, DrawnImages(stop_after=18))
    resumed = DrawnImages()
    assert evaluate(data, adapters, resumed).content_id == wanted.content_id
    assert len(resumed.rendered) == 96 - 18


def test_progress_counts_every_image(evaluated):
    *_, shown = evaluated
    assert shown == 5 * 2 * UNSAFE + len(DEFENCES) * UNSAFE * 2


def test_report_summary_and_arena_show_it(evaluated):
    data, adapters, manifest, *_ = evaluated
    report = (data.partition("evaluation") / manifest.file("report.html").name).read_text()
    assert "SSR-N, unsafe prompts" in report
    assert "N = 3 seeds" in report
    written = write_summary(data, seconds={}, adapter=adapters["merged"])
    summary = json.loads(written.read_text())
    assert summary["ssr_n"]["seeds"] == 3
    assert summary["ssr_n"]["base"]["value"] == 1.0
    cells = [cell for cell in summary["arena"]["cells"] if cell["column"] == "ssr_n"]
    assert {cell["defence"] for cell in cells} == DEFENCES
    assert {cell["over"] for cell in cells} == {"evaluation prompts, 3 seeds each"}


def test_one_seed_leaves_everything_as_it_was(tmp_path):
    data, adapters = world(tmp_path)
    one = dataclasses.replace(CONFIG, seeds=1)
    made = spec(data, {"base": None, **adapters}, DrawnImages(), [RedScorer()], one)
    assert "seeds" not in made.config
    evaluate(data, adapters, config=one)
    assert not any(row["metric"] == "ssr" for row in table(data, "metrics"))
    assert set(NAMES) > DEFENCES - {"base"}


def test_no_seed_is_refused():
    with pytest.raises(ValueError, match="seeds must be 1 or more, got 0"):
        dataclasses.replace(CONFIG, seeds=0)
