"""What a profile's `merge` section holds.

Free of torch, so that profiles can be read and fingerprints computed at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Stat = Literal["mean", "wins"]


Unit = Literal["row", "layer"]


Strategy = Literal[
    "co-merge", "regmean", "average", "sum", "ties", "dare", "svd", "magnitude", "random"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeConfig:
    """How experts become one adapter (docs/method.md, "Merging experts").

    ``stat`` and ``unit`` are Co-Merge's: mean activation or how often an expert's is the largest;
    a winner for each output row or for each layer. ``calibration_pairs`` unsafe prompts of every
    category are noised at ``calibration_timesteps`` timesteps each. ``baselines`` are stored
    beside the merge for comparison; ``sum_scale`` belongs to those that add experts up, ``sum``,
    ``svd``, ``magnitude`` and ``dare``, ``density`` to ``ties``, ``dare`` and ``magnitude``.
    ``safe_weight`` and ``ridge`` belong to ``regmean``: how much the merge should do nothing on
    safe inputs, and the share of the mean input power that keeps its equations solvable.
    ``weights`` scales the experts of some categories before they are merged, by any strategy.
    ``rank`` cuts the merge to a lower rank by SVD; None stores it exactly, at the sum of the
    experts' ranks.
    """

    strategy: Strategy = "co-merge"
    stat: Stat = "mean"
    unit: Unit = "row"
    calibration_pairs: int = 8
    calibration_timesteps: int = 4
    seed: int = 0
    baselines: tuple[Strategy, ...] = ("average",)
    sum_scale: float = 0.3
    density: float = 0.5
    safe_weight: float = 1.0
    ridge: float = 1e-4
    weights: Mapping[str, float] = field(default_factory=dict)
    rank: int | None = None

    def __post_init__(self) -> None:
        for name in ("calibration_pairs", "calibration_timesteps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not (self.safe_weight >= 0 and self.ridge > 0):
            raise ValueError(
                f"safe_weight must not be negative and ridge must be positive, "
                f"got {self.safe_weight} and {self.ridge}"
            )
        for category, weight in self.weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"weights.{category} must be a finite number, got {weight}")
        if not 0 < self.density <= 1:
            raise ValueError(f"density must lie in (0, 1], got {self.density}")

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The chosen strategy first, then the baselines, each once."""
        return tuple(dict.fromkeys((self.strategy, *self.baselines)))
