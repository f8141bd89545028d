"""A broken profile names every fault at once, with its place and value."""

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from pipelines.profile import load_profile
from pipelines.profile_layers import shipped_profiles
from tests.conftest import reduced_profile


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_is_valid(name: str):
    assert load_profile(name).name == name


def test_all_faults_are_reported_at_once_with_place_and_value(tmp_path):
    path = reduced_profile(tmp_path, writing__pairs_per_concept="many", sampling__widht=32)
    broken = yaml.safe_load(path.read_text())
    broken["writer"]["use"] = "alignguard_data.standin.factory:nobody"
    del broken["release"]
    path.write_text(yaml.safe_dump(broken))
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    text = str(caught.value)
    assert str(path) in text
    assert "writing.pairs_per_concept" in text
    assert "'many'" in text
    assert "sampling.widht" in text
    assert "writer.use" in text
    assert "nobody" in text
    assert "release" in text
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize("name", ["float16", "fp16", "half"])
def test_training_in_float16_is_refused_with_the_reason(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        load_profile(str(reduced_profile(tmp_path, base_model__training_dtype=name)))
    said = str(caught.value)
    assert "base_model.training_dtype" in said
    assert "gradient scaler" in said
    assert name in said


@pytest.mark.parametrize(
    ("rendering", "training", "taken"),
    [
        ("auto", None, "float32"),
        ("float16", None, "float32"),
        ("bfloat16", None, "bfloat16"),
        ("float16", "tf32", "tf32"),
        ("float32", "bfloat16", "bfloat16"),
    ],
)
def test_training_never_takes_over_a_precision_that_it_cannot_train_in(
    tmp_path, rendering, training, taken
):
    chosen = {"base_model__dtype": rendering, "base_model__training_dtype": training}
    assert load_profile(str(reduced_profile(tmp_path, **chosen))).base_model.trained_in == taken


def test_prompt_sets_lie_beside_the_profile(tmp_path):
    sets = [{"name": "i2p", "path": "sets/i2p.csv", "format": "i2p"}]
    profile = load_profile(str(reduced_profile(tmp_path, evaluation__prompt_sets=sets)))
    assert profile.evaluation.prompt_sets[-1].path == str(tmp_path / "sets/i2p.csv")
    wrong = [{"name": "i2p", "path": "a", "format": "i3p"}, {"name": "b", "path": "b", "limit": 0}]
    with pytest.raises(ConfigError) as caught:
        load_profile(str(reduced_profile(tmp_path, evaluation__prompt_sets=wrong)))
    assert "prompt_sets.0.format" in str(caught.value)
    assert "limit must be 1 or more, got 0" in str(caught.value)


def test_peers_are_named_and_a_wrong_name_tells_the_right_ones(tmp_path):
    named = {"evaluation__peers": ["sld", "uce"], "evaluation__peer_params": {"uce": {"ridge": 2}}}
    found = load_profile(str(reduced_profile(tmp_path / "right", **named))).evaluation
    assert found.peers == ("sld", "uce")
    assert found.peer_params == {"uce": {"ridge": 2}}
    with pytest.raises(ConfigError, match="no 'sdl'; there are negative_prompt, sld"):
        load_profile(str(reduced_profile(tmp_path / "wrong", evaluation__peers=["sdl"])))


def test_an_unknown_profile_names_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"shipped ones: .*standin"):
        load_profile("nowhere")


def test_a_file_that_is_not_yaml_is_one_clear_fault(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: [unclosed")
    with pytest.raises(ConfigError, match="not YAML"):
        load_profile(str(path))


def test_a_cosine_limit_without_an_embedder_is_refused(tmp_path):
    path = reduced_profile(tmp_path, release__max_semantic_cosine=0.95)
    with pytest.raises(ConfigError, match=r"release\.max_semantic_cosine needs an embedder"):
        load_profile(str(path))


def test_an_unknown_recipe_field_is_refused(tmp_path):
    path = reduced_profile(tmp_path, training__overrides={"stepz": 3})
    with pytest.raises(ConfigError, match="stepz"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (b"\nname: again\n", b"name (line "),
        (b"\nlicences: {a: b, a: c}\n", b"licences.a (line "),
        (b"\nlicences: {a: caf\xe9}\n", b"is not UTF-8"),
        (b"\nlicences: " + b"[" * 3000, b"not YAML: maximum depth"),
        (b"\nray: off\n", b"ray (line "),
        (b"\ntraining: {overrides: {flip: no}}\n", b"training.overrides.flip (line "),
    ],
)
def test_what_yaml_itself_leaves_open_is_a_fault_with_its_line(tmp_path, change, fault):
    path = reduced_profile(tmp_path)
    content = path.read_bytes()
    if change.startswith(b"\ntraining"):
        content = yaml.safe_dump({**yaml.safe_load(content), "training": None}).encode()
        content = content.replace(b"training: null\n", b"")
    path.write_bytes(content + change)
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    assert any(fault.decode() in one for one in caught.value.faults), caught.value.faults


def test_a_small_number_may_be_written_without_a_point(tmp_path):
    path = reduced_profile(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["training"].pop("overrides", None)
    training = "".join(f"  {key}: {value}\n" for key, value in content.pop("training").items())
    body = yaml.safe_dump(content)
    path.write_text(f"{body}training:\n{training}  overrides: {{lr: 1e-5}}\n")
    assert load_profile(str(path)).training.overrides == {"lr": 1e-5}
