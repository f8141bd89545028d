"""Every trained guard: how it is fitted, and how its file becomes a guard again."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError, IntegrityError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.importing.coprov2.pairs import WRITER
from alignguard_train.guards.composing import Composed, composed_guard, fit_composed
from alignguard_train.guards.config import (
    GuardT2ISettings,
    LatentGuardSettings,
    LogisticSettings,
    RewriterSettings,
    SafeGuiderSettings,
    Settings,
    settings_of,
)
from alignguard_train.guards.contrastive import ConceptPairs, train_layer
from alignguard_train.guards.files import GuardHeader, check_encoder, read_guard
from alignguard_train.guards.guardt2i.fitting import fit_guardt2i, guardt2i_guard
from alignguard_train.guards.imported import NO_CONCEPTS
from alignguard_train.guards.latent_guard import LatentGuard, MappingLayer
from alignguard_train.guards.probes import LogisticHead, fit_logistic, fit_mlp, mlp_head
from alignguard_train.guards.rewriter.fitting import fit_rewriter, rewriter_guard
from alignguard_train.guards.safeguider import SafeGuider
from alignguard_train.guards.splits import share_of
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard
from alignguard_train.guards.training_set import Fitted, TrainingSet


def fit(
    settings: Settings, training: TrainingSet, *, seed: int, progress: Progress | None = None
) -> Fitted:
    """Train the guard that the settings are of.

    Args:
        settings: of any guard; their class says which.
        training: prompts, states and names of concepts.
        seed: of every random choice.
        progress: called with 1 after each epoch or step.

    Returns:
        Tensors and header settings of the guard, which has no threshold yet.

    Raises:
        EngineError: the prompts do not suffice, or a loss is not finite.
    """
    if isinstance(settings, GuardT2ISettings):
        return fit_guardt2i(settings, training, seed=seed, progress=progress)
    if isinstance(settings, RewriterSettings):
        return fit_rewriter(settings, training, seed=seed, progress=progress)
    if isinstance(settings, Composed):
        tensors, kept = fit_composed(
            settings,
            training,
            partial(fit, training=training, seed=seed, progress=progress),
            seed=seed,
        )
        return Fitted(tensors=tensors, settings=kept)
    own = dataclasses.asdict(settings)
    unsafe = np.array([one.unsafe for one in training.prompts])
    if isinstance(settings, LogisticSettings):
        tensors = fit_logistic(training.states.eos, unsafe, settings)
        if progress:
            progress(1)
        return Fitted(tensors=tensors, settings={"settings": own})
    if isinstance(settings, SafeGuiderSettings):
        found = fit_mlp(training.states.eos, unsafe, settings, seed=seed, progress=progress)
        return Fitted(tensors=found, settings={"settings": own})
    if all(key.endswith(f".{WRITER}") for key in training.concepts):
        raise EngineError(NO_CONCEPTS)
    layer = train_layer(_pairs(training), settings, seed=seed, progress=progress)
    return Fitted(
        tensors={name: x.detach() for name, x in layer.state_dict().items()},
        settings={
            "settings": own,
            "blacklist": {key: training.names[key] for key in training.concepts},
            "trained_on": training.concepts,
            "references": _references(training, settings, seed),
        },
    )


def _references(training: TrainingSet, settings: LatentGuardSettings, seed: int) -> list[str]:
    texts = {one.text for one in training.prompts if not one.unsafe}
    # By hash: the first in the alphabet would all begin with the same words.
    drawn = sorted(texts, key=lambda text: (share_of(text, seed), text))
    return drawn[: settings.references] if settings.offsets else []


def build(header: GuardHeader, tensors: Mapping[str, Tensor], encoder: FrozenEncoder) -> TextGuard:
    """The guard of a file's header and tensors.

    Args:
        header: of the file.
        tensors: of the file, by name.
        encoder: the frozen encoder to read.

    Returns:
        The guard, of the class that ``header.kind`` names.

    Raises:
        EngineError: the encoder is another one than the header's; names both.
        IntegrityError: header and tensors do not fit each other.
    """
    check_encoder(header, encoder.identity, of="this pipe")
    try:
        settings = settings_of(header.kind, header.settings["settings"])
        if isinstance(settings, LogisticSettings):
            head = LogisticHead(tensors["weight"], tensors["bias"])
            return TextGuard(header, encoder, head)
        if isinstance(settings, SafeGuiderSettings):
            return SafeGuider(header, encoder, mlp_head(tensors, settings), settings)
        if isinstance(settings, GuardT2ISettings):
            return guardt2i_guard(header, tensors, encoder, settings)
        if isinstance(settings, RewriterSettings):
            return rewriter_guard(header, tensors, encoder, settings)
        if isinstance(settings, Composed):
            return composed_guard(settings, header, tensors, encoder, build)
        layer = MappingLayer(header.encoder.width, settings)
        layer.load_state_dict(dict(tensors))
        return LatentGuard(
            header,
            encoder,
            layer,
            header.settings["blacklist"],
            references=header.settings["references"],
            trained_on=header.settings["trained_on"],
        )
    except (KeyError, StopIteration, TypeError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"the file of guard {header.kind} is faulty: {error}") from error


def load_guard(path: Path, pipe: Pipe) -> TextGuard:
    """A guard's file as a guard for a pipe.

    Args:
        path: a local file of :func:`save_guard`.
        pipe: whose text encoder it will read.

    Returns:
        The guard with its calibrated threshold.

    Raises:
        IntegrityError: the file is missing or faulty.
        EngineError: the pipe's text encoder is another one than the guard's; names both.
    """
    header, tensors = read_guard(path)
    return build(header, tensors, FrozenEncoder.of(pipe))


def _pairs(training: TrainingSet) -> ConceptPairs:
    """The unsafe prompts with their twins; NaN where a pair has no twin to learn from."""
    keys = training.concepts
    unsafe = [i for i, one in enumerate(training.prompts) if one.unsafe]
    twin_of = {
        one.pair_id: i for i, one in enumerate(training.prompts) if one.pair_id and not one.unsafe
    }
    states = training.states.all_states
    missing = torch.full_like(states[:1], torch.nan)
    twins = [twin_of.get(training.prompts[i].pair_id) for i in unsafe]
    return ConceptPairs(
        unsafe=states[unsafe],
        safe=torch.cat([missing if i is None else states[i : i + 1] for i in twins]),
        concept_of=torch.tensor([keys.index(training.prompts[i].concept) for i in unsafe]),
        concepts=training.encoder.states([training.names[key] for key in keys]).eos,
    )
