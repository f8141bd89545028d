"""How a flow model (SD3.5, FLUX) is trained: which times, which shift, which weight.

Imports no torch, so profiles are read without loading it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Times = Literal["uniform", "logit-normal"]
Shift = Literal["none", "static", "dynamic"]
Weighting = Literal["none", "sigma-squared", "cosmap"]
CHOICES: Mapping[str, Any] = {"times": Times, "shift": Shift, "weighting": Weighting}


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowTraining:
    """How a flow model's noise is drawn and its error weighted (docs/method.md).

    ``times`` and ``shift`` have no default: published recipes differ, and a shift that rendering
    does not use trains at other noise than it draws with.

    Raises:
        ValueError: an unknown choice, or a number out of bounds; every fault at once.
    """

    times: Times
    """Where in the flow errors are measured, before the shift: ``uniform``, or ``logit-normal``,
    the sigmoid of a normal variable, which prefers the middle (arXiv 2403.03206)."""
    shift: Shift
    """Of the shares of noise, toward more: ``static``, the scheduler's own number (SD3.5: 3);
    ``dynamic``, by the image's size as its scheduler says (FLUX.1 dev); ``none``, as diffusers'
    training script of FLUX."""
    weighting: Weighting = "none"
    """Of each row's error by its share of noise: ``none``, the velocity's error as it is;
    ``sigma-squared``, the error of the image that the velocity implies; ``cosmap`` of SD3."""
    mean: float = 0.0
    """Of the normal variable of ``logit-normal``; above 0 for more noise."""
    deviation: float = 1.0
    """Its standard deviation."""
    guidance: float | None = None
    """Input of a distilled model's guidance embedding (FLUX.1 dev) in training, for policy and
    reference alike. Must be given for such a model and for no other."""

    def __post_init__(self) -> None:
        faults = []
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in get_args(allowed):
                one_of = ", ".join(get_args(allowed))
                faults.append(f"{name} must be one of {one_of}, got {value!r}")
        if not math.isfinite(self.mean):
            faults.append(f"mean must be a finite number, got {self.mean}")
        if not (math.isfinite(self.deviation) and self.deviation > 0):
            faults.append(f"deviation must be positive, got {self.deviation}")
        if self.guidance is not None and not 0 <= self.guidance < 100:
            faults.append(f"guidance must be in [0, 100), got {self.guidance}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def recorded(self) -> dict[str, Any]:
        """Every setting, for fingerprints, manifests and cards."""
        return asdict(self)


def shift_fault(flow: FlowTraining, scheduler: Mapping[str, Any]) -> str:
    """Why a shift does not fit a scheduler; empty if it does.

    Args:
        flow: the chosen settings.
        scheduler: its configuration.

    Returns:
        The fault with its field and value.
    """
    dynamic = bool(scheduler.get("use_dynamic_shifting", False))
    if flow.shift == "static" and dynamic:
        return (
            "base_model.flow.shift: static, but the checkpoint's scheduler shifts by the image's "
            "size when it renders; choose dynamic, or none"
        )
    if flow.shift == "dynamic" and not dynamic:
        return (
            "base_model.flow.shift: dynamic, but the checkpoint's scheduler has the same shift "
            f"({scheduler.get('shift', 1.0)}) at every size; choose static, or none"
        )
    return ""


def guidance_fault(flow: FlowTraining, *, embedded: bool) -> str:
    """Why a guidance does not fit a denoiser; empty if it does.

    Args:
        flow: the chosen settings.
        embedded: whether the denoiser has a guidance embedding.

    Returns:
        The fault with its field and value.
    """
    if embedded and flow.guidance is None:
        return (
            "base_model.flow.guidance: none, but the transformer has a guidance embedding; give "
            "the number that it is trained with, such as 1.0 or 3.5"
        )
    if flow.guidance is not None and not embedded:
        return (
            f"base_model.flow.guidance: {flow.guidance}, but the transformer has no guidance "
            "embedding; leave it out"
        )
    return ""
