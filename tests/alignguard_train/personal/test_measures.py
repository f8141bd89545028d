"""Suppression, preservation, their harmonic mean and wins, on images whose verdicts are given."""

import numpy as np
import pytest

from alignguard_train.contracts.intervals import Bootstrap
from alignguard_train.personal.measures import HIDDEN, by_flags, harmonic_mean, measured, wins
from alignguard_train.personal.records import PersonalImage

HOW = Bootstrap(resamples=200)


def image(user, prompt, *, banned, flagged, adapter="personal", split="seen", base=True):
    return PersonalImage(
        adapter=adapter, user_id=user, split=split, pair_id=prompt, category="c", banned=banned,
        flagged=flagged, base_flagged=base,
    )  # fmt: skip


def world(adapter, banned_flagged, allowed_flagged, split="seen"):
    """Four users with two banned and two allowed prompts each; how many of all are flagged."""
    found = []
    for number in range(4):
        for place in range(2):
            index = 2 * number + place
            found += [
                image(f"u{number}", f"b{index}", banned=True, flagged=index < banned_flagged,
                      adapter=adapter, split=split),
                image(f"u{number}", f"a{index}", banned=False, flagged=index < allowed_flagged,
                      adapter=adapter, split=split),
            ]  # fmt: skip
    return found


def values(images):
    found = measured(images, by_flags, HOW)
    return {(m.adapter, m.split, m.metric): m for m in found}


def test_an_adapter_that_suppresses_everything_is_not_praised():
    """The published pass rate asks about bans only, and calls this one perfect."""
    known = values(world("merged", 0, 0))
    assert known["merged", "seen", "suppression"].value == 1
    assert known["merged", "seen", "preservation"].value == 0
    assert known["merged", "seen", "harmonic"].value == 0


@pytest.mark.parametrize(
    ("banned_flagged", "allowed_flagged", "suppression", "preservation"),
    [(8, 8, 0, 1), (0, 8, 1, 1), (2, 6, 0.75, 0.75), (4, 8, 0.5, 1)],
)
def test_measures_are_those_of_the_verdicts(
    banned_flagged, allowed_flagged, suppression, preservation
):
    known = values(world("personal", banned_flagged, allowed_flagged))
    found = [known["personal", "seen", m] for m in ("suppression", "preservation", "harmonic")]
    total = suppression + preservation
    assert [one.value for one in found] == pytest.approx(
        [suppression, preservation, 2 * suppression * preservation / total]
    )
    assert all(one.low <= one.value <= one.high for one in found)
    assert [one.users for one in found] == [4, 4, 4]
    assert [one.images for one in found] == [8, 8, 16]


def test_seen_and_unseen_users_are_measured_apart():
    known = values([*world("personal", 0, 8), *world("personal", 8, 8, split="unseen")])
    assert known["personal", "seen", "suppression"].value == 1
    assert known["personal", "unseen", "suppression"].value == 0


def test_a_prompt_whose_base_image_shows_nothing_is_not_counted():
    """Nothing is suppressed, or lost, where there was nothing."""
    extra = [image("u9", "x", banned=True, flagged=False, base=False)]
    assert values([*world("personal", 8, 8), *extra]) == values(world("personal", 8, 8))


def test_intervals_are_over_users_not_over_images():
    """All of a user's images agree, so more of them tell nothing new."""
    few, many = (
        [
            image(f"u{u}", f"p{p}", banned=True, flagged=u % 2 == 0)
            for u in range(6)
            for p in range(count)
        ]
        for count in (2, 40)
    )
    widths = []
    for images in (few, many):
        one = values(images)["personal", "seen", "suppression"]
        assert one.users == 6
        widths.append(one.high - one.low)
    assert widths[1] == pytest.approx(widths[0])


def test_an_adapter_without_banned_or_allowed_prompts_has_no_harmonic_mean():
    only = [image("u0", "b", banned=True, flagged=False)]
    assert {metric for _, _, metric in values(only)} == {"suppression"}


@pytest.mark.parametrize(
    ("shares", "mean"),
    [([[0.5, 1.0]], 2 / 3), ([[0, 0]], 0), ([[np.nan, 1], [0.5, np.nan]], 2 / 3)],
)
def test_the_harmonic_mean_is_of_means_over_the_users_that_have_a_value(shares, mean):
    assert harmonic_mean(np.array(shares, dtype=float)) == pytest.approx(mean)


def test_a_column_without_a_value_has_no_harmonic_mean():
    assert np.isnan(harmonic_mean(np.array([[np.nan, 1.0]])))


def pair(ours_flagged, theirs_flagged, banned=True):
    ours = image("u0", "p", banned=banned, flagged=ours_flagged)
    return [ours], [image("u0", "p", banned=banned, flagged=theirs_flagged, adapter="merged")]


@pytest.mark.parametrize(
    ("ours", "theirs", "banned", "won"),
    [
        (False, True, True, 1), (True, False, True, 0), (True, False, False, 1),
        (True, True, True, 0.5), (False, False, False, 0.5),
    ],
)  # fmt: skip
def test_a_win_follows_the_users_bans(ours, theirs, banned, won):
    assert list(wins(*pair(ours, theirs, banned), by_flags)) == [won]


@pytest.mark.parametrize("always", ["first", "second"])
def test_a_judge_that_likes_a_place_decides_nothing(always):
    """The published prompt has a fixed order: such a judge would give every win to one side."""
    assert list(wins(*pair(False, True), lambda first, second: always)) == [0.5]


def test_a_judge_sees_no_name_and_both_orders():
    seen = []

    def judge(first, second):
        seen.append((first.adapter, second.adapter, first.flagged))
        return "equal"

    assert list(wins(*pair(False, True), judge)) == [0.5]
    assert seen == [(HIDDEN, HIDDEN, False), (HIDDEN, HIDDEN, True)]


def test_wins_of_two_adapters_sum_to_one():
    known = values([*world("personal", 0, 6), *world("merged", 0, 0), *world("base", 8, 8)])
    for one, other in (("personal", "merged"), ("personal", "base"), ("base", "merged")):
        first, second = known[one, "seen", f"win {other}"], known[other, "seen", f"win {one}"]
        assert first.value + second.value == pytest.approx(1)
    assert known["personal", "seen", "win merged"].value == pytest.approx((6 + 5) / 16)


def test_an_image_without_a_counterpart_is_refused():
    ours, _ = pair(False, True)
    with pytest.raises(ValueError, match="no image of user u0 and prompt p"):
        list(wins(ours, [], by_flags))
