"""Profiles that extend another profile: they state only what differs.

``extends: sd15`` names a shipped profile, ``extends: mine.yaml`` a file in its folder. Mappings are
merged field by field; lists and single values replace the base's. An engine that names ``use``
replaces the base's engine completely, so parameters of different engines never mix.

``model: profile:base_model`` in an engine's ``params`` is the profile's base model, at its
revision.
"""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.yaml_files import YamlFile, read_yaml
from pipelines.profile_paths import BASE_MODEL, engines_of, place_paths

FOUNDATIONS = ("base",)
"""Shipped files that are only for extending, not profiles."""

EXTENDS = "extends"

# A parameter would take the text `no` for true.
_OLD_BOOLEAN = "unquoted yes, no, on and off are text in YAML 1.2: write true or false, or quote it"


def profile_path(name_or_path: str) -> Path:
    """Absolute path of a shipped profile's file, by name, or of any YAML file."""
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path).expanduser().absolute()
    return _shipped(name_or_path)


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with AlignGuard, sorted."""
    names = (path.stem for path in _shipped("x").parent.glob("*.yaml"))
    return sorted(name for name in names if name not in FOUNDATIONS)


def profile_document(name_or_path: str) -> dict[str, Any]:
    """A profile's fields merged over its bases, with absolute paths, not validated.

    Raises:
        ConfigError: a file is missing, is not YAML, or extends itself; every fault of a file.
    """
    path = profile_path(name_or_path)
    if not path.exists():
        known = ", ".join(shipped_profiles())
        raise ConfigError(str(path), [f"no such profile; shipped ones: {known}; or give a path"])
    content = _layered(path, ())
    _name_base_model(content)
    return content


def _layered(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    file = read_yaml(path)
    content = file.content
    faults = [*file.faults, *(file.fault(place, _OLD_BOOLEAN) for place in file.old_booleans)]
    base, fault = _base_of(content.pop(EXTENDS, None), file, path, (*above, path))
    faults += fault
    try:
        place_paths(content, path.parent)
    except ValueError as error:
        faults.append(str(error))
    if faults:
        raise ConfigError(str(path), faults)
    return content if base is None else merged(_layered(base, (*above, path)), content)


def _base_of(
    extends: Any, file: YamlFile, path: Path, chain: tuple[Path, ...]
) -> tuple[Path | None, list[str]]:
    """The file that a profile extends, or the fault."""
    if extends is None:
        return None, []
    if not isinstance(extends, str):
        return None, [file.fault((EXTENDS,), f"must be a name or a path (got {extends!r})")]
    is_file = extends.endswith((".yaml", ".yml"))
    base = (path.parent / Path(extends).expanduser()).absolute() if is_file else _shipped(extends)
    if base.resolve() in {one.resolve() for one in chain}:
        names = " -> ".join(one.name for one in (*chain, base))
        return None, [file.fault((EXTENDS,), f"a profile cannot extend itself: {names}")]
    if not base.exists():
        known = ", ".join([*FOUNDATIONS, *shipped_profiles()])
        what = f"there is no such profile (got {extends!r}); shipped ones: {known}"
        return None, [file.fault((EXTENDS,), what)]
    return base, []


def merged(base: Any, changes: Any) -> Any:
    """``changes`` over ``base``; neither is modified."""
    if not isinstance(base, dict) or not isinstance(changes, dict) or "use" in changes:
        return changes
    both = dict(base)
    for name, value in changes.items():
        both[name] = merged(base[name], value) if name in base else value
    return both


def _name_base_model(content: dict[str, Any]) -> None:
    """Replace ``profile:base_model`` by the base model."""
    chosen = content.get("base_model")
    for engine in _engines(content):
        params = engine.get("params")
        if isinstance(params, dict) and params.get("model") == BASE_MODEL:
            named = chosen if isinstance(chosen, dict) else {}
            found = {"model": named.get("model"), "revision": named.get("revision")}
            engine["params"] = params | {k: v for k, v in found.items() if v is not None}


def _engines(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (engine for engine in engines_of(content) if isinstance(engine, dict))


def _shipped(name: str) -> Path:
    return Path(str(resources.files("pipelines").joinpath("profiles", f"{name}.yaml")))
