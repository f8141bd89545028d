"""Links of the pages that GitHub shows, and pages that code and profiles name."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = {"docs/reference/command-line.md"}
"""By docs/hooks.py, with the pages under docs/reference/api/."""
LINK = re.compile(r"(?<!`)\[[^\]]*\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


def tracked(*patterns: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def is_page(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return path.exists() or name in GENERATED or name.startswith("docs/reference/api/")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.strip().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *tracked("docs/*.md")])
def test_every_link_leads_somewhere(name):
    page = ROOT / name
    broken = []
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        if not is_page(target):
            broken.append(path)
        elif anchor and target.exists() and anchor[1:] not in anchors(target):
            broken.append(path + anchor)
    assert not broken


def test_the_readme_has_links():
    assert len(LINK.findall((ROOT / "README.md").read_text())) > 20


def test_every_page_that_code_names_is_there():
    named = {
        (file, page)
        for file in tracked("*.py", "*.yaml", "*.toml", "*.j2", "Makefile", "*.md")
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", (ROOT / file).read_text())
    }
    assert len(named) > 20
    assert not [one for one in sorted(named) if not is_page(ROOT / one[1])]


def test_every_test_that_a_page_names_is_there():
    named = {
        (page, test.removeprefix("tests/"))
        for page in ["README.md", "CONTRIBUTING.md", *tracked("docs/*.md")]
        for test in re.findall(r"`([\w/]*test_\w+\.py)\b", (ROOT / page).read_text())
    }
    assert len(named) > 20
    assert not [one for one in sorted(named) if not (ROOT / "tests" / one[1]).exists()]


def test_nothing_cites_a_text_that_is_not_here():
    cited = "METH" + "OD"
    assert not [file for file in tracked("*.py") if cited in (ROOT / file).read_text()]


def test_the_readme_says_what_the_rules_are():
    assert "first gate, not a guarantee" in (ROOT / "README.md").read_text().replace("\n", " ")


def test_no_folder_hides_a_make_target():
    """Make takes a target for made where a file of its name exists, unless it is phony."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    (phony,) = (line.split()[1:] for line in lines if line.startswith(".PHONY:"))
    targets = {line.partition(":")[0] for line in lines if re.match(r"[a-z-]+:(?!=)", line)}
    assert "docs" in targets
    assert not {name for name in targets - set(phony) if (ROOT / name).exists()}
