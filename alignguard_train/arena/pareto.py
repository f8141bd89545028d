"""Which points are on a Pareto front."""

from collections.abc import Sequence
from itertools import groupby


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point is on the front, where less is better on both axes.

    A point dominates another if it is at most as large on both axes and smaller on at least one.
    The front holds exactly the points that no point dominates, so equal points are on it together
    or not at all.

    Args:
        points: finite numbers, in any order.

    Returns:
        One answer a point, in the given order.
    """
    order = sorted(range(len(points)), key=lambda i: points[i])
    on = [False] * len(points)
    least = float("inf")
    for _, group in groupby(order, key=lambda i: points[i][0]):
        column = list(group)
        lowest = points[column[0]][1]
        if lowest < least:
            for i in column:
                on[i] = points[i][1] == lowest
            least = lowest
    return on
