"""Filled rooms for the tests of the data half."""

from pathlib import Path

import pytest

from tests.alignguard_data.tiny_rooms import TinyRooms


@pytest.fixture
def rooms(tmp_path: Path) -> TinyRooms:
    """Empty rooms of the tiny world under a fresh data root."""
    return TinyRooms(root=tmp_path / "data")
