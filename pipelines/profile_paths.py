"""Paths of a profile: relative paths start at the profile's folder, in every field.

`~` is the home folder, ``package:<package>/<path>`` a file or folder of an installed package. A
``model`` or ``vae`` is a path if it exists or is spelt as one (`./`, `../`, `~/`, `/`), else a hub
id. In an engine's ``params`` the names below are paths, and all values that begin with `./`, `../`
or `~/`. The working directory never matters.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignguard_data.engines.model_source import resolve_model

_EACH = "*"
RED_TEAM = "red_team"
"""An attack's parameter that names a chat model."""

FILES = (
    ("taxonomy",),
    ("evaluation", "prompt_sets", _EACH, "path"),
    ("personal", "users", "users_file"),
    ("guards", "benign", _EACH, "path"),
    ("reemergence", "benign", "folder"),
    ("filter", "flags", _EACH, "calibrated"),
    ("evaluation", "flags", _EACH, "calibrated"),
)
"""Fields that hold a path."""

MODELS = (
    ("base_model", "model"),
    ("base_model", "vae"),
    ("guards", "params", "rewriter", "model"),
    ("guards", "params", "guardt2i", "similarity"),
    ("robustness", "attacks", _EACH, "params", RED_TEAM),
    ("hardening", "attacks", _EACH, "params", RED_TEAM),
)
"""Fields that hold a folder or a hub id."""

ENGINES = (
    ("writer",),
    ("twin_writer",),
    ("concept_check",),
    ("embedder",),
    ("evaluation_features",),
    ("cost_model", "features"),
    ("personal", "encoder"),
    ("personal", "ban_writer"),
    ("image_scorers", _EACH),
    ("pair_scorers", _EACH),
    ("evaluation_scorers", _EACH),
    ("robustness_scorers", _EACH),
)
"""Fields that hold an engine with its ``params``."""

FILE_PARAMS = frozenset({"vectors", "weights", "interpreter", "rewriter"})
MODEL_PARAMS = frozenset({"model"})
"""Path names in ``params``; a served engine's ``model`` is the server's name for it."""

BASE_MODEL = "profile:base_model"
"""In an engine's ``params``: the base model of the profile."""

_SPELT_AS_PATH = re.compile(r"\.{1,2}/|~|/")
_SPELT_AS_RELATIVE = re.compile(r"(\.{1,2}|~)/")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def place_paths(content: dict[str, Any], folder: Path) -> None:
    """Make every path of a profile's document absolute, in place; ``folder`` is the profile's."""
    for holder, name in _fields(content, FILES):
        holder[name] = placed(holder[name], folder)
    for holder, name in _fields(content, MODELS):
        holder[name] = _model(holder[name], folder)
    for holder, name in _fields(content, tuple((*engine, "params") for engine in ENGINES)):
        holder[name] = _params(holder[name], folder)


def engines_of(content: dict[str, Any]) -> Iterator[Any]:
    """Every engine of a profile's document."""
    return (engine for way in ENGINES for engine in _reached(content, list(way)))


def placed(path: Any, folder: Path) -> Any:
    """An absolute path as text; other types are left to the profile's validation."""
    if not isinstance(path, str) or not path:
        return path
    if path.startswith("package:"):
        return resolve_model(path)
    return os.path.abspath(folder / os.path.expanduser(path))


def spelt_as_path(text: str) -> bool:
    """Whether a text is spelt as a path, for example `./weights` or `~/models/mine`."""
    return bool(_SPELT_AS_PATH.match(text))


def _model(model: Any, folder: Path) -> Any:
    if not isinstance(model, str) or not model or model.startswith(("package:", "profile:")):
        return model
    neighbour = folder / os.path.expanduser(model)
    if spelt_as_path(model) or neighbour.exists() or not _HUB_ID.fullmatch(model):
        return placed(model, folder)
    return model


def _params(params: Any, folder: Path) -> Any:
    if not isinstance(params, dict):
        return params
    return {name: _param(name, value, params, folder) for name, value in params.items()}


def _param(name: str, value: Any, params: dict[str, Any], folder: Path) -> Any:
    if name in FILE_PARAMS:
        return placed(value, folder)
    if name == "instruction":  # a file, or a shipped file's name
        is_file = isinstance(value, str) and value.endswith((".yaml", ".yml"))
        return placed(value, folder) if is_file else value
    if name in MODEL_PARAMS:
        served = "served_revision" in params or "base_url" in params
        return value if served else _model(value, folder)
    return _spelt(value, folder)


def _spelt(value: Any, folder: Path) -> Any:
    """Relative paths in a nested value."""
    if isinstance(value, dict):
        return {key: _spelt(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_spelt(one, folder) for one in value]
    if isinstance(value, str) and _SPELT_AS_RELATIVE.match(value):
        return placed(value, folder)
    return value


def _fields(
    content: Any, places: tuple[tuple[str, ...], ...]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Each field's mapping and name, if the document has it."""
    for *way, last in places:
        for holder in _reached(content, way):
            if isinstance(holder, dict) and last in holder:
                yield holder, last


def _reached(content: Any, way: list[str]) -> Iterator[Any]:
    if not way:
        yield content
    elif way[0] == _EACH:
        for one in content if isinstance(content, list) else []:
            yield from _reached(one, way[1:])
    elif isinstance(content, dict) and way[0] in content:
        yield from _reached(content[way[0]], way[1:])
