"""Cases from a release: prompts to attack, and twins of the train split to prepare with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from alignguard_data.contracts.errors import IntegrityError, NothingMade
from alignguard_data.contracts.records import pair_seed
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.storage.parquet_files import dataset
from alignguard_data.storage.places import Place, list_folder
from alignguard_train.evaluation.judge import read_rows
from alignguard_train.evaluation.records import EvaluationRow
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.protocol import Case

_COLUMNS = ["pair_id", "concept", "category", "caption", "caption_safe"]
_MANY = 1_000_000
PREPARED_PAIRS = 50
"""Twins per concept for an attack's preparation; the published concept vector of Ring-A-Bell has
50."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenCase:
    """A case; ``seen``: experts were trained on its concept."""

    case: Case
    seen: bool


def search_seed(case_id: str) -> int:
    """Seed of the images that a search renders; no replay or evaluation uses it."""
    return pair_seed(case_id, "attack search")


def replay_seeds(case_id: str, count: int) -> list[int]:
    """Fresh seeds of the images that judge what a search found, the same for every attack."""
    return [pair_seed(case_id, f"attack replay {i}") for i in range(count)]


def attack_cases(release: Place, count: int) -> list[ChosenCase]:
    """The first ``count`` held-out unsafe prompts, one a concept in turn.

    Seen and unseen concepts alternate, in the order of their keys, so few cases cover both.

    Args:
        release: folder of the release.
        count: the most cases.

    Returns:
        At most ``count`` cases; ``seen`` marks concepts that experts were trained on.

    Raises:
        IntegrityError: an evaluation prompt is in the train split, or a file is unreadable.
        NothingMade: the release has no evaluation prompt.
    """
    rows = read_rows(release, _MANY)
    safe = {row.pair_id: row.prompt for row in rows if row.side == "safe"}
    unsafe = [row for row in rows if row.side == "unsafe"]
    if not unsafe:
        raise NothingMade(
            [
                f"robustness: no case to attack: {release.name} has no evaluation prompt "
                "(writing.evaluation_share)"
            ]
        )
    if trained := {row.pair_id for row in unsafe} & {row["pair_id"] for row in _train(release)}:
        raise IntegrityError(f"{release}: evaluation prompts in the train split: {sorted(trained)}")
    return [_chosen(row, safe.get(row.pair_id, "")) for row in _in_turn(unsafe)][:count]


def training_cases(release: Place, count: int, *, skip: int = 0) -> list[ChosenCase]:
    """Train prompts to search hard negatives with, one a concept in turn; no hard negatives.

    No evaluation prompt is among them, and no concept that experts did not see.

    Args:
        release: folder of the release.
        count: number of prompts at most.
        skip: prompts to leave out first, which earlier rounds attacked.

    Returns:
        ``count`` cases or fewer, concept by concept in turn.

    Raises:
        IntegrityError: the release has no train shard, or it lacks a column.
    """
    cases = preparation_cases(release, _MANY)
    rows = [
        EvaluationRow(
            pair_id=case.case_id,
            concept=case.concept,
            category=case.category,
            side="unsafe",
            prompt=case.prompt,
            seed=case.seed,
            seen=True,
        )
        for case in cases
    ]
    safe = {case.case_id: case.safe_prompt for case in cases}
    chosen = [_chosen(row, safe[row.pair_id]) for row in _in_turn(rows)] if rows else []
    return chosen[skip : skip + count]


def cases_of(
    release: Place, config: RobustnessConfig, training_from: int | None
) -> list[ChosenCase]:
    """The cases of a matrix: held-out prompts, or train prompts after the first so many."""
    if training_from is None:
        return attack_cases(release, config.number_of_cases)
    return training_cases(release, config.number_of_cases, skip=training_from)


def preparation_cases(release: Place, per_concept: int = PREPARED_PAIRS) -> list[Case]:
    """Train rows, at most so many per concept, by concept and pair id; no hard negatives.

    Args:
        release: folder of the release.
        per_concept: the most rows of a concept.

    Returns:
        Cases with their safe twins, sorted by concept, then pair id.

    Raises:
        IntegrityError: the release has no train shard, or it lacks a column.
    """
    found: list[Case] = []
    taken: dict[str, int] = {}
    hard = hard_rows(release)
    rows = [row for row in _train(release) if row["pair_id"] not in hard]
    for row in sorted(rows, key=lambda row: (row["concept"], row["pair_id"])):
        taken[row["concept"]] = taken.get(row["concept"], 0) + 1
        if taken[row["concept"]] <= per_concept:
            found.append(
                Case(
                    case_id=row["pair_id"],
                    prompt=row["caption"],
                    safe_prompt=row["caption_safe"],
                    concept=row["concept"],
                    category=row["category"],
                    seed=search_seed(row["pair_id"]),
                )
            )
    return found


def _train(release: Place) -> list[dict[str, str]]:
    shards = list_folder(release / "data", "train-*.parquet")
    if not shards:
        raise IntegrityError(f"{release / 'data'} has no train-*.parquet")
    try:
        return dataset(shards).to_table(columns=_COLUMNS).to_pylist()
    except (KeyError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"{release / 'data'}: {error}") from error


def _in_turn(rows: Sequence[EvaluationRow]) -> Iterator[EvaluationRow]:
    by_concept: dict[str, list[EvaluationRow]] = {}
    for row in sorted(rows, key=lambda row: row.pair_id):
        by_concept.setdefault(row.concept, []).append(row)
    seen, unseen = (
        [key for key in sorted(by_concept) if by_concept[key][0].seen is wanted]
        for wanted in (True, False)
    )
    order = []
    for i in range(max(len(seen), len(unseen))):
        order += [*seen[i : i + 1], *unseen[i : i + 1]]
    for turn in range(max(map(len, by_concept.values()))):
        yield from (by_concept[key][turn] for key in order if turn < len(by_concept[key]))


def _chosen(row: EvaluationRow, safe_prompt: str) -> ChosenCase:
    case = Case(
        case_id=row.pair_id,
        prompt=row.prompt,
        safe_prompt=safe_prompt,
        concept=row.concept,
        category=row.category,
        seed=search_seed(row.pair_id),
    )
    return ChosenCase(case=case, seen=row.seen)
