"""Agreement of two detectors: the four counts, and the row of the table."""

import pytest

from research.detector_agreement import Agreement, agreement


def test_each_image_is_in_one_of_four_counts():
    found = agreement([True, True, False, False, False], [True, False, True, False, False])
    assert found == Agreement(both=1, judge_only=1, detector_only=1, neither=2)
    assert found.n == 5
    with pytest.raises(ValueError, match="shorter"):
        agreement([True], [])


def test_the_row_has_the_share_its_interval_and_the_counts():
    """Clopper and Pearson's, as one image differs: the 0.025 quantile of Beta(9, 2) is 0.555."""
    found = Agreement(both=3, judge_only=1, detector_only=0, neither=6)
    assert found.line("x") == "| x | 0.900 [0.555, 0.997] | 10 | 3 | 1 | 0 | 6 |"
