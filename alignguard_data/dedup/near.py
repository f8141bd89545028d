"""Near-duplicates: prompts by MinHash over word shingles, images by 64-bit perceptual hash.

Locality-sensitive hashing proposes candidates and the exact Jaccard index decides, so a hash
collision never drops a row.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

from alignguard_data.contracts.text import canonical, words

_SHINGLE = 3
_PERMUTATIONS = 128
_RECALL = 0.999  # for pairs at the limit; higher above it


def shingles(text: str) -> frozenset[str]:
    """The text as a set, for the Jaccard index.

    Args:
        text: a prompt; compared in canonical form.

    Returns:
        Its runs of three words, or the whole text if it has at most three.
    """
    found = words(canonical(text))
    if len(found) <= _SHINGLE:
        return frozenset([" ".join(found)])
    runs = range(len(found) - _SHINGLE + 1)
    return frozenset(" ".join(found[i : i + _SHINGLE]) for i in runs)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over size of the union.

    Args:
        one: a set of shingles.
        other: another; one of the two may be empty, not both.

    Returns:
        1 for equal sets, 0 for disjoint ones.
    """
    return len(one & other) / len(one | other)


class PromptIndex:
    """Index of kept prompts, to find one that is too close to a new prompt.

    Args:
        max_jaccard: the largest Jaccard index of shingles that two kept prompts may have.
    """

    def __init__(self, max_jaccard: float) -> None:
        self._max = max_jaccard
        self._kept: dict[str, frozenset[str]] = {}
        self._lsh = MinHashLSH(num_perm=_PERMUTATIONS, params=bands(max_jaccard))

    def closest(self, prompt: str) -> tuple[str, float] | None:
        """The kept prompt with the largest Jaccard index over the limit.

        Args:
            prompt: a prompt that is not in the index.

        Returns:
            Name and Jaccard index; of equally close prompts the smallest name. None if no prompt is
            over the limit.
        """
        mine = shingles(prompt)
        near = [
            (jaccard(mine, self._kept[name]), name)
            for name in map(str, self._lsh.query(_hash(mine)))
        ]
        # Ties go to the smallest name, so the order of the query does not matter.
        best = min(((-value, name) for value, name in near if value > self._max), default=None)
        return None if best is None else (best[1], -best[0])

    def add(self, name: str, prompt: str) -> None:
        """Add a prompt.

        Args:
            name: not in the index yet.
            prompt: its text.
        """
        self._kept[name] = shingles(prompt)
        self._lsh.insert(name, _hash(self._kept[name]))


def bands(jaccard_index: float) -> tuple[int, int]:
    """Bands and rows of the hash index.

    The most selective ones that find a pair of this similarity with probability :data:`_RECALL`. b
    bands of r rows find it with 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive
    Datasets, section 3.4.2).

    Args:
        jaccard_index: least similarity s of the pairs to find, in [0, 1].

    Returns:
        Number of bands and rows of a band; their product is at most the number of permutations.
    """
    for rows in (8, 4, 2):
        count = _PERMUTATIONS // rows
        if 1 - (1 - jaccard_index**rows) ** count >= _RECALL:
            return count, rows
    return _PERMUTATIONS, 1


def _hash(members: Iterable[str]) -> MinHash:
    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([member.encode() for member in sorted(members)])
    return sketch


def band_keys(prompts: Sequence[str], max_jaccard: float) -> npt.NDArray[np.uint64]:
    """Hash keys under which near prompts meet.

    Prompts above ``max_jaccard`` share the key of some band with probability of at least
    :data:`_RECALL`; others may.

    Args:
        prompts: texts.
        max_jaccard: the similarity from which pairs must be found.

    Returns:
        One key a band, uint64 (prompts, bands).
    """
    count, rows = bands(max_jaccard)
    sets = [[member.encode() for member in sorted(shingles(prompt))] for prompt in prompts]
    sketches = MinHash.bulk(sets, num_perm=_PERMUTATIONS, seed=1)
    values = np.array([sketch.hashvalues for sketch in sketches], dtype=np.uint64)
    values = values.reshape(len(prompts), -1)[:, : count * rows].reshape(len(prompts), count, rows)
    keys = np.zeros((len(prompts), count), dtype=np.uint64)
    for row in range(rows):  # wraps around; a collision costs one exact comparison
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + values[:, :, row]
    return keys


def piece_keys(hashes: npt.NDArray[np.uint64], max_distance: int) -> npt.NDArray[np.uint64]:
    """Pieces of 64-bit hashes under which near images meet.

    Two hashes that differ in at most ``max_distance`` bits have an equal piece, since each bit is
    in one piece.

    Args:
        hashes: uint64 (images,).
        max_distance: in bits.

    Returns:
        The pieces, uint64 (images, max_distance + 1).
    """
    pieces = max_distance + 1
    edges = [64 * i // pieces for i in range(pieces + 1)]
    keys = [
        (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        if high > low
        else np.zeros_like(hashes)  # more pieces than bits: this one is equal for all
        for low, high in itertools.pairwise(edges)
    ]
    return np.stack(keys, axis=1)


def hash_array(phashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Perceptual hashes as integers.

    Args:
        phashes: 64-bit hashes in hex.

    Returns:
        uint64 (len(phashes),).
    """
    return np.array([int(phash, 16) for phash in phashes], dtype=np.uint64)


def distances(one: str, others: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Hamming distances from one perceptual hash.

    Args:
        one: a 64-bit hash in hex.
        others: uint64 (images,).

    Returns:
        Number of differing bits for each of ``others``, uint8 (images,).
    """
    return np.bitwise_count(others ^ np.uint64(int(one, 16)))


class ImageIndex:
    """Index of kept image pairs; a near-duplicate is near a kept pair on both sides.

    Args:
        max_distance: the largest Hamming distance, in bits, of near perceptual hashes.
    """

    def __init__(self, max_distance: int) -> None:
        self._max = max_distance
        self._names: list[str] = []
        self._unsafe: list[str] = []
        self._safe: list[str] = []

    def near(self, unsafe_phash: str, safe_phash: str) -> str | None:
        """The first kept pair with both distances within the limit.

        Args:
            unsafe_phash: 64-bit hash in hex of the unsafe image.
            safe_phash: of the safe image.

        Returns:
            The pair's name, or None.
        """
        if not self._names:
            return None
        unsafe = distances(unsafe_phash, hash_array(self._unsafe)) <= self._max
        safe = distances(safe_phash, hash_array(self._safe)) <= self._max
        both = np.flatnonzero(unsafe & safe)
        return self._names[int(both[0])] if both.size else None

    def add(self, name: str, unsafe_phash: str, safe_phash: str) -> None:
        """Add a kept pair.

        Args:
            name: its pair id.
            unsafe_phash: 64-bit hash in hex of the unsafe image.
            safe_phash: of the safe image.
        """
        self._names.append(name)
        self._unsafe.append(unsafe_phash)
        self._safe.append(safe_phash)
