"""Users: the published distributions and rules, the file of users, seen and unseen."""

import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.personal.attributes import (
    AGE_GROUPS,
    ATTRIBUTES,
    age_group,
    broken_rule,
)
from alignguard_train.personal.users import draw_users, read_users, unseen_users

CATEGORIES = ("angular", "banded")
GOOD = {
    "User_ID": "a",
    "Age": 30,
    "Gender": "Male",
    "Religion": "None",
    "Physical_Condition": "Visual Impairment",
    "Mental_Condition": "healthy",
}


def written(folder: Path, *rows: object) -> Path:
    file = folder / "users.jsonl"
    file.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return file


@pytest.fixture(scope="module")
def drawn():
    return draw_users(4000, seed=42)


def expected_shares() -> dict[str, dict[str, float]]:
    """Shares after rejection, by summing over every age, religion and mental condition."""
    found: dict[str, Counter[str]] = {"age_group": Counter(), "religion": Counter()}
    for group in AGE_GROUPS:
        ages = range(group.first, group.last + 1)
        for age, (religion, p), (mental, q) in product(
            ages, ATTRIBUTES["religion"].items(), ATTRIBUTES["mental"].items()
        ):
            if broken_rule(age, religion, mental) is None:
                found["age_group"][group.name] += group.probability / len(ages) * p * q
                found["religion"][religion] += group.probability / len(ages) * p * q
    return {k: {n: v / sum(c.values()) for n, v in c.items()} for k, c in found.items()}


@pytest.mark.parametrize("attribute", ["age_group", "religion"])
def test_shares_are_those_of_the_table_given_the_rules(drawn, attribute):
    counted = Counter(getattr(user, attribute) for user in drawn)
    for value, share in expected_shares()[attribute].items():
        assert counted[value] / len(drawn) == pytest.approx(share, abs=0.025), value


def test_every_value_of_every_attribute_is_drawn(drawn):
    for attribute, values in ATTRIBUTES.items():
        assert {getattr(user, attribute) for user in drawn} == set(values)


def test_no_drawn_user_breaks_a_rule(drawn):
    assert all(broken_rule(u.age, u.religion, u.mental) is None for u in drawn)
    assert all(age_group(u.age) == u.age_group for u in drawn)


@pytest.mark.parametrize(
    ("age", "religion", "mental", "drawn_again"),
    [
        (7, "islam", "healthy", True),
        (8, "islam", "healthy", False),
        (17, "none", "war", True),
        (18, "none", "war", False),
        (9, "none", "sexual-assault", True),
        (12, "none", "sexual-assault", True),
        (13, "none", "sexual-assault", False),
        (4, "none", "depression", True),
        (5, "none", "anxiety", False),
        (4, "none", "major-accidents", True),
        (3, "none", "natural-disasters", False),
        (3, "none", "anxiety", True),
        (40, "buddhism", "depression", False),
    ],
)
def test_a_combination_is_drawn_again(age, religion, mental, drawn_again):
    assert (broken_rule(age, religion, mental) is not None) == drawn_again


def test_more_users_change_none_of_the_first(drawn):
    assert draw_users(50, seed=42) == drawn[:50]
    assert draw_users(50, seed=43) != drawn[:50]


def test_probabilities_sum_to_one_and_groups_cover_every_age():
    assert sum(group.probability for group in AGE_GROUPS) == pytest.approx(1)
    for values in ATTRIBUTES.values():
        assert sum(values.values()) == pytest.approx(1)
    assert [age_group(age) for age in (0, 3, 4, 12, 13, 19, 20, 100)] == [
        "infants", "infants", "children", "children", "adolescents", "adolescents",
        "young-adults", "long-lived",
    ]  # fmt: skip


def test_unseen_users_are_the_asked_share_whatever_the_order(drawn):
    some = drawn[:50]
    unseen = unseen_users(some, 0.2)
    assert len(unseen) == 10
    assert unseen == unseen_users(some[::-1], 0.2)


def test_a_file_gives_profiles_in_its_spelling_and_its_own_bans(tmp_path):
    banned = GOOD | {"User_ID": "b", "Age": 5, "Banned": ["banded"], "Cluster_ID": 3}
    profiles, bans = read_users(written(tmp_path, GOOD, banned), CATEGORIES)
    first, second = profiles
    assert (first.physical, first.religion, first.age_group) == (
        "visual-impairment", "none", "middle-aged" if first.age > 34 else "young-adults",
    )  # fmt: skip
    assert second.age_group == "children"
    assert bans == {"b": ["banded"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Gender": None}, "Gender: is missing"),
        ({"Religion": None}, "Religion: is missing"),
        ({"Age": "30"}, "Age: must be a whole number from 0 to 100 (got '30')"),
        ({"Age": True}, "Age: must be a whole number"),
        ({"Age": 101}, "(got 101)"),
        ({"Age": -1}, "(got -1)"),
        ({"Mental_Condition": "tired"}, "must be one of depression, anxiety"),
        ({"Religion": 3}, "Religion: must be text (got 3)"),
        ({"User_ID": " "}, "User_ID: must be text"),
        ({"Age_Group": "children"}, "Age_Group: is young-adults at age 30"),
        ({"Banned": ["unknown"]}, "Banned.0: no such category; there are angular, banded"),
        ({"Banned": "angular"}, "Banned: must be a list"),
        ({"Agee": 3}, "Agee: is not known"),
    ],
)
def test_a_faulty_line_is_refused_with_field_line_and_value(tmp_path, change, said):
    row = {k: v for k, v in (GOOD | change).items() if v is not None}
    with pytest.raises(ConfigError) as refused:
        read_users(written(tmp_path, GOOD | {"User_ID": "z"}, row), CATEGORIES)
    assert "users.jsonl" in str(refused.value)
    assert said in str(refused.value)
    assert "line 2" in str(refused.value)


def test_every_fault_is_listed_at_once(tmp_path):
    lacking = {k: v for k, v in GOOD.items() if k not in ("Age", "Gender")}
    file = written(tmp_path, lacking, "no json", "[1]", GOOD | {"Banned": ["x", "y"]})
    with pytest.raises(ConfigError) as refused:
        read_users(file, CATEGORIES)
    assert len(refused.value.faults) == 6


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_a_user_is_refused(tmp_path, content):
    with pytest.raises(ConfigError, match="has no user"):
        read_users(written(tmp_path, content), CATEGORIES)


def test_a_user_given_twice_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="User_ID: is given twice"):
        read_users(written(tmp_path, GOOD, GOOD), CATEGORIES)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_users(tmp_path / "none.jsonl", CATEGORIES)
