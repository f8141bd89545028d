"""Data-parallel training on one machine: a few one-thread processes that average gradients.

For small networks two such processes nearly double the speed, while two threads hardly help.
Results depend on the number of workers, not on timing.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn import Parameter


def run_workers(work: Callable[..., None], num_workers: int, *args: Any) -> None:
    """Run ``work(*args)`` in several processes and wait for them all.

    Args:
        work: a function of a module, which a new process can import.
        num_workers: number of processes; each has one compute thread.
        *args: the same for all, picklable.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a worker raised.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        mp.spawn(_enter, (work, num_workers, meeting, args), nprocs=num_workers)


def rank() -> int:
    """Number of this worker, from 0; 0 also outside of :func:`run_workers`."""
    return dist.get_rank() if dist.is_initialized() else 0


def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Replace every gradient by its mean over all workers.

    Args:
        parameters: in the same order in all workers; those without a gradient are left out.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for grad in grads:
        grad.copy_(flat[start : start + grad.numel()].view_as(grad))
        start += grad.numel()


def gather_rows(rows: Tensor) -> Tensor:
    """Collect the rows of all workers.

    Args:
        rows: of this worker (rows, ...), equally many in each.

    Returns:
        All rows in rank order, (workers * rows, ...).
    """
    if not dist.is_initialized():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def num_workers() -> int:
    """How many workers train together; 1 outside of :func:`run_workers`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _enter(
    number: int, work: Callable[..., None], workers: int, meeting: str, args: tuple[Any, ...]
) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("gloo", init_method=meeting, rank=number, world_size=workers)
    try:
        work(*args)
    finally:
        dist.destroy_process_group()
