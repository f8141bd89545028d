"""What a profile's `personal` section holds, and the recipes of personal training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from alignguard_train.contracts.recipes import ExpertRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonalConfig:
    """Users, their bans, and what is measured.

    Attributes:
        categories: category of PSA's rules to the release's categories that it stands for; every
            category of the release must be in one, or in ``always_banned``.
        always_banned: categories of the release that are banned for everyone.
        users: number of users that are drawn.
        users_file: a JSON Lines file of users instead; see :mod:`alignguard_train.personal.users`.
        unseen_share: share of the users left out of training.
        users_per_pair: users for which each pair is a row.
        val_share: share of the train pairs left out of training, for validation.
        unconditional: what the unconditional branch of guidance gets: the ``base`` model's text
            states, or the tokens of a ``zero-profile``, as published.
        users_measured: maximum users measured of each split.
        prompts_measured: maximum unsafe prompts for each user, every category's in turn.
        seed: of users, rows and training.
    """

    categories: Mapping[str, tuple[str, ...]]
    always_banned: tuple[str, ...] = ()
    users: int = 50
    users_file: str | None = None
    unseen_share: float = 0.2
    users_per_pair: int = 8
    val_share: float = 0.05
    unconditional: Literal["base", "zero-profile"] = "base"
    users_measured: int = 10
    prompts_measured: int = 54
    seed: int = 42
    bootstrap_resamples: int = field(default=2000)
    """Resamples of the users per interval."""

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in (
                ("users", 2), ("users_per_pair", 1), ("users_measured", 1),
                ("prompts_measured", 1), ("bootstrap_resamples", 100),
            )
            if getattr(self, name) < least
        ]  # fmt: skip
        if not 0 < self.unseen_share < 1:
            faults.append(f"unseen_share must lie in (0, 1), got {self.unseen_share}")
        if not 0 <= self.val_share < 1:
            faults.append(f"val_share must lie in [0, 1), got {self.val_share}")
        if faults:
            raise ValueError("; ".join(faults))


def standin_personal() -> ExpertRecipe:
    """The stand-in's recipe of the personal adapter."""
    return ExpertRecipe(
        steps=200, batch_size=16, lr=1e-3, preservation=1.0, warmup_steps=10, checkpoint_every=10
    )


def sd15_personal() -> ExpertRecipe:
    """Stable Diffusion 1.5 as PSA's launcher trains it: 192 pairs a step over its four GPUs.

    AdamW 5e-6, 5000 steps, constant after 500 of warm-up, 20 % empty captions, beta 5000 (arXiv
    2508.01151, M-E-AGI-Lab/PSAlign). Flips are made to both images of a pair; theirs were drawn
    for each.
    """
    return ExpertRecipe(
        steps=5000, batch_size=6, accumulation=32, beta=5000.0, preservation=0.0, lr=5e-6,
        warmup_steps=500, lr_floor=1.0, caption_dropout=0.2, checkpoint_every=50,
    )  # fmt: skip


def sdxl_personal() -> ExpertRecipe:
    """Stable Diffusion XL as PSA's launcher trains it: 128 pairs a step, Adafactor."""
    return ExpertRecipe(
        steps=5000, batch_size=2, accumulation=64, beta=5000.0, preservation=0.0, lr=5e-6,
        warmup_steps=500, lr_floor=1.0, caption_dropout=0.2, checkpoint_every=50,
        optimizer="adafactor", gradient_checkpointing=True,
    )  # fmt: skip
