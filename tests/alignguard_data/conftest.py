"""Filled rooms for the tests of the data half."""

import shutil
from pathlib import Path

import pytest

from alignguard_data.release.room import latest_release
from tests.alignguard_data.tiny_rooms import TinyRooms


@pytest.fixture
def rooms(tmp_path: Path) -> TinyRooms:
    """Empty rooms of the tiny world under a fresh data root."""
    return TinyRooms(root=tmp_path / "data")


@pytest.fixture(scope="session")
def _filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "data"
    TinyRooms(root=root).fill("pairs")
    return root


@pytest.fixture
def filled(_filled_once: Path, tmp_path: Path) -> TinyRooms:
    """The tiny world with its rooms filled up to ``pairs``, a copy for each test."""
    shutil.copytree(_filled_once, tmp_path / "data")
    return TinyRooms(root=tmp_path / "data")


@pytest.fixture(scope="session")
def _released_once(_filled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("released") / "data"
    shutil.copytree(_filled_once, root)
    TinyRooms(root=root).fill("release")
    return root


@pytest.fixture
def folder(filled: TinyRooms, _released_once: Path) -> Path:
    """The folder of the first release of ``filled``."""
    shutil.copytree(_released_once, filled.root, dirs_exist_ok=True)
    found = latest_release(filled.data)
    assert found
    return found


def flip_a_byte(path: Path, offset: int | None = None) -> None:
    """Change one byte in the middle of a file and leave its size."""
    content = bytearray(path.read_bytes())
    at = len(content) // 2 if offset is None else offset
    content[at] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(bytes(content))
