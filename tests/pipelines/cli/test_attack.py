"""`alignguard attack`: the profile's section under the command's options, and what is refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.registry import ATTACKS
from pipelines.cli.app import app
from pipelines.cli.attack import chosen, matrix_key
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.room_inputs import attacked_matrix
from pipelines.runtime.hardening import round_matrix
from tests.conftest import command_environment, reduced_profile

OWN = RobustnessConfig(
    attacks=(
        AttackConfig(name="random_n", params={"tokens": 3}),
        AttackConfig(name="shuffle", targets=("merged",)),
    ),
    targets=("merged", "all-single"),
)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a preset": ({"preset": "big"}, "preset must be one of smoke, standin, paper, got 'big'"),
    "an attack": ({"attacks": ["bell"]}, "no attack 'bell'; there are no_attack"),
    "a target": ({"targets": ["merge"]}, "no target 'merge'"),
    "no case": ({"cases": 0}, "cases must be 1 or more, got 0"),
    "an attack without its model": (
        {"attacks": ["genbreak_chat"]},
        "genbreak_chat needs params.red_team",
    ),
    "a capability": (
        {"attacks": ["white"], "targets": ["peer:sld"]},
        "white needs unet, which target peer:sld does not give",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_there_is_not_is_refused_by_name(fault: str, monkeypatch) -> None:
    white = dataclasses.replace(ATTACKS["shuffle"], needs=("unet",))
    monkeypatch.setitem(ATTACKS, "white", white)
    options, message = REFUSED[fault]
    with pytest.raises(ConfigError, match=message):
        chosen(OWN, **options)


def test_the_standin_profile_names_every_method_that_needs_no_guard() -> None:
    """An attack that no profile names is never measured; oracles are variants of these.

    One that brings a model along has it from a user's profile.
    """
    named = {ATTACKS[one.name].use for one in load_profile("standin").robustness.all_attacks}
    own = [row for row in ATTACKS.values() if "guard" not in row.needs and not row.model]
    assert named == {row.use for row in own}


def with_red_team(model: str) -> Engines:
    profile = load_profile("standin")
    one = AttackConfig(name="genbreak_chat", params={"red_team": model})
    own, harden = (dataclasses.replace(section, attacks=(one,))
                   for section in (profile.robustness, profile.hardening))  # fmt: skip
    changed = profile.model_copy(update={"robustness": own, "hardening": harden})
    return Engines(changed, Path("/nowhere"))


def test_a_red_team_model_of_a_package_is_found_there_for_attacks_and_for_hardening() -> None:
    engines = with_red_team("package:alignguard_data/py.typed")
    for matrix in (attacked_matrix(engines), round_matrix(engines, 1, "merged")):
        (one,) = (a for a in matrix.attacks if a.name == "genbreak_chat")
        assert Path(one.params["red_team"]).is_file()


def test_a_red_team_model_of_a_package_that_is_absent_is_an_error_of_the_engine() -> None:
    with pytest.raises(EngineError, match="no_such_package/m is not an installed package"):
        attacked_matrix(with_red_team("package:no_such_package/m"))


def test_without_options_it_is_the_profiles_matrix() -> None:
    assert chosen(OWN) == OWN


def test_an_attack_of_the_profile_keeps_its_parameters_and_another_has_the_presets() -> None:
    found = chosen(OWN, attacks=["random_n", "random_k"])
    assert found.attacks == (OWN.attacks[0], AttackConfig(name="random_k"))


def test_a_target_narrows_every_attack() -> None:
    found = chosen(OWN, targets=["all-single"])
    assert found.all_targets == ("base", "all-single")
    assert [found.targets_of(one) for one in found.all_attacks] == [("base", "all-single")] * 3


def test_matrices_of_other_settings_are_other_partitions() -> None:
    keys = {matrix_key(chosen(OWN, cases=n, preset="smoke")) for n in (1, 2)}
    assert len(keys) == 2
    assert all(key.startswith("smoke-") for key in keys)


def test_the_list_says_what_each_attack_needs() -> None:
    done = CliRunner().invoke(app, ["attack", "--list", "--json"])
    found = json.loads(done.output)
    assert found["attacks"] == {name: sorted(row.needs) for name, row in ATTACKS.items()}
    assert set(found["targets"]) == {"base", "merged", "all-single"}


def test_without_an_adapter_it_says_what_is_missing(reduced, tmp_path: Path) -> None:
    """In a process of its own: Dagster keeps the streams that it finds, which a test closes."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "attack", "--preset", "smoke"],
        env=command_environment(tmp_path / "data", reduced),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "`alignguard run` makes it" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("section", "message"),
    [({"replay_seeds": 0}, "replay_seeds must lie in 1 to 64"),
     ({"targets": ["merge:ties"]}, "robustness.targets: this profile makes no merge:ties"),
     ({"targets": ["guard:probe"]}, "no guard 'probe' of 'guard:probe'; there are eos-logistic"),
     ({"targets": ["guard:eos-logistic+merge:ties"]}, "this profile makes no merge:ties"),
     ({"attacks": [{"name": "x"}]}, "no attack 'x'"),
     ({"speed": 1}, "robustness.speed")],
)  # fmt: skip
def test_a_profiles_faults_are_named_with_their_place(tmp_path, section, message: str) -> None:
    path = reduced_profile(tmp_path, **{f"robustness__{k}": v for k, v in section.items()})
    with pytest.raises(ConfigError, match=message):
        load_profile(str(path))
