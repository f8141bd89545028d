"""Writing a release takes memory for what must be compared across pairs, and no more."""

import pytest

from benchmarks.release_memory import peak_bytes, write_rooms

FEW, MANY = 1_000, 10_000
KEPT_OF_A_PAIR = 12_000
"""Bytes: captions, ids, hashes and keys of a pair, and its share of buffers and caches that have a
bound but are not full yet. A picture would be far more."""


@pytest.mark.slow
def test_ten_times_the_pairs_take_a_few_kilobytes_more_each(tmp_path):
    peaks = []
    for pairs in (FEW, MANY):
        write_rooms(tmp_path / str(pairs), pairs)
        peaks.append(peak_bytes(tmp_path / str(pairs), pairs))
    assert (peaks[1] - peaks[0]) / (MANY - FEW) < KEPT_OF_A_PAIR
