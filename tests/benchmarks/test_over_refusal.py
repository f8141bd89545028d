"""The count of refused captions in a user's own file."""

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.standin import benign
from benchmarks.over_refusal import refused_places


def test_refused_rows_are_counted_with_their_places(tmp_path):
    file = tmp_path / "captions.csv"
    file.write_text("caption\na red field\na child\n16 trees\naged 12\n", encoding="utf-8")
    places, count = refused_places(file)
    assert count == 4
    assert len(places) == 2
    assert all(str(line) in place for line, place in zip((3, 5), places, strict=True))


def test_the_shipped_benign_captions_all_pass():
    places, count = refused_places(benign.FILE)
    assert places == []
    assert count > 50


def test_a_file_without_captions_is_a_fault(tmp_path):
    file = tmp_path / "captions.csv"
    file.write_text("caption\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        refused_places(file)
