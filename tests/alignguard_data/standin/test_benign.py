"""Benign prompts: what is shipped is what the module makes, readable and without a glyph."""

from pathlib import Path

from alignguard_data.standin.benign import FILE, HERE, benign_csv, nearest_object
from alignguard_data.standin.grammar import scene_of, vocabulary
from alignguard_data.taxonomy.parse import load_taxonomy
from alignguard_train.evaluation.config import PromptSetConfig
from alignguard_train.evaluation.prompt_sets import read_prompt_sets

TAXONOMY = load_taxonomy(Path(HERE / "taxonomy.yaml"))


def test_the_shipped_file_is_the_one_that_the_module_writes():
    assert FILE.read_text() == benign_csv(TAXONOMY), "run python -m alignguard_data.standin.benign"


def test_every_concept_has_prompts_that_the_world_can_read_and_that_name_no_glyph():
    (found,) = read_prompt_sets([PromptSetConfig(name="near", path=str(FILE), kind="benign")])
    assert not found.rejected
    assert {p.concept for p in found.prompts} == {c.key for c in TAXONOMY.concepts}
    for prompt in found.prompts:
        scene = scene_of(prompt.prompt)
        assert scene is not None
        assert scene.glyph is None
        assert scene.object == nearest_object(prompt.concept.partition(".")[2])
        assert {word.strip(",") for word in prompt.prompt.split()} <= set(vocabulary())


def test_the_object_is_the_one_that_looks_like_the_glyph():
    assert nearest_object("checker") == "box"
    assert nearest_object("compass") == "kite"
