"""Spellings of categories: case and punctuation do not count, the rest is never guessed."""

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.importing.categories import CATEGORIES, CategoryNames


@pytest.mark.parametrize(
    ("spelling", "key"),
    [
        ("Harrasment", "harassment"),
        ("HARASSMENT", "harassment"),
        ("self-harm", "self-harm"),
        ("Self harm", "self-harm"),
        ("selfharm", "self-harm"),
        ("Illegal activity", "illegal-activity"),
        ("illegal_activity", "illegal-activity"),
        (" sexual. ", "sexual"),
    ],
)
def test_published_spellings_are_known(spelling, key):
    assert CategoryNames().find(spelling) == ((key,), ())


def test_every_key_is_its_own_spelling():
    assert [CategoryNames().find(key)[0] for key in CATEGORIES] == [(key,) for key in CATEGORIES]


@pytest.mark.parametrize("field", ["violence, Hate", "['hate', 'violence']", "violence;hate;hate"])
def test_a_field_may_hold_several_in_the_taxonomys_order(field):
    assert CategoryNames().find(field) == (("hate", "violence"), ())


def test_an_unknown_spelling_is_named_and_not_guessed():
    assert CategoryNames().find("hate, Gore, Hateful") == (("hate",), ("Gore", "Hateful"))


@pytest.mark.parametrize("field", ["", "  ", "-", "[]"])
def test_an_empty_field_has_no_key_and_no_fault(field):
    assert CategoryNames().find(field) == ((), ())


def test_a_spelling_of_ones_own_is_taken():
    assert CategoryNames({"Gore": "shocking"}).find("gore") == (("shocking",), ())


def test_wrong_keys_are_named_all_at_once():
    with pytest.raises(ConfigError) as raised:
        CategoryNames({"Gore": "gore", "Odd": "odd"})
    assert len(raised.value.faults) == 2
