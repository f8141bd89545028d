"""The models that a measurement needs; imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignguard_data.contracts.protocols import ImageScorer
from alignguard_train.base import BaseModel
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.judge import AdaptableGenerator


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """What is fine-tuned, drawn with and judged by.

    Attributes:
        adapters: LoRA file by name of the safety adapter.
        base: the base model, to train.
        generator: the same checkpoint, to draw with.
        scorers: the evaluation's.
        evaluation: its flag rules and measures.
    """

    adapters: Mapping[str, Path]
    base: BaseModel
    generator: AdaptableGenerator
    scorers: Sequence[ImageScorer]
    evaluation: EvaluationConfig
