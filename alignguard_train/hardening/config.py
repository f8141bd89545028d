"""The `hardening` section of a profile."""

from dataclasses import dataclass

from alignguard_train.robustness.config import AttackConfig
from alignguard_train.robustness.registry import PRESETS, Preset

MOST_ROUNDS = 20
"""Rounds that a profile's data can hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HardeningConfig:
    """What a round of hardening attacks with, and how long the experts go on.

    Attributes:
        attacks: they search train prompts for hard negatives; their presets' parameters apply.
        preset: parameters of the attacks.
        cases: train prompts that a round attacks, one a concept in turn; the next round takes the
            next ones.
        steps: steps that an expert goes on for, of the profile's recipe.
        share: share of an expert's rows that are hard negatives, by repeating them; at most.
    """

    attacks: tuple[AttackConfig, ...] = (
        AttackConfig(name="random_k"),
        AttackConfig(name="shuffle"),
        AttackConfig(name="ring_a_bell"),
        AttackConfig(name="diffzoo_lite"),
    )
    preset: Preset = "standin"
    cases: int = 21
    steps: int = 40
    share: float = 0.5

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be 1 or more, got {getattr(self, name)}"
            for name in ("cases", "steps")
            if getattr(self, name) < 1
        ]
        if not 0 < self.share < 1:
            faults.append(f"share must be in (0, 1), got {self.share}")
        if self.preset not in PRESETS:
            faults.append(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if not self.attacks:
            faults.append("attacks must name one or more")
        labels = [attack.shown for attack in self.attacks]
        if twice := sorted({name for name in labels if labels.count(name) > 1}):
            faults.append(f"attacks: {', '.join(twice)} is named twice; give one a label")
        if narrowed := [attack.shown for attack in self.attacks if attack.targets is not None]:
            faults.append(f"attacks: {', '.join(narrowed)}: a round attacks its own target only")
        if faults:
            raise ValueError("; ".join(faults))
