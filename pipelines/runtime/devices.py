"""One GPU per process: which GPU this process owns, and how its engines get it.

A process that owns a GPU sees no other (``CUDA_VISIBLE_DEVICES``), so every engine with device
``auto`` uses it. Ray and Kubernetes assign GPUs the same way. A process owns its GPU until it
exits, by a lock file that the kernel releases.
"""

import logging
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from alignguard_data.contracts.errors import EngineError
from alignguard_data.storage.places import held

log = logging.getLogger(__name__)

DEVICE_VARIABLE = "ALIGNGUARD_DEVICE"
"""Device of this process, for example ``cuda:1``; need not be in the profile."""
DEVICE = r"cpu|cuda:\d+"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"

_owned: dict[str, int | None] = {}
"""The device of this process and its open lock file; later calls keep the first choice."""


def own_device(devices: Sequence[str], wait: float = 1.0) -> str | None:
    """Acquire one device for the life of this process, before anything uses a GPU.

    The device in ``ALIGNGUARD_DEVICE``, else the first of ``devices`` that no other process of this
    machine owns, waiting without limit. Without either it returns None and changes nothing.

    Args:
        devices: ``cuda:<number>`` or ``cpu``; any number of processes may own the CPU.
        wait: seconds between attempts.

    Raises:
        EngineError: a number is higher than the GPUs that this process sees.
    """
    if _owned:
        return owned_device()
    named = os.environ.get(DEVICE_VARIABLE)
    if named:
        # Named explicitly, a busy device is allowed: two trainers may share a GPU.
        return _keep(named, None if named == "cpu" else _lock(named))
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
    """The device acquired by :func:`own_device`, or None."""
    return next(iter(_owned), None)


def visible_number(device: str) -> str:
    """Value of ``CUDA_VISIBLE_DEVICES`` that shows a process only this device.

    ``cuda:1`` is the second GPU that this process sees now.

    Raises:
        EngineError: it sees fewer GPUs, or ``device`` is malformed.
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
    """An open, locked file for a GPU of this machine; None if another process holds it."""
    folder = Path(tempfile.gettempdir()) / f"alignguard-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / f"gpu-{visible_number(device)}", os.O_RDWR | os.O_CREAT, 0o600)
    return held(handle)
