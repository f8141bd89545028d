"""The guards room on a release of texts: trained, calibrated, measured, resumed, and kept apart."""

import dataclasses
import math
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_train.base import BaseModel
from alignguard_train.guards import training
from alignguard_train.guards.config import BenignSet, GuardsConfig
from alignguard_train.guards.files import read_guard
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.registry import load_guard
from alignguard_train.guards.room import make_guard, spec
from alignguard_train.guards.source import COLUMNS, EVALUATION_COLUMNS
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.guards.release import (
    BASE,
    CONCEPTS,
    RELEASE,
    small_config,
    write_release,
)

SCORERS = Path(__file__).parents[3] / "alignguard_data" / "standin" / "checkpoints" / "scorers"


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return write_release(tmp_path)


@pytest.fixture
def config(tmp_path) -> GuardsConfig:
    return small_config(tmp_path)


def made(data: DataRoot, config: GuardsConfig, kind: str = "eos-logistic", base=BASE):
    return make_guard(data, kind, base, CONCEPTS, config)


@pytest.mark.parametrize(
    "kind", ["eos-logistic", "safeguider", "latent-guard", "guardt2i", "rewriter"]
)
def test_every_guard_is_trained_calibrated_and_measured_without_an_image(data, config, kind):
    manifest = made(data, config, kind)
    header, _ = read_guard(guard_file(data, kind))
    assert (header.kind, header.release) == (kind, RELEASE)
    assert header.threshold.n > 20
    assert header.threshold.achieved_fpr <= 0.05 < header.threshold.high
    rows = manifests.read(data.partition("guards", kind), "measures").to_pylist()
    splits = {row["split"] for row in rows}
    assert {"seen explicit", "unseen explicit", "seen synonym", "benign twin"} <= splits
    assert {"benign plain", "benign harmless"} <= splits
    listed = kind in ("latent-guard", "guardt2i")
    assert ("unseen explicit, not on the list" in splits) == listed
    assert ("unseen explicit, nll only" in splits) == (kind == "guardt2i")
    (one,) = [r for r in rows if (r["split"], r["measure"]) == ("seen explicit", "tpr_at_1")]
    assert math.isnan(one["value"])
    assert "not quoted" in one["note"]
    assert (kind != "eos-logistic") == ("auc_over_logistic" in {row["measure"] for row in rows})
    rewritten = {row["measure"] for row in rows if row["split"] == "rewritten seen"}
    assert ("rewritten" in rewritten) == (kind == "rewriter")
    assert ("reconstruction" in {row["measure"] for row in rows}) == (kind == "guardt2i")
    assert 0 < manifest.counts["encoder_share"] <= 1
    guard = load_guard(guard_file(data, kind), BASE.pipe)
    assert [one.failed for one in guard.decide(["a red ball on the left of a meadow"])] == [False]


def test_calibration_and_test_share_no_text(data, config):
    made(data, config)
    rows = manifests.read(data.partition("guards", "eos-logistic"), "scores").to_pylist()
    by_part = {
        part: {row["text_id"] for row in rows if row["part"] == part}
        for part in ("calibration", "test")
    }
    assert all(by_part.values())
    assert not by_part["calibration"] & by_part["test"]


def test_a_guard_that_is_up_to_date_is_not_made_again(data, config, monkeypatch):
    first = made(data, config)
    monkeypatch.setattr(training, "fit", None)
    assert made(data, config) == first


def test_a_killed_attempt_keeps_its_trained_file(data, config, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as change:
        change.setattr(training, "score_bench", killed)
        with pytest.raises(KeyboardInterrupt):
            made(data, config)
    monkeypatch.setattr(training, "fit", None)  # a second training would fail
    assert made(data, config).counts["threshold n"] > 20


@pytest.mark.parametrize(
    "change",
    [
        {"target_fpr": 0.1},
        {"seed": 1},
        {"benign": ()},
        {"params": {"eos-logistic": {"strength": 2.0}}},
        {"validation_share": 0.5},
        {"blacklist": ("a.star",)},
    ],
)
def test_what_changes_a_guard_makes_it_stale(data, config, change):
    before = spec(data, "eos-logistic", BASE, CONCEPTS, config).fingerprint
    changed = dataclasses.replace(config, **change)
    assert spec(data, "eos-logistic", BASE, CONCEPTS, changed).fingerprint != before


def test_terms_and_benign_texts_make_it_stale_and_other_guards_params_do_not(data, config):
    def fingerprint(concepts=CONCEPTS, config=config) -> str:
        return spec(data, "eos-logistic", BASE, concepts, config).fingerprint

    before = fingerprint()
    assert fingerprint([*CONCEPTS[:-1], dataclasses.replace(CONCEPTS[-1], terms=("x",))]) != before
    other = dataclasses.replace(config, params={"safeguider": {"epochs": 9}}, train=("safeguider",))
    assert fingerprint(config=other) == before
    Path(config.benign[0].path).write_text("another caption")
    assert fingerprint() != before


def test_an_empty_blacklist_of_the_profile_allows_everything(data, config):
    made(data, dataclasses.replace(config, blacklist=()), "latent-guard")
    guard = load_guard(guard_file(data, "latent-guard"), BASE.pipe)
    assert [one.reason for one in guard.decide(["a dark star"])] == ["empty_blacklist"]


def test_a_blacklist_with_an_unknown_concept_is_refused_with_every_one(data, config):
    with pytest.raises(ConfigError) as raised:
        made(data, dataclasses.replace(config, blacklist=("a.star", "a.stra", "b.x")))
    assert raised.value.faults == (
        "blacklist: 'a.stra' is no concept of the taxonomy",
        "blacklist: 'b.x' is no concept of the taxonomy",
    )


def test_pairs_of_concepts_that_the_taxonomy_lacks_are_refused(data, config):
    with pytest.raises(EngineError, match="pairs of 1 concepts that the taxonomy does not hold"):
        make_guard(data, "eos-logistic", BASE, CONCEPTS[1:], config)


def test_faulty_benign_files_are_all_named(data, config, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    benign = tuple(
        BenignSet(name=name, path=str(tmp_path / f"{name}.txt")) for name in ("empty", "missing")
    )
    with pytest.raises(ConfigError) as raised:
        made(data, dataclasses.replace(config, benign=benign))
    text = str(raised.value)
    assert "empty.txt" in text
    assert "missing.txt" in text


def test_without_a_release_it_says_so(tmp_path, config):
    with pytest.raises(InputMissing):
        made(DataRoot(root=tmp_path, profile="tiny"), config)


def test_no_guard_reads_an_image_of_the_release():
    read = (*COLUMNS, *EVALUATION_COLUMNS)
    assert not [name for name in read if "jpg" in name or "image" in name]


def test_a_guard_shares_no_weight_with_the_judge(data, config):
    """Neither the guard's file nor the text encoder holds a tensor of a judge's network."""
    judges = [x for path in SCORERS.rglob("*.safetensors") for x in load_file(path).values()]
    judged = {(x.shape, x.tobytes()) for x in judges if x.size > 8}
    assert len(judged) > 5
    made(data, config, "latent-guard")
    own = load_file(guard_file(data, "latent-guard"))
    own |= {n: x.detach().numpy() for n, x in BASE.pipe.text_encoder.named_parameters()}
    assert len(own) > 10
    assert not {(x.shape, x.tobytes()) for x in own.values()} & judged


@pytest.mark.parametrize("kind", ["latent-guard", "guardt2i", "rewriter"])
@pytest.mark.parametrize(
    "make", [lambda words: tiny_pipe("epsilon", words), tiny_xl], ids=["sd15", "sdxl"]
)
def test_the_real_classes_train_and_refuse_each_others_guard(data, config, make, kind, tmp_path):
    make(BASE.pipe.tokenizer).save_pretrained(tmp_path / "model", safe_serialization=True)
    base = BaseModel(model=str(tmp_path / "model"), device="cpu")
    made(data, config, kind, base)
    file = guard_file(data, kind)
    assert load_guard(file, base.pipe).score(["a b", "c"]).shape == (2,)
    with pytest.raises(EngineError, match="they differ in width, weights"):
        load_guard(file, BASE.pipe)
