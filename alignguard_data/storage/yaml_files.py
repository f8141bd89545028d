"""Reads the YAML files that a user edits: profile, taxonomy, thresholds.

YAML 1.2 in UTF-8, read by ruamel.yaml: ``1e-5`` is a number, ``yes``, ``no``, ``on`` and ``off``
are text, ``010`` is ten, ``1:30`` is text. Values are plain Python objects, with line numbers kept
separately.
"""

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from alignguard_data.contracts.errors import ConfigError

MAX_DEPTH = 64
"""Nesting limit, far above that of any real file."""

Place = tuple[str | int, ...]
"""Path of keys and list indices to a value."""

_WORDS_OF_1_1 = frozenset({"yes", "no", "on", "off"})
_TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:value")
_PLAIN = (bool, bytes, datetime.date, type(None))


@dataclass(frozen=True, kw_only=True, slots=True)
class YamlFile:
    """A file's mapping.

    Attributes:
        lines: the line of every value, counted from 1.
        faults: faults of the document itself, such as duplicate keys, each with place and line.
        old_booleans: places of unquoted ``yes``, ``no``, ``on`` and ``off``, which YAML 1.1 read as
            true and false.
    """

    content: dict[str, Any]
    lines: Mapping[Place, int]
    faults: tuple[str, ...]
    old_booleans: tuple[Place, ...]

    def fault(self, place: Place, what: str) -> str:
        """Describe a fault with its place and line.

        Args:
            place: path of keys and indices to the value.
            what: what is wrong.

        Returns:
            A message with the line of the value, or of its parent.
        """
        known = next(
            (self.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.lines),
            None,
        )
        return f"{dotted(place)}{f' (line {known})' if known else ''}: {what}"


def dotted(place: Place) -> str:
    """Write a place with dots, as ``categories.0.key``.

    Args:
        place: path of keys and indices.

    Returns:
        The text.
    """
    return ".".join(str(part) for part in place)


def read_yaml(path: Path, *, may_be_empty: bool = False) -> YamlFile:
    """Read a file with one mapping.

    Args:
        path: a local file.
        may_be_empty: accept a file with only comments.

    Returns:
        The values, with the lines where they are written.

    Raises:
        ConfigError: it cannot be read, is not UTF-8 or YAML, is nested over 64 deep, or is not a
            mapping.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = f"line {line}: is not UTF-8 (byte {raw[error.start]:#04x})"
        raise ConfigError(str(path), [fault]) from error
    loader = YAML()
    loader.Constructor = _Constructor
    loader.preserve_quotes = True  # so unquoted text is a plain str
    loader.max_depth = MAX_DEPTH
    loader.composer.warn_double_anchors = False
    try:
        loaded = loader.load(text)
    except MarkedYAMLError as error:
        raise ConfigError(str(path), [_not_yaml(error)]) from error
    except YAMLError as error:
        raise ConfigError(str(path), [f"not YAML: {' '.join(str(error).split())}"]) from error
    if loaded is None and may_be_empty:
        return YamlFile(content={}, lines={}, faults=(), old_booleans=())
    if not isinstance(loaded, CommentedMap) or loaded.tag.value:
        raise ConfigError(str(path), ["must be a mapping of fields"])
    walk = _Walk(repeated=loader.constructor.repeated)
    content = walk.plain(loaded, ())
    return YamlFile(
        content=content,
        lines=walk.lines,
        faults=tuple(walk.faults),
        old_booleans=tuple(walk.old_booleans),
    )


def yaml_bytes(content: Mapping[str, Any]) -> bytes:
    """Write plain values as YAML that :func:`read_yaml` reads back unchanged.

    Args:
        content: the mapping; keys keep their order.

    Returns:
        The file's bytes.
    """
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    target = BytesIO()
    writer.dump(dict(content), target)
    return target.getvalue()


def _not_yaml(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark else ""
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{line}not YAML: {' '.join(said.split())}"


class _Constructor(RoundTripConstructor):
    """Continues after a duplicate key, and locates values that Python cannot represent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.repeated: dict[tuple[int, int], list[tuple[str, int]]] = {}
        """Duplicate keys with their lines, by the start of the mapping."""

    def check_mapping_key(
        self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any
    ) -> bool:
        if key not in mapping:
            return True
        start = (node.start_mark.line, node.start_mark.column)
        self.repeated.setdefault(start, []).append((str(key), key_node.start_mark.line + 1))
        return False

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node in self.recursive_objects and node not in self.constructed_objects:
            raise ConstructorError(
                None, None, "an alias refers to its own container", node.start_mark
            )
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError) as error:  # month 13; 5,000 digits
            raise ConstructorError(None, None, str(error), node.start_mark) from error


@dataclass(kw_only=True, slots=True)
class _Walk:
    """Converts ruamel.yaml's values to plain ones and collects lines and faults."""

    repeated: Mapping[tuple[int, int], list[tuple[str, int]]]
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    old_booleans: list[Place] = field(default_factory=list)
    made: dict[int, Any] = field(default_factory=dict)
    """Converted mappings and lists by identity, so an alias is the same object."""
    open: set[int] = field(default_factory=set)

    def plain(self, value: Any, place: Place) -> Any:
        if isinstance(value, CommentedMap | CommentedSeq) and not value.tag.value:
            return self._collection(value, place)
        if isinstance(value, TaggedScalar) and value.tag.value in _TEXT_TAGS:
            return str(value.value)
        if isinstance(value, str):
            if type(value) is str and value.lower() in _WORDS_OF_1_1:
                self.old_booleans.append(place)
            return str(value)
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return self._float(value, place)
        self._fault(place, "has a tag or type that has no meaning here")
        return None

    def _collection(self, value: Any, place: Place) -> Any:
        if id(value) in self.open:
            self._fault(place, "contains itself")
            return None
        if id(value) not in self.made:
            self.lines.setdefault(place, value.lc.line + 1)
            self.open.add(id(value))
            made = self._mapping if isinstance(value, CommentedMap) else self._list
            self.made[id(value)] = made(value, place)
            self.open.remove(id(value))
        return self.made[id(value)]

    def _mapping(self, value: CommentedMap, place: Place) -> dict[str, Any]:
        first = {str(key): marks[0] + 1 for key, marks in self._marks(value)}
        for key, line in self.repeated.get((value.lc.line, value.lc.col), ()):
            self.faults.append(
                f"{dotted((*place, key))} (line {line}): is given twice in one mapping, first on "
                f"line {first.get(key, line)}"
            )
        found = {}
        for key, held in value.items():
            here = (*place, str(key))
            if str(key) in first:
                self.lines[here] = first[str(key)]
            if isinstance(key, str):
                found[str(key)] = self.plain(held, here)
            else:
                self._fault(here, f"the key must be text, got {key!r}: quote it")
        return found

    def _list(self, value: CommentedSeq, place: Place) -> list[Any]:
        self.lines.update({(*place, i): marks[0] + 1 for i, marks in self._marks(value)})
        return [self.plain(held, (*place, i)) for i, held in enumerate(value)]

    @staticmethod
    def _marks(value: Any) -> Iterator[tuple[Any, list[int]]]:
        return iter((value.lc.data or {}).items())

    def _float(self, value: float, place: Place) -> float:
        # `12e4567` overflows a float, and may be meant as a revision.
        if math.isinf(value) and type(value) is not float:
            self._fault(place, "is a number that is too large; quote it if it is text")
        return float(value)

    def _fault(self, place: Place, what: str) -> None:
        known = self.lines.get(place) or self.lines.get(place[:-1])
        self.faults.append(f"{dotted(place)}{f' (line {known})' if known else ''}: {what}")
