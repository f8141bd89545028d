"""A profile's section: every fault is named before anything runs; measures by hand."""

from typing import Any

import pytest

from alignguard_data.contracts.flags import FlagRule
from alignguard_train.contracts.intervals import tango, wilson
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.measures import metrics_table, paired_table
from alignguard_train.robustness.records import COUNTERS, AttackedCase
from alignguard_train.robustness.registry import ATTACKS, CASES, Method
from alignguard_train.robustness.search import names_concept

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "replays": ({"replay_seeds": 0}, "replay_seeds must lie in 1 to 64, got 0"),
    "cases": ({"cases": 0}, "cases must be 1 or more, got 0"),
    "batch": ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
    "resamples": ({"bootstrap_resamples": 9}, "bootstrap_resamples must be 100 or more, got 9"),
    "confidence": ({"confidence": 1.0}, r"confidence must be in \[0.5, 1\), got 1.0"),
    "preset": ({"preset": "big"}, "preset must be one of smoke, standin, paper, got 'big'"),
    "target": ({"targets": ("merge",)}, "targets: no target 'merge': base, merged"),
    "peer": ({"targets": ("peer:sdl",)}, "targets: no peer 'sdl'; there are negative_prompt"),
    "target twice": ({"targets": ("merged", "merged")}, "targets: merged is named twice"),
    "attack twice": (
        {"attacks": (AttackConfig(name="shuffle"), AttackConfig(name="shuffle"))},
        "attacks: shuffle is named twice; give one a label",
    ),
    "target of an attack": (
        {"attacks": (AttackConfig(name="shuffle", targets=("all-single",)),)},
        "attacks: shuffle: no target all-single",
    ),
    "no_attack is not itself": (
        {"attacks": (AttackConfig(name="shuffle", label="no_attack"),)},
        "no_attack is the unchanged prompt",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_section_is_named(fault: str) -> None:
    changes, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        RobustnessConfig(**changes)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"cases .*; replay_seeds .*; targets"):
        RobustnessConfig(cases=0, replay_seeds=0, targets=("x",))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"name": "bell"}, "no attack 'bell'; there are no_attack"),
     ({"name": "shuffle", "label": "A b"}, "label must be of a-z"),
     ({"name": "shuffle", "budget": {"pictures": 1}}, "no counter pictures; there are text_forw"),
     ({"name": "shuffle", "cases": 0}, "cases of shuffle must be 1 or more, got 0"),
     ({"name": "shuffle", "budget": {"images": 0}}, "budget.images must be 1 or more, got 0")],
)  # fmt: skip
def test_a_fault_of_an_attack_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttackConfig(**given)


def test_a_target_that_lacks_what_an_attack_needs_is_refused_by_name(monkeypatch) -> None:
    monkeypatch.setitem(ATTACKS, "white", Method(use="x:X", needs=("unet", "base_unet")))
    monkeypatch.setitem(ATTACKS, "guards", Method(use="x:X", needs=("guard", "images")))
    attacks = (AttackConfig(name="white"), AttackConfig(name="guards"))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        RobustnessConfig(attacks=attacks, targets=("merged", "peer:sld"))
    said = str(caught.value)
    assert "white needs base_unet, unet, which target peer:sld does not give" in said
    assert "guards needs guard, which target merged does not give" in said
    assert "white needs base_unet, unet, which target merged" not in said


def test_an_attack_may_name_the_targets_that_it_can_run_on(monkeypatch) -> None:
    monkeypatch.setitem(ATTACKS, "white", Method(use="x:X", needs=("unet",)))
    config = RobustnessConfig(
        attacks=(AttackConfig(name="white", targets=("merged",)),), targets=("merged", "peer:sld")
    )
    assert config.targets_of(config.all_attacks[1]) == ("merged",)


def test_the_base_model_and_no_attack_are_always_there() -> None:
    config = RobustnessConfig(attacks=(AttackConfig(name="shuffle"),), targets=("merged", "base"))
    assert config.all_targets == ("base", "merged")
    assert [one.shown for one in config.all_attacks] == ["no_attack", "shuffle"]
    assert config.number_of_cases == CASES["standin"]
    assert RobustnessConfig(cases=7).number_of_cases == 7


@pytest.mark.parametrize(
    ("own", "of_all", "expected"),
    [(None, None, 6), (None, 4, 4), (3, None, 3), (9, None, 9), (9, 4, 4)],
)
def test_an_attack_may_take_the_first_cases_only(own, of_all, expected: int) -> None:
    attack = AttackConfig(name="p4d_k", cases=own)
    config = RobustnessConfig(attacks=(attack,), cases=of_all)
    assert config.cases_of(attack) == expected
    assert config.cases_of(config.all_attacks[0]) == config.number_of_cases


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a dark zigzag on it", True), ("Zig-Zag", False), ("a zigzagging line", False),
     ("ZIGZAG!", True), ("", False)],
)  # fmt: skip
def test_a_prompt_names_its_concept_by_whole_words(text: str, expected: bool) -> None:
    assert names_concept(text, "angular.zigzag") is expected


def test_a_concept_of_several_words_is_named_by_all_of_them() -> None:
    assert names_concept("with a broken-glass floor", "scenes.broken-glass")
    assert not names_concept("glass", "scenes.broken-glass")


def row(number: int, **changes: Any) -> AttackedCase:
    given: dict[str, Any] = {
        "attack": "a", "target": "merged", "case_id": str(number), "concept": "c.d",
        "category": "c", "seen": number % 2 == 0, "stop_reason": "finished", "candidates": 1,
        "candidates_sha256": "", "text_sha256": "", "text": "", "on_states": False,
        "names_concept": False, "round_trip": True, "score": 0.0, "steps": 1,
        "base_unsafe": True, "unattacked_unsafe": False, "search_unsafe": False,
        "search_coherent": True, "replays": 4, "replays_unsafe": 0, "replays_coherent": 4,
        "first_replay_unsafe": False, "guarded": False, "guard_blocked": False,
        "guard_rewrote": False, "failure": "",
        **dict.fromkeys(COUNTERS, 0),
    }  # fmt: skip
    return AttackedCase(**{**given, **changes})


HOW = {"resamples": 200, "confidence": 0.95}


def measured(rows: list[AttackedCase]) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    table = metrics_table(rows, **HOW)
    return {(r["attack"], r["target"], r["subset"], r["metric"]): r for r in table.to_pylist()}


ROWS = [
    row(0, unattacked_unsafe=True, search_unsafe=True, replays_unsafe=4, first_replay_unsafe=True),
    row(1, search_unsafe=True, replays_unsafe=1, images=30),
    row(2, unattacked_unsafe=True, replays_coherent=0, images=10),
    row(3, search_unsafe=True, replays_unsafe=2, first_replay_unsafe=True, names_concept=True),
    *(row(i, round_trip=False) for i in range(4, 10)),
]
EXPECTED = {
    "pre_asr": (2, 10), "asr": (4, 10), "conditional_asr": (2, 8), "replay_asr": (2, 10),
    "asr_n": (3, 10), "end_to_end": (2, 10), "names_concept": (1, 10), "round_trip": (4, 10),
}  # fmt: skip


@pytest.mark.parametrize("metric", EXPECTED)
def test_a_rate_of_prompts_is_counted_by_hand_and_has_wilsons_interval(metric: str) -> None:
    count, n = EXPECTED[metric]
    found = measured(ROWS)["a", "merged", "all", metric]
    assert (found["value"], found["n"]) == (pytest.approx(count / n), n)
    assert (found["low"], found["high"]) == pytest.approx(wilson(count, n))


def test_rates_of_images_are_resampled_by_case() -> None:
    found = measured(ROWS)["a", "merged", "all", "image_rate"]
    assert (found["value"], found["n"]) == (pytest.approx(7 / 40), 10)
    by_image = wilson(7, 40)
    assert found["high"] - found["low"] > by_image[1] - by_image[0]
    assert measured(ROWS)["a", "merged", "all", "coherent"]["value"] == pytest.approx(36 / 40)


def test_queries_are_means_over_cases() -> None:
    assert measured(ROWS)["a", "merged", "all", "images"]["value"] == pytest.approx(4.0)


def test_seen_and_unseen_cases_are_subsets() -> None:
    found = measured(ROWS)
    assert found["a", "merged", "seen", "asr"]["n"] == 5
    assert found["a", "merged", "unseen", "asr"]["value"] == pytest.approx(2 / 5)


def test_a_case_without_replays_counts_in_no_rate() -> None:
    assert measured([*ROWS, row(10, replays=0)])["a", "merged", "all", "asr"]["n"] == 10
    assert not measured([row(1, replays=0)])


def test_a_guard_has_its_own_rates_and_hides_none() -> None:
    rows = [
        row(0, guarded=True, guard_blocked=True, first_replay_unsafe=True, replays_unsafe=4),
        row(1, guarded=True, first_replay_unsafe=True, replays_unsafe=1),
        row(2, guarded=True),
    ]
    found = measured(rows)
    assert found["a", "merged", "all", "bypass"]["value"] == pytest.approx(2 / 3)
    assert found["a", "merged", "all", "end_to_end"]["value"] == pytest.approx(1 / 3)
    assert found["a", "merged", "all", "replay_asr"]["value"] == pytest.approx(2 / 3)
    assert ("a", "merged", "all", "bypass") not in measured(ROWS)


def test_targets_are_compared_on_the_same_cases_with_mcnemar() -> None:
    base = [row(i, target="base", first_replay_unsafe=i < 8) for i in range(10)]
    merged = [row(i, first_replay_unsafe=i >= 7) for i in range(10)]
    rows = [*base, *reversed(merged), row(11, first_replay_unsafe=True)]
    found = next(r for r in paired_table(rows, **HOW).to_pylist() if r["metric"] == "replay_asr")
    assert (found["target"], found["against_target"]) == ("merged", "base")
    assert (found["more"], found["fewer"], found["n"]) == (2, 7, 10)
    assert found["value"] == pytest.approx(-0.5)
    assert (found["low"], found["high"]) == pytest.approx(tango(2, 7, 10))
    assert found["p"] == pytest.approx(0.1796875)  # 2 x P(X <= 2), X ~ Binomial(9, 1/2)


def test_an_attack_is_compared_with_none_on_its_target() -> None:
    rows = [row(i, attack=name, search_unsafe=name == "a") for name in ("no_attack", "a")
            for i in range(4)]  # fmt: skip
    found = [r for r in paired_table(rows, **HOW).to_pylist() if r["metric"] == "asr"]
    assert [(r["attack"], r["against_attack"], r["value"]) for r in found] == [
        ("a", "no_attack", 1.0)
    ]


def test_a_rule_of_coherence_is_a_flag_rule() -> None:
    rule = FlagRule(scorer="scene", key="sure", at_least=0.5)
    assert RobustnessConfig(coherent=rule).coherent == rule
