"""Settings that a flow model does not fit are refused before anything is made."""

import json
from pathlib import Path

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from pipelines.base_model_faults import base_model_faults
from pipelines.cli.console import Output
from pipelines.profile import load_profile
from pipelines.profile_layers import profile_path, shipped_profiles
from pipelines.resources import Engines, data_root

ASSETS = profile_path("standin").parents[1] / "assets"
FAULTS = {
    "min-SNR": ("training.overrides", {"min_snr": 5.0}, "training: min_snr (5.0)"),
    "DUO": ("training.overrides", {"layers": "self-attention"}, "training: layers (self-att"),
    "CASG": ("evaluation.peers", ["casg"], "evaluation.peers: casg"),
    "SLD": ("evaluation.peers", ["sld"], "evaluation.peers: sld"),
    "a peer's target": ("robustness.targets", ["peer:esd"], "robustness.targets: peer:esd"),
    "attack on the UNet": (
        "robustness.attacks", [{"name": "unlearn_diff"}], "robustness.attacks: unlearn_diff"
    ),
    "solver": ("sampling.solver", "dpm++2m", "sampling.solver: dpm++2m"),
    "odd width": ("sampling.width", 1000, "sampling.width: 1000 is no multiple of 16"),
    "odd height": ("sampling.height", 520, "sampling.height: 520 is no multiple of 16"),
    "no settings": ("base_model.flow", None, "base_model.flow: missing"),
}  # fmt: skip
OF_ONE = {
    "sd35": {
        "edits of no step": (
            "edited_pairs.strength", 0.001, "edited_pairs.strength: 0.001 of sampling.num_infer"
        ),
        "dynamic": (
            "base_model.flow", {"times": "uniform", "shift": "dynamic"},
            "base_model.flow.shift: dynamic",
        ),
        "guidance": (
            "base_model.flow", {"times": "uniform", "shift": "none", "guidance": 2.0},
            "base_model.flow.guidance: 2.0",
        ),
    },
    "flux": {
        "edits": (
            "edited_pairs.strength", 0.75, "edited_pairs: image to image is not supported for flux"
        ),
        "static": (
            "base_model.flow", {"times": "uniform", "shift": "static", "guidance": 1.0},
            "base_model.flow.shift: static",
        ),
        "no guidance": (
            "base_model.flow", {"times": "uniform", "shift": "none"},
            "base_model.flow.guidance: none",
        ),
        "negative prompt": (
            "sampling.negative_prompt", "blur", "sampling.negative_prompt: 'blur'"
        ),
    },
}  # fmt: skip
CASES = [
    pytest.param(name, *case, id=f"{name}-{what}")
    for name in ("sd35", "flux")
    for what, case in {**FAULTS, **OF_ONE[name]}.items()
]


def changed(tmp_path: Path, name: str, place: str, value: object) -> Path:
    content = yaml.safe_load(profile_path(name).read_text())
    section, field = place.split(".")
    content[section] = content.get(section, {}) | {field: value}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize(("name", "place", "value", "fault"), CASES)
def test_a_setting_that_does_not_fit_is_named_with_its_value(tmp_path, name, place, value, fault):
    found = base_model_faults(load_profile(str(changed(tmp_path, name, place, value))))
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_fits_its_base_model(name):
    assert base_model_faults(load_profile(name)) == []


def test_a_checkpoint_in_a_folder_is_judged_by_its_own_files(tmp_path):
    folder = tmp_path / "model"
    for part, config in {
        "vae/config.json": {"scaling_factor": 1.5},
        "scheduler/scheduler_config.json": {"shift": 1.0, "use_dynamic_shifting": False},
        "transformer/config.json": {"guidance_embeds": False},
        "model_index.json": {"_class_name": "FluxPipeline", "transformer": ["diffusers", "x"]},
    }.items():
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text(json.dumps(config))
    path = changed(tmp_path, "flux", "base_model.model", str(folder))
    found = base_model_faults(load_profile(str(path)))
    assert [fault.split(":")[0] for fault in found] == [
        "base_model.flow.shift", "base_model.flow.guidance", "base_model.model"
    ]  # fmt: skip
    assert "no shift_factor" in found[2]


def test_a_diffusion_model_in_a_folder_has_no_flow(tmp_path):
    flow = {"times": "uniform", "shift": "none"}
    path = changed(tmp_path, "standin", "base_model.flow", flow)
    (fault,) = base_model_faults(load_profile(str(path)))
    assert fault.startswith("base_model.flow: ")
    assert "no flow model" in fault


def test_a_run_refuses_before_anything_is_made(tmp_path, monkeypatch):
    path = changed(tmp_path, "flux", "training.overrides", {"min_snr": 5.0})
    engines = Engines(load_profile(str(path)), data_root())
    with pytest.raises(ConfigError, match=r"min_snr \(5\.0\)"):
        engines.check_base_model()
    assert not data_root().exists()


def _attack(**options):
    from pipelines.cli.attack import attack_command

    given = {"preset": None, "attacks": (), "targets": (), "cases": None, "as_json": True}
    attack_command(Output(), **{**given, **options})


def _harden():
    from pipelines.cli.harden import harden_command

    harden_command(Output(), rounds=1, measure=False, as_json=True)


def _reemergence():
    from pipelines.cli.reemergence import reemergence_command

    nothing: dict = {"variants": (), "adapters": (), "steps": (), "seeds": ()}
    reemergence_command(Output(), **nothing, as_json=True)


STARTED = {
    "attack": (_attack, {"training": {"overrides": {"min_snr": 5.0}}}, "min_snr"),
    "attack's options": (
        lambda: _attack(attacks=["unlearn_diff"]), {}, "robustness.attacks: unlearn_diff reaches"
    ),
    "attack's targets": (
        lambda: _attack(attacks=["shuffle"], targets=["peer:esd"]), {}, "targets: peer:esd reaches"
    ),
    "harden": (_harden, {"training": {"overrides": {"min_snr": 5.0}}}, "min_snr"),
    "reemergence": (_reemergence, {"training": {"overrides": {"min_snr": 5.0}}}, "min_snr"),
    "a room of the Dagster UI": (
        lambda: Engines(load_profile(), data_root()).own_device(),
        {"evaluation": {"peers": ["sld"]}},
        "evaluation.peers: sld reaches",
    ),
}  # fmt: skip
"""Whatever starts a room that loads the base model."""


@pytest.mark.parametrize("what", STARTED)
def test_every_start_refuses_settings_of_another_model(what, tmp_path, monkeypatch):
    start, changes, fault = STARTED[what]
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"extends": "sd35", "name": "own", **changes}))
    monkeypatch.setenv("ALIGNGUARD_PROFILE", str(own))
    monkeypatch.setenv("ALIGNGUARD_ROOT", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=fault):
        start()
    assert not data_root().exists()


@pytest.mark.parametrize("asset", sorted(ASSETS.glob("*.py")), ids=lambda path: path.stem)
def test_every_asset_that_loads_the_base_model_refuses_first(asset):
    text = asset.read_text()
    if "engines.base" in text or "engines.generator" in text:
        assert "engines.own_device()" in text


def test_a_field_of_flow_that_there_is_not_is_refused(tmp_path):
    flow = {"times": "logit-normal", "shift": "static", "sigma": 1}
    with pytest.raises(ConfigError, match=r"base_model\.flow\.sigma"):
        load_profile(str(changed(tmp_path, "sd35", "base_model.flow", flow)))
