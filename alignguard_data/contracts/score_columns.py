"""Names of score columns in releases and views, and a check that no two scorers share one."""

import re
from collections.abc import Sequence

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import ImageScorer, PairScorer

_SIDE_NUMBER = {"safe": "0", "unsafe": "1"}


def score_column(scorer: str, key: str, side: str) -> str:
    """Name the column of one number of one scorer.

    Args:
        scorer: name of the scorer.
        key: which of its numbers.
        side: ``safe`` or ``unsafe``; empty for a pair score.

    Returns:
        ``score_<scorer>_<key>_<0|1>``, without the last part for a pair score.
    """
    parts = ["score", scorer, key, *([_SIDE_NUMBER[side]] if side else [])]
    return re.sub(r"\W", "_", "_".join(parts))


def check_score_columns(
    image_scorers: Sequence[ImageScorer], pair_scorers: Sequence[PairScorer]
) -> None:
    """Refuse scorers whose numbers would share a column, where one would hide the other.

    Args:
        image_scorers: scorers of images.
        pair_scorers: scorers of prompt pairs.

    Raises:
        ConfigError: two scorers have the same name, or names and keys that differ only in
            punctuation or case, which a query cannot distinguish; each such pair is named.
    """
    every = [(scorer, tuple(_SIDE_NUMBER)) for scorer in image_scorers]
    every += [(scorer, ("",)) for scorer in pair_scorers]
    holders: dict[str, list[tuple[str, str]]] = {}
    for scorer, sides in every:
        for key in scorer.keys:
            for side in sides:
                column = score_column(scorer.name, key, side).casefold()
                holders.setdefault(column, []).append((scorer.name, key))
    names = [scorer.name for scorer, _ in every]
    faults = {f"two scorers share the name {name!r}" for name in names if names.count(name) > 1}
    faults |= {
        f"{' and '.join(f'{name!r} with its key {key!r}' for name, key in held)} share the column "
        f"{column}: rename one"
        for column, held in holders.items()
        if len(set(held)) > 1
    }
    if faults:
        raise ConfigError("image_scorers and pair_scorers", sorted(faults))
