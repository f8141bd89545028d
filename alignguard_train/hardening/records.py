"""The rows of the hardening room."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class HardenedExpert:
    """One expert's training in a round."""

    category: str
    """Category of the expert."""
    hard_negatives: int
    """Hard negatives of this and earlier rounds among its pairs; 0: it kept its weights."""
    repeats: int
    """How often each of them was a row."""
    pairs: int
    """All its train pairs, each once."""
    steps: int
    """Steps of the training; 0: it kept its weights."""
