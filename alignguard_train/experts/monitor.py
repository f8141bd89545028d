"""Training monitor: TensorBoard scalars per step, and a stop on divergence."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.recipes import ExpertRecipe

RUNAWAY_STEPS = 20
_AGAINST_REFERENCE = {"chosen": ("e_w", "e_w_ref"), "rejected": ("e_l", "e_l_ref")}


class Scalars:
    """One training's TensorBoard writer; writes nothing without a folder."""

    def __init__(self, writer: SummaryWriter | None) -> None:
        self._writer = writer

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Log a step's values, and both sides' errors minus the reference's."""
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)
        for side, (error, reference) in _AGAINST_REFERENCE.items():
            self._writer.add_scalar(
                f"against_reference/{side}", values[error] - values[reference], step
            )

    def held_out(self, step: int, ip: float) -> None:
        """Log IP on held-out prompts after ``step`` steps."""
        if self._writer is not None:
            self._writer.add_scalar("held_out/ip", ip, step)

    def flush(self) -> None:
        """Flush before a checkpoint is written."""
        if self._writer is not None:
            self._writer.flush()


@contextmanager
def scalars(folder: Path | None, resumed_at: int) -> Iterator[Scalars]:
    """TensorBoard files in ``folder``; hides steps logged after the last checkpoint."""
    if folder is None:
        yield Scalars(None)
        return
    with SummaryWriter(str(folder), purge_step=resumed_at) as writer:
        yield Scalars(writer)


def ran_away(values: Mapping[str, float], recipe: ExpertRecipe) -> bool:
    """Whether the chosen side's error exceeds the recipe's multiple of the reference's."""
    return values["e_w"] > recipe.max_winner_ratio * values["e_w_ref"]


def refuse_nonsense(
    recent: Sequence[Mapping[str, float]], recipe: ExpertRecipe, *, step: int, kept: int
) -> None:
    """Stop a diverged training.

    Args:
        recent: numbers of the latest steps by name, oldest first.
        recipe: its ``max_winner_ratio`` is the limit.
        step: number of the last of them.
        kept: steps that the checkpoint holds, for the message.

    Raises:
        EngineError: NaN or infinity, or the chosen side's error diverged over 20 steps.
    """
    saved = f"the checkpoint holds {kept} steps" if kept else "there is no checkpoint yet"
    bad = [f"{name} {value}" for name, value in recent[-1].items() if not math.isfinite(value)]
    if bad:
        raise EngineError(
            f"training met NaN or infinity at step {step} ({', '.join(bad)}); {saved}; "
            "lower lr or beta, or raise preservation"
        )
    if len(recent) < RUNAWAY_STEPS:
        return
    means = {
        name: math.fsum(values[name] for values in recent[-RUNAWAY_STEPS:]) / RUNAWAY_STEPS
        for name in ("e_w", "e_w_ref")
    }
    if ran_away(means, recipe):
        raise EngineError(
            f"the chosen side's error diverged by step {step}: {means['e_w']:.3g} against the "
            f"reference's {means['e_w_ref']:.3g}, more than max_winner_ratio "
            f"({recipe.max_winner_ratio:g}) times over {RUNAWAY_STEPS} steps; {saved}; "
            "lower beta or lr, or raise preservation"
        )
