"""Deduplication from scratch against adding 1 % of rows, on synthetic rows.

Prompts of random words, random hashes, random vectors of 64 numbers: few are near each other, as in
data filtered by concept. Rows are in memory, edges in a file.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alignguard_data.dedup.edges import Limits, Measured, Part
from alignguard_data.dedup.store import synced_edges

LIMITS = Limits(max_prompt_jaccard=0.8, max_phash_distance=4, max_semantic_cosine=0.95)
SIZES = (10_000, 100_000)
_PART_ROWS = 100  # as many as a concept has
_WORDS = [f"word{i}" for i in range(2_000)]


class RandomVectors:
    """A free ``TextEmbedder``: 64 random numbers seeded by the text's number."""

    name, version = "random", "1"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """A vector a text, of the number at its end."""
        seeds = [int(text.rsplit(" ", 1)[1]) for text in texts]
        drawn = np.stack([np.random.default_rng(seed).standard_normal(64) for seed in seeds])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def measure(runs: int, sizes: Sequence[int] = SIZES) -> dict[str, float]:
    """Medians over ``runs`` of N rows from scratch, and of N/100 added rows."""
    figures = {}
    for rows in sizes:
        seconds = [_seconds(rows) for _ in range(runs)]
        scratch = statistics.median(first for first, _ in seconds)
        more = statistics.median(second for _, second in seconds)
        figures |= {
            f"seconds_from_scratch_of_{rows}": scratch,
            f"seconds_of_one_hundredth_more_of_{rows}": more,
            f"ratio_of_{rows}": scratch / more,
        }
    return figures


def _seconds(rows: int) -> tuple[float, float]:
    old, new = _parts(0, rows), _parts(rows, rows // 100)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "edges.duckdb"
        return _synced(file, old), _synced(file, [*old, *new])


def _synced(file: Path, parts: Sequence[Part]) -> float:
    started = time.perf_counter()
    with synced_edges(file, parts, LIMITS, RandomVectors()):
        pass
    return time.perf_counter() - started


def _parts(first: int, rows: int) -> list[Part]:
    return [
        Part(name=f"p{at}", content_id="1", rows=partial(_rows, at, min(_PART_ROWS, rows)))
        for at in range(first, first + rows, _PART_ROWS)
    ]


def _rows(first: int, rows: int) -> list[Measured]:
    drawn = random.Random(first)
    return [
        Measured(
            pair_id=f"{number:032x}",
            concept="a.b",
            category="a",
            captions=tuple(  # pyright: ignore[reportArgumentType]
                " ".join([*drawn.choices(_WORDS, k=11), str(number)]) for _ in range(2)
            ),
            unsafe_phash=f"{drawn.getrandbits(64):016x}",
            safe_phash=f"{drawn.getrandbits(64):016x}",
        )
        for number in range(first, first + rows)
    ]
