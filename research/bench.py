"""Peers and adapters on the same prompts and seeds: removal, preservation and cost."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alignguard_data.contracts.protocols import FeatureExtractor, ImageScorer
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.contracts.intervals import Bootstrap, Interval, mean_interval
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.contenders import Contender, Entrant
from alignguard_train.evaluation.judge import (
    AdaptableGenerator,
    BaseImage,
    judge,
    render_in_batches,
)
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from alignguard_train.evaluation.statistics import ip
from alignguard_train.peers.concept import Concept

TIMED_CALLS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One contender's results; intervals of shares in [0, 1], None if not measured.

    ``seconds_per_image`` and ``base_seconds_per_image`` are medians of alternating calls.
    """

    name: str
    ip: Interval | None
    ip_seen: Interval | None
    ip_unseen: Interval | None
    residue: Interval | None
    ip_safe: Interval | None
    fidelity: Interval | None
    feature_distance: Interval | None
    seconds_per_image: float
    base_seconds_per_image: float
    training_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The results as JSON types."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {k: v.as_dict() if isinstance(v, Interval) else v for k, v in found.items()}


def bench(
    contenders: Sequence[Contender],
    generator: AdaptableGenerator,
    rows: Sequence[EvaluationRow],
    concepts: Sequence[Concept],
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
    extractor: FeatureExtractor | None = None,
    *,
    timed_calls: int = TIMED_CALLS,
) -> Iterator[Measured]:
    """Measure the base model, then every contender, on ``rows`` with the generator's sampling.

    Args:
        contenders: adapters and peers.
        generator: the base model, to render.
        rows: images to render of each contender.
        concepts: what peers avoid.
        scorers: the evaluation's.
        config: flags, fidelity and intervals.
        extractor: of features for FID; None: no FID.
        timed_calls: timed full calls per side; 0: none.

    Yields:
        A contender's numbers, the base model's first.

    Raises:
        EngineError: a method does not support the base model.
    """
    plain = Entrant(Contender(name=BASE), generator, concepts)
    base: Mapping[tuple[str, str], BaseImage] | None = None
    for contender in (Contender(name=BASE), *contenders):
        entrant = Entrant(contender, generator, concepts)
        drawn: list[EvaluatedImage] = []
        with entrant.on():
            for part, images in render_in_batches(generator, rows):
                judged = judge(entrant.name, part, images, scorers, config, base, extractor)
                drawn += [replace(one, image=b"") for one in judged]  # only numbers are needed
        if base is None:
            base = {(one.pair_id, one.side): BaseImage(b"", one.features) for one in drawn}
        both = (plain, entrant) if contender.name != BASE else (plain,)
        seconds = side_by_side(both, generator, rows, calls=timed_calls)
        yield summarize(entrant, drawn, config, seconds)


def side_by_side(
    entrants: Sequence[Entrant],
    generator: AdaptableGenerator,
    rows: Sequence[EvaluationRow],
    *,
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Median seconds per image of each, over alternating full calls; NaN without calls.

    Args:
        entrants: rendered with in turn.
        generator: renders.
        rows: their prompts and seeds, repeated to fill a call.
        calls: of each entrant.
        clock: seconds; ``time.process_time`` on a machine with other work.

    Returns:
        One number an entrant.
    """
    if not calls:
        return [float("nan")] * len(entrants)
    size = generator.images_per_call
    part = [rows[i % len(rows)] for i in range(size)]
    seconds: list[list[float]] = [[] for _ in entrants]
    for _ in range(calls):
        for entrant, taken in zip(entrants, seconds, strict=True):
            with entrant.on():
                started = clock()
                generator.render([row.prompt for row in part], [row.seed for row in part])
                taken.append((clock() - started) / size)
    return [statistics.median(taken) for taken in seconds]


def summarize(
    entrant: Entrant,
    drawn: Sequence[EvaluatedImage],
    config: EvaluationConfig,
    seconds: Sequence[float],
) -> Measured:
    """Figures of one contender's images; ``seconds``: per image, base model then contender."""
    unsafe = [one for one in drawn if one.side == "unsafe"]
    safe = [one for one in drawn if one.side == "safe"]
    how = Bootstrap(resamples=config.bootstrap_resamples, confidence=config.confidence)
    return Measured(
        name=entrant.name,
        ip=_ip(unsafe, how),
        ip_seen=_ip([one for one in unsafe if one.seen], how),
        ip_unseen=_ip([one for one in unsafe if not one.seen], how),
        residue=_mean(unsafe, "residue", how, share=True),
        ip_safe=_ip(safe, how),
        fidelity=_mean(safe, "fidelity", how, share=True),
        feature_distance=_mean(safe, "feature_distance", how, share=False),
        base_seconds_per_image=seconds[0],
        seconds_per_image=seconds[-1],
        training_seconds=entrant.training_seconds,
    )


def _ip(drawn: Sequence[EvaluatedImage], how: Bootstrap) -> Interval | None:
    if not drawn:
        return None
    return ip([one.flagged for one in drawn], [one.pair_id for one in drawn], how)


def _mean(
    drawn: Sequence[EvaluatedImage], name: str, how: Bootstrap, *, share: bool
) -> Interval | None:
    values = np.array([getattr(one, name) for one in drawn], dtype=float)
    known = ~np.isnan(values)
    if not known.any():
        return None
    prompts = [one.pair_id for one, there in zip(drawn, known, strict=True) if there]
    return mean_interval(values[known], prompts, how, share=share)
