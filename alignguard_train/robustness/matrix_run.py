"""Every attack on every target, case by case; what a killed attempt finished is not made again."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import from_table, pair_seed, to_table
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionWork
from alignguard_data.storage.places import Place
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.robustness.capabilities import has_own_encoder
from alignguard_train.robustness.cases import ChosenCase, cases_of, preparation_cases
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Attack, Budget, JudgeFailed
from alignguard_train.robustness.records import AttackedCase, Preparation
from alignguard_train.robustness.registry import ATTACKS
from alignguard_train.robustness.search import (
    Replayer,
    Searched,
    Verdicts,
    not_searched,
    search,
)
from alignguard_train.robustness.target import DiffusersTarget

_STATE = pa.schema([pa.field("state", pa.binary(), nullable=False)])


class MatrixRun:
    """The cases of every attack on every target.

    Args:
        work: where rows, searches and prepared states are kept until all are there.
        release: the cases are its evaluation prompts.
        config: the section.
        attacks: by label, each with its budget.
        progress: counts cases, once per attack and target.
        training_from: see :func:`alignguard_train.robustness.cases.cases_of`.

    Attributes:
        cases: all of them, in order.
        rows: by attack, target and case.
        prepared: what attacks used before their first case, by attack and place.
    """

    def __init__(
        self,
        work: PartitionWork,
        release: Place,
        config: RobustnessConfig,
        attacks: Mapping[str, tuple[Attack, Budget]],
        progress: Progress | None,
        training_from: int | None = None,
    ) -> None:
        self._work, self._config, self._attacks = work, config, attacks
        self._progress = progress or (lambda units: None)
        self.cases = cases_of(release, config, training_from)
        self._training = partial(preparation_cases, release)
        self._saved = set(work.saved_names())
        self._verdicts: Verdicts = {}
        self.rows: dict[tuple[str, str, str], AttackedCase] = {}
        self.prepared: dict[tuple[str, str], Preparation] = {}

    def on(self, target: DiffusersTarget) -> None:
        """Attack one target."""
        with target.on():
            for label in self._attacks:
                if target.name in self._config.targets_of(self._config.attack(label)):
                    self._attack(label, target)

    def _attack(self, label: str, target: DiffusersTarget) -> None:
        prepared = _Late(partial(self._prepare, label, target))
        replayer = Replayer(
            target,
            seeds=self._config.replay_seeds,
            keep_texts=self._config.keep_texts,
            known=self._verdicts,
        )
        for chosen in self._cases_of(label):
            case_id = chosen.case.case_id
            name = _file("row", label, target.name, case_id)
            if name not in self._saved or self._row(name).failure:
                searched = self._searched(label, target, chosen, prepared)
                row = replayer.judged(chosen, label, searched, **self._plain(target, case_id))
                self._work.save_batch(name, to_table(AttackedCase, [row]))
            self.rows[label, target.name, case_id] = self._row(name)
            self._progress(1)
        shared = self._place(label, target)
        if (name := _file("prepared", label, shared, "")) in self._names():
            kept = self._work.load_batch(name)
            self.prepared[label, shared] = from_table(Preparation, kept)[0]

    def _row(self, name: str) -> AttackedCase:
        return from_table(AttackedCase, self._work.load_batch(name))[0]

    def _cases_of(self, label: str) -> list[ChosenCase]:
        return self.cases[: self._config.cases_of(self._config.attack(label))]

    def _plain(self, target: DiffusersTarget, case_id: str) -> dict[str, bool | None]:
        """The verdicts without attack; None where this is the first of them."""
        base = self.rows.get(("no_attack", BASE, case_id))
        own = self.rows.get(("no_attack", target.name, case_id))
        return {
            "base_unsafe": base.search_unsafe if base else None,
            "unattacked_unsafe": own.search_unsafe if own else None,
        }

    def _place(self, label: str, target: DiffusersTarget) -> str:
        """Where a search is kept: under its target, or under a name for all of one encoder."""
        shared = self._attacks[label][0].text_only and not has_own_encoder(target.name)
        return "every target" if shared else target.name

    def _searched(
        self, label: str, target: DiffusersTarget, chosen: ChosenCase, prepared: "_Late"
    ) -> Searched:
        name = _file("search", label, self._place(label, target), chosen.case.case_id)
        if name not in self._names():
            attack, budget = self._attacks[label]
            seed = pair_seed(chosen.case.case_id, f"attack {label} {self._config.seed}")
            try:
                given = prepared.value
            except JudgeFailed:
                return not_searched(chosen.case, "judge_failed")
            found = search(attack, target, budget, chosen.case, given, seed)
            self._work.save_batch(name, to_table(Searched, [found]))
        return from_table(Searched, self._work.load_batch(name))[0]

    def _prepare(self, label: str, target: DiffusersTarget) -> object:
        """What the attack prepares, or what a killed attempt kept of it."""
        from alignguard_train.robustness.attacks.kept_state import pack, unpack

        place = self._place(label, target)
        name = _file("state", label, place, "")
        if name in self._names():
            return unpack(self._work.load_batch(name)["state"][0].as_py())
        counted = Counted(target, Budget())
        seed = pair_seed(f"prepare {label}", f"attack {self._config.seed}")
        training = self._training()
        if ATTACKS[self._config.attack(label).name].own_concepts:
            concepts = {one.case.concept for one in self._cases_of(label)}
            training = [one for one in training if one.concept in concepts]
        found = self._attacks[label][0].prepare(counted, training, seed)
        used = dataclasses.asdict(counted.counters)
        if any(used.values()):
            row = Preparation(attack=label, target=place, **used)
            self._work.save_batch(_file("prepared", label, place, ""), to_table(Preparation, [row]))
        # Last: where the state is, its counters are too.
        if found is not None and (state := pack(found)):
            self._work.save_batch(name, pa.Table.from_pylist([{"state": state}], schema=_STATE))
        return found

    def _names(self) -> set[str]:
        return {path.stem for path in self._work.partial.glob("*.parquet")}


def keep_judged(work: PartitionWork) -> None:
    """Take over what the finished partition has, but the cases whose judge failed."""
    for row in from_table(AttackedCase, manifests.read(work.folder, "cases")):
        if not row.failure:
            name = _file("row", row.attack, row.target, row.case_id)
            work.save_batch(name, to_table(AttackedCase, [row]))
    for row in from_table(Preparation, manifests.read(work.folder, "prepared")):
        name = _file("prepared", row.attack, row.target, "")
        work.save_batch(name, to_table(Preparation, [row]))


class _Late:
    """A value that is made when it is first asked for: a resumed attempt may not need it."""

    def __init__(self, make: Any) -> None:
        self._make = make

    @cached_property
    def value(self) -> object:
        return self._make()


def _file(kind: str, attack: str, target: str, case_id: str) -> str:
    """A file name for a batch: targets have colons and spaces."""
    place = target.replace(":", "=").replace(" ", "_")
    return "@".join(part for part in (kind, attack, place, case_id) if part)
