"""Trains one guard on a release, sets its threshold on benign prompts, and measures it."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import Concept
from alignguard_data.storage.places import Place
from alignguard_train.contracts.intervals import wilson
from alignguard_train.guards.bench import bench_of, measure_bench, reconstruction, score_bench
from alignguard_train.guards.calibration import calibrated, may_quote, set_id
from alignguard_train.guards.config import GuardsConfig, settings_of
from alignguard_train.guards.files import GuardHeader, Threshold, read_guard, save_guard
from alignguard_train.guards.guardt2i.guard import GuardT2I
from alignguard_train.guards.measures import latency, timed_prompts
from alignguard_train.guards.records import GuardMeasure, GuardScore
from alignguard_train.guards.registry import build, fit
from alignguard_train.guards.rewriter.guard import RewriterGuard
from alignguard_train.guards.rewriter.measures import rewrite_measures
from alignguard_train.guards.source import benign_captions, release_pairs, reserved_pairs
from alignguard_train.guards.splits import Parts, divide
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard
from alignguard_train.guards.training_set import TrainingSet

_UNSET = Threshold(
    value=math.inf, calibration="", n=0, target_fpr=0.0, achieved_fpr=0.0, low=0.0, high=1.0
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The release that a guard is trained on: its name and content id."""

    release: str
    content_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A guard's rows, numbers, and what depends on the machine."""

    scores: list[GuardScore]
    measures: list[GuardMeasure]
    latency: dict[str, float]


def parts_of(release: Place, concepts: Sequence[Concept], config: GuardsConfig) -> Parts:
    """The release's pairs and the profile's benign captions, divided.

    Args:
        release: folder of the release.
        concepts: of the taxonomy, with their terms.
        config: the profile's section.

    Returns:
        Prompts by part, and the number dropped for each reason.

    Raises:
        ConfigError: a benign file is faulty, or the blacklist names an unknown concept.
        EngineError: the release has no train pair, or its pairs name no known concept.
        IntegrityError: the release lacks a column.
    """
    check_known(config, concepts)
    train = release_pairs(release, "train")
    if not train:
        raise EngineError(f"{release.name} has no train pair to train a guard on")
    unknown = sorted({pair.concept for pair in train} - {one.key for one in concepts})
    if unknown:
        raise EngineError(
            f"{release.name} has pairs of {len(unknown)} concepts that the taxonomy does not hold: "
            f"{', '.join(unknown[:5])}"
        )
    benign = benign_captions(config.benign)
    seen, unseen = reserved_pairs(release)
    return divide(
        train=train,
        seen=seen,
        unseen=[*release_pairs(release, "test"), *unseen],
        plain=benign.plain,
        harmless=benign.harmless,
        concepts=concepts,
        validation_share=config.validation_share,
        seed=config.seed,
    )


def check_known(config: GuardsConfig, concepts: Sequence[Concept]) -> None:
    """Refuse a blacklist with a concept that the taxonomy does not hold.

    Args:
        config: the profile's section.
        concepts: of the taxonomy.

    Raises:
        ConfigError: names every unknown one.
    """
    known = {one.key for one in concepts}
    if unknown := [key for key in config.blacklist or () if key not in known]:
        raise ConfigError(
            "guards", [f"blacklist: {key!r} is no concept of the taxonomy" for key in unknown]
        )


def train_guard(
    kind: str,
    parts: Parts,
    concepts: Sequence[Concept],
    encoder: FrozenEncoder,
    config: GuardsConfig,
    source: Source,
    path: Path,
    progress: Progress | None = None,
    pipe: Any = None,
) -> TextGuard:
    """Train, calibrate and save one guard; a file at ``path`` from a killed attempt is kept.

    Args:
        kind: its name.
        parts: the divided prompts.
        concepts: of the taxonomy.
        encoder: the base model's, frozen.
        config: the profile's section.
        source: of the prompts, for the header.
        path: of the file.
        progress: counts epochs or steps.
        pipe: the base model's, for a guard that draws what it learns from.

    Returns:
        The guard with its calibrated threshold.

    Raises:
        EngineError: there is nothing to train on, or no benign prompt to calibrate on.
    """
    if path.exists():
        header, tensors = read_guard(path)
        return build(header, tensors, encoder)
    prompts = parts.of("train")
    training = TrainingSet(
        prompts=prompts,
        states=encoder.states([one.text for one in prompts]),
        names={one.key: one.name for one in concepts},
        encoder=encoder,
        terms={one.key: one.terms for one in concepts},
        params=config.params,
        pipe=pipe,
        target_fpr=config.target_fpr,
    )
    settings = settings_of(kind, config.params.get(kind, {}))
    fitted = fit(settings, training, seed=config.seed, progress=progress)
    header = GuardHeader(
        kind=kind,
        encoder=encoder.identity,
        threshold=_UNSET,
        settings=_listed(fitted.settings, training, config),
        release=source.release,
        release_content_id=source.content_id,
    )
    guard = build(header, fitted.tensors, encoder)
    benign = [one.text for one in parts.of("calibration", unsafe=False)]
    header = dataclasses.replace(header, threshold=_threshold(guard, benign, config))
    save_guard(path, header, fitted.tensors)
    return build(header, fitted.tensors, encoder)


def measure_guard(
    guard: TextGuard,
    parts: Parts,
    concepts: Sequence[Concept],
    config: GuardsConfig,
    probe: TextGuard | None = None,
    other: TextGuard | None = None,
) -> Measured:
    """Score the bench, and time the guard on one prompt at a time.

    Args:
        guard: the calibrated guard.
        parts: the divided prompts.
        concepts: of the taxonomy.
        config: the profile's section.
        probe: the logistic probe, to compare with.
        other: SafeGuider's MLP, which judges a rewriter's texts.

    Returns:
        Scores of every prompt, numbers of every split, and milliseconds a prompt.
    """
    bench = bench_of(parts, concepts, guard.encoder, config)
    rows = [] if guard.always_on else score_bench(guard, bench)
    others = score_bench(probe, bench) if probe and rows else ()
    timed = timed_prompts([one.text for one in bench.prompts])
    measures = measure_bench(rows, guard.threshold, config, others) if rows else []
    if isinstance(guard, GuardT2I):
        measures += reconstruction(guard, bench)
    if isinstance(guard, RewriterGuard):
        terms = {one.key: one.terms for one in concepts}
        measures += rewrite_measures(guard, parts, terms, config, other)
    return Measured(
        scores=rows,
        measures=measures,
        latency=latency(guard.score, guard.encoder.states, timed) if timed else {},
    )


def _threshold(guard: TextGuard, benign: Sequence[str], config: GuardsConfig) -> Threshold:
    if guard.always_on:
        n = len(benign)
        low, high = wilson(n, n) if n else (0.0, 1.0)
        return Threshold(
            value=0.0, calibration=set_id(benign), n=n, target_fpr=config.target_fpr,
            achieved_fpr=1.0, low=low, high=high,
        )  # fmt: skip
    if why := may_quote(len(benign), min(config.target_fpr, 0.01)):
        log.warning("guard %s: %s", guard.name, why)
    return calibrated(guard.score(benign), benign, config.target_fpr)


def _listed(
    settings: Mapping[str, Any], training: TrainingSet, config: GuardsConfig
) -> dict[str, Any]:
    """The settings with the profile's blacklist, for a guard that has one."""
    if config.blacklist is None or "blacklist" not in settings:
        return dict(settings)
    # Latent Guard compares with a concept's name, GuardT2I looks for its words.
    texts = training.names if "references" in settings else training.terms
    return {**settings, "blacklist": {key: texts[key] for key in config.blacklist}}
