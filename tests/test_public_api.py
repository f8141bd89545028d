"""What may be relied on: the names in each package's `__all__`, listed in tests/public_names.txt.

A name that is added or taken away changes that file: ``python -m tests.test_public_api`` writes it.
"""

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import alignguard_data
import alignguard_train

SNAPSHOT = Path(__file__).with_name("public_names.txt")
HEAVY = ("torch", "dagster", "diffusers", "transformers", "pyarrow", "duckdb", "matplotlib", "PIL")


def packages() -> list[str]:
    roots = [alignguard_data, alignguard_train]
    below = [
        one.name
        for root in roots
        for one in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")
        if one.ispkg
    ]
    return sorted([*(root.__name__ for root in roots), *below])


def public_names() -> list[str]:
    return [
        f"{package}.{name}"
        for package in packages()
        for name in importlib.import_module(package).__all__
    ]


def documented(package: ModuleType, name: str) -> bool:
    found = inspect.unwrap(getattr(package, name))
    if inspect.ismodule(found) or inspect.isclass(found) or inspect.isfunction(found):
        # A dataclass without a docstring gets its signature for one.
        return bool(found.__doc__) and not found.__doc__.startswith(f"{name}(")
    return name in commented_constants(package)


def commented_constants(package: ModuleType) -> set[str]:
    """Type aliases and constants of a package's modules with a string under them."""
    names = set()
    for path in Path(package.__path__[0]).glob("*.py"):
        body = ast.parse(path.read_text()).body
        for node, following in itertools.pairwise(body):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(node, ast.Assign) and is_text:
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def stub_names(package: str) -> Iterator[str]:
    """The names that a type checker sees: those of `__all__` in the stub."""
    stub = Path(importlib.import_module(package).__path__[0], "__init__.pyi")
    for node in ast.parse(stub.read_text()).body if stub.exists() else []:
        if isinstance(node, ast.Assign):
            yield from ast.literal_eval(node.value)


@pytest.mark.parametrize("package", packages())
def test_no_public_name_is_also_a_module(package: str):
    """Importing the module would replace the name by it, whoever does it first."""
    folder = Path(importlib.import_module(package).__path__[0])
    stub = folder / "__init__.pyi"
    text = stub.read_text() if stub.exists() else ""
    taken = [
        name
        for name in stub_names(package)
        if (folder / f"{name}.py").exists() and not re.search(rf"from \. import .*\b{name}\b", text)
    ]
    assert not taken


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_exists_and_is_documented(name: str):
    package, _, last = name.rpartition(".")
    assert documented(importlib.import_module(package), last)


def test_no_public_name_appears_or_goes_unseen():
    assert SNAPSHOT.read_text().split() == public_names(), "python -m tests.test_public_api"


@pytest.mark.parametrize("package", packages())
def test_a_package_says_what_it_is_and_which_names_are_public(package: str):
    module = importlib.import_module(package)
    assert module.__doc__
    assert sorted(stub_names(package)) == sorted(module.__all__)


@pytest.mark.parametrize("package", packages())
def test_no_public_name_but_a_module_has_a_modules_name(package: str):
    """Else the import of that module would put the module in the name's place."""
    module = importlib.import_module(package)
    modules = {one.name for one in pkgutil.iter_modules(module.__path__)}
    hidden = [
        name
        for name in module.__all__
        if name in modules and not inspect.ismodule(getattr(module, name))
    ]
    assert not hidden


def test_the_packages_import_without_any_heavy_library():
    code = f"import sys, {', '.join(packages())}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(public_names()) + "\n")
