"""Divides a release's pairs by concept and by seed, so that neither is in two parts."""

import hashlib
import math
from collections.abc import Sequence

from alignguard_data.contracts.errors import EngineError
from alignguard_train.cost_model.records import Part


def parts_of(
    concepts: Sequence[str], seeds: Sequence[int], *, share: float, seed: int
) -> list[Part]:
    """The part of each pair.

    A share of the concepts is held out whole. Of the others, a share of the seeds is; a training
    pair whose seed also occurs in a held-out part is dropped.

    Args:
        concepts: of the pairs.
        seeds: of the pairs' noise.
        share: of concepts and of seeds to hold out, in (0, 1).
        seed: of the division.

    Returns:
        A part a pair, in their order.

    Raises:
        EngineError: fewer than two concepts, or no pair is left to train on.
    """
    known = sorted(set(concepts), key=lambda name: _place("concept", name, seed))
    if len(known) < 2:
        raise EngineError(
            f"a cost model is measured on concepts that it was not trained on: the release has "
            f"{len(known)} concept(s), and two are needed"
        )
    number = min(len(known) - 1, math.ceil(share * len(known)))
    held_out = set(known[:number])
    taken = {one for one, key in zip(seeds, concepts, strict=True) if key in held_out}
    unseen = {one for one in seeds if _place("seed", str(one), seed) < share}
    parts: list[Part] = [
        "held_out"
        if key in held_out
        else "dropped"
        if one in taken
        else "unseen_seed"
        if one in unseen
        else "train"
        for key, one in zip(concepts, seeds, strict=True)
    ]
    if "train" not in parts:
        raise EngineError(f"no pair to train a cost model on: {len(parts)} pairs are all held out")
    return parts


def _place(kind: str, name: str, seed: int) -> float:
    digest = hashlib.blake2b(f"cost model {seed} {kind} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
