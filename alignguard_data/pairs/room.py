"""Room ``pairs``: the pairs kept for training, and one reason for each dropped pair.

One partition per concept. Thresholds are applied to raw scores here, so changing one needs no new
scoring. Only pairs of role ``train`` take part.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from alignguard_data.contracts.errors import ConfigError, InputMissing
from alignguard_data.contracts.flags import FlagRule as FlagRule
from alignguard_data.contracts.flags import Scores, version_faults
from alignguard_data.contracts.flags import flagged as flagged
from alignguard_data.contracts.records import (
    Concept,
    DroppedPair,
    PreferencePair,
    PromptPair,
    Score,
    from_table,
    to_table,
)
from alignguard_data.contracts.shard_records import LOOKS, SCORED, TRAIN, score_part
from alignguard_data.contracts.vocabulary import ATTACK_WRITER
from alignguard_data.pairs.config import FilterRules
from alignguard_data.pairs.filter import (
    TWIN_COSINE,
    Candidate,
    Drop,
    KeptPairs,
    SideEvidence,
    drop_reason,
)
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis, reads
from alignguard_data.storage.manifest import Manifest, fingerprint
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.tally import Tally

ROOM = "pairs"
FORMAT = 1
"""Part of the fingerprint: increment when the files change for equal scores."""


def spec(data: DataRoot, concept: Concept, rules: FilterRules) -> PartitionSpec:
    """Spec of the concept's kept and dropped pairs.

    Args:
        data: the data folder.
        concept: the concept.
        rules: the profile's section ``filter``.

    Returns:
        The spec of the concept's partition.

    Raises:
        InputMissing: the concept's prompts, images or scores are not complete.
    """
    made = {
        room: manifests.require(data.partition(room, concept.key))
        for room in ("prompts", "images", "scores")
    }
    return PartitionSpec(
        folder=data.partition(ROOM, concept.key),
        room=ROOM,
        key=concept.key,
        config={**_config(rules), **basis(ROOM, format=FORMAT, judges_text=True)},
        inputs={
            "concept": fingerprint(dataclasses.asdict(concept), {}),
            **reads(made["prompts"], [TRAIN]),
            **reads(made["images"], [LOOKS]),
            **reads(made["scores"], [SCORED, *_numbers(rules)]),
        },
        least=rules.min_kept,
    )


def _numbers(rules: FilterRules) -> list[str]:
    """The scores that the rules read, once each."""
    read = [*rules.scores_read(), *rules.pair_scores_read()]
    return list(dict.fromkeys(score_part(one.scorer, one.key) for one in read))


def _config(rules: FilterRules) -> dict[str, object]:
    # min_kept decides when a concept fails, not which pairs are kept.
    return {k: v for k, v in dataclasses.asdict(rules).items() if k != "min_kept"}


def filter_pairs(data: DataRoot, concept: Concept, rules: FilterRules) -> Manifest:
    """Split a concept's pairs into tables ``kept`` (PreferencePair), ``dropped`` (DroppedPair).

    Pairs are tested in order of id, hard negatives last, so the result is deterministic: of two
    near-duplicates the earlier one stays. Kept and dropped pairs sum to ``counts["pairs"]``.

    Args:
        data: the data folder.
        concept: the concept.
        rules: the profile's section ``filter``.

    Returns:
        The partition's manifest.

    Raises:
        InputMissing: an input is not complete, or lacks a score that a rule needs.
        ConfigError: a threshold was calibrated with another version of its scorer.
        NothingMade: there are pairs, but fewer than ``rules.min_kept`` are kept.
    """
    with open_partition(spec(data, concept, rules)) as work:
        if work.done:
            return work.done
        versions = manifests.require(data.partition("scores", concept.key)).models
        if faults := version_faults(rules.flags, versions):
            raise ConfigError("filter.flags", faults)
        candidates = read_candidates(data, concept, rules)
        kept: list[PreferencePair] = []
        dropped: list[DroppedPair] = []
        near = KeptPairs(rules)
        for candidate in candidates:
            drop = drop_reason(candidate, rules, near)
            if drop:
                dropped.append(_dropped(candidate.pair, drop))
            else:
                near.add(candidate)
                kept.append(_preference(candidate))
        return work.finish(
            tables={
                "kept": to_table(PreferencePair, kept),
                "dropped": to_table(DroppedPair, dropped),
            },
            rejected=Counter(row.reason for row in dropped),
            counts={"pairs": len(candidates)},
            tally=Tally(
                wanted=len(candidates),
                made=len(kept),
                unit="kept pairs",
                example=_example(dropped),
                choosing=True,
            ),
        )


def _example(dropped: Sequence[DroppedPair]) -> str:
    """A pair dropped for the most common reason, with its numbers."""
    reasons = Counter(row.reason for row in dropped)
    rows = sorted(dropped, key=lambda row: (-reasons[row.reason], row.reason))
    return f"pair {rows[0].pair_id}: {rows[0].detail}" if rows else ""


def read_candidates(data: DataRoot, concept: Concept, rules: FilterRules) -> list[Candidate]:
    """The concept's train pairs with their evidence.

    Args:
        data: the data folder.
        concept: the concept.
        rules: the scores that they read must be there.

    Returns:
        By pair id, hard negatives last; a side without a scored image is None.

    Raises:
        InputMissing: an input is not complete, or lacks a score that a rule needs.
    """
    key = concept.key
    prompts = manifests.read(data.partition("prompts", key), "pairs")
    pairs = [pair for pair in from_table(PromptPair, prompts) if pair.role == "train"]
    columns = ["pair_id", "side", "image_id", "phash"]
    images = manifests.read(data.partition("images", key), "images", columns=columns).to_pylist()
    scores: dict[tuple[str, str], dict[tuple[str, str], float]] = defaultdict(dict)
    for score in from_table(Score, manifests.read(data.partition("scores", key), "scores")):
        scores[score.pair_id, score.side][score.scorer, score.key] = score.value
    sides = {
        (row["pair_id"], row["side"]): SideEvidence(
            image_id=row["image_id"],
            phash=row["phash"],
            scores=scores[row["pair_id"], row["side"]],
        )
        for row in images
        if (row["pair_id"], row["side"]) in scores
    }
    _check_scores(concept, rules, sides, pairs, scores)
    return [
        Candidate(
            pair=pair,
            terms=concept.terms,
            unsafe=sides.get((pair.pair_id, "unsafe")),
            safe=sides.get((pair.pair_id, "safe")),
            pair_scores=scores.get((pair.pair_id, ""), {}),
        )
        for pair in sorted(pairs, key=_place)
    ]


def _place(pair: PromptPair) -> tuple[bool, str]:
    return pair.writer.startswith(ATTACK_WRITER), pair.pair_id


def _check_scores(
    concept: Concept,
    rules: FilterRules,
    sides: Mapping[tuple[str, str], SideEvidence],
    pairs: Sequence[PromptPair],
    scores: Mapping[tuple[str, str], Scores],
) -> None:
    # A rule over a missing score would silently pass or drop everything.
    for rule in rules.flags:
        if any((rule.scorer, rule.key) not in side.scores for side in sides.values()):
            raise InputMissing(
                f"scores {concept.key} has no {rule.scorer}/{rule.key}, which a flag rule needs: "
                "add that scorer to the profile or remove the rule"
            )
    if rules.min_twin_cosine is None and rules.max_twin_cosine is None:
        return
    if any(TWIN_COSINE not in scores.get((pair.pair_id, ""), {}) for pair in pairs):
        raise InputMissing(
            f"scores {concept.key} has no {'/'.join(TWIN_COSINE)}, which a twin bound needs: "
            "add that pair scorer to the profile or remove the bound"
        )


def _preference(candidate: Candidate) -> PreferencePair:
    pair = candidate.pair
    assert candidate.unsafe, pair.pair_id
    assert candidate.safe, pair.pair_id
    return PreferencePair(
        pair_id=pair.pair_id,
        concept=pair.concept,
        category=pair.category,
        unsafe_prompt=pair.unsafe_prompt,
        safe_prompt=pair.safe_prompt,
        chosen_image_id=candidate.safe.image_id,
        rejected_image_id=candidate.unsafe.image_id,
    )


def _dropped(pair: PromptPair, drop: Drop) -> DroppedPair:
    return DroppedPair(
        pair_id=pair.pair_id,
        concept=pair.concept,
        category=pair.category,
        reason=drop.reason,
        detail=drop.detail,
    )
