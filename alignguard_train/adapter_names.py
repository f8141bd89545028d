"""Names of what an evaluation compares, and how they read in tables and plots."""

BASE = "base"
MERGED = "merged"
ALL_SINGLE = "all-single"
EXPERT = "expert:"
MERGE = "merge:"


def expert_name(category: str) -> str:
    """Name of one category's expert."""
    return EXPERT + category


def merge_name(strategy: str) -> str:
    """Name of a merge other than the one that the profile chose."""
    return MERGE + strategy


def label(name: str) -> str:
    """How a name reads to people."""
    if name == BASE:
        return "Base model"
    if name == MERGED:
        return "Merged adapter"
    if name == ALL_SINGLE:
        return "All-single"
    kind, _, rest = name.partition(":")
    if not rest:
        return name
    return f"{kind.capitalize()} · {rest}"
