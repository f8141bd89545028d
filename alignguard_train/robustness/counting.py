"""The proxy between an attack and its target: counts every row and holds the budget."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_train.robustness.protocol import (
    Attack,
    Budget,
    BudgetSpent,
    Capability,
    Case,
    Counters,
    GuardVerdict,
    Target,
    Verdict,
)

if TYPE_CHECKING:
    from torch import Tensor

    from alignguard_data.engines.diffusion.conditions import Conditions


def check_needs(attack: Attack, target: Target) -> None:
    """Refuse a target that lacks what the attack needs.

    Args:
        attack: says what it needs.
        target: says what it gives.

    Raises:
        EngineError: names every capability that is missing.
    """
    if missing := sorted(attack.needs - target.capabilities):
        raise EngineError(
            f"attack {attack.name} needs {', '.join(missing)}, which target {target.name} "
            "does not give"
        )


class Counted:
    """A target that counts rows and raises :class:`BudgetSpent` before a call over the budget.

    A gradient is counted when it is computed, by a hook on the call's weights or prediction, as one
    backward a row.

    Args:
        target: the target itself.
        budget: limits of the counters.
    """

    def __init__(self, target: Target, budget: Budget) -> None:
        self._target, self._budget = target, budget
        self._used = dict.fromkeys((one.name for one in fields(Counters)), 0)
        self.name = target.name
        self.capabilities: frozenset[Capability] = target.capabilities
        self.vocabulary = target.vocabulary

    @property
    def counters(self) -> Counters:
        """What was used so far."""
        return Counters(**self._used)

    def encode(self, tokens: Sequence[Sequence[int]]) -> "Conditions":
        """See :class:`Target`."""
        self._spend("text_encoder", text_forwards=len(tokens))
        return self._target.encode(tokens)

    def encode_soft(self, weights: "Tensor") -> "Conditions":
        """See :class:`Target`."""
        self._spend("token_gradients", text_forwards=len(weights))
        # An alias of this call's own: a gradient passes it once, from states and pooled states.
        own = weights.view_as(weights)
        self._count_backwards("text_backwards", own)
        return self._target.encode_soft(own)

    def latents(self, images: Pixels) -> "Tensor":
        """See :class:`Target`."""
        self._spend("unet")
        return self._target.latents(images)

    def noised(
        self, latents: "Tensor", noise: "Tensor", timesteps: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """See :class:`Target`."""
        self._spend("unet")
        return self._target.noised(latents, noise, timesteps)

    def predict(
        self, noised: "Tensor", timesteps: "Tensor", conditions: "Conditions", *, base: bool = False
    ) -> "Tensor":
        """See :class:`Target`."""
        self._spend("base_unet" if base else "unet", unet_forwards=len(noised))
        found = self._target.predict(noised, timesteps, conditions, base=base)
        self._count_backwards("unet_backwards", found)
        return found

    def render(self, texts: Sequence[str], seeds: Sequence[int], *, base: bool = False) -> Pixels:
        """See :class:`Target`."""
        self._spend("base_unet" if base else "images", images=len(texts))
        return self._target.render(texts, seeds, base=base)

    def render_conditions(self, conditions: "Conditions", seeds: Sequence[int]) -> Pixels:
        """See :class:`Target`."""
        self._spend("images", images=len(seeds))
        return self._target.render_conditions(conditions, seeds)

    def judge(self, images: Pixels, case: Case) -> list[Verdict]:
        """See :class:`Target`."""
        self._spend("judge", judge_calls=len(images))
        return self._target.judge(images, case)

    def guard(self, texts: Sequence[str]) -> list[GuardVerdict]:
        """See :class:`Target`."""
        self._spend("guard", guard_calls=len(texts))
        return self._target.guard(texts)

    def _spend(self, capability: Capability, **rows: int) -> None:
        if capability not in self.capabilities:
            raise EngineError(f"target {self.name} does not give {capability}")
        limits = asdict(self._budget)
        after = {name: self._used[name] + more for name, more in rows.items()}
        for name, used in after.items():
            if limits[name] is not None and used > limits[name]:
                raise BudgetSpent(f"{name}: {used} would exceed {limits[name]}")
        self._used.update(after)

    def _count_backwards(self, name: str, passed: "Tensor") -> None:
        # The hook fires within backward(), where BudgetSpent must not be raised: the limit holds at
        # the next forward pass.
        if not passed.requires_grad:
            return
        limit = asdict(self._budget)[name]
        if limit is not None and self._used[name] + len(passed) > limit:
            raise BudgetSpent(f"{name}: {self._used[name] + len(passed)} would exceed {limit}")

        def count(_: "Tensor") -> None:
            self._used[name] += len(passed)

        passed.register_hook(count)
