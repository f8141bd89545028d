"""One GPU a process: which one this process owns, and how every engine in it comes to use it.

A process that owns a GPU sees no other (``CUDA_VISIBLE_DEVICES``), so engines whose device is
``auto`` take it, the scorers' and trainers' too. Ray and Kubernetes give a process its GPU in the
same way. A GPU is owned as long as its process lives, by a lock file that the kernel lets go of.
"""

import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from alignguard_data.contracts.errors import EngineError

log = logging.getLogger(__name__)

DEVICE_VARIABLE = "ALIGNGUARD_DEVICE"
"""Names the device of this process, for example ``cuda:1``; it need not be in the profile."""
DEVICE = r"cpu|cuda:\d+"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"

_owned: dict[str, int | None] = {}
"""The device of this process and its open lock file; a second call keeps the first's choice."""


def own_device(devices: Sequence[str], wait: float = 1.0) -> str | None:
    """Make one device this process's own for its whole life, before anything uses a GPU.

    The one that ``ALIGNGUARD_DEVICE`` names, else the first of ``devices`` that no other process of
    this machine owns, waited for as long as it takes; None, and nothing changes, where neither
    names one.

    Args:
        devices: ``cuda:<number>`` or ``cpu``; a CPU may be owned many times over.
        wait: seconds between two looks.

    Raises:
        EngineError: a number is higher than the GPUs that this process sees.
    """
    if _owned:
        return owned_device()
    told = os.environ.get(DEVICE_VARIABLE)
    if told:
        # Told is told: two trainers may share a GPU, and taking a busy one is the user's choice.
        return _keep(told, None if told == "cpu" else _lock(told))
    if not devices:
        return None
    waiting = False
    while True:
        for device in devices:
            lock = None if device == "cpu" else _lock(device)
            if device == "cpu" or lock is not None:
                return _keep(device, lock)
        if not waiting:
            log.warning("waiting for one of %s; other processes use them", ", ".join(devices))
            waiting = True
        time.sleep(wait)


def owned_device() -> str | None:
    """The device of this process, once :func:`own_device` gave it one."""
    return next(iter(_owned), None)


def visible_number(device: str) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` must say for a process to see this device alone.

    ``cuda:1`` is the second of those that this process sees now.

    Raises:
        EngineError: it sees fewer, or ``device`` is neither.
    """
    if not re.fullmatch(DEVICE, device):
        raise EngineError(f"a device must be cpu or cuda:NUMBER, got {device!r}")
    if device == "cpu":
        return ""
    number = int(device.removeprefix("cuda:"))
    seen = os.environ.get(VISIBLE_VARIABLE)
    if seen is None:
        return str(number)
    names = [name.strip() for name in seen.split(",") if name.strip()]
    if number >= len(names):
        raise EngineError(f"{device}: {VISIBLE_VARIABLE}={seen} shows {len(names)} GPU(s)")
    return names[number]


def _keep(device: str, lock: int | None) -> str:
    os.environ[VISIBLE_VARIABLE] = visible_number(device)
    _owned[device] = lock
    return device


def _lock(device: str) -> int | None:
    """An open, locked file a GPU of this machine, or None when another process has it."""
    folder = Path(tempfile.gettempdir()) / f"alignguard-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / f"gpu-{visible_number(device)}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
