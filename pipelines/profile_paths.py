"""Where the paths of a profile lie: a relative one is beside the profile, everywhere alike.

`~` is the home folder, ``package:<package>/<path>`` a file or folder of an installed package, an
absolute path itself. A ``model`` or ``vae`` is a folder (or file) where one is there or where it is
spelt as a path (`./`, `../`, `~/`, `/`), else a hub id. In an engine's ``params`` the names below
are paths, and so is whatever begins with `./`, `../` or `~/`. The folder that a command is started
in never matters.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EACH = "*"

FILES = (
    ("taxonomy",),
    ("evaluation", "prompt_sets", _EACH, "path"),
    ("filter", "flags", _EACH, "calibrated"),
    ("evaluation", "flags", _EACH, "calibrated"),
)
"""Fields that hold a path."""

MODELS = (("base_model", "model"), ("base_model", "vae"))
"""Fields that hold a folder or a hub id."""

ENGINES = (
    ("writer",),
    ("concept_check",),
    ("embedder",),
    ("evaluation_features",),
    ("image_scorers", _EACH),
    ("pair_scorers", _EACH),
    ("evaluation_scorers", _EACH),
)
"""Fields that hold an engine with its ``params``."""

FILE_PARAMS = frozenset({"vectors", "weights", "interpreter"})
MODEL_PARAMS = frozenset({"model"})
"""Of an engine's ``params``; the model of a served engine is the server's own name for it."""

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
    """An absolute path as text; what is no text is left to the profile's own checks."""
    if not isinstance(path, str) or not path:
        return path
    if path.startswith("package:"):
        return resolve_model(path)
    return os.path.abspath(folder / os.path.expanduser(path))


def resolve_model(model: str) -> str:
    """A local folder for ``package:<package>/<path>``; anything else unchanged."""
    if not model.startswith("package:"):
        return model
    package, _, inside = model.removeprefix("package:").partition("/")
    try:
        # Found without running its code: a package may print, or import what is not there.
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError as error:
        raise ValueError(f"{model} names no installed package ({error})") from error
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{model} names no installed package")
    return str(Path(next(iter(spec.submodule_search_locations))) / inside)


def spelt_as_path(text: str) -> bool:
    """Whether a text can only be a path, for example `./weights` or `~/models/mine`."""
    return bool(_SPELT_AS_PATH.match(text))


def _model(model: Any, folder: Path) -> Any:
    if not isinstance(model, str) or not model or model.startswith(("package:", "profile:")):
        return model
    beside = folder / os.path.expanduser(model)
    if spelt_as_path(model) or beside.exists() or not _HUB_ID.fullmatch(model):
        return placed(model, folder)
    return model


def _params(params: Any, folder: Path) -> Any:
    if not isinstance(params, dict):
        return params
    return {name: _param(name, value, params, folder) for name, value in params.items()}


def _param(name: str, value: Any, params: dict[str, Any], folder: Path) -> Any:
    if name in FILE_PARAMS:
        return placed(value, folder)
    if name == "instruction":  # a file, or the name of a shipped one
        is_file = isinstance(value, str) and value.endswith((".yaml", ".yml"))
        return placed(value, folder) if is_file else value
    if name in MODEL_PARAMS:
        served = "served_revision" in params or "base_url" in params
        return value if served else _model(value, folder)
    return _spelt(value, folder)


def _spelt(value: Any, folder: Path) -> Any:
    """Paths of a value that are spelt as relative ones, however deep."""
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
    """The mapping that holds each field, and the field's name, where the document has it."""
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
