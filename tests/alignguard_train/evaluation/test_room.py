"""The evaluation room: the same prompts and seeds for all, exact resume, the summary's shape."""

import dataclasses
import json
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_train.evaluation.config import PromptSetConfig, ScoreKey
from alignguard_train.evaluation.report.summary import write_model_card, write_summary
from alignguard_train.evaluation.room import evaluate_all, spec
from tests.alignguard_data.images.drawn_images import DrawnImages
from tests.alignguard_train.evaluation.world import (
    CONFIG,
    RELEASE,
    ColourFeatures,
    RedScorer,
    write_adapter,
    write_history,
    write_release,
)

NAMES = ("expert:shape", "expert:tone", "all-single", "merged")


def world(folder):
    data = DataRoot(root=folder, profile="test")
    write_release(data)
    for name in ("shape", "tone", "all-single"):
        write_history(data, name)
    adapters = {name: write_adapter(folder / "adapters", name.replace(":", "-")) for name in NAMES}
    return data, adapters


def evaluate(data, adapters, generator=None, **options):
    return evaluate_all(
        data,
        adapters,
        generator or DrawnImages(),
        [RedScorer()],
        CONFIG,
        extractor=ColourFeatures(),
        **options,
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    data, adapters = world(tmp_path_factory.mktemp("evaluated"))
    return data, adapters, evaluate(data, adapters)


def table(data, name):
    return manifests.read(data.partition("evaluation"), name).to_pylist()


def test_base_and_every_adapter_see_the_same_prompts_and_seeds(evaluated):
    data, _, manifest = evaluated
    rows = table(data, "images")
    assert manifest.rows == len(rows) == 5 * 12
    seen = {name: [] for name in ("base", *NAMES)}
    for row in rows:
        seen[row["adapter"]].append((row["pair_id"], row["side"], row["prompt"], row["seed"]))
    assert all(listed == seen["base"] for listed in seen.values())


def test_metrics_say_what_the_images_say(evaluated):
    """Random pixels are 0.5 red on average and flagged; halved red is 0.25 and is not."""
    data, _, _ = evaluated
    ip = {
        (row["adapter"], row["subset"]): row["value"]
        for row in table(data, "metrics")
        if row["metric"] == "ip" and row["side"] == "unsafe"
    }
    assert ip["base", "all"] == 1.0
    assert ip["merged", "all"] == ip["merged", "category:tone"] == 0.0


def test_distance_to_the_base_image_is_zero_for_the_base_alone(evaluated):
    data, _, _ = evaluated
    distances = {}
    for row in table(data, "images"):
        distances.setdefault(row["adapter"], []).append(row["distance"])
    assert set(distances["base"]) == {0.0}
    assert min(distances["merged"]) > 0.05


def test_an_interrupted_evaluation_goes_on_to_the_same_content(evaluated, tmp_path):
    _, _, wanted = evaluated
    data, adapters = world(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, adapters, DrawnImages(stop_after=30))
    resumed = DrawnImages()
    assert evaluate(data, adapters, resumed).content_id == wanted.content_id
    # 60 images in all; of the 30 that were rendered one batch of 6 may not have been saved.
    assert 30 <= len(resumed.rendered) <= 36


def test_a_prompt_set_is_measured_beside_the_release_and_its_rejects_are_kept(tmp_path):
    data, adapters = world(tmp_path)
    path = tmp_path / "set.csv"
    path.write_text("prompt,guidance_scale,width,height\na,99,32,32\nb,,,\nb,,,\n")
    chosen = PromptSetConfig(name="other", path=str(path))
    config = dataclasses.replace(CONFIG, prompt_sets=(chosen,))
    manifest = evaluate_all(data, adapters, DrawnImages(), [RedScorer()], config)
    rows = [r for r in table(data, "images") if r["prompt_set"] == "other"]
    assert len(rows) == 5 * 2
    assert {(r["prompt"], r["guidance_scale"], r["width"]) for r in rows} == {
        ("a", 30.0, 32),
        ("b", 1.0, 16),
    }
    ip = {
        (r["adapter"], r["subset"]): r["n"] for r in table(data, "metrics") if r["metric"] == "ip"
    }
    assert ip["merged", "set:other"] == 2
    assert ip["merged", "all"] == 6
    assert manifest.rejected == {"duplicate_prompt": 1}
    assert [r["place"] for r in table(data, "rejected")] == ["set.csv, line 4"]
    assert manifest.counts["set:other guidance_clipped"] == 1
    assert str(tmp_path) not in json.dumps(manifest.config)
    path.write_text("prompt\nc\n")
    named = {"base": None, **adapters}
    assert spec(data, named, DrawnImages(), [RedScorer()], config).state() == "stale"
    path.unlink()
    with pytest.raises(InputMissing, match="other"):
        spec(data, named, DrawnImages(), [RedScorer()], config)


def test_two_scorers_of_one_name_are_refused_before_anything_is_rendered(tmp_path):
    """Scores are kept by name, so one of the two would be measured and the other believed."""
    data, adapters = world(tmp_path)
    generator = DrawnImages()
    with pytest.raises(EngineError, match="two scorers share a name: red"):
        evaluate_all(data, adapters, generator, [RedScorer(), RedScorer()], CONFIG)
    assert generator.rendered == []


def test_thresholds_of_another_version_of_their_scorer_are_refused(tmp_path):
    data, adapters = world(tmp_path)
    (flag,) = CONFIG.flags
    own, other = (dataclasses.replace(flag, version=version) for version in ("1", "0"))
    fine = dataclasses.replace(CONFIG, flags=(own,), residue=own)
    assert spec(data, {"base": None, **adapters}, DrawnImages(), [RedScorer()], fine).inputs
    stale = dataclasses.replace(CONFIG, flags=(own, other), residue=other)
    generator = DrawnImages()
    with pytest.raises(ConfigError, match="calibrated with version 0") as caught:
        evaluate_all(data, adapters, generator, [RedScorer()], stale)
    assert len(caught.value.faults) == 2
    assert generator.rendered == []


@pytest.mark.parametrize("field", ["flags", "residue", "fidelity", "clip_score"])
@pytest.mark.parametrize("wrong", ["scorer", "key"])
def test_a_score_that_no_scorer_gives_is_refused_before_anything_is_rendered(
    tmp_path, field, wrong
):
    data, adapters = world(tmp_path)
    (flag,) = CONFIG.flags
    named = {"scorer": flag.scorer, "key": flag.key} | {wrong: "ghost"}
    rule = dataclasses.replace(flag, **named)
    chosen = {"flags": (flag, rule), "residue": rule}.get(field, ScoreKey(**named))
    place = "flags.1" if field == "flags" else field
    generator = DrawnImages()
    with pytest.raises(ConfigError, match=rf"evaluation\.{place}\.{wrong}: .* 'ghost'; there are"):
        evaluate_all(
            data, adapters, generator, [RedScorer()], dataclasses.replace(CONFIG, **{field: chosen})
        )
    assert generator.rendered == []


@pytest.mark.parametrize("name", ["ip", "all", "base", "merged", "set", "path", "seen"])
def test_the_notes_of_a_set_are_its_own_whatever_it_is_called(tmp_path, name):
    """`ip base model` among a manifest's counts is a measure, and no note of a set `ip`."""
    data, adapters = world(tmp_path)
    path = tmp_path / "set.csv"
    path.write_text("prompt,guidance_scale,model\na,99,x\n,,\nb,,x\n")
    sets = (PromptSetConfig(name=name, path=str(path)),)
    config = dataclasses.replace(CONFIG, prompt_sets=sets)
    manifest = evaluate_all(data, {}, DrawnImages(), [RedScorer()], config)
    plain = evaluate_all(world(tmp_path / "o")[0], {}, DrawnImages(), [RedScorer()], CONFIG)
    measured = {key: value for key, value in plain.counts.items() if key.startswith("ip ")}
    assert measured
    assert {key: manifest.counts[key] for key in measured} == measured
    written = write_summary(data, seconds={}, adapter=next(iter(adapters.values())))
    notes = json.loads(written.read_text())["prompt_sets"][name]["notes"]
    assert notes == {"guidance_clipped": 1, "blank_rows": 1, "unread_columns": "model"}


def test_a_second_run_renders_nothing(evaluated):
    data, adapters, manifest = evaluated
    again = DrawnImages()
    assert evaluate(data, adapters, again) == manifest
    assert again.rendered == []


def summarize(data, adapters):
    (adapters["merged"].parent / "README.md").write_text("# The adapter\n")
    write_model_card(data, adapter=adapters["merged"])
    return write_summary(data, seconds={}, adapter=adapters["merged"])


def of_another_evaluation(summary):
    summary.write_text(summary.read_text().replace('"evaluation": "', '"evaluation": "0'))


def without_arena(summary):
    kept = json.loads(summary.read_text())
    del kept["arena"]
    summary.write_text(json.dumps(kept))


def of_another_format(summary):
    kept = json.loads(summary.read_text())
    kept["arena"]["format"] += 1
    summary.write_text(json.dumps(kept))


HARM = {
    "the summary is gone": lambda summary: summary.unlink(),
    "the summary is cut": lambda summary: summary.write_text(summary.read_text()[:-9]),
    "the summary is no object": lambda summary: summary.write_text("[]"),
    "the summary is of another evaluation": of_another_evaluation,
    "the summary is of an older version": without_arena,
    "the summary's figures have another format": of_another_format,
    "the model card is gone": lambda summary: summary.with_name("MODEL_CARD.md").unlink(),
}


@pytest.mark.parametrize("harm", HARM)
def test_an_evaluation_without_its_own_summary_is_not_done_and_renders_nothing_again(
    evaluated, harm
):
    data, adapters, manifest = evaluated
    engines = {"base": None, **adapters}, DrawnImages(), [RedScorer()], CONFIG, ColourFeatures()
    summary = summarize(data, adapters)
    assert spec(data, *engines).state() == "done"
    HARM[harm](summary)
    assert spec(data, *engines).state() == "stale"
    again = DrawnImages()
    assert evaluate(data, adapters, again) == manifest
    assert again.rendered == []
    summarize(data, adapters)
    assert spec(data, *engines).state() == "done"


def test_another_adapter_file_makes_the_evaluation_stale(evaluated, tmp_path):
    data, adapters, _ = evaluated
    summarize(data, adapters)
    other = {"base": None, **adapters, "merged": write_adapter(tmp_path, "another-merge")}
    same = {"base": None, **adapters}
    engines = DrawnImages(), [RedScorer()], CONFIG, ColourFeatures()
    assert spec(data, same, *engines).state() == "done"
    assert spec(data, other, *engines).state() == "stale"


def test_the_base_may_be_named_or_not(evaluated):
    data, adapters, manifest = evaluated
    assert evaluate(data, {"base": None, **adapters}) == manifest


def test_a_missing_adapter_is_named(evaluated, tmp_path):
    data, adapters, _ = evaluated
    with pytest.raises(InputMissing, match="merged"):
        evaluate(data, {**adapters, "merged": tmp_path / "none.safetensors"})


def test_progress_counts_every_image(tmp_path):
    data, adapters = world(tmp_path)
    done: list[int] = []
    evaluate(data, adapters, progress=done.append)
    assert sum(done) == 60


def test_the_summary_holds_every_adapters_figures_for_the_arena(evaluated):
    data, adapters, manifest = evaluated
    path = write_summary(data, seconds={}, adapter=adapters["merged"])
    block = json.loads(path.read_text())["arena"]
    assert (block["release"], block["made_of"]) == (RELEASE, manifest.content_id)
    cells = {(c["defence"], c["column"]): c for c in block["cells"]}
    for name in NAMES:
        assert cells[name, "ip_seen"]["n"] == 4
        assert cells[name, "ip_unseen"]["n"] == 2
        assert cells[name, "seconds_per_image"]["n"] == 12
    assert cells["base", "distance"]["value"] == 0
    assert cells["merged", "ip_seen"]["value"] == 0


def test_the_summary_has_the_agreed_shape(evaluated):
    data, adapters, _ = evaluated
    path = write_summary(data, seconds={"images": 1.23}, adapter=adapters["merged"])
    summary = json.loads(path.read_text())
    assert path == data.base / "evaluation" / "summary.json"
    assert set(summary) == {
        "ip", "preservation", "matrix", "paired", "distributions", "prompt_sets", "release",
        "adapter", "report", "evaluation", "seconds", "arena",
    }  # fmt: skip
    assert summary["matrix"]["expert:tone"]["shape"]["n"] == 4
    (row,) = [
        r
        for r in summary["paired"]
        if (r["adapter"], r["against"], r["side"], r["subset"], r["metric"])
        == ("merged", "base", "unsafe", "all", "ip")
    ]
    assert (row["value"], row["more"], row["fewer"], row["p"]) == (-1.0, 0, 6, 2 / 2**6)
    fid = {r["adapter"] for r in summary["distributions"] if r["metric"] == "fid"}
    assert fid == set(NAMES)
    assert summary["preservation"]["merged"]["feature_distance"]["value"] > 0
    assert set(summary["ip"]) == {"base", "merged", "experts"}
    assert set(summary["ip"]["experts"]) == {"shape", "tone"}
    assert set(summary["ip"]["base"]["unsafe"]) == {"value", "low", "high", "n"}
    assert summary["ip"]["base"]["unsafe"]["n"] == 6
    assert summary["preservation"]["merged"]["distance_to_base"]["value"] > 0.05
    assert summary["release"] == "v0.1.0"
    assert summary["seconds"] == {"images": 1.2}
    with Path(data.outside(summary["report"])).open() as report:
        assert "<!doctype html>" in report.readline()


def test_the_model_card_is_the_adapters_own_with_the_results_under_it(evaluated):
    data, adapters, _ = evaluated
    with pytest.raises(InputMissing, match="no card"):
        write_model_card(data, adapter=adapters["all-single"])
    (adapters["merged"].parent / "README.md").write_text("---\ntags: [lora]\n---\n# The adapter\n")
    text = write_model_card(data, adapter=adapters["merged"]).read_text()
    assert text.startswith("---\ntags: [lora]\n---\n# The adapter\n")
    assert "## What the adapter removed, and what it cost" in text
    assert "| Merged adapter |" in text
