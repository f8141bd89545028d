"""The room over tiny models: searched once or on each target, counted, equal, faults."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.robustness.attacks.concept_inversion import ConceptInversion
from alignguard_train.robustness.config import AttackConfig
from alignguard_train.robustness.protocol import Target
from alignguard_train.robustness.registry import CONTROLS, make_attack
from alignguard_train.robustness.room import attack_all, spec
from tests.alignguard_train.robustness.room_world import (
    ATTACKS,
    CONCEPTS,
    CONFIG,
    EVALUATION,
    QUICK,
    Scorer,
    build,
    cases_of,
)


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def attacked(kind: str, tmp_path_factory: pytest.TempPathFactory):
    data, models = build(tmp_path_factory.mktemp("attacked"), kind)
    done: list[int] = []
    made = attack_all(data, models, CONFIG, progress=done.append)
    return data, models, made, sum(done)


def test_every_attack_has_a_row_for_every_target_and_case(attacked) -> None:
    data, _, made, done = attacked
    rows = cases_of(data)
    places = {(row.attack, row.target, row.case_id) for row in rows}
    targets = ("base", "merged", "peer:uce")
    assert len(places) == len(rows) == len(ATTACKS) * len(targets) * 2 == done == made.rows
    assert {place[0] for place in places} == {one.shown for one in ATTACKS}
    assert {place[1] for place in places} == set(targets)
    assert {row.seen for row in rows} == {True, False}


def test_a_text_only_attack_is_searched_once(attacked) -> None:
    data, *_ = attacked
    found: dict[tuple[str, str], set[tuple[str, int]]] = {}
    for row in cases_of(data):
        found.setdefault((row.attack, row.case_id), set()).add(
            (row.candidates_sha256, row.text_forwards)
        )
    assert all(len(shown) == 1 for shown in found.values())
    prepared = manifests.read(data.partition("robustness"), "prepared").to_pylist()
    assert {(row["attack"], row["target"], row["text_forwards"]) for row in prepared} == {
        ("ring_a_bell", "every target", 18), ("ring_a_bell_soft", "every target", 18)
    }  # fmt: skip


def test_queries_are_the_proxys(attacked) -> None:
    data, *_ = attacked
    for row in cases_of(data):
        if row.attack in CONTROLS:
            assert (row.text_forwards, row.images) == (0, 0)
        if row.attack == "ring_a_bell":
            assert row.text_forwards >= 1 + 4 + 2
            assert row.candidates >= 1


def test_replays_are_as_many_as_asked_and_fresh(attacked) -> None:
    data, *_ = attacked
    for row in cases_of(data):
        assert row.replays == CONFIG.replay_seeds
        assert 0 <= row.replays_unsafe <= row.replays
        assert row.on_states == (row.attack == "ring_a_bell_soft")


def test_no_text_is_kept_unless_asked(attacked) -> None:
    data, *_ = attacked
    assert {row.text for row in cases_of(data)} == {""}
    assert all(len(row.text_sha256) == 64 for row in cases_of(data))
    folder = data.partition("robustness")
    report = (folder / manifests.require(folder).file("report.html").name).read_text()
    assert "dot scene" not in report


def test_the_verdict_without_attack_is_the_same_in_every_row_of_a_target(attacked) -> None:
    data, *_ = attacked
    rows = cases_of(data)
    plain = {(r.target, r.case_id): r.search_unsafe for r in rows if r.attack == "no_attack"}
    for row in rows:
        assert row.unattacked_unsafe == plain[row.target, row.case_id]
        assert row.base_unsafe == plain["base", row.case_id]


def test_an_attack_or_no_attack_succeeds_at_least_as_often_as_none(attacked) -> None:
    data, *_ = attacked
    metrics = manifests.read(data.partition("robustness"), "metrics").to_pylist()
    asr = {
        (r["attack"], r["target"]): r["value"]
        for r in metrics
        if (r["metric"], r["subset"]) == ("asr", "all")
    }
    assert len(asr) == 18
    assert all(value >= asr["no_attack", target] for (_, target), value in asr.items())


def test_the_summary_holds_the_matrix_with_intervals_and_queries(attacked) -> None:
    data, _, made, _ = attacked
    summary = json.loads((data.base / "robustness" / "summary.json").read_text())
    assert summary["robustness"] == made.content_id
    assert set(summary["matrix"]) == {one.shown for one in ATTACKS}
    cell = summary["matrix"]["ring_a_bell"]["merged"]["all"]
    assert set(cell["replay_asr"]) == {"value", "low", "high", "n"}
    assert cell["text_forwards"]["value"] >= 1 + 4 + 2
    assert set(summary["ssr_n"]) == {"base", "merged", "peer:uce"}
    assert (data.root / summary["report"]).is_file()


def test_done_is_done_and_a_lost_summary_is_written_again(attacked) -> None:
    data, models, made, _ = attacked
    before = models.scorers[0].calls
    assert spec(data, models, CONFIG).state() == "done"
    (data.base / "robustness" / "summary.json").unlink()
    assert spec(data, models, CONFIG).state() != "done"
    assert attack_all(data, models, CONFIG).content_id == made.content_id
    assert spec(data, models, CONFIG).state() == "done"
    assert models.scorers[0].calls == before


def test_texts_are_kept_where_the_profile_says_so(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    attack_all(data, models, dataclasses.replace(CONFIG, keep_texts=True, targets=("base",)))
    rows = cases_of(data)
    assert all(row.text for row in rows)
    assert {row.text for row in rows if row.attack == "no_attack"} <= {
        f"{concept} scene {i}" for concept in CONCEPTS for i in range(3)
    }
    assert all(row.names_concept for row in rows if row.attack == "no_attack")


def test_train_prompts_are_another_matrix_than_held_out_ones(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    plain = spec(data, models, QUICK, "harden-1")
    trained = spec(data, models, QUICK, "harden-1", training_from=0)
    later = spec(data, models, QUICK, "harden-1", training_from=3)
    assert len({one.fingerprint for one in (plain, trained, later)}) == 3


def test_a_base_model_that_is_safe_already_is_counted(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    rule = FlagRule(scorer="red", key="mean", at_least=0.9999)
    models = dataclasses.replace(models, evaluation=EvaluationConfig(flags=(rule,)))
    made = attack_all(data, models, dataclasses.replace(CONFIG, attacks=(), targets=("base",)))
    assert made.counts["already_safe"] == made.counts["cases"] == 2
    summary = json.loads((data.base / "robustness" / "summary.json").read_text())
    assert summary["already_safe"] == 2


def test_a_target_that_is_unsafe_already_leaves_nothing_to_break(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    rule = FlagRule(scorer="red", key="mean", at_least=0.0001)
    models = dataclasses.replace(models, evaluation=EvaluationConfig(flags=(rule,)))
    attack_all(data, models, dataclasses.replace(CONFIG, attacks=(), targets=("merged",)))
    metrics = manifests.read(data.partition("robustness"), "metrics").to_pylist()
    assert "conditional_asr" not in {row["metric"] for row in metrics}
    assert {row["value"] for row in metrics if row["metric"] == "pre_asr"} == {1.0}


def test_an_attack_of_fewer_cases_prepares_for_their_concepts_only(tmp_path, monkeypatch) -> None:
    seen: list[set[str]] = []
    prepare = ConceptInversion.prepare

    def watched(self: ConceptInversion, target: Target, cases: Any, seed: int) -> Any:
        seen.append({one.concept for one in cases})
        return prepare(self, target, cases, seed)

    monkeypatch.setattr(ConceptInversion, "prepare", watched)
    data, models = build(tmp_path)
    one = AttackConfig(name="concept_inversion", cases=1)
    config = dataclasses.replace(CONFIG, attacks=(one,), targets=("base",), cases=2)
    attack_all(data, models, config)
    rows = cases_of(data)
    assert Counter(row.attack for row in rows) == {"no_attack": 2, "concept_inversion": 1}
    assert seen == [{row.concept for row in rows if row.attack == "concept_inversion"}]


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an adapter that is none here": (
        {"targets": ("all-single",)}, ConfigError, "there is no all-single; there are base, merged",
    ),
    "a parameter": (
        {"attacks": (AttackConfig(name="random_n", params={"token": 1}),)}, ConfigError,
        r"robustness.attacks.1 \(random_n\): .*token",
    ),
    "a rule without a scorer": (
        {"coherent": FlagRule(scorer="scene", key="shown", at_least=0.5)}, EngineError,
        "no scorer gives scene/shown",
    ),
    "a threshold of another version": (
        {"coherent": FlagRule(scorer="red", key="mean", at_least=0.5, version="0")}, ConfigError,
        "calibrated with version 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_is_refused_before_anything_runs(tmp_path: Path, fault: str) -> None:
    changes, error, message = REFUSED[fault]
    scorer = Scorer()
    data, models = build(tmp_path, scorer=scorer)
    with pytest.raises(error, match=message):
        attack_all(data, models, dataclasses.replace(CONFIG, **changes))
    assert scorer.calls == 0
    assert not data.partition("robustness").exists()


def test_peers_parameters_are_refused_before_anything_runs(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    wrong = dataclasses.replace(EVALUATION, peer_params={"uce": {"edge": 1}})
    with pytest.raises(ConfigError, match=r"evaluation.peer_params.uce: .*edge"):
        attack_all(data, dataclasses.replace(models, evaluation=wrong), CONFIG)


def test_a_missing_adapter_is_named(tmp_path: Path) -> None:
    data, models = build(tmp_path)
    models = dataclasses.replace(models, adapters={"base": None, "merged": tmp_path / "none"})
    with pytest.raises(InputMissing, match="adapter merged does not exist yet"):
        spec(data, models, CONFIG)


STALE: dict[str, dict[str, Any]] = {
    "another parameter": {"attacks": (AttackConfig(name="random_k", params={"every": 2}),)},
    "more replays": {"replay_seeds": 5},
    "another seed": {"seed": 1},
    "more cases": {"cases": 3},
    "a target less": {"targets": ("merged",)},
    "fewer cases of an attack": {"attacks": (AttackConfig(name="random_k", cases=1),)},
    "texts": {"keep_texts": True},
}


@pytest.mark.parametrize("change", STALE)
def test_what_changes_rows_changes_the_fingerprint(attacked, change: str) -> None:
    data, models, *_ = attacked
    other = dataclasses.replace(CONFIG, **STALE[change])
    assert spec(data, models, other).fingerprint != spec(data, models, CONFIG).fingerprint


def test_a_preset_is_in_the_fingerprint_by_its_parameters(attacked) -> None:
    data, models, *_ = attacked
    shown = dataclasses.replace(CONFIG, attacks=(AttackConfig(name="random_n"),))
    attacks = spec(data, models, shown).config["attacks"]
    assert [one["params"] for one in attacks] == [{}, {"tokens": 8}]


@pytest.mark.parametrize("name", ["ring_a_bell", "random_n"])
def test_equal_attacks_are_equal(name: str) -> None:
    assert make_attack(name, "smoke") == make_attack(name, "smoke")
