"""Docstrings of public names say what goes in and what comes out.

pydoclint compares sections with signatures, but skips docstrings of one line; here a public name
may not have one if it takes or returns anything.
"""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.contracts.column_meanings import meanings

NAMES = (Path(__file__).parent / "public_names.txt").read_text().split()
DOCUMENTED = ("alignguard_data.", "alignguard_train.")


def public(kind: Callable[[Any], bool]) -> list[Any]:
    """Public functions or classes, each once."""
    named = [name.rpartition(".") for name in NAMES]
    found = {
        one: None
        for package, _, name in named
        if kind(one := getattr(importlib.import_module(package), name))
        and one.__module__.startswith(DOCUMENTED)
    }
    return list(found)


def entries(function: Any, section: str) -> list[str]:
    """First lines of a section's entries."""
    text = inspect.getdoc(function) or ""
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", f"{text}\n", re.MULTILINE)
    return re.findall(r"^    (\S.*)", found[1], re.MULTILINE) if found else []


def undocumented(function: Callable[..., Any]) -> list[str]:
    """What a docstring leaves out: arguments, the result, errors that its body raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    described = {re.split(r":", entry)[0].lstrip("*") for entry in entries(function, "Args")}
    gaps = [name for name in parameters if name not in described]
    returned = inspect.signature(function).return_annotation
    if returned not in (None, "None") and not (
        entries(function, "Returns") or entries(function, "Yields")
    ):
        gaps.append("the result")
    raised = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id[0].isupper()
    }
    return gaps + sorted(raised - {entry.split(":")[0] for entry in entries(function, "Raises")})


@pytest.mark.parametrize("function", public(inspect.isfunction), ids=lambda f: f.__qualname__)
def test_a_public_function_documents_arguments_result_and_errors(function: Callable[..., Any]):
    function = inspect.unwrap(function)
    takes_nothing = not inspect.signature(function).parameters
    assert takes_nothing or not undocumented(function)


@pytest.mark.parametrize("record", public(dataclasses.is_dataclass), ids=lambda c: c.__qualname__)
def test_a_public_dataclass_documents_its_fields(record: type):
    described = {entry.split(":")[0] for entry in entries(record, "Attributes")}
    described |= set(meanings(record))
    fields = {field.name for field in dataclasses.fields(record) if not field.name.startswith("_")}
    assert described == fields


def gappy(a: int, b: int) -> int:
    """Add."""
    if a > b:
        raise ValueError(a)
    return a + b


def test_gaps_are_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gappy, "__doc__", "Add.\n\n    Args:\n        a: a number.\n    ")
    assert undocumented(gappy) == ["b", "the result", "ValueError"]
