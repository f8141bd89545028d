"""Data-parallel training of one expert, one process per GPU: accelerate over nccl or gloo.

Each process takes its part of every step's pairs. Gradients and measurements are summed, so the
weights equal those of one process with the same batch, up to summation order.
"""

import os
import queue
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import multiprocessing as torch_mp

from alignguard_data.contracts.errors import AlignGuardError, EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.storage.child_process import end_with_parent

_POLL_SECONDS = 0.2
_MOST_SAID = 10_000
"""Maximum characters of an error and of its traceback: both fit into a pipe, so the first process
that fails never blocks."""


class ProcessTraceback(Exception):
    """The traceback of the process that failed first, as text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """This process's place among those training one adapter."""

    rank: int = 0
    size: int = 1

    def share_of(self, rows: Tensor) -> Tensor:
        """This process's share of a step's rows.

        Args:
            rows: of the whole step (rows,), the same in every process.

        Returns:
            A part of them; parts differ in length by at most 1.

        Raises:
            EngineError: there are fewer rows than processes.
        """
        if len(rows) < self.size:
            raise EngineError(
                f"a step of {len(rows)} pairs cannot be shared by {self.size} processes"
            )
        return rows.tensor_split(self.size)[self.rank]

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        joined = _summed(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(
            gradients, joined.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def sum_values(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums of single numbers over the processes."""
        if self.size == 1:
            return dict(values)
        joined = _summed(torch.stack([value.double() for value in values.values()]))
        return dict(zip(values, joined, strict=True))


ONE_PROCESS = Group()


def _summed(values: Tensor) -> Tensor:
    from accelerate.utils import reduce

    return reduce(values, "sum")  # pyright: ignore[reportReturnType]  # returns a tensor for a tensor


def run_together(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    number: int,
    on_gpus: bool,
    progress: Progress | None = None,
) -> None:
    """Call ``work(group, report, *arguments)`` in ``number`` fresh processes and wait for them.

    ``report`` counts steps. The processes end when this one ends, even if killed.

    Args:
        work: a function of a module, as processes import it.
        arguments: after ``group`` and ``report``; they must be picklable.
        number: of processes.
        on_gpus: one GPU each; else all on the CPU.
        progress: called with the number of steps just finished.

    Raises:
        EngineError: one of them failed; the text is its AlignGuardError, or names another
            exception. The cause is a :class:`ProcessTraceback`.
    """
    fresh = torch_mp.get_context("spawn")
    steps, faults = fresh.Queue(), fresh.SimpleQueue()
    context = torch_mp.start_processes(
        _work, (work, arguments, number, _free_port(), on_gpus, steps, faults), number, join=False
    )
    assert context is not None
    try:
        while not context.join(timeout=_POLL_SECONDS):
            _drain(steps, progress)
    except torch_mp.ProcessRaisedException as error:
        # torch may name another process, which only lost its connection to the first that failed.
        if faults.empty():
            raise EngineError(f"training process {error.error_index} failed") from error
        said, trace = faults.get()
        raise EngineError(said) from ProcessTraceback(trace)
    except torch_mp.ProcessExitedException as error:
        raise EngineError(f"a training process ended: {error}") from error
    _drain(steps, progress)


def _words(error: Exception) -> str:
    if isinstance(error, AlignGuardError):
        return str(error)
    return f"a training process failed with {type(error).__name__}: {error}"


def _drain(steps: Any, progress: Progress | None) -> None:
    while True:
        try:
            done = steps.get(timeout=0.01)
        except queue.Empty:
            return
        if progress:
            progress(done)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _work(
    rank: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    number: int,
    port: int,
    on_gpus: bool,
    steps: Any,
    faults: Any,
) -> None:
    end_with_parent()
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    from accelerate import PartialState

    state = PartialState(cpu=not on_gpus)
    try:
        report = steps.put if rank == 0 else None
        work(Group(rank=rank, size=number), report, *arguments)
        state.wait_for_everyone()
    except Exception as error:
        faults.put((_words(error)[:_MOST_SAID], traceback.format_exc()[-_MOST_SAID:]))
        raise
    finally:
        state.destroy_process_group()
