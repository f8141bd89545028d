"""Leaks: which train rows hold something that is measured on."""

import dataclasses

import pytest

from alignguard_data.leaks import Measured, find_leaks

TRAIN = Measured(
    pair_id="t",
    concept="lines.bar",
    category="lines",
    captions=("a red bar", "a red field"),
    unsafe_phash="0" * 16,
    safe_phash="f" * 16,
)
HELD = Measured(
    pair_id="h",
    concept="lines.tick",
    category="lines",
    captions=("a blue tick", "a blue field"),
    unsafe_phash="00000000ffffffff",
    safe_phash="ffffffff00000000",
)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, None),
        ({"captions": ("a red bar", "x")}, "caption"),
        ({"captions": ("x", "A  Red Field")}, "caption"),
        ({"unsafe_phash": "000000000000000f"}, "near_duplicate_image"),  # 4 bits
        ({"unsafe_phash": "000000000000001f"}, None),  # 5 bits
        ({"safe_phash": "f" * 16}, "near_duplicate_image"),
        ({"safe_phash": "f" * 15 + "e"}, None),  # safe scenes may be alike, not the same
        ({"unsafe_phash": "", "safe_phash": ""}, None),  # an evaluation prompt has no image
    ],
)
def test_captions_and_images_leak(change, kind):
    leaks = find_leaks([TRAIN], [dataclasses.replace(HELD, **change)], 4)
    assert [leak.kind for leak in leaks] == ([kind] if kind else [])
    assert all((leak.pair_id, leak.of) == ("t", "h") for leak in leaks)


def test_nothing_held_out_means_no_leak():
    assert find_leaks([TRAIN], [], 4) == []
