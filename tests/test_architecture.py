"""What stays light, and what every room does; import-linter holds who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.texts_of_errors import decisions

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("alignguard_data", "alignguard_train", "pipelines")
HEAVY = {"torch", "diffusers", "transformers", "peft", "onnxruntime", "nudenet", "accelerate"}
HEAVY_FOLDERS = {"engines", "scores", "alignguard_train"}
LINES_OF_A_FUNCTION = 60
"""At most, decorators included and the docstring left out."""
LINES_OF_A_FILE = 400
TABLES = {"tests/alignguard_data/safety/minors_table.py"}
"""Modules that hold the rows of a table: any number of lines."""


MAY_READ_TEXTS = {"alignguard_data/engines/out_of_memory.py"}
"""Modules that decide by the text of another library's error, as there is no other way; each has
a test that makes the real library fail."""


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def imports(nodes: list[ast.AST]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_only_engines_scores_and_training_import_heavy_libraries_at_module_level():
    """So that commands start at once; import-linter holds the rest of the import law."""
    light = [path for path in modules() if not HEAVY_FOLDERS & set(relative(path).split("/"))]
    found = {
        relative(path): heavy
        for path in light
        if (heavy := {name.split(".")[0] for name in imports(tree(path).body)} & HEAVY)
    }
    assert not found


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "research", "examples"])
def test_nothing_imports_from_the_tests(folder: str):
    paths = sorted((REPOSITORY / folder).rglob("*.py"))
    assert paths
    found = {
        relative(path): names
        for path in paths
        if (names := {n for n in imports([*ast.walk(tree(path))]) if n.split(".")[0] == "tests"})
    }
    assert not found


def test_every_module_says_what_it_is():
    silent = [path for path in modules() if path.read_text() and not ast.get_docstring(tree(path))]
    assert not silent


def lines_of(function: ast.AST) -> int:
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
    total = (function.end_lineno or 0) - first + 1
    if ast.get_docstring(function) is None:
        return total
    docstring = function.body[0]
    return total - ((docstring.end_lineno or 0) - docstring.lineno + 1)


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("def f():\n    pass", 2),
        ('def f():\n    """One\n\n    two."""\n    return 1', 2),
        ("@cache\n@other(\n    1\n)\ndef f():\n    pass", 6),
        ("async def f(\n    a,\n):\n    def g():\n        pass\n    return g", 6),
    ],
)
def test_lines_of_a_function_are_counted(body: str, lines: int):
    assert lines_of(ast.parse(body).body[0]) == lines


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "research", "examples"])
def test_functions_are_short(folder: str):
    functions = [
        (f"{relative(path)}:{node.name}", node)
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert functions
    long = {name: lines_of(node) for name, node in functions}
    assert not {name: lines for name, lines in long.items() if lines > LINES_OF_A_FUNCTION}


@pytest.mark.parametrize(
    "folder", [*PACKAGES, "benchmarks", "research", "examples", "docs", "tests"]
)
def test_files_are_short(folder: str):
    lines = {
        relative(path): len(path.read_text().splitlines())
        for pattern in ("*.py", "*.pyi")
        for path in (REPOSITORY / folder).rglob(pattern)
    }
    assert lines
    assert not {
        name: count
        for name, count in lines.items()
        if count > LINES_OF_A_FILE and name not in TABLES
    }


def test_a_table_without_a_limit_is_a_table():
    for name in TABLES:
        path = REPOSITORY / name
        rows = sum(
            (node.end_lineno or 0) - node.lineno + 1
            for node in tree(path).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
        )
        assert len(path.read_text().splitlines()) - rows <= LINES_OF_A_FUNCTION


def test_every_room_says_what_came_of_what_it_was_asked_for():
    """Without a tally a partition that made nothing would count as done."""
    finishes = [(path, call) for path in modules() for call in calls_in(tree(path), "finish")]
    assert len(finishes) >= 12
    silent = [
        (relative(path), call.lineno)
        for path, call in finishes
        if isinstance(call.func, ast.Attribute)
        and "tally" not in {keyword.arg for keyword in call.keywords}
    ]
    assert not silent


def named(call: ast.Call) -> str:
    """The last part of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


def calls_in(node: ast.AST, name: str) -> list[ast.Call]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Call) and named(one) == name]


def spec_makers() -> list[tuple[str, ast.FunctionDef]]:
    """Every function that builds a PartitionSpec, says that it returns one, or is called so."""
    found = []
    for path in modules():
        found += [
            (f"{relative(path)}:{node.name}", node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
            and (
                calls_in(node, "PartitionSpec")
                or "PartitionSpec" in (ast.unparse(node.returns) if node.returns else "")
                or node.name.strip("_") == "spec"
            )
        ]
    return found


@pytest.mark.parametrize("maker", [pytest.param(node, id=name) for name, node in spec_makers()])
def test_every_spec_has_the_one_basis(maker: ast.FunctionDef):
    """Its room, its own FORMAT, and what the helper adds; or the spec of such a function."""
    built = calls_in(maker, "PartitionSpec")
    if not built:
        handed_on = [one for one in ast.walk(maker) if isinstance(one, ast.Call)]
        assert any(named(call).strip("_") == "spec" for call in handed_on)
    for call in built:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        (basis,) = calls_in(given["config"], "basis")
        reported = {keyword.arg: ast.unparse(keyword.value) for keyword in basis.keywords}
        assert ast.unparse(basis.args[0]) == ast.unparse(given["room"])
        assert reported["format"] == "FORMAT"


def test_the_specs_of_every_room_are_looked_at():
    """Else a room whose spec hides from the test above would go unseen."""
    builders = [name for name, node in spec_makers() if calls_in(node, "PartitionSpec")]
    rooms = ["taxonomy", "prompts", "images", "scor", "pairs", "index", "release", "experts",
             "merge", "evaluation", "encodings", "coprov2", "guards", "robustness", "reemergence",
             "personal", "hardening", "cost_model"]  # fmt: skip
    assert len(builders) == len(rooms)
    assert all(any(room in name for name in builders) for room in rooms), builders


def test_nothing_changes_a_spec_after_it_was_built():
    """``dataclasses.replace`` on one would get around its basis."""
    for path in modules():
        for call in calls_in(ast.parse(path.read_text()), "replace"):
            assert "config" not in {keyword.arg for keyword in call.keywords}, relative(path)


@pytest.mark.parametrize(
    "path", [*modules(), *sorted((REPOSITORY / "benchmarks").rglob("*.py"))], ids=relative
)
def test_nothing_is_decided_by_the_text_of_an_error(path: Path):
    """Texts change with a library's next release: a class, a number or a look do not."""
    found = decisions(ast.parse(path.read_text()))
    assert bool(found) == (relative(path) in MAY_READ_TEXTS), f"lines {found}"


@pytest.mark.parametrize(
    "asked",
    [
        'if "lock" in str(error): pass',
        'if "lock" not in f"{error}".lower(): pass',
        "said = str(error).casefold()\n    if any(sign in said for sign in SIGNS): pass",
        'if error.args[0] == "lock": pass',
        'if str(error).startswith("IO"): pass',
        'if re.search("lock", str(error)): pass',
        "if PATTERN.match(repr(error)): pass",
        'if "lock" in first_line(error): pass',
        'if "lock" in str(error.__cause__): pass',
        'if (said := error.message) and said.endswith("lock"): pass',
        'match str(error):\n        case "lock": pass',
        'if "lock" in error.stderr: pass',
        'for line in [str(error)]: return "lock" in str(error)',
    ],
)
@pytest.mark.parametrize("where", ["except", "parameter"])
def test_a_decision_by_an_errors_text_is_seen(asked: str, where: str):
    if where == "except":
        code = f"def f():\n  try: g()\n  except OSError as error:\n    {asked}"
    else:
        code = f"def f(error: ValueError):\n    {asked}"
    assert decisions(ast.parse(code))


@pytest.mark.parametrize(
    "asked",
    [
        "if isinstance(error, KeyError): pass",
        "if error.errno in NUMBERS: pass",
        "if error.status_code == 404: pass",
        "raise ValueError(str(error))",
        'said = " ".join(str(error).split())',
        'print(f"{error}".removeprefix("x"))',
    ],
)
def test_classes_numbers_and_showing_a_text_are_no_such_decisions(asked: str):
    assert not decisions(ast.parse(f"def f(error: ValueError):\n    {asked}"))


def test_definitions_load_without_torch():
    """The code location must load at once on a laptop."""
    code = "import sys, pipelines.definitions as d; assert d.defs; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "False"
