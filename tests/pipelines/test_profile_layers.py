"""A profile that extends another states only what it changes."""

from pathlib import Path

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from pipelines.profile import load_profile
from pipelines.profile_layers import FOUNDATIONS, merged, profile_document, shipped_profiles


def write(path: Path, **content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_profile_of_three_lines_is_its_base_with_the_change(tmp_path):
    path = write(tmp_path / "mine.yaml", extends="standin", name="mine", merge={"unit": "layer"})
    mine, base = load_profile(path), load_profile("standin")
    assert mine.merge.unit == "layer"
    changed = {"name": "mine", "merge": mine.merge}
    assert mine == base.model_copy(update=changed)


def test_mappings_merge_and_lists_replace():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(base, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_no_parameter_of_one_engine_reaches_another(tmp_path):
    engine = {"use": "alignguard_data.standin.factory:writer"}
    path = write(tmp_path / "mine.yaml", extends="sd15", writer=engine)
    assert profile_document(path)["writer"] == engine


def test_parameters_of_the_same_engine_merge(tmp_path):
    path = write(tmp_path / "mine.yaml", extends="sd15", writer={"params": {"model": "own/model"}})
    params = profile_document(path)["writer"]["params"]
    assert params["model"] == "own/model"
    assert params["engine"] == {"max_model_len": 2048}


def test_the_base_model_is_named_once(tmp_path):
    own = {"model": "own/model", "revision": "abc"}
    document = profile_document(write(tmp_path / "mine.yaml", extends="sd15", base_model=own))
    assert document["pair_scorers"][0]["params"] == own
    assert document["embedder"]["params"] == own


def test_a_relative_path_is_beside_the_file_that_names_it(tmp_path):
    write(tmp_path / "shared" / "base.yaml", extends="standin", taxonomy="words.yaml")
    path = write(tmp_path / "mine.yaml", extends="shared/base.yaml", name="mine")
    assert profile_document(path)["taxonomy"] == str(tmp_path / "shared" / "words.yaml")


@pytest.mark.parametrize("section", ["robustness", "hardening"])
def test_a_red_team_model_is_a_path_or_a_name(tmp_path, section):
    (tmp_path / "chat").mkdir()
    named = {"chat": str(tmp_path / "chat"), "./other": str(tmp_path / "other"),
             "some/chat": "some/chat", "package:a/b": "package:a/b"}  # fmt: skip
    attacks = [{"name": "genbreak_chat", "label": f"g{number}", "params": {"red_team": name}}
               for number, name in enumerate(named)]  # fmt: skip
    path = write(tmp_path / "mine.yaml", extends="standin", **{section: {"attacks": attacks}})
    placed = profile_document(path)[section]["attacks"]
    assert [one["params"]["red_team"] for one in placed] == list(named.values())


@pytest.mark.parametrize(
    ("extends", "said"),
    [
        ("nowhere", "there is no such profile (got 'nowhere'); shipped ones: base, "),
        ("nowhere.yaml", "there is no such profile (got 'nowhere.yaml')"),
        ("mine.yaml", "a profile cannot extend itself: mine.yaml -> mine.yaml"),
        (["standin"], "must be a name or a path (got ['standin'])"),
    ],
)
def test_a_base_that_cannot_be_is_named_with_its_line(tmp_path, extends, said):
    with pytest.raises(ConfigError) as caught:
        load_profile(write(tmp_path / "mine.yaml", extends=extends, name="mine"))
    (fault,) = caught.value.faults
    assert fault.startswith("extends (line 1): ")
    assert said in fault


def test_a_circle_of_two_files_is_found(tmp_path):
    write(tmp_path / "one.yaml", extends="two.yaml")
    path = write(tmp_path / "two.yaml", extends="one.yaml")
    with pytest.raises(ConfigError, match=r"two.yaml -> one.yaml -> two.yaml"):
        load_profile(path)


def test_a_foundation_is_no_profile_to_run():
    assert not set(FOUNDATIONS) & set(shipped_profiles())
    real = ["flux", "sd15", "sd21", "sd35", "sdxl"]
    assert shipped_profiles() == [*real, "smol", "standin", "standin_flow"]
