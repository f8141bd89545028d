"""Which rows to drop because of near-duplicate edges, and the leak report.

Pure functions of the edges and the split of each pair. Of near-duplicates within a split the one
with the smallest pair id stays, but a hard negative yields to any other pair. An edge between train
and measured rows (test and evaluation) is a leak. The train row is dropped: measured rows are
fewer, and dropping them would change the metrics.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alignguard_data.dedup.edges import Edge, Kind, Limits

LEAK_REASON = "leaks_into_test"
DUPLICATE_REASONS: dict[Kind, str] = {
    "exact": "duplicate_prompt",
    "prompt": "near_duplicate_prompt",
    "image": "near_duplicate_image",
    "semantic": "semantic_near_duplicate",
}
"""Reasons to drop a duplicate within a split, in test order."""
LEAK_KINDS: dict[str, tuple[Kind, ...]] = {
    "exact": ("exact", "caption"),
    "near": ("prompt",),
    "semantic": ("semantic",),
    "image": ("image", "one_image"),
}
"""The four kinds of leaks, in test order. The test is wider than for duplicates: one shared caption
or one near image is enough."""

_KIND_OF = {kind: leak for leak, kinds in LEAK_KINDS.items() for kind in kinds}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DroppedRow:
    """A dropped row, the reason, the row that stays, and their similarity (as in ``Edge``)."""

    pair_id: str
    reason: str
    kind: str
    of: str
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Dropped rows: leaks, and duplicates within a split; no pair is in both."""

    leaks: tuple[DroppedRow, ...]
    duplicates: tuple[DroppedRow, ...]

    @property
    def reasons(self) -> dict[str, str]:
        """Reason slug by dropped pair id."""
        return {row.pair_id: row.reason for row in (*self.leaks, *self.duplicates)}


def decide(
    edges: Sequence[Edge],
    train: Collection[str],
    test: Collection[str],
    evaluation: Collection[str],
    later: Collection[str] = frozenset(),
) -> Decision:
    """Which pairs to drop; those ``later`` yield to the others.

    Test rows against test rows; train rows against all measured rows, then against train rows.

    Args:
        edges: near-duplicate edges among all rows.
        train: pair ids of the train split.
        test: pair ids of the test split.
        evaluation: ids of the evaluation prompts, which are never dropped.
        later: train pairs that are dropped rather than any other near-duplicate.

    Returns:
        Leaks by pair id, each of one kind (the first of :data:`LEAK_KINDS` that it has), then
        duplicates of train and of test.
    """
    of_test = repeats(edges, test)
    held_out = {*test, *evaluation} - {row.pair_id for row in of_test}
    found = leaks(edges, train, held_out)
    first: dict[str, DroppedRow] = {}
    for kind in LEAK_KINDS:
        for row in found[kind]:
            first.setdefault(row.pair_id, row)
    of_train = repeats(edges, set(train) - first.keys(), later)
    return Decision(
        leaks=tuple(first[pair] for pair in sorted(first)), duplicates=(*of_train, *of_test)
    )


def leaks(
    edges: Iterable[Edge], train: Collection[str], held_out: Collection[str]
) -> dict[str, list[DroppedRow]]:
    """Train rows that also occur among measured rows, by kind of leak.

    Args:
        edges: near-duplicate edges among all rows, in any order.
        train: pair ids of the train split.
        held_out: pair ids that are measured: the test split and the evaluation prompts.

    Returns:
        For each kind of leak, also those without rows, the leaking train rows by pair id, each with
        the nearest measured row.
    """
    trained, measured = set(train), set(held_out)
    nearest: dict[tuple[str, str], tuple[Any, DroppedRow]] = {}
    for edge in edges:
        for mine, other in {(edge.one, edge.other), (edge.other, edge.one)}:
            if mine in trained and other in measured:
                kind = _KIND_OF[edge.kind]
                _keep_nearest(nearest, (kind, mine), edge, other, LEAK_REASON, kind)
    found: dict[str, list[DroppedRow]] = {kind: [] for kind in LEAK_KINDS}
    for kind, mine in sorted(nearest):
        found[kind].append(nearest[kind, mine][1])
    return found


def repeats(
    edges: Iterable[Edge], pairs: Collection[str], later: Collection[str] = frozenset()
) -> list[DroppedRow]:
    """The pairs with an edge to an earlier kept pair.

    Args:
        edges: near-duplicate edges, in any order; edges to other rows are ignored.
        pairs: pair ids within which one of two near-duplicates is dropped.
        later: pair ids that come after all others; else the smaller id is the earlier one.

    Returns:
        The dropped pairs by pair id, each with its nearest kept pair.
    """
    among, after = set(pairs), set(later)

    def place(pair: str) -> tuple[bool, str]:
        return pair in after, pair

    earlier: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        if (
            edge.kind in DUPLICATE_REASONS
            and edge.one != edge.other
            and edge.one in among
            and edge.other in among
        ):
            one, other = sorted((edge.one, edge.other), key=place)
            earlier[other].append(edge._replace(one=one, other=other))
    dropped: dict[str, DroppedRow] = {}
    for pair in sorted(earlier, key=place):
        nearest: dict[tuple[str, str], tuple[Any, DroppedRow]] = {}
        for edge in earlier[pair]:
            if edge.one not in dropped:
                reason = DUPLICATE_REASONS[edge.kind]
                _keep_nearest(nearest, (edge.kind, pair), edge, edge.one, reason, edge.kind)
        first = next((nearest[k, pair] for k in DUPLICATE_REASONS if (k, pair) in nearest), None)
        if first:
            dropped[pair] = first[1]
    return list(dropped.values())


def leak_report(
    decision: Decision,
    remaining: Mapping[str, int],
    limits: Limits,
    embedder: str | None,
    concepts: Mapping[str, str],
) -> dict[str, Any]:
    """Content of ``leaks.json``.

    For each kind of leak the dropped train rows and the number that remain (None: not tested), then
    the duplicates dropped within a split, and the limits.

    Args:
        decision: the dropped rows.
        remaining: number of leaks left after the drop, by kind.
        limits: the limits that were tested.
        embedder: name of the embedder that judged meanings, None without a cosine limit.
        concepts: concept key by pair id.

    Returns:
        The report as JSON values.
    """
    rows = {kind: list(_shown(decision.leaks, concepts, kind)) for kind in LEAK_KINDS}
    dropped = {
        reason: [row for row in decision.duplicates if row.reason == reason]
        for reason in DUPLICATE_REASONS.values()
    }
    return {
        "limits": dataclasses.asdict(limits),
        "embedder": embedder,
        "leaks": {
            kind: {
                "dropped": len(rows[kind]),
                "remaining": remaining[kind] if kind in leak_kinds(limits) else None,
                "rows": rows[kind],
            }
            for kind in LEAK_KINDS
        },
        "duplicates": {
            reason: {"dropped": len(found), "rows": list(_shown(found, concepts))}
            for reason, found in dropped.items()
        },
    }


def leak_kinds(limits: Limits) -> list[str]:
    """The kinds of leaks that these limits test for.

    Args:
        limits: a limit of None leaves its kind out.

    Returns:
        Kinds in the order of :data:`LEAK_KINDS`; ``exact`` is always one of them.
    """
    limit = {
        "near": limits.max_prompt_jaccard,
        "semantic": limits.max_semantic_cosine,
        "image": limits.max_phash_distance,
    }
    return [kind for kind in LEAK_KINDS if kind == "exact" or limit[kind] is not None]


def count(rows: Iterable[DroppedRow]) -> dict[str, int]:
    """Rows by reason slug, sorted."""
    return dict(sorted(Counter(row.reason for row in rows).items()))


def _keep_nearest(
    nearest: dict[tuple[str, str], tuple[Any, DroppedRow]],
    place: tuple[str, str],
    edge: Edge,
    of: str,
    reason: str,
    kind: str,
) -> None:
    # Ties go to the smallest id, so the order of the edges does not matter.
    distance = edge.value if edge.kind in ("image", "one_image") else -edge.value
    rank = (distance, of)
    if place not in nearest or rank < nearest[place][0]:
        row = DroppedRow(pair_id=place[1], reason=reason, kind=kind, of=of, value=edge.value)
        nearest[place] = (rank, row)


def _shown(
    rows: Iterable[DroppedRow], concepts: Mapping[str, str], kind: str | None = None
) -> Iterator[dict[str, Any]]:
    for row in rows:
        if kind in (None, row.kind):
            yield {
                "pair_id": row.pair_id,
                "concept": concepts[row.pair_id],
                "of": row.of,
                "of_concept": concepts[row.of],
                "value": row.value,
            }
