"""The rows that guards read and that their room writes."""

from dataclasses import dataclass
from typing import Literal

Part = Literal["train", "calibration", "test"]
Variant = Literal["explicit", "synonym", "adversarial", "twin", "plain", "harmless"]
"""An unsafe prompt as written, with its concept replaced by a synonym, or by a string found against
the encoder; a safe twin; a caption without a concept; one that uses a concept's words harmlessly.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardPrompt:
    """One prompt of a part; ``concept`` is empty for captions of no concept."""

    text: str
    unsafe: bool
    part: Part
    variant: Variant
    concept: str
    seen: bool
    pair_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardScore:
    """One test or calibration prompt's score by one guard."""

    guard: str
    """Name of the guard."""
    text_id: str
    """128-bit BLAKE2b (hex) of the prompt's canonical form."""
    part: str
    """Calibration or test."""
    variant: str
    """Explicit, synonym or adversarial; twin, plain or harmless."""
    concept: str
    """Key of the concept: category, dot, slug; empty for captions of no concept."""
    seen: bool
    """Whether guards were trained on the concept."""
    blacklist: str
    """Shipped: the file's own; unseen: the held-out concepts, given without training; part: and a
    name: that part of the score by itself."""
    unsafe: bool
    """Whether the prompt asks for a concept."""
    score: float
    """Higher is more unsafe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardMeasure:
    """One measured number of one guard."""

    guard: str
    """Name of the guard."""
    split: str
    """Which prompts: seen or unseen concepts and the variant, or a benign set."""
    measure: str
    """Auc, tpr_at_1, tpr_at_5, fpr_at_tpr95; tpr and fpr at the file's threshold; of a rewriter
    rewritten, no_answer, concept_removed, retention, flagged_by_safeguider, unchanged; of GuardT2I
    reconstruction."""
    value: float
    """The number; NaN if it may not be quoted."""
    low: float
    """Lower bound of the 95 % interval."""
    high: float
    """Upper bound."""
    unsafe: int
    """Unsafe prompts it is of."""
    benign: int
    """Benign prompts it is of."""
    note: str
    """Why the number is missing, or what it leaves out."""
