"""Freshness of the newest release: by its age, and by what its pairs are now."""

import dataclasses
import time

import pytest

from alignguard_data.pairs.room import FlagRule, filter_pairs
from alignguard_data.release.freshness import release_freshness
from tests.alignguard_data.tiny_rooms import RULES

DAY = 86_400


@pytest.mark.parametrize(
    ("days", "limit", "passed"),
    [(0, 30, True), (31, 30, False), (29, 30, True), (1000, None, True), (-5, 30, True)],
)
def test_an_old_release_is_not_fresh(filled, days, limit, passed):
    filled.fill("release")
    now = time.time() + days * DAY
    found = release_freshness(filled.data, filled.taxonomy, limit, now)
    assert found.finding.passed is passed
    assert found.finding.numbers["age_days"] == pytest.approx(max(0, days), abs=0.02)
    assert (found.version, found.folder.name) == ("v0.1.0", "coprov2-tiny-v0.1.0")


def test_pairs_that_changed_since_are_named_until_the_next_release(filled):
    filled.fill("release")
    stricter = dataclasses.replace(
        RULES,
        flags=(FlagRule(scorer="ink", key="share", at_least=0.03),),
        min_twin_cosine=0.99,
        min_kept=0,
    )
    filter_pairs(filled.data, filled.taxonomy.concept("spots.blob"), stricter)
    finding = release_freshness(filled.data, filled.taxonomy, 30, time.time()).finding
    assert not finding.passed
    assert finding.numbers["changed_concepts"] == 1
    assert "the kept pairs of spots.blob changed since coprov2-tiny-v0.1.0" in finding.message
    filled.fill("release")  # the tiny filter's own rules put the pairs back
    assert release_freshness(filled.data, filled.taxonomy, 30, time.time()).finding.passed


def test_without_a_release_there_is_nothing_fresh(filled):
    found = release_freshness(filled.data, filled.taxonomy, None, time.time())
    assert not found.finding.passed
    assert "there is no release" in found.finding.message
