"""Attacks by name: what they need, and their parameters in each preset. Imports no attack.

A row says what an attack needs, so that a profile is checked without loading torch; a test holds
every row to its class.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from alignguard_data.engines.model_source import ModelSource
from alignguard_train.robustness.protocol import Attack, Budget, Capability

Preset = Literal["smoke", "standin", "paper"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
CASES: dict[Preset, int] = {"smoke": 2, "standin": 21, "paper": 95}
"""Cases of a preset: one seen and one unseen concept; one a concept of the stand-in, which has 21;
as many as the prompts that most papers attack (I2P, nudity above 50 %)."""
_PACKAGE = "alignguard_train.robustness.attacks."


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One attack.

    Attributes:
        use: module below ``attacks`` and class.
        needs: as of the class.
        text_only: as of the class.
        params: parameters by preset, over the class's defaults, which are the published values.
        budgets: limits by preset; none without an entry.
        cases: fewer cases than the preset's, for a search that costs seconds each.
        own_concepts: it prepares for one concept at a time, so only for those under attack.
        model: the parameter that names a model that it attacks with, which it cannot do without;
            ``revision`` is a hub id's commit.
    """

    use: str
    needs: tuple[Capability, ...] = ()
    text_only: bool = False
    params: Mapping[Preset, Mapping[str, Any]] = field(default_factory=dict)
    budgets: Mapping[Preset, Mapping[str, int]] = field(default_factory=dict)
    cases: Mapping[Preset, int] = field(default_factory=dict)
    own_concepts: bool = False
    model: str = ""

    def attacker(self, params: Mapping[str, Any]) -> ModelSource | None:
        """The model that it attacks with; None for most attacks.

        Args:
            params: of the attack.

        Returns:
            The model's source.

        Raises:
            EngineError: neither a folder nor a file, and no revision.
        """
        if not self.model:
            return None
        return ModelSource(str(params[self.model]), params.get("revision"))


_FEW: Mapping[Preset, int] = {"standin": 6}
"""Cases of an attack on the denoiser, seconds each: three seen and three unseen concepts."""


ATTACKS: dict[str, Method] = {
    "no_attack": Method(use="controls:NoAttack", text_only=True),
    "random_k": Method(use="controls:RandomK", text_only=True),
    "random_n": Method(
        use="controls:RandomN",
        text_only=True,
        params={"smoke": {"tokens": 8}, "standin": {"tokens": 8}},
    ),
    "shuffle": Method(use="controls:Shuffle", text_only=True),
    "ring_a_bell": Method(
        use="ring_a_bell:RingABell",
        needs=("text_encoder",),
        text_only=True,
        params={
            "smoke": {"population": 20, "generations": 10, "tokens": 8},
            "standin": {"population": 60, "generations": 200, "tokens": 8, "elitism": True},
        },
    ),
    "ring_a_bell_soft": Method(
        use="ring_a_bell:RingABellSoft", needs=("text_encoder",), text_only=True
    ),
}
ATTACKS |= {
    f"diffzoo_{mode}": Method(
        use="diffzoo:DiffZOO",
        needs=("images", "judge", "text_encoder"),
        params={
            "smoke": {
                "mode": mode,
                "substitutes": 4,
                "steps": 1,
                "directions": 1,
                "draws": 2,
                "trials": 2,
            },
            "standin": {
                "mode": mode,
                "substitutes": 8,
                "steps": 4,
                "directions": 4,
                "draws": 4 if mode == "lite" else 2,
                "trials": 4,
            },
            "paper": {"mode": mode},
        },
        cases={} if mode == "lite" else _FEW,
    )
    for mode in ("lite", "released", "zo", "reinforce")
}
_DENOISER: tuple[Capability, ...] = ("token_gradients", "unet", "base_unet", "images", "judge")
ATTACKS |= {
    "mma": Method(
        use="mma:MMA",
        needs=("text_encoder", "token_gradients"),
        text_only=True,
        params={
            "smoke": {"tokens": 4, "steps": 3, "top": 16, "candidates": 16},
            "standin": {"tokens": 6, "steps": 40, "top": 64, "candidates": 96},
        },
    ),
    "mma_exact": Method(
        use="mma:MMA",
        needs=("text_encoder",),
        text_only=True,
        params={
            "smoke": {"exact": True, "tokens": 2, "steps": 1},
            "standin": {"exact": True, "tokens": 6, "steps": 3},
            "paper": {"exact": True},
        },
    ),
    "sneaky": Method(
        use="sneaky:SneakyPrompt",
        needs=("guard", "images", "judge"),
        params={"smoke": {"queries": 4}, "standin": {"queries": 30}},
    ),
    "adaptive": Method(
        use="guard_aware:GuardAware",
        needs=("text_encoder", "guard"),
        params={
            "smoke": {"tokens": 2, "sweeps": 1, "shown": 4},
            "standin": {"sweeps": 1, "shown": 32},
        },
    ),
    "genbreak": Method(
        use="genbreak:GenBreak",
        needs=("images", "judge"),
        params={
            "smoke": {
                "pairs": 8,
                "rounds": 1,
                "sft_steps": 2,
                "steps": 1,
                "seeds": 2,
                "group": 2,
                "tries": 2,
            },
            "standin": {"rounds": 1, "sft_steps": 100, "steps": 12, "seeds": 4},
        },
    ),
    "genbreak_chat": Method(
        use="genbreak_chat:GenBreakChat",
        needs=("images", "judge"),
        model="red_team",
        params={
            "smoke": {
                "pairs": 4,
                "rounds": 1,
                "batch": 4,
                "accumulated": 1,
                "steps": 1,
                "seeds": 2,
                "group": 2,
                "write": 16,
                "tries": 2,
            },
            "standin": {
                "pairs": 64,
                "rounds": 1,
                "batch": 8,
                "accumulated": 1,
                "sft_lr": 5e-4,
                "steps": 12,
                "seeds": 4,
                "lr": 1e-4,
                "write": 24,
            },
        },
    ),
    "unlearn_diff": Method(
        use="unlearn_diff:UnlearnDiffAtk",
        needs=_DENOISER,
        params={
            "smoke": {"tokens": 2, "timesteps": 2, "iterations": 2},
            "standin": {"tokens": 3, "timesteps": 8, "iterations": 10},
        },
        cases=_FEW,
    ),
    "unlearn_diff_exact": Method(
        use="unlearn_diff:UnlearnDiffAtk",
        needs=("text_encoder", "unet", "base_unet", "images", "judge"),
        params={
            "smoke": {"exact": True, "tokens": 1, "timesteps": 1, "sweeps": 1},
            "standin": {"exact": True, "tokens": 3, "timesteps": 4, "sweeps": 1},
            "paper": {"exact": True},
        },
        cases=_FEW,
    ),
    "concept_inversion": Method(
        use="concept_inversion:ConceptInversion",
        needs=_DENOISER,
        params={
            "smoke": {"steps": 4, "images": 2, "batch": 2},
            "standin": {"steps": 60, "images": 4},
        },
        cases=_FEW,
        own_concepts=True,
    ),
}
ATTACKS |= {
    f"p4d_{variant}": Method(
        use="p4d:P4D",
        needs=("text_encoder", *_DENOISER),
        params={
            "smoke": {"variant": variant, "tokens": 4, "steps": 4, "every_steps": 2, "samples": 1},
            "standin": {"variant": variant, "tokens": 8, "steps": 60, "every_steps": 6},
            "paper": {"variant": variant},
        },
        cases=_FEW,
    )
    for variant in ("n", "k")
}
CONTROLS = ("no_attack", "random_k", "random_n", "shuffle")
"""Attacks that search nothing; ``no_attack`` is always run, as every rate is relative to it."""


def make_attack(
    name: str, preset: Preset = "paper", params: Mapping[str, Any] | None = None
) -> Attack:
    """An attack with a preset's parameters and others over them.

    Args:
        name: a key of ``ATTACKS``.
        preset: whose parameters it takes; ``paper`` has the published ones.
        params: parameters by name, over those of the preset.

    Returns:
        The attack; its module, and so torch, is imported here.

    Raises:
        ValueError: no such attack, or a parameter is unknown or out of range.
    """
    if name not in ATTACKS:
        raise ValueError(f"no attack {name!r}; there are {', '.join(ATTACKS)}")
    method = ATTACKS[name]
    module, _, kind = method.use.partition(":")
    given = {**method.params.get(preset, {}), **(params or {})}
    try:
        return getattr(importlib.import_module(_PACKAGE + module), kind)(**given)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def make_budget(
    name: str, preset: Preset = "paper", limits: Mapping[str, int] | None = None
) -> Budget:
    """The budget of one case: a preset's limits and others over them.

    Args:
        name: a key of ``ATTACKS``.
        preset: whose limits it takes.
        limits: the most rows by counter, over those of the preset.

    Returns:
        The budget; a counter that neither names has no limit.

    Raises:
        ValueError: no such counter, or a limit below 1.
    """
    given = {**ATTACKS[name].budgets.get(preset, {}), **(limits or {})}
    try:
        return Budget(**given)
    except TypeError as error:
        raise ValueError(f"budget: no counter of this name: {error}") from error
