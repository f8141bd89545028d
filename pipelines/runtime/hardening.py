"""Rounds of hardening: attack, add hard negatives, release, continue from the last weights.

A round's state is in files only: its attacks are a partition beside the room `robustness`, its
prompts lines of the ledgers of hard negatives, and the rooms read these. A killed round goes on
where it stopped, and a made one is not made again.
"""

import dataclasses
from dataclasses import dataclass, field

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import from_table
from alignguard_data.prompts.hard_negatives import (
    HardNegative,
    add_hard_negatives,
    complete_adding,
    read_hard_negatives,
)
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_train.contracts import adapter_names as names
from alignguard_train.hardening.found import Findings, findings
from alignguard_train.hardening.reader import rounds
from alignguard_train.robustness import room as robustness_room
from alignguard_train.robustness.cases import training_cases
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.records import AttackedCase
from pipelines.resources import Engines
from pipelines.room_inputs import attacked_models, placed_attacks
from pipelines.runtime.driver import Listener, RunReport, run_rooms


@dataclass(kw_only=True, slots=True)
class Round:
    """What one round did.

    Attributes:
        number: from 1.
        target: the attacked adapter.
        found: what the attacks found; None: an earlier call attacked.
        added: the new hard negatives.
        refused: findings that are none, by reason.
        released: name of the release that holds hard negatives of this round; empty: none does.
        report: the rooms that were made after it.
    """

    number: int
    target: str
    found: Findings | None = None
    added: tuple[HardNegative, ...] = ()
    refused: dict[str, int] = field(default_factory=dict)
    released: str = ""
    report: RunReport = field(default_factory=RunReport)


class HardeningListener(Listener):
    """Progress of hardening."""

    def attack_started(self, number: int, target: str, cases: int) -> None:
        """A round attacks ``target`` with ``cases`` prompts an attack."""

    def round_ended(self, made: Round) -> None:
        """A round is made, or found nothing, or failed."""


def harden(engines: Engines, listener: HardeningListener, number: int) -> list[Round]:
    """Bring the data to ``number`` rounds of hardening, and every room up to date.

    A round that adds no hard negative ends the hardening: another search of it would find the same.

    Args:
        engines: the profile's.
        listener: receives the progress callbacks.
        number: rounds wanted in all, those of earlier calls included.

    Returns:
        The rounds; the last one's report has failures if a room failed.

    Raises:
        StorageError: the data root or the Dagster home cannot be written.
        ConfigError: a rule is over a score that does not exist.
    """
    complete_adding(engines.data)
    made = []
    for k in range(1, number + 1):
        one = _round(engines, listener, k)
        made.append(one)
        listener.round_ended(one)
        if one.report.failures or (one.found and not one.added):
            break
    if not made[-1].report.failures:
        made[-1].report = run_rooms(engines, listener)
    return made


def _round(engines: Engines, listener: HardeningListener, number: int) -> Round:
    data = engines.data
    one = Round(number=number, target="")
    if number > max((entry.round for entry in read_hard_negatives(data)), default=0):
        one.report = run_rooms(engines, listener, until="hardening")
        if one.report.failures:
            return one
        before = rounds(data)
        one.target = names.hardened_name(before[-1]) if before else names.MERGED
        one.found = _attacked(engines, listener, one)
        offered = add_hard_negatives(data, one.found.hard_negatives)
        one.added, one.refused = offered.new, {**one.found.unusable, **offered.refused}
        if not one.added:
            return one
    one.report = run_rooms(engines, listener, until="hardening")
    if not one.report.failures and number in rounds(data):
        one.released = release_folder(data).name
    return one


def _attacked(engines: Engines, listener: HardeningListener, one: Round) -> Findings:
    """Attack train prompts; the partition of a round is made once.

    Cases whose judge failed are asked once more: a round that added a hard negative is never
    attacked again, as its release changes what an attack prepares with.

    Raises:
        IntegrityError: other prompts than train ones were attacked.
    """
    data, wanted = engines.data, engines.profile.hardening
    config = round_matrix(engines, one.number, one.target)
    listener.attack_started(one.number, one.target, config.number_of_cases)
    first, key = (one.number - 1) * wanted.cases, f"harden-{one.number}"

    def attack(progress: Progress | None = None) -> Manifest:
        return robustness_room.attack_all(
            data,
            attacked_models(engines),
            config,
            progress=progress,
            key=key,
            training_from=first,
        )

    if attack(lambda units: listener.advanced("attack", units)).rejected:
        attack()  # where the judge failed: what is added below closes the round
    release = release_folder(data)
    cases = training_cases(release, config.number_of_cases, skip=first)
    rows = from_table(AttackedCase, manifests.read(data.partition("robustness", key), "cases"))
    if strange := {row.case_id for row in rows} - {one.case.case_id for one in cases}:
        raise IntegrityError(f"{key} attacked other prompts than train ones: {sorted(strange)}")
    searchers = [attack.shown for attack in wanted.attacks]
    return findings(rows, cases, searchers=searchers, target=one.target, round=one.number)


def round_matrix(engines: Engines, number: int, target: str) -> RobustnessConfig:
    """The attacks of one round: all on its target, none but the plain prompt on the base model."""
    own, wanted = engines.profile.robustness, engines.profile.hardening
    placed = placed_attacks(wanted.attacks)
    return dataclasses.replace(
        own,
        attacks=tuple(dataclasses.replace(one, targets=(target,)) for one in placed),
        targets=(target,),
        preset=wanted.preset,
        cases=wanted.cases,
        seed=own.seed + number,
        keep_texts=True,
    )
