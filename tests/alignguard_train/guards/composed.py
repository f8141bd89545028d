"""Guards that hold a trained one, made on the small release, and an image detector of the tests."""

import dataclasses
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from torch import Tensor

from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.registry import load_guard
from alignguard_train.guards.room import make_guard
from tests.alignguard_train.guards.release import BASE, CONCEPTS, small_config, write_release

UNSAFE = "a red ball on the left of a meadow, opposite a dark zigzag"
SAFE = "a red ball on the left of a meadow"


@cache
def release(folder: Path | None = None):
    path = folder or Path(mkdtemp(prefix="composed-"))
    return write_release(path), small_config(path)


@cache
def made(kind: str, **params: object):
    """The guard of a kind as its file gives it."""
    data, config = release()
    if params:
        config = dataclasses.replace(config, params={**config.params, kind: params})
    make_guard(data, kind, BASE, CONCEPTS, config)
    return load_guard(guard_file(data, kind), BASE.pipe)


def brightness(images: Tensor) -> Tensor:
    """A detector that finds light images unsafe."""
    return images.mean(dim=(1, 2, 3))
