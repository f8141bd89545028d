"""Sampling settings of a base model."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

SIDE_STEP = 8
"""Pixels per latent along a side; diffusers accepts only multiples."""


Solver = Literal["checkpoint", "dpm++2m"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Sampling settings of a base model.

    Attributes:
        num_inference_steps: steps of the sampler.
        guidance_scale: weight of classifier-free guidance; 1 or less renders without it.
        width: pixels, a multiple of 8.
        height: pixels, a multiple of 8.
        batch_size: rows of one forward pass.
        negative_prompt: what guidance moves away from.
        solver: the checkpoint's own scheduler, or ``dpm++2m``, the multistep DPM-Solver++, which
            needs fewer steps for the same image.
    """

    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    width: int = 512
    height: int = 512
    batch_size: int = 16
    negative_prompt: str = ""
    solver: Solver = "checkpoint"

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be at least 1, got {getattr(self, name)}"
            for name in ("num_inference_steps", "batch_size")
            if getattr(self, name) < 1
        ]
        for name in ("width", "height"):
            pixels = getattr(self, name)
            if pixels < SIDE_STEP or pixels % SIDE_STEP:
                below = max(SIDE_STEP, pixels // SIDE_STEP * SIDE_STEP)
                faults.append(
                    f"{name} must be a multiple of {SIDE_STEP}, for example {below}, got {pixels}"
                )
        if not 0 <= self.guidance_scale < 100:
            faults.append(f"guidance_scale must be in [0, 100), got {self.guidance_scale}")
        if self.solver not in get_args(Solver):
            one_of = ", ".join(get_args(Solver))
            faults.append(f"solver must be one of {one_of}, got {self.solver!r}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """The fields that enter fingerprints.

        The checkpoint's own solver is left out, so images made before the option existed stay up to
        date.
        """
        found = dataclasses.asdict(self)
        if self.solver == "checkpoint":
            del found["solver"]
        return found
