"""Nothing turns the rules about minors off: not the environment, not a profile, not a parameter."""

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alignguard_data.contracts.records import Concept
from alignguard_data.prompts import gate as reply_gate
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import GateTools, read_reply
from alignguard_data.safety import rules as safety
from tests.conftest import REPOSITORY

PACKAGES = ("alignguard_data", "alignguard_train", "pipelines")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{3,}")
CONCEPT = Concept(key="shape.ring", category="shape", name="ring", terms=("ring",), split="train")
REPLY = '{"unsafe_prompt": "a child with a ring", "safe_prompt": "a field with a ball"}'


def variables() -> list[str]:
    """Every text in the packages that could be the name of an environment variable."""
    found: set[str] = set()
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found |= {node.value} if VARIABLE.fullmatch(node.value) else set()
    return sorted(found - {"PATH", "HOME", "PYTHONPATH", "HOME_VARIABLE"})


@pytest.mark.parametrize("value", ["0", "1", "off", "true"])
def test_no_environment_variable_that_the_code_names_opens_the_gate(value):
    named = variables()
    assert {"ALIGNGUARD_PROFILE", "ALIGNGUARD_ROOT"} <= set(named)
    script = "from alignguard_data.safety.rules import refusal; print(refusal('a child'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | dict.fromkeys(named, value),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "minors"), done.stderr


def test_the_rules_take_a_text_and_nothing_else():
    assert list(inspect.signature(safety.refusal).parameters) == ["text"]


def imported(module: object) -> set[str]:
    """Top-level packages and our own modules that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(Path(str(inspect.getfile(module))).read_text())):  # type: ignore[arg-type]
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


def test_the_rules_read_neither_environment_nor_profile():
    assert not imported(safety) & {"os", "os.environ", "yaml", "pipelines.profile"}


def permissive() -> WritingConfig:
    """Every limit of the profile's ``writing`` section at its widest."""
    wide = {int: 10**6, float: 0.0}
    values = {
        field.name: wide[int] if field.name in ("max_words", "pairs_per_concept") else field.default
        for field in dataclasses.fields(WritingConfig)
    }
    values |= {"min_words": 1, "evaluation_share": 0.0, "max_tokens": None, "language": None}
    return WritingConfig(**values)


def test_no_profile_lets_such_a_reply_through():
    class Anything:
        version = "1"

        def __call__(self, unsafe: str, safe: str, concept: Concept) -> tuple[bool, bool]:
            return True, False

    tools = GateTools(
        count_tokens=lambda text: 0, language=lambda text: 1.0, concept_check=Anything()
    )
    harmless = REPLY.replace("child", "sphere")
    assert not isinstance(read_reply(harmless, CONCEPT, permissive(), set(), tools=tools), str)
    found = read_reply(REPLY, CONCEPT, permissive(), set(), tools=tools)
    assert found == "minors"
    assert "minors" in reply_gate.REASONS
