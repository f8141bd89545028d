"""The profile's section `merge`.

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

    Attributes:
        strategy: of the adapter that is released and evaluated as merged.
        stat: Co-Merge's statistic, the mean activation or how often an expert's is the largest.
        unit: what Co-Merge gives to one expert, an output row or a layer.
        calibration_pairs: unsafe prompts of every category that calibrate the merge.
        calibration_timesteps: timesteps at which each of them is noised.
        seed: of the calibration's noise, and of strategies that draw at random.
        baselines: strategies that are stored next to the merge for comparison.
        sum_scale: factor of strategies that add experts up (``sum``, ``svd``, ``magnitude``,
            ``dare``).
        density: share of the weights that ``ties``, ``dare`` and ``magnitude`` keep, in (0, 1].
        safe_weight: how much a merge by ``regmean`` should do nothing on safe inputs.
        ridge: share of the mean input power that keeps the equations of ``regmean`` solvable.
        weights: factor of an expert by category, before merging by any strategy.
        rank: rank to which the merge is cut by SVD; None stores it exactly, at the sum of the
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
