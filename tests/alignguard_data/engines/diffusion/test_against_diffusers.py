"""Images are those of diffusers' own pipelines, for each family and solver."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from benchmarks.tiny.diffusion import tiny_lcm, tiny_pipe, tiny_xl
from tests.alignguard_data.engines.diffusion.seven_prompts import (
    PROMPTS,
    SAMPLING,
    SEEDS,
    assert_same_picture,
)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_images_equal_those_of_the_diffusers_pipeline(tmp_path, prediction_type, guidance_scale):
    pipe = tiny_pipe(prediction_type)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    sampling = Sampling(
        num_inference_steps=4, guidance_scale=guidance_scale, width=16, height=16, batch_size=4
    )
    ours = DiffusersImageGenerator(
        model=str(tmp_path / "model"), sampling=sampling, device="cpu"
    ).render(PROMPTS, SEEDS)

    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS,
        latents=torch.cat(noise),
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        width=16,
        height=16,
        output_type="np",
    ).images

    assert ours.std() > 5, "the images must vary for the comparison to mean anything"
    assert np.abs(ours - (theirs * 255)).max() <= 1.01


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_chosen_solver_draws_what_diffusers_draws_with_it(tmp_path, prediction_type):
    pipe = tiny_pipe(prediction_type)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    sampling = dataclasses.replace(SAMPLING, solver="dpm++2m")
    with_own = DiffusersImageGenerator(
        model=str(tmp_path / "model"), sampling=SAMPLING, device="cpu"
    )
    own = with_own.render(PROMPTS, SEEDS)
    with with_own.sampled(sampling):
        ours = with_own.render(PROMPTS, SEEDS)

    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS, latents=torch.cat(noise), num_inference_steps=4, guidance_scale=3.0,
        width=16, height=16, output_type="np",
    ).images  # fmt: skip

    assert np.abs(ours - (theirs * 255)).max() <= 1.01
    assert np.abs(ours.astype(int) - own).max() > 2, "else the choice changes nothing"
    assert np.array_equal(with_own.render(PROMPTS, SEEDS), own), "the checkpoint's own is back"


def test_a_solver_for_a_distilled_model_is_refused_by_name(tmp_path):
    tiny_lcm().save_pretrained(tmp_path / "model")
    sampling = dataclasses.replace(SAMPLING, solver="dpm++2m")
    generator = DiffusersImageGenerator(model=str(tmp_path / "model"), sampling=sampling)
    with pytest.raises(EngineError, match=r"sampling\.solver: dpm\+\+2m .* LCMScheduler"):
        generator.render(PROMPTS, SEEDS)


KINDS = {"xl": tiny_xl, "lcm": tiny_lcm}


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_xl_and_distilled_models_draw_what_their_own_pipes_draw(tmp_path, kind, guidance_scale):
    pipe = KINDS[kind]()
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    sampling = Sampling(
        num_inference_steps=3, guidance_scale=guidance_scale, width=16, height=16, batch_size=4
    )
    generator = DiffusersImageGenerator(
        model=str(tmp_path / "model"), sampling=sampling, device="cpu", threads=2
    )
    ours = generator.render(PROMPTS, SEEDS)
    alone = np.concatenate(
        [generator.render([p], [s]) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    )
    assert_same_picture(ours, alone)

    def start(seed: int) -> torch.Generator:
        # The first draw is the noise; a scheduler that adds noise of its own goes on from there.
        generator = torch.Generator().manual_seed(seed)
        torch.randn(1, 4, 8, 8, generator=generator)
        return generator

    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    theirs = pipe(
        PROMPTS,
        latents=torch.cat(noise),
        generator=[start(seed) for seed in SEEDS],
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        width=16,
        height=16,
        output_type="np",
    ).images
    assert ours.std() > 5, "the images must vary for the comparison to mean anything"
    assert np.abs(ours - theirs * 255).max() <= 1.01


def test_a_negative_prompt_of_xl_is_heard(tmp_path):
    tiny_xl().save_pretrained(tmp_path / "model")
    shown = []
    for words in ("", "zz"):
        sampling = Sampling(
            num_inference_steps=2, guidance_scale=7.0, width=16, height=16, negative_prompt=words
        )
        generator = DiffusersImageGenerator(model=str(tmp_path / "model"), sampling=sampling)
        shown.append(generator.render(PROMPTS[:1], SEEDS[:1]))
    assert not np.array_equal(*shown)
