"""The sampler of a pipe: the checkpoint's own, or DPM-Solver++ on the same noise schedule.

Training and peers always use the checkpoint's own noise schedule.
"""

import copy
from typing import Any

from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Solver


def with_solver(scheduler: Any, solver: Solver) -> Any:
    """A new sampler for one batch.

    ``dpm++2m`` is the second order multistep solver of DPM-Solver++ (arXiv 2211.01095) on the
    checkpoint's own betas, prediction type and spacing of steps.

    Args:
        scheduler: the pipe's, which is not modified.
        solver: ``checkpoint`` copies the scheduler.

    Returns:
        A diffusers scheduler without timesteps.

    Raises:
        EngineError: the checkpoint's scheduler belongs to another kind of sampling (LCM, a flow).
    """
    if solver == "checkpoint":
        return copy.deepcopy(scheduler)
    own = type(scheduler).__name__
    known = [one.name for one in KarrasDiffusionSchedulers]
    if own not in known:
        raise EngineError(
            f"sampling.solver: {solver} cannot replace this checkpoint's {own}; "
            "`checkpoint` renders with it"
        )
    return DPMSolverMultistepScheduler.from_config(
        scheduler.config, algorithm_type="dpmsolver++", solver_order=2
    )
