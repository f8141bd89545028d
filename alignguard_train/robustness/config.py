"""What a profile's `robustness` section holds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignguard_data.contracts.flags import FlagRule
from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.robustness.capabilities import capabilities_of, target_fault
from alignguard_train.robustness.protocol import Budget
from alignguard_train.robustness.registry import ATTACKS, CASES, CONTROLS, PRESETS, Preset

REPLAYS = (1, 64)
"""Fewest and most fresh seeds a prompt; 4 to 8 are usual."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackConfig:
    """One attack to run.

    Attributes:
        name: of :mod:`alignguard_train.robustness.registry`.
        label: its name in results, where one attack runs twice; by default ``name``.
        params: parameters over those of the preset.
        budget: limits of counters over those of the preset, for one case.
        targets: targets that it runs on; None: all of the section.
        cases: the first so many cases only; None: the preset's number for this attack.
    """

    name: str
    label: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    cases: int | None = None

    def __post_init__(self) -> None:
        if self.cases is not None and self.cases < 1:
            raise ValueError(f"cases of {self.name} must be 1 or more, got {self.cases}")
        if self.name not in ATTACKS:
            raise ValueError(f"no attack {self.name!r}; there are {', '.join(ATTACKS)}")
        if self.label and not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.label):
            raise ValueError(f"label must be of a-z, 0-9, _, . and -, got {self.label!r}")
        known = Budget.__dataclass_fields__
        if strange := sorted(set(self.budget) - set(known)):
            raise ValueError(
                f"budget: no counter {', '.join(strange)}; there are {', '.join(known)}"
            )
        Budget(**self.budget)
        model = ATTACKS[self.name].model
        if model and not (isinstance(named := self.params.get(model), str) and named):
            raise ValueError(
                f"{self.name} needs params.{model}: the name or path of a model, got {named!r}"
            )

    @property
    def shown(self) -> str:
        """Its name in results."""
        return self.label or self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessConfig:
    """What is attacked, with what, and how what is found is judged.

    Attributes:
        attacks: in this order; ``no_attack`` comes first if it is not named.
        targets: names of adapters (base, merged, all-single, merge:STRATEGY, expert:CATEGORY), of
            peers (peer:NAME), and of guards in front of the base model or of one of these
            (guard:GUARD, guard:GUARD+TARGET); the base model comes first if it is not named.
        preset: parameters and number of cases: ``smoke``, ``standin`` or ``paper``.
        cases: number of cases; None: the preset's.
        replay_seeds: fresh seeds with which a found prompt is judged.
        seed: of every search.
        coherent: rule that fires on an image that shows something; None: any image that is not
            flat.
        batch_size: images per forward pass; a search asks for few at once.
        keep_texts: keep adversarial prompts; else only their hashes. Where prompts are harmful,
            those that break a model are too.
        bootstrap_resamples: per interval of image-level rates.
        confidence: level of the intervals.
    """

    attacks: tuple[AttackConfig, ...] = tuple(AttackConfig(name=name) for name in CONTROLS)
    targets: tuple[str, ...] = (BASE, MERGED)
    preset: Preset = "standin"
    cases: int | None = None
    replay_seeds: int = 4
    seed: int = 0
    coherent: FlagRule | None = None
    batch_size: int = 4
    keep_texts: bool = False
    bootstrap_resamples: int = 2000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        faults = [*self._number_faults(), *self._name_faults(), *self._capability_faults()]
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def all_targets(self) -> tuple[str, ...]:
        """The base model, then the others."""
        return (BASE, *(name for name in self.targets if name != BASE))

    @property
    def all_attacks(self) -> tuple[AttackConfig, ...]:
        """``no_attack``, then the others."""
        plain = AttackConfig(name="no_attack")
        return (plain, *(one for one in self.attacks if one.shown != plain.name))

    @property
    def number_of_cases(self) -> int:
        """How many cases to attack at most."""
        return CASES[self.preset] if self.cases is None else self.cases

    def attack(self, label: str) -> AttackConfig:
        """The attack of a name in results."""
        return next(one for one in self.all_attacks if one.shown == label)

    def cases_of(self, attack: AttackConfig) -> int:
        """How many cases to attack at most with one attack, the first ones of all."""
        own = ATTACKS[attack.name].cases.get(self.preset) if attack.cases is None else attack.cases
        return self.number_of_cases if own is None else min(own, self.number_of_cases)

    def targets_of(self, attack: AttackConfig) -> tuple[str, ...]:
        """The targets of one attack, in the order of all targets."""
        if attack.targets is None:
            return self.all_targets
        return tuple(name for name in self.all_targets if name in attack.targets)

    def _number_faults(self) -> list[str]:
        least = {"cases": 1, "batch_size": 1, "bootstrap_resamples": 100}
        found = [
            f"{name} must be {bound} or more, got {value}"
            for name, bound in least.items()
            if (value := getattr(self, name)) is not None and value < bound
        ]
        if self.preset not in PRESETS:
            found.append(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if not REPLAYS[0] <= self.replay_seeds <= REPLAYS[1]:
            found.append(
                f"replay_seeds must lie in {REPLAYS[0]} to {REPLAYS[1]}, got {self.replay_seeds}"
            )
        if not 0.5 <= self.confidence < 1:
            found.append(f"confidence must be in [0.5, 1), got {self.confidence}")
        return found

    def _name_faults(self) -> list[str]:
        found = [f"targets: {fault}" for name in self.targets if (fault := target_fault(name))]
        labels = [attack.shown for attack in self.attacks]
        if twice := _repeated(labels):
            found.append(f"attacks: {', '.join(twice)} is named twice; give one a label")
        if twice := _repeated(self.targets):
            found.append(f"targets: {', '.join(twice)} is named twice")
        for attack in self.attacks:
            if strange := sorted(set(attack.targets or ()) - set(self.all_targets)):
                found.append(f"attacks: {attack.shown}: no target {', '.join(strange)}")
            if attack.shown == "no_attack" and (attack.name != "no_attack" or attack.targets):
                found.append("attacks: no_attack is the unchanged prompt on every target")
        return found

    def _capability_faults(self) -> list[str]:
        return [
            f"attacks: {attack.shown} needs {', '.join(missing)}, which target {name} does not "
            "give: name the targets that it runs on"
            for attack in self.attacks
            for name in self.targets_of(attack)
            if (missing := sorted(set(ATTACKS[attack.name].needs) - capabilities_of(name)))
        ]


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if list(names).count(name) > 1})
