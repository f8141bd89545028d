"""Guards that hold a trained one, their gate: fitted from the release, and read from a file again.

The gate's tensors and settings are in the same file, so one file is enough.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from alignguard_train.guards.config import gate_of, settings_of
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.retrieval import (
    STATES,
    RetrievalRewriter,
    chosen_examples,
    restored,
)
from alignguard_train.guards.shield.config import ShieldSettings
from alignguard_train.guards.shield.detector import scan_of, train_detector
from alignguard_train.guards.shield.guard import Shield
from alignguard_train.guards.shield.scan import OutputScan
from alignguard_train.guards.softening.config import (
    DualLatentSettings,
    SafreeSettings,
    SLDSettings,
)
from alignguard_train.guards.softening.dual_latent import DualLatent
from alignguard_train.guards.softening.guards import PeerGuard
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.text_guard import TextGuard
from alignguard_train.guards.training_set import TrainingSet

Composed = SLDSettings | SafreeSettings | DualLatentSettings | ShieldSettings
"""Settings of guards that hold a trained one, or none."""
GATE = "gate."
"""Prefix of the gate's tensors."""
DETECTOR = "detector."
"""Prefix of those of the shield's detector of images."""


def fit_composed(
    settings: Composed, training: TrainingSet, fit_gate: Callable[[Any], Any], *, seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train the gate, and keep of the release what the guard needs.

    Args:
        settings: of the guard.
        training: prompts, states, names of concepts, and the base model's pipe.
        fit_gate: trains a guard of the given settings.
        seed: of every random choice.

    Returns:
        Tensors and header settings.

    Raises:
        EngineError: the prompts do not suffice for the gate or the detector.
    """
    tensors: dict[str, Tensor] = {}
    found: dict[str, Any] = {"settings": dataclasses.asdict(settings), "gate": None}
    if gate := gate_of(settings):
        own = fit_gate(settings_of(gate, training.params.get(gate, {})))
        tensors |= {GATE + name: x for name, x in own.tensors.items()}
        found["gate"] = {"kind": gate, "settings": own.settings}
    keys = training.concepts
    found["concepts"] = [[key.partition(".")[0], training.names[key]] for key in keys]
    if most := getattr(settings, "examples", 0):
        found["examples"], tensors[STATES] = chosen_examples(
            training.prompts, training.states, most, seed
        )
    if isinstance(settings, ShieldSettings) and settings.renders:
        own_tensors, found["scan"] = train_detector(
            training.pipe, found["examples"], settings, target_fpr=training.target_fpr, seed=seed
        )
        tensors |= {DETECTOR + name: x for name, x in own_tensors.items()}
    return tensors, found


def composed_guard(
    settings: Composed,
    header: GuardHeader,
    tensors: Mapping[str, Tensor],
    encoder: FrozenEncoder,
    build: Callable[..., TextGuard],
) -> TextGuard:
    """The guard of a file's header and tensors.

    Args:
        settings: of the header.
        header: of the file.
        tensors: of the file, by name.
        encoder: the frozen encoder to read.
        build: makes the gate of its header and tensors.

    Returns:
        The guard.

    Raises:
        KeyError: the file lacks the gate or the examples.
    """
    gate = None
    if own := header.settings["gate"]:
        # The gate has the file's threshold: its score is the guard's.
        inner = dataclasses.replace(header, kind=own["kind"], settings=own["settings"])
        gate = build(inner, _held(tensors, GATE), encoder)
    if isinstance(settings, SLDSettings | SafreeSettings):
        return PeerGuard(header, encoder, gate, method=settings.PEER, params=settings.params)
    if gate is None:
        raise KeyError("gate")
    examples = restored(header.settings, tensors, encoder)
    if isinstance(settings, ShieldSettings):
        scan = _scan(settings, header, tensors)
        return Shield(header, encoder, gate, settings, examples, scan=scan)
    return DualLatent(header, encoder, gate, settings, RetrievalRewriter(examples))


def _scan(
    settings: ShieldSettings, header: GuardHeader, tensors: Mapping[str, Tensor]
) -> OutputScan | None:
    if "scan" not in header.settings:
        return None
    threshold = float(header.settings["scan"]["threshold"])
    return scan_of(_held(tensors, DETECTOR), settings, threshold=threshold)


def _held(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}
