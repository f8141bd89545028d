"""Trains a rewriter's probe and language model on a release, and makes its guard of a file."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.guards.calibration import threshold_at
from alignguard_train.guards.config import LogisticSettings, RewriterSettings
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.probes import LogisticHead, fit_logistic
from alignguard_train.guards.rewriter.guard import RewriterGuard
from alignguard_train.guards.rewriter.language import LanguageRewriter
from alignguard_train.guards.rewriter.model import identity_of, new_writer
from alignguard_train.guards.rewriter.star import HeadScorer, PrefixScorer, TermScorer
from alignguard_train.guards.rewriter.tuning import Lesson, denoising, tune
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.training_set import Fitted, TrainingSet

PROBE, WRITER = "probe.", "writer."
NOISY = 8
"""Lessons of a benign text from which a small model learns to leave out strange words."""


def fit_rewriter(
    settings: RewriterSettings,
    training: TrainingSet,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Fitted:
    """Fit the probe, then train the language model on the pairs and, to copy, on benign texts.

    Args:
        settings: of the language model and its loss.
        training: prompts, states and terms.
        seed: of weights, batches and noise.
        progress: called with 1 after each step.

    Returns:
        Tensors of both, and header settings.

    Raises:
        EngineError: there is no pair or no term to learn from, or a loss is not finite.
    """
    unsafe = np.array([one.unsafe for one in training.prompts])
    probe = fit_logistic(training.states.eos, unsafe, LogisticSettings())
    lessons = _lessons(training)
    benign = sorted({one.text for one in training.prompts if not one.unsafe})
    writer = new_writer(settings, training.encoder, seed)
    if not settings.model and settings.start_steps:
        strange = training.encoder.whole_words()
        noisy = denoising(benign, strange, each=NOISY, seed=seed)
        tune(writer, noisy, settings, steps=settings.start_steps, seed=seed, progress=progress)
    rejected = tune(
        writer,
        [*lessons, *(Lesson(prompt=text, reply=text) for text in benign)],
        settings,
        steps=settings.steps,
        scorer=_scorer(settings, training, probe) if settings.loss != "plain" else None,
        loss=settings.loss,
        seed=seed,
        progress=progress,
    )
    tensors = {PROBE + name: x for name, x in probe.items()}
    tensors |= {WRITER + name: x for name, x in writer.tensors().items()}
    return Fitted(
        tensors=tensors,
        settings={
            "settings": dataclasses.asdict(settings),
            "terms": training.trained_terms,
            "writer": identity_of(settings),
            "rejected": rejected,
        },
    )


def rewriter_guard(
    header: GuardHeader,
    tensors: Mapping[str, Tensor],
    encoder: FrozenEncoder,
    settings: RewriterSettings,
) -> RewriterGuard:
    """The guard of a file.

    Args:
        header: of the file.
        tensors: of the file, by name.
        encoder: the frozen encoder to read.
        settings: of the header.

    Returns:
        The guard with its language model loaded.

    Raises:
        EngineError: the language model that the LoRA was trained on is another one here.
        KeyError: the tensors do not fit.
    """
    if (found := identity_of(settings)) != header.settings["writer"]:
        raise EngineError(
            f"the rewriter was trained on {header.settings['writer']}; this is {found}"
        )
    writer = new_writer(settings, encoder, 0)
    writer.load(_under(tensors, WRITER))
    probe = _under(tensors, PROBE)
    return RewriterGuard(
        header,
        encoder,
        LogisticHead(probe["weight"], probe["bias"]),
        LanguageRewriter(writer, settings.longest),
        settings,
        header.settings["terms"],
    )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def _lessons(training: TrainingSet) -> list[Lesson]:
    twins = {one.pair_id: one.text for one in training.prompts if one.pair_id and not one.unsafe}
    found = [
        Lesson(prompt=one.text, reply=twins[one.pair_id])
        for one in training.prompts
        if one.unsafe and one.pair_id in twins
    ]
    if not found:
        raise EngineError("a rewriter learns from pairs, and no unsafe prompt here has its twin")
    return found


def _scorer(
    settings: RewriterSettings, training: TrainingSet, probe: Mapping[str, Tensor]
) -> PrefixScorer:
    if settings.scorer == "terms":
        terms = [term for own in training.trained_terms.values() for term in own]
        if not terms:
            raise EngineError("no concept here has terms: set scorer to probe, or loss to plain")
        return TermScorer(terms)
    head = LogisticHead(probe["weight"], probe["bias"])
    benign = np.array([not one.unsafe for one in training.prompts])
    limit = threshold_at(head.scores(training.states)[benign], 0.01)
    return HeadScorer(training.encoder, head, limit)
