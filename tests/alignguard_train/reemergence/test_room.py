"""The room on tiny random Stable Diffusion 1.5 and XL: what it makes, refuses and resumes."""

import dataclasses
import json

import pytest
import torch

from alignguard_data.contracts.errors import ConfigError, InputMissing, NothingMade
from alignguard_data.storage import manifest as manifests
from alignguard_train.adapters.lora import LoraLayer, save_lora
from alignguard_train.arena.cells import cells_of
from alignguard_train.reemergence import measuring
from alignguard_train.reemergence.config import BenignConfig
from alignguard_train.reemergence.room import measure_reemergence, spec
from tests.alignguard_train.reemergence.world import (
    CONFIG,
    KINDS,
    Scorer,
    build,
    models,
    random_lora,
)

MODELS = {
    ("base", "none", 0),
    *(
        (adapter, variant, steps)
        for adapter in ("merged", "merge:average")
        for variant, steps in (
            ("start", 0), ("minus-safety", 0), ("minus-tuning", 3),
            *((variant, steps) for variant in ("full", "stacked", "modular") for steps in (1, 3)),
        )
    ),
}  # fmt: skip
SMALL = dataclasses.replace(CONFIG, seeds=(0,), steps=(1, 2), prompts_per_concept=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = build(folder)
    counted: list[int] = []
    manifest = measure_reemergence(data, models(folder), CONFIG, counted.append)
    return data, folder, manifest, sum(counted)


def table(data, name):
    return manifests.read(data.partition("reemergence"), name).to_pylist()


def test_every_model_is_drawn_on_every_prompt(made):
    data, *_ = made
    rows = table(data, "images")
    assert {(row["adapter"], row["variant"], row["steps"]) for row in rows} == MODELS
    tuned = [row for row in rows if row["variant"] == "stacked" and row["steps"] == 3]
    assert len(tuned) == 2 * 2 * 12  # adapters, seeds, both sides of six pairs
    assert {row["seed"] for row in tuned} == {0, 1}


def test_each_change_of_weights_changes_the_images(made):
    """Else images are drawn by another model than the row says, as by the base model."""
    data, *_ = made
    seen: dict = {}
    for row in table(data, "images"):
        if row["seed"] == 0:
            place = (row["adapter"], row["variant"], row["steps"])
            seen.setdefault(place, []).append(row["fidelity"])
    assert len({tuple(values) for values in seen.values()}) == len(seen)


def test_losses_are_of_models_that_draw_and_weights_of_those_that_were_trained(made):
    data, *_ = made
    places = {(row["adapter"], row["variant"], row["steps"]) for row in table(data, "losses")}
    assert places == {place for place in MODELS if not place[1].startswith("minus")}
    trained = {(row["adapter"], row["variant"], row["steps"]) for row in table(data, "models")}
    assert trained == {place for place in places if place[1] in ("full", "stacked", "modular")}
    assert {row["steps"] for row in table(data, "models")} == {1, 3}
    layers = {row["layer"] for row in table(data, "layers")}
    assert layers == set(random_lora(models(made[1]).base, 0))


def test_progress_counts_every_step_and_image_once(made):
    data, _, _, counted = made
    steps = 2 * 3 * (2 + 2 + 1)  # seeds, steps, fine-tunings
    assert counted == steps + len(table(data, "images"))


def test_the_summary_has_every_variant_with_n_and_intervals(made):
    data, _, manifest, _ = made
    summary = json.loads((data.base / "reemergence" / "summary.json").read_text())
    assert summary["reemergence"] == manifest.content_id
    assert set(summary["relapse"]) == {"merged", "merge:average"}
    found = summary["relapse"]["merged"]["stacked"]
    assert set(found) == {"value", "low", "high", "n", "seeds", "steps", "relapses"}
    assert (found["n"], found["seeds"], found["steps"]) == (6, 2, 3)
    assert (data.root / summary["report"]).is_file()
    cells = cells_of(summary["arena"], "summary.json")
    assert {(cell.defence, cell.column) for cell in cells} == {
        (adapter, f"reemergence:{variant}")
        for adapter in ("merged", "merge:average")
        for variant in ("full", "stacked", "modular")
    }
    assert summary["benign"] == {"train": 6, "held_out": 2}


def test_the_page_names_every_variant_and_shows_both_plots(made):
    data, _, manifest, _ = made
    page = (data.partition("reemergence") / manifest.file("report.html").name).read_text()
    for text in (
        "A full",
        "B stacked",
        "C modular",
        "W0 + s - f",
        "W0 - s",
        "at equal benign loss",
    ):
        assert text in page
    assert page.count("data:image/png;base64,") == 2


def test_a_finished_one_is_up_to_date_until_something_changes(made):
    data, folder, manifest, _ = made
    again = models(folder, Scorer(dies_at=1))
    assert measure_reemergence(data, again, CONFIG).content_id == manifest.content_id
    same = dataclasses.replace(CONFIG.recipe, checkpoint_every=7)
    assert spec(data, again, dataclasses.replace(CONFIG, recipe=same)).state() == "done"
    for change in (
        {"steps": (1, 4)}, {"seeds": (0,)}, {"benign": BenignConfig(rows=5, held_out=2)},
        {"recipe": dataclasses.replace(CONFIG.recipe, lr=1e-3)},
    ):  # fmt: skip
        assert spec(data, again, dataclasses.replace(CONFIG, **change)).state() == "stale"
    (data.base / "reemergence" / "summary.json").unlink()
    assert spec(data, again, CONFIG).state() == "stale"
    measure_reemergence(data, again, CONFIG)
    assert spec(data, again, CONFIG).state() == "done"


@pytest.fixture(scope="module", params=KINDS)
def small(request, tmp_path_factory):
    """One adapter and one seed, measured in one go."""
    folder = tmp_path_factory.mktemp(request.param)
    data, scorer = build(folder, request.param), Scorer()
    own = models(folder, scorer, merged=folder / "merged.safetensors")
    return data, folder, measure_reemergence(data, own, SMALL, key="whole"), scorer.calls


def test_both_real_classes_are_measured_whole(small):
    _, _, manifest, _ = small
    assert manifest.rows == 10 * 6  # models; both sides of three pairs
    assert {name.split(" ")[2] for name in manifest.counts if name.startswith("ip merged")} == {
        "start", "full", "stacked", "modular", "minus-tuning", "minus-safety",
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.35, 0.6, 0.95])
def test_a_killed_one_resumes_to_the_same_rows(small, share):
    data, folder, whole, calls = small
    merged, key = folder / "merged.safetensors", f"killed-{share}"
    with pytest.raises(KeyboardInterrupt):
        dying = models(folder, Scorer(round(share * calls)), merged=merged)
        measure_reemergence(data, dying, SMALL, key=key)
    scorer, counted = Scorer(), []
    resumed = measure_reemergence(
        data, models(folder, scorer, merged=merged), SMALL, counted.append, key=key
    )
    assert resumed.content_id == whole.content_id
    assert scorer.calls < calls
    assert sum(counted) == 3 * 2 + whole.rows, "steps and images that were kept count too"


def trained(monkeypatch) -> list[str]:
    """Which variants are fine-tuned from here on."""
    found: list[str] = []
    monkeypatch.setattr(measuring, "fine_tune", lambda *args, **_: found.append(args[3]))
    return found


def refused_adapter(folder, kind):
    file = folder / "other.safetensors"
    own = random_lora(models(folder).base, 0)
    if kind == "another base model":
        about = {"alignguard.base_model": "elsewhere", "alignguard.base_revision": "abc"}
        save_lora(own, file, about)
    elif kind == "another layer":
        save_lora({"mid_block.nothing.to_q": next(iter(own.values()))}, file)
    else:
        name, layer = next(iter(own.items()))
        save_lora({name: LoraLayer(torch.zeros(2, 99), layer.up)}, file)
    return file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("another base model", "reemergence.adapters: merged was trained on elsewhere at abc, not"),
        ("another layer", "reemergence.adapters: merged .* does not fit base: mid_block.nothing"),
        ("another shape", "reemergence.adapters: merged .* does not fit base: .* 99 here"),
    ],
)
def test_an_adapter_of_another_target_is_refused_before_training(
    tmp_path, monkeypatch, kind, message
):
    data = build(tmp_path)
    done = trained(monkeypatch)
    own = models(tmp_path, merged=refused_adapter(tmp_path, kind))
    with pytest.raises(ConfigError, match=message):
        measure_reemergence(data, own, CONFIG)
    assert not done
    assert not (data.base / "reemergence" / "summary.json").exists()


def test_a_missing_adapter_is_named(tmp_path):
    data = build(tmp_path)
    with pytest.raises(InputMissing, match="adapter merged does not exist yet"):
        measure_reemergence(data, models(tmp_path, merged=tmp_path / "no"), CONFIG)


@pytest.mark.parametrize(
    ("world", "config", "error", "message"),
    [
        ({"rows": 0}, {}, NothingMade, "0 benign rows in the release's train split"),
        ({"rows": 1}, {}, NothingMade, "1 benign rows in the release's train split"),
        ({"red": 255}, {}, NothingMade, "0 benign rows"),  # all are flagged
        ({}, {"folder": "/nowhere"}, ConfigError, "benign.folder: there is no folder /nowhere"),
    ],
)
def test_without_benign_rows_it_is_refused_before_training(
    tmp_path, monkeypatch, world, config, error, message
):
    data = build(tmp_path, **world)
    done = trained(monkeypatch)
    benign = dataclasses.replace(CONFIG.benign, **config)
    with pytest.raises(error, match=message):
        measure_reemergence(data, models(tmp_path), dataclasses.replace(CONFIG, benign=benign))
    assert not done
