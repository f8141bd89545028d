"""`alignguard calibrate`: which scores a threshold may be made of."""

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.paths import DataRoot
from pipelines.cli import calibrate

SAID = {"a": True, "b": False}


def scores(monkeypatch, tmp_path, *rows):
    monkeypatch.setattr(calibrate, "query", lambda *_: ([], list(rows)))
    return calibrate._scores(DataRoot(root=tmp_path, profile="test"), SAID, None)


def test_scores_of_several_versions_make_no_threshold(monkeypatch, tmp_path):
    rows = [("q16", "k", "1", "a", 0.9), ("q16", "k", "2", "b", 0.1), ("ink", "k", "1", "a", 0.5)]
    with pytest.raises(ConfigError) as caught:
        scores(monkeypatch, tmp_path, *rows)
    (fault,) = caught.value.faults
    assert fault.startswith("q16: the labelled images have scores of versions 1, 2")


def test_images_without_a_label_do_not_count(monkeypatch, tmp_path):
    rows = [("q16", "k", "1", "a", 0.9), ("q16", "k", "1", "b", 0.1), ("q16", "k", "2", "c", 0.5)]
    found = scores(monkeypatch, tmp_path, *rows)
    assert found == {("q16", "k"): ("1", {"a": 0.9, "b": 0.1})}
