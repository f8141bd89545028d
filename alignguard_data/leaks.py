"""Leaks between splits: which train rows hold something that is also measured on.

A train row leaks when one of its captions stands, in any case, among the captions of a test
or evaluation row, when an image of it has the perceptual hash of a test row's image on the same
side, or when its unsafe image is a near-duplicate of a test row's. Train rows give way, because
measured rows are fewer and dropping them would move the numbers.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alignguard_data.neardup import distances, hash_array

REASON = "leaks_into_test"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What of one row decides whether it leaks; evaluation rows have no images."""

    pair_id: str
    concept: str
    category: str
    captions: tuple[str, ...]
    unsafe_phash: str = ""
    safe_phash: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A train row, how it leaks, and the row of test or evaluation that it leaks into."""

    pair_id: str
    concept: str
    category: str
    kind: str
    of: str


def find_leaks(
    train: Sequence[Measured], held_out: Sequence[Measured], max_phash_distance: int
) -> list[Leak]:
    """One leak for each leaking train row, in the order of ``train``; the first kind found."""
    captions = {
        caption: row.pair_id for row in reversed(held_out) for caption in map(_folded, row.captions)
    }
    images = [row for row in held_out if row.unsafe_phash]
    unsafe = hash_array([row.unsafe_phash for row in images])
    safe = hash_array([row.safe_phash for row in images])
    leaks = []
    for row in train:
        shared = next((captions[c] for c in map(_folded, row.captions) if c in captions), None)
        if shared is not None:
            leaks.append(_leak(row, "caption", shared))
        elif images and row.unsafe_phash:
            near = distances(row.unsafe_phash, unsafe) <= max_phash_distance
            near |= safe == np.uint64(int(row.safe_phash, 16))
            hits = np.flatnonzero(near)
            if hits.size:
                leaks.append(_leak(row, "near_duplicate_image", images[int(hits[0])].pair_id))
    return leaks


def _folded(caption: str) -> str:
    return " ".join(caption.casefold().split())


def _leak(row: Measured, kind: str, of: str) -> Leak:
    return Leak(pair_id=row.pair_id, concept=row.concept, category=row.category, kind=kind, of=of)
