"""`alignguard guard`: trains on a release, shows measures and decides on one prompt."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError, InputMissing
from pipelines.cli import guard
from pipelines.cli.app import app
from tests.alignguard_data.importing.published import Published
from tests.alignguard_train.guards.release import BASE, CONCEPTS, small_config, write_release
from tests.alignguard_train.guards.test_imported import rows

SAFE = "a red ball on the left of a meadow"


@pytest.fixture
def engines(tmp_path, monkeypatch):
    made = SimpleNamespace(
        data=write_release(tmp_path), base=BASE, taxonomy=SimpleNamespace(concepts=CONCEPTS),
        profile=SimpleNamespace(guards=small_config(tmp_path)),
    )  # fmt: skip
    monkeypatch.setattr(guard, "_engines", lambda: made)
    return made


def called(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["guard", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_guards_are_trained_shown_and_asked(engines):
    said = called("train", "eos-logistic", "latent-guard")
    assert "guard.safetensors" in said
    assert "latent-guard: TPR at 1 % FPR not quoted" in said

    scored = json.loads(called("score", "latent-guard", "--json"))
    assert {row["split"] for row in scored["guards"]["latent-guard"]} >= {"unseen explicit"}
    assert any("not quoted" in note for note in scored["notes"])
    assert "not quoted" in called("score")

    asked = json.loads(called("try", SAFE, "--json"))["decisions"]
    assert [row["guard"] for row in asked] == ["eos-logistic", "latent-guard"]
    assert {row["action"] for row in asked} <= {"allow", "block"}


def test_a_blacklist_is_given_by_key_by_words_or_empty(engines):
    called("train", "latent-guard")

    def reason(*listed: str) -> str:
        given = [part for one in listed for part in ("--blacklist", one)]
        said = called("try", "a dark hook", "--guard", "latent-guard", *given, "--json")
        (row,) = json.loads(said)["decisions"]
        return row["reason"]

    assert reason("") == "empty_blacklist"
    assert "guard_failed" not in reason("a.hook", "dark things")


def test_a_long_prompt_is_said_to_be_cut(engines):
    called("train", "eos-logistic")
    said = called("try", " ".join([SAFE] * 4), "--guard", "eos-logistic")
    assert "cut to the encoder's length" in said


def test_an_unknown_guard_and_no_guard_are_said(engines):
    with pytest.raises(ConfigError, match="no guard 'nothing'; there are eos-logistic"):
        called("train", "nothing")
    with pytest.raises(InputMissing, match="alignguard guard train"):
        called("try", SAFE)


@pytest.mark.parametrize(("low", "said"), [(-0.1, True), (0.01, False)])
def test_a_guard_without_a_gain_over_the_probe_is_said_plainly(monkeypatch, low, said):
    row = {"split": "unseen explicit", "measure": "auc_over_logistic", "low": low, "note": ""}
    monkeypatch.setattr(guard, "_measures", lambda *_: [row])
    notes = guard._notes(None, ["safeguider"], None)
    assert any("does not beat the logistic probe" in note for note in notes) == said


def test_guards_learn_from_an_import_apart_from_those_of_the_release(engines, tmp_path):
    name = Published(tmp_path).bring(*rows(60)).folder.name
    said = called("train", "eos-logistic", "guardt2i", "--imported", name, "--json")
    files = json.loads(said[said.index("{") :])["guards"]
    assert all(f"imported_guards/{name}" in file for file in files.values())
    folder = str(engines.data.base / "imports" / name)
    scored = json.loads(called("score", "--imported", folder, "--json"))["guards"]
    assert list(scored) == ["eos-logistic", "guardt2i"]
    assert {row["split"] for row in scored["guardt2i"]} >= {"seen explicit"}
    asked = json.loads(called("try", SAFE, "--imported", name, "--json"))["decisions"]
    assert [row["guard"] for row in asked] == ["eos-logistic", "guardt2i"]
    with pytest.raises(InputMissing, match="no guard is trained yet"):
        called("score")


def test_every_fault_of_training_on_an_import_is_said_at_once(engines):
    kinds = ("latent-guard", "rewriter", "sld", "safree", "shield")
    with pytest.raises(ConfigError) as raised:
        called("train", "eos-logistic", "nothing", *kinds, "--imported", "coprov2-none")
    faults = {fault.partition(":")[0]: fault for fault in raised.value.faults}
    assert set(faults) >= {*kinds, "--imported"}
    assert all("no concept column" in faults[kind] for kind in kinds)
    assert "no guard 'nothing'" in str(raised.value)
    assert "there are none: alignguard import coprov2" in faults["--imported"]
    assert not (engines.data.base / "imported_guards").exists()


def test_without_names_those_that_can_learn_from_an_import_are_trained(engines, tmp_path):
    name = Published(tmp_path).bring(*rows(2)).folder.name
    names, folder = guard._chosen(engines, None, name)
    assert names == ["eos-logistic", "safeguider", "guardt2i", "dual-latent"]
    assert folder == engines.data.base / "imports" / name
    gated = {"dual-latent": {"gate": "latent-guard"}, "rewriter": {"scorer": "probe"}}
    config = dataclasses.replace(engines.profile.guards, params=gated)
    engines.profile.guards = config
    assert guard._chosen(engines, None, name)[0] == [
        "eos-logistic", "safeguider", "guardt2i", "rewriter"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="dual-latent: its gate latent-guard compares"):
        guard._chosen(engines, ["dual-latent"], name)
