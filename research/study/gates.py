"""Gates: which expert acts is chosen for each prompt, from its text state.

A merge gives every prompt the same weights. A gate reads what the guards read, the end-of-text
state of the base model's encoder, and classifies it by logistic regression; classes are learned
from training prompts only.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from alignguard_train.evaluation.records import EvaluationRow
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.merge.linear_gate import LinearGate, fit_linear
from research.study.trial import Gated
from research.study.world import PAIRS, World

CHOOSING_PROMPTS = 20
NO_EXPERT = "none"
STEP = 0.05
"""Weights of a weighted gate are rounded to it, so prompts share adapters."""


def gate_weights(
    world: World, wanted: Gated, rows: Sequence[EvaluationRow]
) -> npt.NDArray[np.float64]:
    """Every prompt's weight of every expert.

    Args:
        world: of the experts' concepts.
        wanted: experts and kind of gate.
        rows: prompts.

    Returns:
        (prompts, experts). *category* picks the prompt's expert, *category, weighted* takes the
        class probabilities, and *unsafe* picks the expert of an unsafe prompt's concept and none
        for a safe prompt.
    """
    gate, encoder = fitted(world, wanted), FrozenEncoder.of(world.engines.base.pipe)
    states = encoder.states([row.prompt for row in rows]).eos
    probabilities = gate.probabilities(states).double().numpy()
    owner = _owners(wanted, list(gate.classes))
    if wanted.gate == "category, weighted":
        return np.round(probabilities @ owner / STEP) * STEP
    return owner[probabilities.argmax(axis=1)]


def fitted(world: World, wanted: Gated) -> LinearGate:
    """The gate itself, fitted on training prompts; other prompts choose its penalty.

    Args:
        world: of the experts' concepts.
        wanted: experts and kind of gate.

    Returns:
        Its classes are categories; of *unsafe* concepts, and none.
    """
    encoder = FrozenEncoder.of(world.engines.base.pipe)
    train = world.rows("train", _concepts(wanted), PAIRS)
    choose = world.rows("choose", _concepts(wanted), CHOOSING_PROMPTS)
    (x, labels), (held, held_labels) = (
        (encoder.states([row.prompt for row in part]).eos, list(_classes(wanted, part)))
        for part in (train, choose)
    )
    return fit_linear(x, labels, held, held_labels)


def _concepts(wanted: Gated) -> list[str]:
    return [key for part in wanted.parts for key in part.concepts]


def _classes(wanted: Gated, rows: Sequence[EvaluationRow]) -> Iterator[str]:
    for row in rows:
        if wanted.gate == "unsafe":
            yield row.concept if row.side == "unsafe" else NO_EXPERT
        else:
            yield row.category


def _owners(wanted: Gated, classes: list[str]) -> npt.NDArray[np.float64]:
    """(classes, experts): 1 where an expert was trained on a class's concepts."""
    owned = [
        {*part.concepts, *(key.split(".")[0] for key in part.concepts)} for part in wanted.parts
    ]
    return np.array([[float(name in own) for own in owned] for name in classes])
