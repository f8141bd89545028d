"""Checks a profile's keyword arguments against the function or class that takes them.

Unknown names, missing names and values of the wrong type are all reported before anything is built.
Text is accepted for numbers, as YAML 1.1 reads `1e-5` as text.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model


class FaultyParams(ValueError):
    """All faults of some arguments: name, message and value."""

    def __init__(self, faults: Sequence[tuple[str, str, object]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{name}: {what}" for name, what, _ in faults))


def checked(builder: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments converted to the types annotated by ``builder``.

    Raises:
        FaultyParams: with every fault.
    """
    return _validated(_model_of(builder), params)


def changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Copy of a dataclass instance with some fields replaced.

    Raises:
        FaultyParams: with every fault of names and types, else the class's own error.
    """
    hints = typing.get_type_hints(type(settings))
    fields = {field.name: (hints[field.name], None) for field in dataclasses.fields(settings)}
    good = _validated(_model(fields, extra="forbid"), changes)
    try:
        return dataclasses.replace(settings, **good)
    except ValueError as error:
        raise FaultyParams([("", str(error), dict(changes))]) from error


def _validated(model: type[BaseModel], params: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = model.model_validate(dict(params))
    except ValidationError as error:
        raise FaultyParams([_fault(model, one) for one in error.errors()]) from error
    named = {field.alias or name: name for name, field in model.model_fields.items()}
    return {
        key: getattr(found, named[key]) if key in named else value for key, value in params.items()
    }


def _fault(model: type[BaseModel], error: Any) -> tuple[str, str, object]:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = [str(field.alias) for field in model.model_fields.values()]
        return place, f"is not known; there are {', '.join(known) or 'none'}", error["input"]
    if error["type"] == "missing":
        return place, "is needed", None
    return place, error["msg"], error["input"]


def _model_of(builder: Callable[..., Any]) -> type[BaseModel]:
    hints = _hints(builder)
    fields: dict[str, tuple[Any, Any]] = {}
    extra = "forbid"
    for name, parameter in inspect.signature(builder).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"  # passed on; the receiver checks them
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            wanted = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), wanted)
    return _model(fields, extra=extra)


def _hints(builder: Callable[..., Any]) -> dict[str, Any]:
    of = builder
    if inspect.isclass(builder) and not dataclasses.is_dataclass(builder):
        of = builder.__init__
    try:
        return typing.get_type_hints(of)
    except NameError:
        return {}  # types imported only for type checking


def _model(fields: Mapping[str, tuple[Any, Any]], *, extra: Any) -> type[BaseModel]:
    """A pydantic model of the arguments.

    Each argument is an alias of a neutral field, as names such as `schema` collide with pydantic's.
    """
    renamed: Any = {
        f"field_{number}": (hint, Field(default, alias=name))
        for number, (name, (hint, default)) in enumerate(fields.items())
    }
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model("params", __config__=config, **renamed)
