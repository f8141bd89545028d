"""One adapter on a release's evaluation prompts: render, score, and say what each image shows.

Every prompt has a seed of its own, derived from its id, so an image depends neither on the order
of the list nor on where a run was resumed.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from alignguard_data import records
from alignguard_data.errors import IntegrityError
from alignguard_data.images import Sampling, encode_png
from alignguard_data.pair_filter import FlagRule, flagged
from alignguard_data.protocols import ImageGenerator, ImageScorer, Pixels
from alignguard_data.records import SIDES

PROMPTS_FILE = Path("prompts", "evaluation.parquet")
_COLUMNS = ["pair_id", "unsafe_prompt", "safe_prompt", "concept", "category", "seen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreKey:
    """One number of one scorer."""

    scorer: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured, on how many prompts.

    Attributes:
        flags: an image is inappropriate when any of these rules fires.
        prompts_per_concept: at most so many prompt pairs a concept, in the order of their ids.
        residue: rule that sees what is left of a concept when the flags see nothing.
        fidelity: score between 0 and 1 that says whether an image shows what its prompt asks.
        bootstrap_resamples: resamples behind each interval.
        confidence: of the intervals.
    """

    flags: tuple[FlagRule, ...]
    prompts_per_concept: int = 50
    residue: FlagRule | None = None
    fidelity: ScoreKey | None = None
    bootstrap_resamples: int = 2000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not self.flags:
            raise ValueError("flags must hold at least one rule")
        if self.prompts_per_concept < 1:
            raise ValueError(
                f"prompts_per_concept must be 1 or more, got {self.prompts_per_concept}"
            )
        if self.bootstrap_resamples < 100:
            raise ValueError(f"bootstrap_resamples must be 100+, got {self.bootstrap_resamples}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must lie in [0.5, 1), got {self.confidence}")


class AdaptableGenerator(ImageGenerator, Protocol):
    """An image generator that can put a LoRA file on its base model for a while."""

    sampling: Sampling

    def adapted(self, adapter: Path | None) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRow:
    """One image to be rendered; ``seen`` says whether experts were trained on its concept."""

    pair_id: str
    side: str
    concept: str
    category: str
    seen: bool
    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedImage:
    """One rendering by one adapter, judged; NaN where a measure was not asked for.

    ``distance`` is the root mean square difference to the base model's image of the same prompt
    and seed, with pixels from 0 to 1.
    """

    adapter: str
    pair_id: str
    side: str
    concept: str
    category: str
    seen: bool
    prompt: str
    seed: int
    image_id: str
    flagged: bool
    residue: float
    fidelity: float
    distance: float
    image: bytes


def read_rows(release: Path, prompts_per_concept: int) -> list[EvaluationRow]:
    """Both sides of a release's evaluation pairs, at most so many pairs a concept, by pair id.

    Raises:
        IntegrityError: the release's file of evaluation prompts is missing or lacks a column.
    """
    path = release / PROMPTS_FILE
    try:
        pairs = pq.read_table(path, columns=_COLUMNS).to_pylist()
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"{path} holds no evaluation prompts: {error}") from error
    rows: list[EvaluationRow] = []
    taken: dict[str, int] = {}
    for pair in sorted(pairs, key=lambda pair: pair["pair_id"]):
        taken[pair["concept"]] = taken.get(pair["concept"], 0) + 1
        if taken[pair["concept"]] > prompts_per_concept:
            continue
        rows += [_row(pair, side) for side in SIDES]
    return rows


def _row(pair: Mapping[str, str], side: str) -> EvaluationRow:
    return EvaluationRow(
        pair_id=pair["pair_id"],
        side=side,
        concept=pair["concept"],
        category=pair["category"],
        seen=bool(pair["seen"]),
        prompt=pair[f"{side}_prompt"],
        seed=evaluation_seed(pair["pair_id"]),
    )


def evaluation_seed(pair_id: str) -> int:
    """Seed of both prompts of a pair under every adapter; never one of the training seeds."""
    return records.pair_seed(pair_id, "evaluation")


def judge(
    adapter: str,
    rows: Sequence[EvaluationRow],
    images: Pixels,
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
    base: Mapping[tuple[str, str], bytes] | None,
) -> list[EvaluatedImage]:
    """Score rendered images and decide what each shows.

    ``base`` holds the base model's images (encoded) by pair id and side; None for itself.
    """
    scores: list[dict[tuple[str, str], float]] = [{} for _ in rows]
    for scorer in scorers:
        found = scorer.score(images, [row.prompt for row in rows])
        for known, values in zip(scores, found, strict=True):
            known.update({(scorer.name, key): value for key, value in values.items()})
    judged = []
    for row, pixels, known in zip(rows, images, scores, strict=True):
        encoded = encode_png(pixels)
        judged.append(
            EvaluatedImage(
                adapter=adapter,
                image_id=records.image_id(encoded),
                flagged=flagged(known, config.flags),
                residue=_residue(known, config.residue),
                fidelity=_fidelity(known, config.fidelity),
                distance=distance(pixels, base[row.pair_id, row.side]) if base else 0.0,
                image=encoded,
                **{name: getattr(row, name) for name in EvaluationRow.__slots__},
            )
        )
    return judged


def _residue(scores: Mapping[tuple[str, str], float], rule: FlagRule | None) -> float:
    return float(flagged(scores, [rule])) if rule else float("nan")


def _fidelity(scores: Mapping[tuple[str, str], float], key: ScoreKey | None) -> float:
    return scores[key.scorer, key.key] if key else float("nan")


def distance(pixels: npt.NDArray[np.uint8], encoded_base: bytes) -> float:
    """Root mean square difference of two RGB images of one size, pixels from 0 to 1."""
    base = np.asarray(Image.open(io.BytesIO(encoded_base)).convert("RGB"), dtype=float)
    return float(np.sqrt(np.mean(((pixels - base) / 255) ** 2)))
