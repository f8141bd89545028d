"""Settings of the shield. No torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from alignguard_data.contracts.sampling import Solver


@dataclass(frozen=True, kw_only=True, slots=True)
class ShieldSettings:
    """Rewriting and scanning; the publication (arXiv 2504.15512) states no values, these are ours.

    Attributes:
        gate: the trained guard that flags a prompt and verifies what is written instead.
        examples: pairs of the release kept in the file.
        nearest: positive and negative examples a prompt.
        rounds: rewritings at most; then the prompt is blocked.
        deleted: words at most that a round may find to be risky.
        renders: pairs that the base model draws for the detector of images; 0: no output scan.
        steps: of those images. They are to be drawn as the model is used: previews of few steps
            look different from those of many.
        guidance_scale: of those images.
        solver: of those images: the checkpoint's own scheduler, or ``dpm++2m``.
        side: pixels to which each scope is scaled.
        epochs: of the detector.
        previews: shares of the steps after which the image so far is scanned.
        grids: crops a side: 2 is four crops, 3 is nine.
    """

    gate: Literal["eos-logistic", "latent-guard"] = "eos-logistic"
    examples: int = 2000
    nearest: int = 3
    rounds: int = 2
    deleted: int = 8
    renders: int = 0
    steps: int = 20
    guidance_scale: float = 7.5
    solver: Solver = "checkpoint"
    side: int = 64
    epochs: int = 30
    previews: tuple[float, ...] = (0.25, 0.5, 0.75)
    grids: tuple[int, ...] = (2, 3)

    def __post_init__(self) -> None:
        for name in ("examples", "nearest", "rounds", "deleted", "steps", "side", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.solver not in get_args(Solver):
            raise ValueError(
                f"solver must be one of {', '.join(get_args(Solver))}, got {self.solver!r}"
            )
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale must not be negative, got {self.guidance_scale}")
        if self.renders < 0 or 0 < self.renders < 10:
            raise ValueError(f"renders must be 0, or 10 or more, got {self.renders}")
        if any(not 0 < share < 1 for share in self.previews):
            raise ValueError(f"previews must lie between 0 and 1, got {self.previews}")
        if any(grid < 2 for grid in self.grids):
            raise ValueError(f"grids must be 2 or more, got {self.grids}")
