"""Rounds of hardening over rooms that a test answers for: outcomes, kills, and repeats."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from alignguard_data.contracts.records import to_table
from alignguard_data.prompts.hard_negatives import HardNegative, read_hard_negatives
from alignguard_train.contracts.adapter_names import hardened_name
from alignguard_train.hardening.found import Findings
from alignguard_train.robustness.records import AttackedCase
from pipelines.cli.harden import describe
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.runtime import hardening
from pipelines.runtime.driver import RunReport
from pipelines.runtime.hardening import HardeningListener, _attacked, harden, round_matrix

FOUND = HardNegative(
    concept="angular.zigzag", unsafe_prompt="quux plugh secretword", safe_prompt="a scene",
    source_pair_id="p1", attack="mma", target="merged", budget="{}", round=1,
)  # fmt: skip


class World:
    """Answers for the rooms: each round finds one prompt, a release holds what the ledger has."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.attacked: list[tuple[int, str]] = []
        self.runs: list[str | None] = []
        self.finds = 99
        self.fails_at: int | None = None
        self.dies_at: int | None = None
        self.filtered = False

    def run_rooms(self, engines: Engines, listener: Any, until: str | None = None) -> RunReport:
        self.runs.append(until)
        if len(self.runs) == self.dies_at:
            raise KeyboardInterrupt
        failed = len(self.runs) == self.fails_at
        return RunReport(failures={"release all": "refused"} if failed else {})

    def search(self, engines: Engines, listener: Any, one: Any) -> Findings:
        self.attacked.append((one.number, one.target))
        entry = dataclasses.replace(
            FOUND, unsafe_prompt=f"quux plugh secretword {one.number}", round=one.number
        )
        found = (entry,) if one.number <= self.finds else ()
        return Findings(
            hard_negatives=found, attacked=9, broken=len(found), unusable={}, unjudged=0
        )

    def rounds(self, data: Any) -> list[int]:
        return [] if self.filtered else sorted({e.round for e in read_hard_negatives(data)})


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    engines = Engines(load_profile("standin"), tmp_path)
    engines.data.prepare()
    made = World(engines)
    monkeypatch.setattr(hardening, "run_rooms", made.run_rooms)
    monkeypatch.setattr(hardening, "_attacked", made.search)
    monkeypatch.setattr(hardening, "rounds", made.rounds)
    release = engines.data.releases / "v0.2.0"
    monkeypatch.setattr(hardening, "release_folder", lambda data: release)
    return made


def hardened(world: World, number: int) -> list[hardening.Round]:
    return harden(world.engines, HardeningListener(), number)


def test_each_round_attacks_the_adapter_of_the_round_before(world):
    hardened(world, 3)
    assert world.attacked == [(1, "merged"), (2, hardened_name(1)), (3, hardened_name(2))]


def test_a_made_round_is_neither_attacked_nor_added_again(world):
    hardened(world, 2)
    kept = read_hard_negatives(world.engines.data)
    again = hardened(world, 2)
    assert len(world.attacked) == 2
    assert read_hard_negatives(world.engines.data) == kept
    assert describe(again[0]) == "round 1: is made; its hard negatives are in v0.2.0"


def test_more_rounds_go_on_after_those_that_are_made(world):
    hardened(world, 1)
    hardened(world, 2)
    assert world.attacked == [(1, "merged"), (2, hardened_name(1))]


def test_a_round_that_finds_nothing_releases_nothing_and_ends_it(world):
    world.finds = 0
    (one,) = hardened(world, 3)
    assert not one.released
    assert not one.report.failures
    assert read_hard_negatives(world.engines.data) == []
    assert "no new hard negative, so nothing is released" in describe(one)


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4, 5])
def test_killed_between_any_stages_the_next_call_ends_alike(world, dies_at):
    world.dies_at = dies_at
    with pytest.raises(KeyboardInterrupt):
        hardened(world, 2)
    hardened(world, 2)
    prompts = [entry.unsafe_prompt for entry in read_hard_negatives(world.engines.data)]
    assert prompts == ["quux plugh secretword 1", "quux plugh secretword 2"]
    assert len(set(world.attacked)) == len(world.attacked)


def test_a_room_that_fails_ends_the_hardening_and_is_named(world):
    world.fails_at = 2
    (one,) = hardened(world, 2)
    assert one.report.failures == {"release all": "refused"}
    assert describe(one) == "round 1: failed; finished work is kept"


def test_prompts_that_the_filter_drops_are_said_to_train_nothing(world):
    world.filtered = True
    (one,) = hardened(world, 1)
    assert "none of them passed gate and filter, so no adapter was trained" in describe(one)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_prompt_is_in_what_a_person_sees(world, number):
    world.finds = number
    for one in hardened(world, 2):
        assert "secretword" not in describe(one)
        assert "secretword" not in str(one.refused)


def test_a_round_attacks_its_target_only_and_with_its_own_seed(world):
    first, second = (round_matrix(world.engines, k, "merged") for k in (1, 2))
    searching = [one for one in first.all_attacks if one.name != "no_attack"]
    assert {one.targets for one in searching} == {("merged",)}
    assert first.keep_texts
    assert first.seed != second.seed
    assert world.engines.profile.robustness.seed not in (first.seed, second.seed)


@pytest.mark.parametrize(("failing", "asked"), [(0, 1), (1, 2), (9, 2)])
def test_where_the_judge_failed_it_is_asked_once_more_before_the_round_is_closed(
    tmp_path, monkeypatch, failing, asked
):
    engines = Engines(load_profile("standin"), tmp_path)
    calls: list[str] = []

    def attack_all(*_: Any, key: str, **__: Any) -> Any:
        calls.append(key)
        return SimpleNamespace(rejected={"judge_failed": 1} if len(calls) <= failing else {})

    monkeypatch.setattr(hardening.robustness_room, "attack_all", attack_all)
    monkeypatch.setattr(hardening, "attacked_models", lambda engines: None)
    monkeypatch.setattr(hardening, "release_folder", lambda data: tmp_path)
    monkeypatch.setattr(hardening, "training_cases", lambda *_, **__: [])
    none = to_table(AttackedCase, [])
    monkeypatch.setattr(hardening.manifests, "read", lambda *_: none)
    _attacked(engines, HardeningListener(), hardening.Round(number=1, target="merged"))
    assert calls == ["harden-1"] * asked
