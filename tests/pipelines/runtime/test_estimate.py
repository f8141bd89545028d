"""What `alignguard run` says before it begins: minutes that were measured, or an honest range."""

from typing import get_args

import pytest

from pipelines.profile import RoomName, load_profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS
from pipelines.runtime.estimate import FASTER, SLOWER, Estimate, combine, estimate_run


def test_the_names_of_rooms_that_a_profile_may_give_are_those_of_the_rooms():
    assert get_args(RoomName) == tuple(room.name for room in ROOMS)


def test_the_default_profile_knows_every_room():
    """Rounds of hardening are no part of a first run."""
    rooms = {room.name for room in ROOMS} - {"hardening"}
    assert set(load_profile("standin").expected_seconds) == rooms


def test_a_first_run_is_estimated_from_the_profile_as_a_range(tmp_path):
    engines = Engines(load_profile("standin"), tmp_path)
    seconds = dict(engines.profile.expected_seconds)
    whole = sum(seconds.values()) - seconds["guards"]  # the profile trains none
    found = estimate_run(engines)
    assert (found.rooms, found.measured_here, found.unknown) == (len(ROOMS) - 2, 0, ())
    assert (found.low, found.high) == pytest.approx((FASTER * whole, SLOWER * whole))
    assert "min" in found.text
    assert "another machine" in found.text


def test_until_leaves_out_what_comes_after(tmp_path):
    engines = Engines(load_profile("standin"), tmp_path)
    assert estimate_run(engines, "prompts").rooms == 2


def test_what_was_made_here_counts_by_the_share_that_is_to_be_made_again():
    """A third of 90 s, and all of 60 s: 90 s; the profile's figures are not asked."""
    found = combine({"images": 1 / 3, "merge": 1.0}, {"images": 90, "merge": 60}, {"images": 1})
    assert (found.low, found.high, found.measured_here) == (90, 90, 2)
    assert found.text == "2 rooms to make, about 2 min, from earlier runs"


def test_what_is_known_in_part_says_so():
    """120 s that were measured here, and 100 s elsewhere: 120 + 70 s to 120 + 170 s."""
    found = combine({"images": 1.0, "merge": 1.0}, {"images": 120}, {"merge": 100})
    assert (found.low, found.high) == pytest.approx((190, 290))
    assert found.text == "2 rooms to make, 3 min to 5 min: partly an estimate from another machine"


def test_a_range_that_is_one_number_is_said_once():
    text = combine({"taxonomy": 1.0}, {}, {"taxonomy": 2}).text
    assert text == "1 room to make, about 10 s: an estimate from another machine"


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({}, ""),
        ({"images": 1.0}, "1 room to make; duration unknown until the first run (all)"),
        (
            {"images": 1.0, "merge": 1.0},
            "2 rooms to make; duration unknown until the first run (images)",
        ),
    ],
)
def test_what_is_not_known_is_not_guessed(shares, text):
    assert combine(shares, {"merge": 5.0}, {}).text == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "10 s"), (42, "40 s"), (240, "4 min"), (7200, "2.0 h")]
)
def test_times_are_said_as_people_say_them(seconds, text):
    found = Estimate(low=seconds, high=seconds, rooms=1, measured_here=1, unknown=())
    assert f"about {text}," in found.text
