"""What guards learn from, and what a training returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from alignguard_train.guards.records import GuardPrompt
from alignguard_train.guards.states import FrozenEncoder, TextStates


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSet:
    """What guards learn from.

    Attributes:
        prompts: of the part ``train``.
        states: theirs, row by row.
        names: concept key to the text that names it, of every concept of the prompts.
        encoder: the frozen encoder.
        terms: concept key to its terms, likewise.
        params: settings of other guards by name, for one that holds a trained one.
        pipe: the base model's, for a guard that draws what it learns from.
        target_fpr: of a detector's own threshold.
    """

    prompts: Sequence[GuardPrompt]
    states: TextStates
    names: Mapping[str, str]
    encoder: FrozenEncoder
    terms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pipe: Any = None
    target_fpr: float = 0.01

    @property
    def concepts(self) -> list[str]:
        """Keys of the unsafe prompts' concepts, sorted."""
        return sorted({one.concept for one in self.prompts if one.unsafe})

    @property
    def trained_terms(self) -> dict[str, list[str]]:
        """Terms of the unsafe prompts' concepts, by key; concepts without terms are left out."""
        return {key: list(self.terms[key]) for key in self.concepts if self.terms.get(key)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A trained guard before its calibration: tensors, and settings for the header."""

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
