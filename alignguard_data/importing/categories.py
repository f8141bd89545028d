"""Maps category names in published datasets to the seven category keys.

Case, spaces and punctuation are ignored. A field may name several categories. Unknown names are
never guessed.
"""

import re
from collections.abc import Iterable, Mapping

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.text import canonical
from alignguard_data.taxonomy.parse import CATEGORY_SETS

CATEGORIES = CATEGORY_SETS["i2p"]
"""The keys, in the taxonomy's order."""

_MISSPELT = {"harrasment": "harassment"}  # the spelling of the published CSVs
_KNOWN = {key.replace("-", ""): key for key in CATEGORIES} | _MISSPELT
_SEPARATORS = re.compile(r"[,;|/+&\n]")


class CategoryNames:
    """Maps spellings to keys.

    Args:
        further: more spellings and their keys, for example ``{"Gore": "shocking"}``.

    Raises:
        ConfigError: unknown keys; all are named.
    """

    def __init__(self, further: Mapping[str, str] | None = None) -> None:
        faults = [
            f"{spelling!r}: {key!r} is not one of {', '.join(CATEGORIES)}"
            for spelling, key in (further or {}).items()
            if key not in CATEGORIES
        ]
        if faults:
            raise ConfigError("the given category spellings", faults)
        self._keys = _KNOWN | {_plain(name): key for name, key in (further or {}).items()}

    def find(self, field: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Read the categories that a field names.

        Args:
            field: text of one cell.

        Returns:
            Its keys in the taxonomy's order, and its unknown spellings; both are empty for an empty
            field.
        """
        if key := self._keys.get(_plain(field)):
            return (key,), ()
        parts = [part for part in _SEPARATORS.split(field) if _plain(part)]
        found = {self._keys.get(_plain(part)) for part in parts}
        unknown = tuple(part.strip() for part in parts if _plain(part) not in self._keys)
        return in_order(key for key in found if key), unknown


def in_order(keys: Iterable[str]) -> tuple[str, ...]:
    """Each key once, in the taxonomy's order."""
    return tuple(sorted(set(keys), key=CATEGORIES.index))


def _plain(text: str) -> str:
    return re.sub(r"\W", "", canonical(text))
