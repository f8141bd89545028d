"""Settings of guards that soften. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Gate = Literal["", "eos-logistic", "latent-guard"]
"""The trained guard that chooses which prompts are softened; empty: every prompt is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SLDSettings:
    """Safe Latent Diffusion as a guard; as published it is always on.

    Attributes:
        gate: softens only what this guard flags.
        params: of :class:`alignguard_train.peers.sld.SLD`.
    """

    PEER: ClassVar[str] = "sld"
    gate: Gate = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SafreeSettings:
    """SAFREE's text part as a guard; as published it is always on.

    Attributes:
        gate: softens only what this guard flags.
        params: of :class:`alignguard_train.peers.safree.SAFREE`.
    """

    PEER: ClassVar[str] = "safree"
    gate: Gate = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DualLatentSettings:
    """Dual-latent, our reconstruction: the publication states no equation and no value.

    The safe stream's weight is ``clip((score - threshold - begin) / (full - begin), 0, 1)`` of a
    flagged prompt, and 0 of any other.

    Attributes:
        gate: the guard whose score gives the weight.
        mix: ``eps``: predictions are mixed, on one stream of latents, in any denoising loop;
            ``latent``: two streams of latents, mixed after every step, in diffusers' own call only.
        context: share of the steps before it starts, which keeps the prompt's layout.
        begin: score above the threshold at which the weight leaves 0.
        full: score above the threshold from which the weight is 1.
        weight: of every flagged prompt, instead of one from the score.
        examples: pairs of the release kept in the file, whose nearest one's safe side is drawn.
    """

    gate: Literal["eos-logistic", "latent-guard"] = "eos-logistic"
    mix: Literal["eps", "latent"] = "eps"
    context: float = 0.0
    begin: float = -1.0
    full: float = 1.0
    weight: float | None = None
    examples: int = 2000

    def __post_init__(self) -> None:
        if not 0 <= self.context < 1:
            raise ValueError(f"context must lie in [0, 1), got {self.context}")
        if self.full <= self.begin:
            raise ValueError(f"full must be more than begin, got {self.full} and {self.begin}")
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {self.weight}")
        if self.examples < 1:
            raise ValueError(f"examples must be 1 or more, got {self.examples}")
