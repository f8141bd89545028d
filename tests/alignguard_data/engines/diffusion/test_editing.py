"""Image to image on tiny checkpoints of the real classes, against diffusers' own pipes."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Edit
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from benchmarks.tiny.flow import tiny_flux, tiny_sd35

KINDS = {
    "sd15": (tiny_pipe, diffusers.StableDiffusionImg2ImgPipeline),
    "sd21": (lambda: tiny_pipe("v_prediction"), diffusers.StableDiffusionImg2ImgPipeline),
    "sdxl": (tiny_xl, diffusers.StableDiffusionXLImg2ImgPipeline),
    "sd35": (tiny_sd35, diffusers.StableDiffusion3Img2ImgPipeline),
}
SAMPLING = Sampling(num_inference_steps=4, guidance_scale=4.0, width=16, height=16, batch_size=2)
EDITS = [
    Edit(prompt=prompt, negative_prompt=negative, seed=seed)
    for prompt, negative, seed in (("a", "a ring", 1), ("b c", "b", 2), ("a b c", "", 3))
]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def pipe(kind):
    return KINDS[kind][0]()


@pytest.fixture(scope="module")
def model(kind, pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / kind
    pipe.save_pretrained(folder, safe_serialization=True)
    return str(folder)


def editor(model: str, **changes) -> DiffusersImageGenerator:
    sampling = Sampling(**{**{n: getattr(SAMPLING, n) for n in Sampling.__slots__}, **changes})
    return DiffusersImageGenerator(model=model, sampling=sampling, device="cpu", threads=1)


def test_an_edit_is_the_one_of_diffusers_own_pipe(kind, pipe, model):
    """Row by row: strength, guidance away from the row's own prompt, noise of the row's seed."""
    theirs = KINDS[kind][1].from_pipe(pipe)
    theirs.set_progress_bar_config(disable=True)
    found = editor(model).edit(IMAGES, EDITS, 0.75)
    size = {"height": 16, "width": 16} if kind == "sd35" else {}
    for image, one, mine in zip(IMAGES, EDITS, found, strict=True):
        wanted = theirs(
            prompt=one.prompt,
            negative_prompt=one.negative_prompt,
            image=Image.fromarray(image),
            strength=0.75,
            num_inference_steps=4,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(one.seed),
            output_type="np",
            **size,
        ).images[0]
        assert np.abs(mine / 255 - wanted).max() < 0.01


def test_the_rest_of_a_batch_does_not_matter(model):
    ours = editor(model)
    whole = ours.edit(IMAGES, EDITS, 0.75)
    alone = np.concatenate([ours.edit(IMAGES[i : i + 1], EDITS[i : i + 1], 0.75) for i in range(3)])
    assert np.abs(whole.astype(int) - alone).max() <= 1


def test_rendering_is_the_same_after_an_edit(model):
    ours = editor(model)
    before = ours.render(["a", "b"], [1, 2])
    ours.edit(IMAGES, EDITS, 0.5)
    assert np.array_equal(before, ours.render(["a", "b"], [1, 2]))


@pytest.mark.parametrize(
    ("changes", "strength", "fault"),
    [
        ({"guidance_scale": 1.0}, 0.75, "sampling.guidance_scale must be over 1, got 1.0"),
        ({}, 0.1, "edited_pairs.strength: 0.1 of sampling.num_inference_steps 4 is less than one"),
    ],
)
def test_sampling_that_cannot_edit_is_refused(model, changes, strength, fault):
    with pytest.raises(EngineError, match=fault):
        editor(model, **changes).edit(IMAGES, EDITS, strength)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1])
def test_a_strength_out_of_bounds_is_refused(model, strength):
    with pytest.raises(ValueError, match=rf"strength must lie in \(0, 1\], got {strength}"):
        editor(model).edit(IMAGES, EDITS, strength)


def test_a_distilled_family_is_refused(tmp_path):
    tiny_flux().save_pretrained(tmp_path / "flux", safe_serialization=True)
    with pytest.raises(EngineError, match="edited_pairs: image to image is not supported for flux"):
        editor(str(tmp_path / "flux")).edit(IMAGES, EDITS, 0.75)
