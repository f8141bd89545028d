"""Profiles name engines by public names, and a name of the old tree leads to its new one."""

import re
from pathlib import Path

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from pipelines.moved_names import MOVED
from pipelines.profile import load_profile, profile_path
from tests.conftest import reduced_profile

OLD_NAMES = [
    "alignguard_data.backends.concept_check:EmbeddingCheck",
    "alignguard_data.backends.concept_check:JudgeCheck",
    "alignguard_data.backends.openai_text:OpenAIWriter",
    "alignguard_data.backends.vllm_text:VLLMWriter",
    "alignguard_data.scoring.clip:ClipScorer",
    "alignguard_data.scoring.clip_features:ClipFeatures",
    "alignguard_data.scoring.embedder:ClipTextEmbedder",
    "alignguard_data.scoring.inception_features:InceptionFeatures",
    "alignguard_data.scoring.nudenet:NudeNetScorer",
    "alignguard_data.scoring.q16:Q16Scorer",
    "alignguard_data.scoring.safety_checker:SafetyCheckerScorer",
    "alignguard_data.scoring.sentences:SentenceEmbedder",
    "alignguard_data.scoring.twins:SentenceTwins",
    "alignguard_data.scoring.twins:TwinSimilarity",
    "alignguard_data.scoring.vlm_judge:VlmJudge",
]
"""Every class that a profile could name before the rooms became packages."""


def with_writer(folder: Path, use: str) -> str:
    path = reduced_profile(folder)
    profile = yaml.safe_load(path.read_text())
    profile["writer"] = {"use": use, "params": {}}
    path.write_text(yaml.safe_dump(profile))
    return str(path)


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_name_is_refused_with_the_new_one(tmp_path, old: str):
    with pytest.raises(ConfigError) as caught:
        load_profile(with_writer(tmp_path, old))
    said = re.search(r"writer\.use: .*has moved: write `(\S+):(\w+)`", str(caught.value))
    assert said
    assert said[2] == old.partition(":")[2]
    package = __import__(said[1], fromlist=[said[2]])
    assert said[2] in package.__all__
    assert callable(getattr(package, said[2]))


def test_an_old_recipe_is_refused_with_the_new_name(tmp_path):
    path = reduced_profile(tmp_path, training__recipe="alignguard_train.recipes:standin_expert")
    with pytest.raises(ConfigError, match="write `alignguard_train:standin_expert`"):
        load_profile(str(path))


def test_every_moved_module_is_tried():
    assert {name.partition(":")[0] for name in OLD_NAMES} | {"alignguard_train.recipes"} == set(
        MOVED
    )


def test_the_long_name_of_a_class_works_too(tmp_path):
    long = "alignguard_data.standin.writer:StandinWriter"
    assert load_profile(with_writer(tmp_path, long)).writer.build().model_id


@pytest.mark.parametrize(
    "path", sorted(profile_path("x").parent.glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_profiles_name_public_functions_and_classes(path: Path):
    """Those in comments too, as people copy them."""
    found = re.findall(r"(?:use|recipe): ([\w.]+):(\w+)", path.read_text())
    assert found
    hidden = [
        f"{package}:{name}"
        for package, name in found
        if name not in getattr(__import__(package, fromlist=[name]), "__all__", [])
    ]
    assert not hidden
