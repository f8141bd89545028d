"""Names of the adapters that an evaluation compares, and their labels in tables and plots."""

from alignguard_train.contracts.peer_methods import TITLES

BASE = "base"
MERGED = "merged"
ALL_SINGLE = "all-single"
EXPERT = "expert:"
MERGE = "merge:"
PEER = "peer:"
GUARD = "guard:"
BEHIND = "+"
HARDENED = "hardened "


def expert_name(category: str) -> str:
    """Name one category's expert in an evaluation.

    Args:
        category: key of the category.

    Returns:
        ``expert:<category>``.
    """
    return EXPERT + category


def merge_name(strategy: str) -> str:
    """Name a merge by a baseline strategy in an evaluation.

    Args:
        strategy: name of the strategy.

    Returns:
        ``merge:<strategy>``.
    """
    return MERGE + strategy


def hardened_name(round: int) -> str:
    """Name the merged adapter after a round of hardening.

    Args:
        round: number of the round, from 1.

    Returns:
        ``hardened <round>``.
    """
    return f"{HARDENED}{round}"


def peer_name(method: str) -> str:
    """Name another published method in an evaluation.

    Args:
        method: its key in :mod:`alignguard_train.peers.registry`.

    Returns:
        ``peer:<method>``.
    """
    return PEER + method


def guard_of(name: str) -> str:
    """The guard of a target.

    Args:
        name: ``guard:KIND`` (in front of the base model), ``guard:KIND+NAME`` (in front of an
            adapter or peer), or another name.

    Returns:
        KIND; empty if the target has no guard.
    """
    return name.removeprefix(GUARD).partition(BEHIND)[0] if name.startswith(GUARD) else ""


def behind_guard(name: str) -> str:
    """What draws for a target: the name without its guard.

    Args:
        name: as of :func:`guard_of`.

    Returns:
        Name of an adapter or peer; the base model if the guard's target names none.
    """
    return name.partition(BEHIND)[2] or BASE if name.startswith(GUARD) else name


def label(name: str) -> str:
    """Label an adapter in tables and plots.

    Args:
        name: its name in an evaluation.

    Returns:
        Text for a reader; the name itself if it is of no known kind.
    """
    if guard := guard_of(name):
        return f"{guard} + {label(behind_guard(name))}"
    if name == BASE:
        return "Base model"
    if name == MERGED:
        return "Merged adapter"
    if name == ALL_SINGLE:
        return "All-single"
    if name.startswith(HARDENED):
        return f"Hardened, round {name.removeprefix(HARDENED)}"
    if name.startswith(PEER):
        return TITLES.get(name.removeprefix(PEER), name)
    kind, _, rest = name.partition(":")
    if not rest:
        return name
    return f"{kind.capitalize()} · {rest}"
