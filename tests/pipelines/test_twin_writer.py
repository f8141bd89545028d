"""A profile's `twin_writer`: its file's place, and its faults before anything is made."""

import shutil

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.guards.reader import guard_file
from pipelines.cli.doctor import _twins
from pipelines.profile import load_profile
from pipelines.resources import Engines
from tests.alignguard_train.guards.composed import made, release

PROFILE = """
extends: standin
name: twins
twin_writer:
  use: alignguard_train.guards:RewriterTwins
  params: {{rewriter: mine.safetensors, model: "profile:base_model"{more}}}
"""


@pytest.fixture
def engines(tmp_path):
    (tmp_path / "twins.yaml").write_text(PROFILE.format(more=""))
    return Engines(load_profile(str(tmp_path / "twins.yaml")), tmp_path / "data")


def test_a_missing_file_is_said_with_its_place_before_anything_is_made(engines, tmp_path):
    place = str(tmp_path / "mine.safetensors")
    with pytest.raises(ConfigError, match=place):
        _ = engines.writer
    (check,) = _twins(engines)
    assert check.state == "missing"
    assert place in check.found
    assert not (tmp_path / "data").exists()


def test_another_guards_file_is_refused_and_a_rewriters_is_named_with_its_release(
    engines, tmp_path
):
    for kind in ("eos-logistic", "rewriter"):
        made(kind)
        shutil.copy(guard_file(release()[0], kind), tmp_path / "mine.safetensors")
        if kind == "eos-logistic":
            with pytest.raises(ConfigError, match="a guard of kind eos-logistic"):
                _ = engines.writer
    assert engines.writer.model_id == "standin-grammar + rewriter of coprov2-test-v0.1.0"
    (check,) = _twins(engines)
    assert check.state == "ok"


def test_every_fault_of_its_params_is_said_when_the_profile_is_read(tmp_path):
    (tmp_path / "twins.yaml").write_text(PROFILE.format(more=", tries: many, strange: 1"))
    with pytest.raises(ConfigError) as raised:
        load_profile(str(tmp_path / "twins.yaml"))
    text = str(raised.value)
    assert "twin_writer.params.tries" in text
    assert "twin_writer.params.strange" in text


def test_without_one_the_writer_writes_both_sides():
    assert Engines(load_profile("standin"), None).writer.model_id == "standin-grammar"  # pyright: ignore[reportArgumentType]
