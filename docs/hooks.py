"""What mkdocs does not do by itself: pages made from the code, equations as MathML.

The command line's page is Typer's; the API's pages list each package's `__all__`, from its stub.
MathML is drawn by the browser, so neither the build nor a reader fetches a script.
"""

import ast
import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "alignguard_data": "From a taxonomy to a release. `import alignguard_data` loads no torch.",
    "alignguard_train": "From a release to an adapter and its numbers.",
}
COMMAND_LINE = "reference/command-line.md"
DESCRIBED = ("docs/reference/profile.md", "docs/reference/records.md")
"""Pages by hand; what they describe is not described a second time."""
_EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code."""
    files.append(File.generated(config, COMMAND_LINE, content=_command_line()))
    for package, what in PACKAGES.items():
        content = "\n".join(_api_page(package, what))
        files.append(File.generated(config, f"reference/api/{package}.md", content=content))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Equations become MathML; Sphinx roles in docstrings become plain code."""
    return _ROLE.sub("", _EQUATION.sub(_mathml, content))


def _command_line() -> str:
    command = [sys.executable, "-m", "typer", "pipelines.cli.app", "utils", "docs"]
    options = ["--name", "alignguard", "--title", "Command line"]
    made = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return "\n".join(map(_closed, made.stdout.splitlines()))


def _closed(line: str) -> str:
    """A summary that Typer cut within code, without the backtick that is left."""
    cut = line.endswith("...") and line.count("`") % 2
    return "".join(line.rsplit("`", 1)) if cut else line


def _api_page(package: str, what: str) -> Iterator[str]:
    yield f"# {package}\n\n{what}\n"
    pages = "\n".join((ROOT / page).read_text() for page in DESCRIBED)
    elsewhere = set(re.findall(r"^::: \S*\.(\w+)", pages, re.MULTILINE))
    for stub in sorted((ROOT / package).rglob("__init__.pyi")):
        inside = ".".join(stub.parent.relative_to(ROOT).parts)
        public = list(_public(inside, stub))
        if public and inside != package:
            yield f"## {inside}\n"
            for path in public:
                module, name = path.split(".")[-2:]
                if {module, name} & elsewhere:
                    yield f"`{name}`: see [profile](../profile.md) or [records](../records.md).\n"
                else:
                    yield f"::: {path}\n    options: {{heading_level: 3}}\n"


def _public(package: str, stub: Path) -> Iterator[str]:
    """Full path of each public name that one of the package's own modules defines."""
    tree = ast.parse(stub.read_text())
    for node in (node for node in tree.body if isinstance(node, ast.ImportFrom)):
        module = node.module or ""
        if (stub.parent / f"{module.replace('.', '/')}.py").is_file():
            yield from (f"{package}.{module}.{alias.name}" for alias in node.names)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found["tag"] == "div" else "inline"
    return convert(html.unescape(found["tex"]).strip(), display=display)
