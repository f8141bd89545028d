"""Two scorers never write one column of a release: the profile is refused and both are named."""

import re
from dataclasses import dataclass

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.score_columns import check_score_columns, score_column


@dataclass
class Named:
    name: str
    keys: tuple[str, ...] = ("x",)
    version: str = "1"


@pytest.mark.parametrize(
    ("image", "pair", "message"),
    [
        ([Named("a-b"), Named("a.b")], [], r"'a-b' .*'a\.b' .*score_a_b_x_0"),
        ([Named("a b"), Named("a_b")], [], r"'a b' .*'a_b'"),
        ([Named("judge"), Named("Judge")], [], "'judge' .*'Judge'"),
        ([Named("a", ("b_c",)), Named("a_b", ("c",))], [], "'a' .*'b_c' and 'a_b' .*'c'"),
        ([Named("a", ("x-y", "x.y"))], [], r"'x-y' and 'a' with its key 'x\.y'"),
        ([Named("a", ("x",))], [Named("a_x", ("0",))], "'a' .*'a_x' with its key '0'"),
        ([], [Named("a-b"), Named("a.b")], r"'a-b' .*'a\.b'"),
        ([Named("a"), Named("a", ("y",))], [], "two scorers share the name 'a'"),
        ([Named("a")], [Named("a")], "two scorers share the name 'a'"),
    ],
)
def test_scorers_that_would_share_a_column_are_both_named(image, pair, message):
    with pytest.raises(ConfigError) as caught:
        check_score_columns(image, pair)
    assert re.search(message, str(caught.value))


def test_every_shared_column_is_named_at_once():
    names = ("a-b", "a.b", "c d", "c.d")
    with pytest.raises(ConfigError) as caught:
        check_score_columns([Named(name) for name in names], [])
    assert all(repr(name) in str(caught.value) for name in names)


def test_names_that_differ_in_more_keep_their_columns():
    check_score_columns([Named("a-b"), Named("a-c", ("x", "y"))], [Named("ab"), Named("x")])
    assert score_column("a-b", "x.y", "unsafe") == "score_a_b_x_y_1"
