"""Renders an adapter's images for a release's evaluation prompts and prompt sets, and judges them.

Each prompt's seed derives from its id, so an image depends neither on the order of the list nor on
where a run resumed (its last bits may: docs/explanation/machines.md).
"""

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import IntegrityError, NothingMade
from alignguard_data.contracts.flags import FlagRule, flagged
from alignguard_data.contracts.pixels import encode_png
from alignguard_data.contracts.protocols import (
    FeatureExtractor,
    ImageGenerator,
    ImageScorer,
    Pixels,
)
from alignguard_data.contracts.records import SIDES
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.release.reader import EVALUATION
from alignguard_data.storage.parquet_files import dataset
from alignguard_data.storage.places import Place
from alignguard_train.contracts.scored import scores_of
from alignguard_train.evaluation.config import (
    EvaluationConfig,
    ScoreKey,
)
from alignguard_train.evaluation.prompt_sets import PromptSet
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow

_COLUMNS = ["pair_id", "unsafe_prompt", "safe_prompt", "concept", "category", "seen"]


class AdaptableGenerator(ImageGenerator, Protocol):
    """An image generator with temporary changes: a LoRA file, guidance and size, or the pipe."""

    sampling: Sampling

    def adapted(self, adapter: Path | None) -> AbstractContextManager[None]:
        """Render with the LoRA file ``adapter``, or without any, until the block ends."""
        ...

    def sampled(self, sampling: Sampling) -> AbstractContextManager[None]:
        """Render with another guidance and size until the block ends."""
        ...

    def changed(self, change: Callable[[Any], Any]) -> AbstractContextManager[None]:
        """Render with the pipe as ``change`` leaves it, until the block ends."""
        ...


class BaseImage(NamedTuple):
    """The base model's image: encoded, and its features as float32 bytes.

    The image is empty if no distance to it is measured.
    """

    image: bytes
    features: bytes


def read_rows(release: Place, prompts_per_concept: int) -> list[EvaluationRow]:
    """Both sides of a release's evaluation pairs, up to a maximum per concept, by pair id.

    Args:
        release: folder of the release.
        prompts_per_concept: the most pairs of a concept.

    Returns:
        Rows of the unsafe and the safe side, one after the other.

    Raises:
        IntegrityError: the release's file of evaluation prompts is missing or lacks a column.
    """
    path = release / EVALUATION
    try:
        pairs = dataset([path]).to_table(columns=_COLUMNS).to_pylist()
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


def evaluation_rows(
    release: Place, config: EvaluationConfig, sets: Sequence[PromptSet], sampling: Sampling
) -> list[EvaluationRow]:
    """The release's rows, then those of every prompt set; guidance and size are always stated.

    Args:
        release: folder of the release.
        config: the profile's section.
        sets: prompt sets that were read.
        sampling: the generator's guidance and size (pixels), where a row states none.

    Returns:
        Every image to render of one adapter.

    Raises:
        IntegrityError: as of :func:`read_rows`.
        NothingMade: there is no unsafe prompt, so no IP to measure.
    """
    rows = read_rows(release, config.prompts_per_concept)
    seen = {row.concept: row.seen for row in rows}
    rows += [row for chosen in sets for row in _set_rows(chosen, seen)]
    if not any(row.side == "unsafe" for row in rows):
        raise NothingMade(
            [
                f"evaluation: no unsafe prompt to measure: {release.name} has no evaluation prompt "
                "(writing.evaluation_share) and evaluation.prompt_sets names none that is unsafe"
            ]
        )
    return [
        dataclasses.replace(
            row,
            guidance_scale=sampling.guidance_scale
            if row.guidance_scale is None
            else row.guidance_scale,
            width=row.width or sampling.width,
            height=row.height or sampling.height,
        )
        for row in rows
    ]


def _set_rows(chosen: PromptSet, seen: Mapping[str, bool]) -> Iterator[EvaluationRow]:
    for prompt in chosen.prompts:
        own = prompt.concept.partition(".")[0]
        yield EvaluationRow(
            pair_id=prompt.prompt_id,
            side="safe" if chosen.config.kind == "benign" else "unsafe",
            # For a concept that is not in the release, seen or unseen is unknown.
            concept=prompt.concept if prompt.concept in seen else "",
            category=",".join(prompt.categories) or own,
            seen=seen.get(prompt.concept, False),
            prompt=prompt.prompt,
            seed=prompt.seed,
            prompt_set=chosen.config.name,
            guidance_scale=prompt.guidance_scale,
            width=prompt.width or 0,
            height=prompt.height or 0,
        )


def alike_sampled(
    rows: Sequence[EvaluationRow], sampling: Sampling
) -> Iterator[tuple[Sampling, list[EvaluationRow]]]:
    """Rows grouped by guidance and size, the profile's own first."""
    groups: dict[Sampling, list[EvaluationRow]] = {sampling: []}
    for row in rows:
        guidance = sampling.guidance_scale if row.guidance_scale is None else row.guidance_scale
        own = dataclasses.replace(
            sampling, guidance_scale=guidance, width=row.width, height=row.height
        )
        groups.setdefault(own, []).append(row)
    yield from ((own, alike) for own, alike in groups.items() if alike)


def render_in_batches(
    generator: AdaptableGenerator, rows: Sequence[EvaluationRow]
) -> Iterator[tuple[Sequence[EvaluationRow], Pixels]]:
    """Render every row with the generator's sampling and batch size; yield rows with images."""
    while rows:
        size = generator.images_per_call  # smaller after running out of memory
        part, rows = rows[:size], rows[size:]
        yield part, generator.render([row.prompt for row in part], [row.seed for row in part])


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
    """Seed of both prompts of a pair under every adapter; never a training seed."""
    return records.pair_seed(pair_id, "evaluation")


def judge(
    adapter: str,
    rows: Sequence[EvaluationRow],
    images: Pixels,
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
    base: Mapping[tuple[str, str], BaseImage] | None,
    extractor: FeatureExtractor | None = None,
) -> list[EvaluatedImage]:
    """Score rendered images and judge each.

    ``base`` holds the base model's images by pair id and side; None for itself.
    """
    seen = extractor.features(images) if extractor else np.empty((len(images), 0), np.float32)
    scores = scores_of(scorers, images, [row.prompt for row in rows])
    judged = []
    for row, pixels, known, vector in zip(rows, images, scores, seen, strict=True):
        encoded = encode_png(pixels)
        other = base[row.pair_id, row.side] if base else None
        judged.append(
            EvaluatedImage(
                adapter=adapter,
                image_id=records.image_id(encoded),
                flagged=flagged(known, config.flags),
                residue=_residue(known, config.residue),
                fidelity=_value(known, config.fidelity),
                clip_score=_value(known, config.clip_score),
                distance=_distance(pixels, other),
                feature_distance=_feature_distance(vector, other),
                features=vector.astype(np.float32).tobytes(),
                image=encoded,
                **{name: getattr(row, name) for name in EvaluationRow.__slots__},
            )
        )
    return judged


def _residue(scores: Mapping[tuple[str, str], float], rule: FlagRule | None) -> float:
    return float(flagged(scores, [rule])) if rule else float("nan")


def _value(scores: Mapping[tuple[str, str], float], key: ScoreKey | None) -> float:
    return scores[key.scorer, key.key] if key else float("nan")


def _distance(pixels: npt.NDArray[np.uint8], base: BaseImage | None) -> float:
    if base is None:
        return 0.0
    return distance(pixels, base.image) if base.image else float("nan")


def _feature_distance(vector: npt.NDArray[np.float32], base: BaseImage | None) -> float:
    if not vector.size:
        return float("nan")
    return feature_distance(vector, np.frombuffer(base.features, np.float32)) if base else 0.0


def feature_distance(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """1 minus the cosine of two vectors: 0 for equal ones, 1 for unrelated ones.

    A zero vector is at distance 0 from another zero vector and 1 from anything else.
    """
    # Half the squared distance of unit vectors is exactly 0 for equal vectors on every CPU; 1 minus
    # a dot product is not.
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if 0 in lengths:
        return float(lengths[0] != lengths[1])
    return float(np.square(first / lengths[0] - second / lengths[1]).sum() / 2)


def distance(pixels: npt.NDArray[np.uint8], encoded_base: bytes) -> float:
    """Root mean square difference of two RGB images of one size, pixels from 0 to 1."""
    base = np.asarray(Image.open(io.BytesIO(encoded_base)).convert("RGB"), dtype=float)
    return float(np.sqrt(np.mean(((pixels - base) / 255) ** 2)))
