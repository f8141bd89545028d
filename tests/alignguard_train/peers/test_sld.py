"""SLD: the paper's formulas by hand, and diffusers' own pipeline on the same weights and noise."""

import math
import warnings

import numpy as np
import pytest
import torch

from alignguard_train.peers.pipes import joined_text
from alignguard_train.peers.sld import SLD, Safety, SafetyMomentum, level, safety_guidance
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from tests.alignguard_train.peers.made_up import CONCEPTS, PROMPTS, drawn, weights

PLAIN = Safety(warmup=0.5, scale=10.0, threshold=0.1, momentum_scale=0.5, momentum_beta=0.25)


def test_guidance_of_a_made_up_2x2_case():
    without = torch.zeros(1, 1, 2, 2)
    unsafe = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    # given - unsafe: -0.05 (half strength), -5 (full), 0.05 (below the threshold), 0.2 (safe).
    given = unsafe + torch.tensor([[[[-0.05, -5.0], [0.05, 0.2]]]])
    found = safety_guidance(without, given, unsafe, PLAIN)
    assert torch.allclose(found, torch.tensor([[[[0.5, 2.0], [1.5, 0.0]]]]), atol=1e-5)


def test_momentum_grows_while_warming_up_and_then_counts():
    momentum, one = SafetyMomentum(PLAIN), torch.ones(1, 1, 1, 1)
    unsafe, given, without = 2 * one, 0 * one, 0 * one  # the guidance itself is 2
    assert momentum.step(without, given, unsafe, done=0.25).item() == 0.0
    # m = 0.75 * 2 = 1.5; gamma = 2 + 0.5 * 1.5
    assert momentum.step(without, given, unsafe, done=0.5).item() == pytest.approx(2.75)
    # m = 0.25 * 1.5 + 0.75 * 2.75 = 2.4375
    assert momentum.step(without, given, unsafe, done=0.75).item() == pytest.approx(3.21875)


@pytest.mark.parametrize("name", ["weak", "medium", "strong", "max"])
def test_images_are_those_of_diffusers_own_pipeline(name):
    from diffusers.pipelines.deprecated.stable_diffusion_safe import StableDiffusionPipelineSafe

    pipe, steps = tiny_pipe("epsilon"), 10
    parts = {key: value for key, value in pipe.components.items() if key != "image_encoder"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and remarks that no checker is there
        theirs = StableDiffusionPipelineSafe(**parts, requires_safety_checker=False)
        theirs._safety_text_concept = joined_text(pipe, CONCEPTS, "{}")
        theirs.set_progress_bar_config(disable=True)
        safety = level(name)
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        wanted = theirs(
            PROMPTS, num_inference_steps=steps, guidance_scale=5.0, latents=noise, output_type="np",
            height=16, width=16, sld_guidance_scale=safety.scale, sld_threshold=safety.threshold,
            sld_warmup_steps=math.ceil(safety.warmup * steps),
            sld_momentum_scale=safety.momentum_scale, sld_mom_beta=safety.momentum_beta,
        ).images  # fmt: skip
    found = drawn(SLD(level=name).apply(pipe, CONCEPTS), steps=steps)
    assert np.abs(found - wanted).max() < 1e-4
    assert np.abs(found - drawn(pipe, steps=steps)).max() > 1e-3, "and the guidance does something"


def test_v_prediction_gives_the_images_of_the_same_model_told_in_epsilon():
    """A v network is wrapped as an epsilon network: with sqrt(a) v + sqrt(1 - a) x_t."""
    v = tiny_pipe("v_prediction")
    epsilon = tiny_pipe("epsilon")
    network, alphas = epsilon.unet.forward, epsilon.scheduler.alphas_cumprod

    def as_epsilon(sample, t, *rest, **named):
        a = alphas[int(t)]
        output = network(sample, t, *rest, **{**named, "return_dict": False})[0]
        return (a.sqrt() * output + (1 - a).sqrt() * sample,)

    epsilon.unet.forward = as_epsilon
    one, other = (drawn(SLD(level="strong").apply(pipe, CONCEPTS)) for pipe in (v, epsilon))
    assert np.abs(one - other).max() < 1e-3


def test_without_strength_images_are_the_base_models(monkeypatch):
    """To 1e-5 of 1: its forward pass has three rows an image, the base model's two."""
    pipe = tiny_pipe()
    monkeypatch.setattr(SafetyMomentum, "step", lambda self, u, c, s, done: torch.zeros_like(c))
    assert np.abs(drawn(SLD().apply(pipe, CONCEPTS)) - drawn(pipe)).max() < 1e-5


def test_without_guidance_and_with_the_pipe_used_twice_nothing_is_left_over():
    pipe = tiny_pipe()
    safe = SLD(level="max").apply(pipe, CONCEPTS)
    assert np.array_equal(drawn(safe, guidance=1.0), drawn(pipe, guidance=1.0))
    assert np.array_equal(drawn(safe), drawn(safe)), "each image starts with no momentum"


def test_the_given_pipe_stays_as_it_was():
    pipe = tiny_pipe()
    before, image = weights(pipe), drawn(pipe)
    safe = SLD(level="max").apply(pipe, CONCEPTS)
    drawn(safe)
    assert np.array_equal(drawn(pipe), image)
    assert all(torch.equal(x, before[name]) for name, x in pipe.unet.state_dict().items())
    assert safe.unet.conv_in.weight is pipe.unet.conv_in.weight, "weights are shared"


def test_two_text_encoders_and_time_ids():
    pipe = tiny_xl()
    assert np.abs(drawn(SLD(level="max").apply(pipe, CONCEPTS)) - drawn(pipe)).max() > 1e-3


def test_an_unknown_level_is_told():
    with pytest.raises(ValueError, match=r"weak, medium, strong, max, got 'mild'"):
        SLD(level="mild")  # pyright: ignore[reportArgumentType]
