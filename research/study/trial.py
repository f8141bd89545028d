"""A trial: an adapter, trained or merged from trained ones, measured on prompts.

Equal trials have equal keys on every machine; keys identify their lines.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from alignguard_train.merge.config import Strategy
from alignguard_train.merge.room import CALIBRATED
from research.study.world import Arm, Scenes

FORMAT = 1
"""Part of every trial's key: raise it when equal trials would give other figures."""
_UNUSED = (("start", None), ("scale", 1.0), ("subspace", None), ("model", "unet"))
Model = Literal["unet", "flow"]
"""The stand-in's base models: the UNet, and the flow-matching transformer."""
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One adapter trained on some concepts.

    ``recipe`` overrides the stand-in's, ``start`` is an adapter to continue from, ``subspace`` the
    number of its subspace of the layers' inputs and how many there are.
    """

    concepts: tuple[str, ...]
    steps: int
    seed: int
    amount: int | None = None
    arm: Arm = "as drawn"
    recipe: Options = ()
    start: "Trained | None" = None
    subspace: tuple[int, int] | None = None
    model: Model = "unet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Experts merged by a strategy; ``options`` are fields of MergeConfig."""

    parts: tuple[Trained, ...]
    strategy: Strategy
    seed: int
    options: Options = ()
    scale: float = 1.0
    """Factor of the merged delta."""

    @property
    def calibrated_on_several(self) -> bool:
        """Whether calibration covers several concepts of an expert."""
        several = any(len(part.concepts) > 1 for part in self.parts)
        return self.strategy in CALIBRATED and several


Gate = Literal["category", "category, weighted", "unsafe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Experts of which a gate chooses one, or weighs all, for each prompt (gates.py)."""

    parts: tuple[Trained, ...]
    gate: Gate


Adapter = Trained | Merged | Gated


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One adapter on one set of prompts; ``x`` is the experiment's variable."""

    experiment: str
    arm: str
    x: float
    seed: int
    adapter: Adapter | None
    scenes: Scenes
    seen: tuple[str, ...]
    measured: tuple[str, ...]
    prompts: int
    model: Model = "unet"

    @property
    def key(self) -> str:
        """Equal for equal trials on every machine."""
        return _key(self)


def adapter_key(adapter: Adapter) -> str:
    """File name of an adapter on this machine."""
    return _key(adapter)


def _key(what: Adapter | Trial) -> str:
    # Unused fields added later must not change the keys of older trials.
    fields = asdict(
        what, dict_factory=lambda pairs: {k: v for k, v in pairs if (k, v) not in _UNUSED}
    )
    adapter = what.adapter if isinstance(what, Trial) else what
    if isinstance(adapter, Merged) and adapter.calibrated_on_several:
        fields["calibration"] = "concepts in turns"  # lines without it used one concept per expert
    text = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def parts_of(adapter: Adapter | None) -> tuple[Trained, ...]:
    """The trained adapters behind an adapter, each after the one it continues from."""
    several = isinstance(adapter, Merged | Gated)
    parts = adapter.parts if several else (adapter,) if adapter else ()
    return tuple(one for part in parts for one in (*parts_of(part.start), part))
