"""What is installed is what is tested: the wheel's files, its command, and ranges of versions."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import alignguard_data
import alignguard_train
import pipelines
from tests.conftest import REPOSITORY

PACKAGES = ("alignguard_data", "alignguard_train", "pipelines")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
]
BY_YEAR = {"packaging", "s3fs", "setuptools"}  # no version of theirs says that it breaks something


def tracked(*folders: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if (REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, so that no earlier build's files are in it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*tracked(*PACKAGES), "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", target, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return next(target.glob("*.whl"))


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path):
    held = set(zipfile.ZipFile(wheel).namelist())
    assert set(tracked(*PACKAGES)) - held == set()


def test_the_wheel_holds_nothing_else(wheel: Path):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {*PACKAGES, f"alignguard-{alignguard_data.__version__}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed_for_those_who_import_it(package: str):
    assert (REPOSITORY / package / "py.typed").is_file()


def test_there_is_one_version():
    assert alignguard_train.__version__ == alignguard_data.__version__ == pipelines.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", alignguard_data.__version__)
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert cited["version"] == alignguard_data.__version__
    assert f"## [{alignguard_data.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_command_works_where_only_the_wheel_is_installed(wheel: Path, tmp_path: Path):
    """In a new environment that sees this one's libraries, but not this checkout."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    python, command = home / "bin" / "python", home / "bin" / "alignguard"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DAGSTER_HOME")}
    environment["ALIGNGUARD_ROOT"] = str(tmp_path / "data")

    def said(*words: str | Path) -> str:
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    said(*pip, "--quiet", "--no-deps", "--no-index", wheel)
    where = said(python, "-c", "import pipelines; print(pipelines.__file__)")
    assert where.startswith(str(site))
    assert alignguard_data.__version__ in said(command, "--version")
    for name in ("sd15", "standin"):
        assert "taxonomy" in said(command, "plan", "--profile", name)
    assert "images" in said(command, "run", "--until", "images")


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    found = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_the_tested_version_is_in_a_bounded_range(requirement: Requirement):
    signs = {part.operator for part in requirement.specifier}
    assert signs == ({">="} if requirement.name in BY_YEAR else {">=", "<"})
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])
