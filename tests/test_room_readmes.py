"""Each room's README says what it reads, writes, what makes it stale, what to look at."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
ROOMS = (
    *(f"alignguard_data/{room}" for room in ("taxonomy", "prompts", "images", "scores", "pairs")),
    *(f"alignguard_data/{room}" for room in ("index", "release", "importing")),
    *(f"alignguard_train/{room}" for room in ("encodings", "experts", "merge", "evaluation")),
    "alignguard_train/cost_model",
    "alignguard_train/arena",
    "alignguard_train/guards",
    "alignguard_train/hardening",
    "alignguard_train/robustness",
    "alignguard_train/reemergence",
    "alignguard_train/peers",
    "alignguard_train/personal",
)
PARTS = ("Reads", "Writes", "Stale", "Look at", "Change")


def files_named(text: str) -> list[str]:
    """The names in backticks that look like a file or folder of the repository."""
    named = re.findall(r"`([^`\s*<>]+)`", text)
    return [name for name in named if name.endswith(("/", ".py", ".pyi", ".yaml", ".j2"))]


def text_of(room: str) -> str:
    return (REPOSITORY / room / "README.md").read_text()


def test_every_package_with_a_room_module_has_a_readme():
    made = [path.parent for path in REPOSITORY.glob("alignguard_*/*/room.py")]
    assert made
    assert {path.relative_to(REPOSITORY).as_posix() for path in made} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_readme_has_every_part_once_and_is_short(room: str):
    text = text_of(room)
    assert re.findall(r"^- \*\*([\w ]+)\*\*", text, re.M) == list(PARTS)
    assert len(text.splitlines()) <= 12


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_that_a_readme_names_is_there(room: str):
    named = files_named(text_of(room))
    assert named
    missing = [
        name
        for name in named
        if not (REPOSITORY / room / name).exists() and not (REPOSITORY / name).exists()
    ]
    assert not missing


def test_a_readme_that_names_no_file_would_be_seen():
    assert files_named("what drops a pair: `filter.py`, `data/`; `WritingConfig`") == [
        "filter.py",
        "data/",
    ]
