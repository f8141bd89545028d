"""The published CoProV2 names no concepts: which guards learn from it, and which says why not."""

import dataclasses

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.standin.grammar import safe_caption, unsafe_caption
from alignguard_data.standin.world import neutral_scenes
from alignguard_train.guards.imported import imported_parts
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.training import Source, measure_guard, train_guard
from tests.alignguard_data.importing.published import Published
from tests.alignguard_train.guards.release import BASE, small_config

GLYPHS = ("zigzag", "bolt", "star")
CATEGORIES = ("hate", "violence")


def rows(count: int) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Rows of the authors' files in the stand-in's words; one test prompt is also in train."""
    train, test = [], []
    for i, scene in enumerate(list(neutral_scenes())[: 3 * count : 3]):
        unsafe = unsafe_caption(dataclasses.replace(scene, glyph=GLYPHS[i % 3]), i % 10)
        category = CATEGORIES[i % 2]
        train.append((unsafe, f"u_idx_{i}_0.jpg", category))
        train.append((safe_caption(scene, i % 10), f"s_idx_{i}_0.jpg", category))
        other = unsafe_caption(dataclasses.replace(scene, glyph=GLYPHS[i % 3]), (i + 1) % 10)
        if i % 4 == 0:
            test.append((other if i else unsafe, f"u_idx_{count + i}_0.jpg", category))
    return train, test


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    config = small_config(folder)
    parts, concepts = imported_parts(Published(folder).bring(*rows(60)).folder, config)
    return parts, concepts, config


def trained(world, kind, path):
    parts, concepts, config = world
    source = Source(release="coprov2", content_id="0" * 32)
    encoder = FrozenEncoder.of(BASE.pipe)
    return train_guard(kind, parts, concepts, encoder, config, source, path / kind)


def test_a_prompt_of_both_files_is_a_test_prompt_only(world):
    parts, concepts, _ = world
    texts = {part: {one.text for one in parts.of(part)} for part in ("train", "test")}
    assert len(parts.of("test", unsafe=True)) == 15
    assert not texts["train"] & texts["test"]
    assert parts.dropped["text_in_another_part"] >= 1
    assert [one.key for one in concepts] == ["hate.coprov2", "violence.coprov2"]


@pytest.mark.parametrize("kind", ["eos-logistic", "safeguider", "guardt2i"])
def test_probes_and_guardt2i_learn_from_it_and_are_measured(world, kind, tmp_path):
    parts, concepts, config = world
    guard = trained(world, kind, tmp_path)
    assert guard.threshold == guard.header.threshold.value
    assert guard.header.threshold.n > 20
    found = measure_guard(guard, parts, concepts, config)
    assert {one.split for one in found.measures} >= {"seen explicit", "benign plain"}
    if kind == "guardt2i":
        assert guard.header.settings["blacklist"] == {}


def test_latent_guard_says_why_it_cannot(world, tmp_path):
    with pytest.raises(EngineError, match="the published CoProV2 has no concept column"):
        trained(world, "latent-guard", tmp_path)
    assert not list(tmp_path.iterdir())
