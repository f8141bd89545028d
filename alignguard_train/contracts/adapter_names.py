"""Names of the adapters that an evaluation compares, and their labels in tables and plots."""

from alignguard_train.contracts.peer_methods import TITLES

BASE = "base"
MERGED = "merged"
ALL_SINGLE = "all-single"
EXPERT = "expert:"
MERGE = "merge:"
PEER = "peer:"


def expert_name(category: str) -> str:
    """Name of one category's expert."""
    return EXPERT + category


def merge_name(strategy: str) -> str:
    """Name of a merge by a baseline strategy."""
    return MERGE + strategy


def peer_name(method: str) -> str:
    """Name of another published method (see :mod:`alignguard_train.peers.registry`)."""
    return PEER + method


def label(name: str) -> str:
    """The name's label in tables and plots."""
    if name == BASE:
        return "Base model"
    if name == MERGED:
        return "Merged adapter"
    if name == ALL_SINGLE:
        return "All-single"
    if name.startswith(PEER):
        return TITLES.get(name.removeprefix(PEER), name)
    kind, _, rest = name.partition(":")
    if not rest:
        return name
    return f"{kind.capitalize()} · {rest}"
