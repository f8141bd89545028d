"""The table ``sources`` of a taxonomy file: where concepts come from, or are filed under.

    sources:
      i2p: {title: "own wording, under the I2P category ...", url: "https://..."}

A concept names its source by key. Sources are documentation and do not affect prompts.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints


class Source(BaseModel):
    """One entry: title and URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]


def source_faults(content: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Place and fault of each concept whose source is not in the table.

    If there is a table, also of each concept without a source.
    """
    table = content.get("sources")
    known = table if isinstance(table, dict) else {}
    listed = ", ".join(map(str, known)) or "none"
    for place, concept in _concepts(content):
        key = concept.get("source")
        if key is None and known:
            yield place, f"has no source; this file has {listed} (got nothing)"
        elif isinstance(key, str) and key not in known:
            yield (*place, "source"), f"is not a key of `sources`, which has {listed} (got {key!r})"


def _concepts(content: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    for i, category in _mappings(content.get("categories")):
        for j, concept in _mappings(category.get("concepts")):
            yield ("categories", i, "concepts", j), concept


def _mappings(value: object) -> Iterator[tuple[int, dict[str, Any]]]:
    listed = value if isinstance(value, list) else []
    return ((i, item) for i, item in enumerate(listed) if isinstance(item, dict))
