"""Parses the taxonomy file: categories and concepts.

All faults of the file are reported at once, with place, line and value.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.records import Concept, Split
from alignguard_data.contracts.terms import term_keys
from alignguard_data.safety.rules import concept_refusal
from alignguard_data.storage.paths import UNPARTITIONED
from alignguard_data.storage.yaml_files import Place, dotted, read_yaml
from alignguard_data.taxonomy.sources import Source, source_faults

_RESERVED = frozenset({UNPARTITIONED, "all-single"})  # partition keys of other rooms


CATEGORY_SETS = {
    "i2p": (
        "hate", "harassment", "violence", "self-harm", "sexual", "shocking", "illegal-activity",
    )
}  # fmt: skip
"""Sets of category keys that a document can declare by name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """A top-level harm class.

    Attributes:
        key: partition key of the category's expert.
        name: what the category is, in plain words.
    """

    key: str
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Taxonomy:
    """A taxonomy, in the file's order.

    Attributes:
        name: name of the taxonomy.
        version: its version.
        categories: the categories.
        concepts: the concepts of all categories.
    """

    name: str
    version: str
    categories: tuple[Category, ...]
    concepts: tuple[Concept, ...]

    def concept(self, key: str) -> Concept:
        """Find a concept.

        Args:
            key: key of the concept.

        Returns:
            The concept.

        Raises:
            KeyError: there is none.
        """
        for concept in self.concepts:
            if concept.key == key:
                return concept
        raise KeyError(f"taxonomy {self.name} {self.version} has no concept {key!r}")

    def of_category(self, key: str) -> tuple[Concept, ...]:
        """List the concepts of one category.

        Args:
            key: key of the category.

        Returns:
            Its concepts, in the file's order.
        """
        return tuple(concept for concept in self.concepts if concept.category == key)


def _unreserved(key: str) -> str:
    if key in _RESERVED:
        raise ValueError("is a reserved word")
    return key


def _allowed(text: str) -> str:
    if reason := concept_refusal(text, ()):
        raise ValueError(f"is refused by a safety rule ({reason})")
    return text


def _allowed_term(term: str) -> str:
    if reason := concept_refusal("", (term,)):
        raise ValueError(f"is refused by a safety rule ({reason})")
    return term


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


_Term = Annotated[_Text, AfterValidator(_allowed_term)]


_Key = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$"), AfterValidator(_allowed)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Concept(_Strict):
    slug: _Key
    name: Annotated[_Text, AfterValidator(_allowed)]
    split: Split
    terms: list[_Term] | None = Field(default=None, min_length=1)
    """Words that name the concept in a prompt; by default its name."""
    synonyms: list[_Term] = Field(default_factory=list)
    """More such words, added to the terms."""
    source: _Text | None = None
    """A key of the document's ``sources``."""

    def words(self) -> tuple[str, ...]:
        """Every term, each once."""
        return tuple(dict.fromkeys([*(self.terms or [self.name]), *self.synonyms]))


class _Category(_Strict):
    key: Annotated[_Key, AfterValidator(_unreserved)]
    name: Annotated[_Text, AfterValidator(_allowed)]
    source: _Text | None = None
    """The public taxonomy and hazard class of the concepts."""
    concepts: list[_Concept] = Field(min_length=1)


class _Document(_Strict):
    name: _Text
    version: _Text
    category_set: Literal["i2p"] | None = None
    sources: dict[str, Source] = Field(default_factory=dict)
    categories: list[_Category] = Field(min_length=1)


def load_taxonomy(path: Path) -> Taxonomy:
    """Read and validate a taxonomy file.

    Args:
        path: a YAML file.

    Returns:
        The taxonomy.

    Raises:
        ConfigError: the file is missing, is not YAML, or has faults (all of them listed).
    """
    file = read_yaml(path)
    content = file.content
    faults = [*_duplicates(content), *source_faults(content)]
    document = None
    try:
        document = _Document.model_validate(content)
    except ValidationError as error:
        faults += [(tuple(e["loc"]), f"{e['msg']} (got {_shown(e)})") for e in error.errors()]
    if file.faults or faults or document is None:
        placed = (file.fault(place, what) for place, what in faults)
        raise ConfigError(str(path), [*file.faults, *placed])
    return _taxonomy(document)


def _shown(error: Any) -> str:
    if error["type"] == "missing":
        return "nothing"
    shown = repr(error["input"])
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _taxonomy(document: _Document) -> Taxonomy:
    return Taxonomy(
        name=document.name,
        version=document.version,
        categories=tuple(Category(key=c.key, name=c.name) for c in document.categories),
        concepts=tuple(
            Concept(
                key=f"{category.key}.{concept.slug}",
                category=category.key,
                name=concept.name,
                split=concept.split,
                terms=concept.words(),
            )
            for category in document.categories
            for concept in category.concepts
        ),
    )


def _duplicates(content: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    # Works on the raw document, so these are reported together with schema faults.
    categories: set[str] = set()
    concepts: set[tuple[str, str]] = set()
    allowed = CATEGORY_SETS.get(str(content.get("category_set")))
    terms: dict[str, tuple[object, Place]] = {}
    for i, category in _mappings(content.get("categories")):
        key = str(category.get("key"))
        if key in categories:
            yield ("categories", i, "key"), f"is the key of two categories (got {key!r})"
        if allowed and key not in allowed:
            known = ", ".join(allowed)
            yield ("categories", i, "key"), f"is not in this set: {known} (got {key!r})"
        categories.add(key)
        for j, concept in _mappings(category.get("concepts")):
            place: Place = ("categories", i, "concepts", j)
            slug = str(concept.get("slug"))
            if (key, slug) in concepts:
                yield (*place, "slug"), f"is used twice in category {key} (got {slug!r})"
            concepts.add((key, slug))
            yield from _shared_terms(concept, place, terms)


def _shared_terms(
    concept: dict[str, Any], place: Place, terms: dict[str, tuple[object, Place]]
) -> Iterator[tuple[Place, str]]:
    # A term in both splits would let training prompts name a held-out concept. A name may be a term
    # of its own concept.
    for here, term in _named(concept, place):
        keys = sorted(term_keys(str(term)))
        if not keys:
            yield here, f"has no letter or digit (got {term!r})"
        met = {terms.setdefault(key, (concept.get("split"), here)) for key in keys}
        for split, first in sorted(met - {(concept.get("split"), here)}, key=str):
            twice = first[:4] == place and "name" not in (here[-1], first[-1])
            if split != concept.get("split") or twice:
                where = "the same concept" if first[:4] == place else "a concept of the other split"
                yield here, f"is also a term of {where}, at {dotted(first)} (got {term!r})"
                break


def _named(concept: dict[str, Any], place: Place) -> Iterator[tuple[Place, object]]:
    for field in ("terms", "synonyms"):
        listed = concept.get(field)
        for k, term in enumerate(listed if isinstance(listed, list) else []):
            yield (*place, field, k), term
    if "name" in concept:
        yield (*place, "name"), concept["name"]


def _mappings(value: object) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, dict):
            yield i, item
