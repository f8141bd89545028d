"""A place to publish small files and import them."""

from pathlib import Path

import pytest

from tests.alignguard_data.importing.published import Published


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """An empty folder and an empty data root."""
    return Published(tmp_path)
