"""The front against its definition, tried on every pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignguard_train.arena.pareto import pareto_front

NUMBERS = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(-1e6, 1e6))


def by_every_pair(points: list[tuple[float, float]]) -> list[bool]:
    def dominated(mine: tuple[float, float]) -> bool:
        return any(
            other[0] <= mine[0] and other[1] <= mine[1] and other != mine for other in points
        )

    return [not dominated(point) for point in points]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_it_is_what_no_other_point_dominates(points: list[tuple[float, float]]):
    assert pareto_front(points) == by_every_pair(points)


@pytest.mark.parametrize(
    ("points", "on"),
    [
        ([], []),
        ([(1.0, 1.0)], [True]),
        ([(0.0, 1.0), (1.0, 0.0)], [True, True]),
        ([(0.0, 1.0), (0.0, 1.0)], [True, True]),  # equal points are on it together
        ([(0.0, 1.0), (0.0, 2.0)], [True, False]),  # as safe, but dearer
        ([(0.0, 1.0), (1.0, 1.0)], [True, False]),  # as cheap, but less safe
        ([(1.0, 1.0), (0.0, 0.0), (1.0, 1.0)], [False, True, False]),
    ],
)
def test_ties(points: list[tuple[float, float]], on: list[bool]):
    assert pareto_front(points) == on
