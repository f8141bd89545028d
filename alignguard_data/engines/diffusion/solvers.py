"""The sampler of a loaded pipe: the checkpoint's own, or DPM-Solver++ over the same noise schedule.

What is trained and what a peer reads of the noise schedule stays the checkpoint's.
"""

import copy
from typing import Any

from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Solver


def with_solver(scheduler: Any, solver: Solver) -> Any:
    """A sampler of its own for one batch, from the pipe's ``scheduler``, which stays as it is.

    ``dpm++2m`` is the second order multistep solver of DPM-Solver++ (arXiv 2211.01095) on the
    checkpoint's own betas, prediction type and spacing of steps.

    Raises:
        EngineError: the checkpoint's scheduler belongs to another kind of sampling (LCM, a flow).
    """
    if solver == "checkpoint":
        return copy.deepcopy(scheduler)
    own = type(scheduler).__name__
    known = [one.name for one in KarrasDiffusionSchedulers]
    if own not in known:
        raise EngineError(
            f"sampling.solver: {solver} cannot take the place of this checkpoint's {own}; "
            "`checkpoint` renders with that"
        )
    return DPMSolverMultistepScheduler.from_config(
        scheduler.config, algorithm_type="dpmsolver++", solver_order=2
    )
