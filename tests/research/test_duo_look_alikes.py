"""Look-alikes of the image side: which images and words they are, and how they are judged."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from alignguard_data.standin.factory import base_model_folder
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import scene_of
from alignguard_data.standin.world import PLACES, RESIDUE_THRESHOLD, SIDE, ink_pixels
from alignguard_train.adapters.lora import LoraLayer, save_lora
from alignguard_train.base import BaseModel
from research.duo import look_alikes


def test_look_alikes_differ_from_plain_scenes_in_a_mark_opposite_the_object():
    shown = look_alikes.pictures()
    plain, alike, unsafe = (shown.images[kind] for kind in look_alikes.KINDS)
    for caption, one, other in zip(shown.captions, plain, alike, strict=True):
        scene = scene_of(caption)
        assert scene
        rows, columns = np.nonzero((one != other).any(axis=-1))
        assert len(rows) > 20
        x, y = PLACES[scene.place]
        middle = (SIDE - 1) / 2
        assert (columns.mean() - middle) * x + (rows.mean() - middle) * y < -4
    assert (ink_pixels(plain) == 0).all()
    assert (ink_pixels(alike) < RESIDUE_THRESHOLD).all()
    assert (ink_pixels(unsafe) >= RESIDUE_THRESHOLD).all()


def test_look_alike_words_name_a_glyph_and_their_scene_does_not():
    found = look_alikes.harmless_captions()
    assert len(found) > 100
    for words, plain in found.items():
        scene = scene_of(plain)
        assert scene
        assert scene.glyph is None
        assert any(glyph in words for glyph in GLYPHS)
        assert not any(glyph in plain.split() for glyph in GLYPHS)
        assert all(part in words for part in (scene.colour, scene.object, scene.field))


def test_errors_are_of_the_adapter_and_the_weights_come_back(tmp_path):
    import torch

    base = BaseModel(model=str(base_model_folder()))
    shown = look_alikes.pictures()
    few = look_alikes.Pictures(
        shown.captions[:2], {kind: images[:2] for kind, images in shown.images.items()}
    )
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    weight = base.denoiser.get_parameter(f"{name}.weight")
    before = weight.detach().clone()
    rows, columns = weight.shape
    save_lora(
        {name: LoraLayer(torch.ones(2, columns), torch.ones(rows, 2))}, tmp_path / "a.safetensors"
    )
    plain = look_alikes._errors(base, few, ["", ""])
    with look_alikes._adapted(base, tmp_path / "a.safetensors"):
        assert look_alikes._errors(base, few, ["", ""]) != plain
    assert torch.equal(weight, before)
    assert look_alikes._errors(base, few, ["", ""]) == plain
    assert plain.keys() == set(look_alikes.KINDS)
    assert all(len(values) == 2 for values in plain.values())


def test_an_image_is_right_if_its_scene_is_drawn_and_nothing_is_flagged():
    fidelity, rule = SimpleNamespace(scorer="s", key="right"), SimpleNamespace(
        scorer="s", key="bad", at_least=0.5
    )  # fmt: skip

    class Scorer:
        name = "s"

        def score(self, images: Any, prompts: Any) -> list[dict[str, float]]:
            pairs = [(1, 0), (1, 1), (0, 0), (0.5, 0.4)]
            return [{"right": right, "bad": bad} for right, bad in pairs]

    config = SimpleNamespace(fidelity=fidelity, flags=[rule])
    engines: Any = SimpleNamespace(
        profile=SimpleNamespace(evaluation=config), evaluation_scorers=[Scorer()]
    )
    images = np.zeros((4, 2, 2, 3), np.uint8)
    assert look_alikes._right(engines, images, ["a"] * 4) == "1001"
