"""`alignguard reemergence`: the profile's section under options, and what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.reemergence.config import ReemergenceConfig
from pipelines.cli.reemergence import chosen, measurement_key
from pipelines.profile import load_profile
from tests.conftest import command_environment, reduced_profile

OWN = ReemergenceConfig(steps=(5, 9), seeds=(3,))
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a variant": ({"variants": ["sideways"]}, "variants: no 'sideways'; there are full, stacked"),
    "step 0": ({"steps": [0]}, "steps must be 1 or more .* got 0"),
    "steps that fall": ({"steps": [9, 5]}, "steps must rise, got 9, 5"),
    "a seed": ({"seeds": [-2]}, "seeds must not be negative, got -2"),
    "an adapter": ({"adapters": ["peer:sld"]}, "adapters: 'peer:sld' is no safety adapter"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_there_is_not_is_refused_by_name(fault: str) -> None:
    options, message = REFUSED[fault]
    with pytest.raises(ConfigError, match=message):
        chosen(OWN, **options)


def test_without_options_it_is_the_profiles_measurement() -> None:
    assert chosen(OWN) == OWN


def test_options_are_over_the_profiles_section() -> None:
    found = chosen(OWN, variants=["stacked"], seeds=[0, 1])
    assert (found.variants, found.seeds, found.steps) == (("stacked",), (0, 1), (5, 9))


def test_measurements_of_other_settings_are_other_partitions() -> None:
    keys = {measurement_key(chosen(OWN, steps=[n])) for n in (1, 2)}
    assert len(keys) == 2


def command(profile: Path, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Dagster keeps the streams that it finds, which a test closes."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "reemergence", *options],
        env=command_environment(root, profile),
        capture_output=True,
        text=True,
    )


def test_without_an_adapter_it_says_what_is_missing(reduced, tmp_path: Path) -> None:
    done = command(reduced, tmp_path / "data", "--steps", "1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "`alignguard run` makes it" in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"adapters": ["merge:ties"]}, "reemergence.adapters: this profile makes no merge:ties"),
        ({"variants": ["both"]}, "reemergence.variants.0: .* .got 'both'"),
        ({"steps": [0]}, "steps must be 1 or more"),
        ({"benign": {"rows": 0}}, "rows must be 1 or more, got 0"),
        ({"recipe": {"lr": 0}}, "lr must be a positive number, got 0"),
    ],
)
def test_a_profile_that_cannot_be_measured_is_refused(tmp_path, section, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_profile(str(reduced_profile(tmp_path, reemergence=section)))


def test_a_folder_of_images_lies_beside_the_profile(tmp_path) -> None:
    path = reduced_profile(tmp_path, reemergence={"benign": {"folder": "mine"}})
    assert load_profile(str(path)).reemergence.benign.folder == str(tmp_path / "mine")
