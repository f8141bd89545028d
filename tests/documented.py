"""The commands that README and docs show, and what the real parser says of them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer._click.exceptions import MissingParameter, UsageError  # typer brings its own click

from pipelines.cli.app import app

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:alignguard|make) [^`]*)`")
_ASSIGNMENT = re.compile(r"\w+=\S*")


@dataclass(frozen=True, slots=True)
class Shown:
    """One command of a page; ``whole``: as a person would type it, not a name in a sentence."""

    page: str
    line: str
    words: tuple[str, ...]
    comment: str
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def shown(pages: list[Path] | None = None) -> list[Shown]:
    """Every `alignguard` and `make` command of these pages, or of all."""
    return [
        one
        for page in pages or PAGES
        for one in commands_of(page.read_text(), page.relative_to(REPOSITORY).as_posix())
    ]


def commands_of(text: str, page: str) -> Iterator[Shown]:
    """The commands of one page's text, those of its code blocks first."""
    for _, block in _FENCE.findall(text):
        for line in _typed_lines(block):
            yield from _split(page, line, whole=True)
    for line in _INLINE.findall(_FENCE.sub("", text)):
        yield from _split(page, " ".join(line.split()), whole=False)


def _typed_lines(block: str) -> Iterator[str]:
    """The lines of a block, without a prompt; one that ends inside quotes goes on in the next."""
    begun = ""
    for line in block.replace("\\\n", " ").splitlines():
        line = f"{begun} {line.strip()}" if begun else line.removeprefix("$ ")
        goes_on = line.count('"') % 2 == 1 and re.search(r"\b(?:alignguard|make) ", line)
        begun = line if goes_on else ""
        if not begun:
            yield line
    if begun:
        yield begun


def console_blocks(page: Path) -> list[list[str]]:
    """The commands of each console block of a page, as they are typed."""
    blocks = [block for kind, block in _FENCE.findall(page.read_text()) if kind == "console"]
    return [
        [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        for block in blocks
    ]


def _split(page: str, line: str, *, whole: bool) -> Iterator[Shown]:
    if not re.search(r"\b(?:alignguard|make) ", line):
        return
    typed, _, comment = line.partition("  #")
    for part in re.split(r"&&|;", typed):
        words = shlex.split(part, comments=True)
        while words and _ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words and words[0] in ("alignguard", "make"):
            yield Shown(page, line.strip(), tuple(words), comment, whole)


def fault(one: Shown) -> str:
    """What is wrong with a shown command; empty where it would be taken."""
    return _target_fault(one) if one.words[0] == "make" else _command_fault(one)


def _target_fault(one: Shown) -> str:
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    asked = [word for word in one.words[1:] if not _ASSIGNMENT.fullmatch(word)]
    return "".join(f"no target {word}" for word in asked if word not in targets)


def _command_fault(one: Shown) -> str:
    command: Any = typer.main.get_command(app)
    name, rest, context = "alignguard", list(one.words[1:]), None
    try:
        while True:
            context = command.make_context(name, rest, parent=context)
            rest = [*getattr(context, "_protected_args", []), *context.args]
            if not (rest and hasattr(command, "resolve_command")):
                break
            name, command, rest = command.resolve_command(context, rest)
    except MissingParameter as error:
        return error.format_message() if one.whole else ""
    except UsageError as error:
        return error.format_message()
    known = {option for parameter in command.params for option in parameter.opts}
    named = re.findall(r"\((-{1,2}[a-z][\w-]*)", one.comment)
    return "".join(
        f"no option {option}, which the comment names" for option in named if option not in known
    )
