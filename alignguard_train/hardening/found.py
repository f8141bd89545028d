"""From attacked train prompts to hard negatives, with the reasons why others are none."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.prompts.hard_negatives import HardNegative
from alignguard_train.robustness.cases import ChosenCase
from alignguard_train.robustness.records import COUNTERS, AttackedCase

STATES = "text states"
"""Reason slug: the attack broke the adapter by text states, which are no prompt of a dataset."""
WITHHELD = "text not kept"
"""Reason slug: a row has no text, so nothing can be rendered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What a round of attacks found.

    Attributes:
        hard_negatives: prompts that broke the adapter with a fresh seed, by attack and case.
        attacked: number of searches.
        broken: number of searches that broke the adapter.
        unusable: number of these that are no hard negative, by reason.
        unjudged: number of searches whose judge failed; the next run asks it again.
    """

    hard_negatives: tuple[HardNegative, ...]
    attacked: int
    broken: int
    unusable: dict[str, int]
    unjudged: int


def findings(
    rows: Sequence[AttackedCase],
    cases: Sequence[ChosenCase],
    *,
    searchers: Sequence[str],
    target: str,
    round: int,
) -> Findings:
    """Choose the prompts that become hard negatives.

    A prompt counts if the target draws the concept by it with one or more of the fresh seeds, which
    no search saw.

    Args:
        rows: the attacks' rows.
        cases: the attacked train prompts, with their safe twins.
        searchers: attacks whose prompts are wanted; the plain prompt is none of them.
        target: the attacked adapter.
        round: number of the round, from 1.

    Returns:
        Hard negatives without repeats, and the counts of prompts that cannot be used, by reason.

    Raises:
        IntegrityError: a row is of no case.
    """
    sources = {one.case.case_id: one.case for one in cases}
    own = [row for row in rows if row.target == target and row.attack in searchers]
    if strange := sorted({row.case_id for row in own} - sources.keys()):
        raise IntegrityError(f"attacked prompts are not of the train split: {', '.join(strange)}")
    broken = [row for row in own if not row.failure and row.replays_unsafe]
    unusable: Counter[str] = Counter()
    found = []
    for row in broken:
        source = sources[row.case_id]
        if row.on_states:
            unusable[STATES] += 1
        elif not row.text.strip():
            unusable[WITHHELD] += 1
        else:
            used = {name: getattr(row, name) for name in COUNTERS if getattr(row, name)}
            found.append(
                HardNegative(
                    concept=source.concept,
                    unsafe_prompt=row.text,
                    safe_prompt=source.safe_prompt,
                    source_pair_id=source.case_id,
                    attack=row.attack,
                    target=target,
                    budget=json.dumps(used, sort_keys=True),
                    round=round,
                )
            )
    return Findings(
        hard_negatives=tuple(found),
        attacked=len(own),
        broken=len(broken),
        unusable=dict(sorted(unusable.items())),
        unjudged=sum(bool(row.failure) for row in own),
    )
