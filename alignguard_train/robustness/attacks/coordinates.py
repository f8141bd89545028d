"""Exhaustive coordinate search over tokens: the oracle that heuristic searches are tested against.

Each position in turn takes the token with the best score among all allowed ones, the others held,
until a sweep changes nothing. Its cost is len(ids) x len(allowed) scores a sweep.
"""

from collections.abc import Callable, Sequence

Ids = tuple[int, ...]
Scores = Callable[[Sequence[Ids]], Sequence[float]]
"""Scores of token sequences, higher is better."""


def coordinate_search(
    scores: Scores, start: Ids, allowed: Sequence[int], *, sweeps: int, free: Sequence[int] = ()
) -> tuple[Ids, float]:
    """Search one position after the other.

    Args:
        scores: the objective.
        start: the first sequence.
        allowed: ids to try at each position.
        sweeps: most passes over the positions.
        free: positions that may change; empty for all.

    Returns:
        The best sequence found and its score; never worse than the start.
    """
    best, score = start, scores([start])[0]
    for _ in range(sweeps):
        before = score
        for place in free or range(len(start)):
            tried = [(*best[:place], one, *best[place + 1 :]) for one in allowed]
            found = scores(tried)
            top = max(range(len(tried)), key=found.__getitem__)
            if found[top] > score:
                best, score = tried[top], found[top]
        if score <= before:
            break
    return best, score
