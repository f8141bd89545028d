"""Counted operations against published sizes and against real forwards of tiny checkpoints."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from alignguard_data.contracts.errors import EngineError
from alignguard_data.costs.flops import (
    ModelFlops,
    architecture,
    count_clip_image,
    count_model,
    shapes_of,
)
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from benchmarks.tiny.flow import tiny_flux, tiny_sd35

PARAMETERS = {
    "sd15": 859_520_964,
    "sd21": 865_910_724,
    "sdxl": 2_567_463_684,
    "sd35": 2_243_171_520,
    "sd35_large": 8_056_627_520,
    "flux": 11_901_408_320,
    "flux_schnell": 11_891_178_560,
}
"""Of the denoisers, as their model cards and loaders state them: 2.5, 8.1 and 12 billion."""


@pytest.fixture(
    params=[tiny_pipe, tiny_xl, tiny_sd35, lambda: tiny_sd35(dual=True), tiny_flux],
    ids=["sd", "xl", "sd35", "sd35-dual", "flux"],
)
def pipe(request):
    pipe = request.param()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_shapes(pipe):
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    encoders = [getattr(pipe, name, None) for name in names]
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    return {
        part: {**getattr(pipe, part).config, "_class_name": type(getattr(pipe, part)).__name__},
        "vae": dict(pipe.vae.config),
        "text_encoders": [e.config.to_dict() for e in encoders if e is not None],
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_shipped_shapes_are_those_of_the_published_checkpoints(name):
    assert count_model(architecture(name), 256, 256).unet_parameters == PARAMETERS[name]


def test_a_forward_of_sd15_is_the_known_number():
    """DESIGN: 0.80 TFLOP a UNet forward at 512 x 512, 2.5 a decoding."""
    counted = count_model(architecture("sd15"), 512, 512)
    assert counted.unet / 1e12 == pytest.approx(0.80, abs=0.005)
    assert counted.decode / 1e12 == pytest.approx(2.5, abs=0.05)


def test_clip_l_is_twice_its_published_multiply_adds():
    """About 81 G multiply-adds an image of 224 pixels."""
    assert count_clip_image() / 1e9 == pytest.approx(162, rel=0.03)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_a_counted_image_is_what_a_real_pipe_computes(pipe, guidance):
    counted = count_model(tiny_shapes(pipe), 16, 16)
    # torch's counter does not know the CPU's own attention kernel.
    plain = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        pipe(
            "a ring", num_inference_steps=4, guidance_scale=guidance, height=16, width=16,
            output_type="np",
        )  # fmt: skip
    real = counter.get_total_flops()
    assert counted.image(4, guidance) == pytest.approx(real, rel=0.01)


COUNTED = ModelFlops(
    unet=10, unet_parameters=1, text=1, decode=1, encode=7, latent_numbers=100, caption_numbers=9
)


@pytest.mark.parametrize("preservation", [False, True])
def test_a_training_pair_is_its_passes_through_the_unet(preservation):
    images = 3 if preservation else 2
    plain = COUNTED.training_pair(preservation=preservation, checkpointing=False)
    assert plain == images * (10 + 10 + 10)  # forward, backward, reference
    again = COUNTED.training_pair(preservation=preservation, checkpointing=True)
    assert again == images * (10 + 10 + 10 + 10)


def test_a_pair_is_encoded_once_and_its_images_mirrored_where_a_recipe_flips():
    assert COUNTED.encoded_pair(mirrored=False) == 2 * 7 + 2 * 1
    assert COUNTED.encoded_pair(mirrored=True) == 4 * 7 + 2 * 1
    assert COUNTED.encoded_numbers(mirrored=False) == 2 * 100 + 2 * 9
    assert COUNTED.encoded_numbers(mirrored=True) == 4 * 100 + 2 * 9


def test_the_numbers_of_an_encoding_are_those_of_the_published_models():
    """Latents of a 64th of the pixels in 4 channels; 77 tokens of 768, for XL of 2048 and 1280."""
    assert count_model(architecture("sd15"), 512, 512).latent_numbers == 4 * 64 * 64
    assert count_model(architecture("sd15"), 512, 512).caption_numbers == 77 * 768
    assert count_model(architecture("sdxl"), 512, 512).caption_numbers == 77 * 2048 + 1280


def test_a_flow_models_captions_have_the_states_of_clip_and_t5_and_pooled_states():
    """77 + 256 tokens of 4096 and 2048 for SD3.5; 512 of 4096 and 768 for FLUX.1 dev."""
    assert count_model(architecture("sd35"), 256, 256).caption_numbers == 333 * 4096 + 2048
    assert count_model(architecture("flux"), 256, 256).caption_numbers == 512 * 4096 + 768
    assert count_model(architecture("flux"), 256, 256).latent_numbers == 16 * 32 * 32


def test_the_text_encoders_have_their_published_sizes():
    """CLIP-L 123 million, bigG 694 million, T5-XXL's encoder 4,762 million."""
    text = count_model(architecture("flux"), 256, 256).text_parameters
    assert text / 1e6 == pytest.approx(123 + 4762, rel=0.001)
    text = count_model(architecture("sd35"), 256, 256).text_parameters
    assert text / 1e6 == pytest.approx(123 + 694 + 4762, rel=0.001)


def test_a_distilled_model_is_asked_once_a_step_whatever_its_guidance():
    counted = dataclasses.replace(COUNTED, guided=False)
    assert counted.image(4, 3.5) == counted.image(4, 1.0) == 1 + 4 * 10 + 1


def test_the_backward_to_the_activations_costs_a_forward():
    unet = tiny_pipe().unet.requires_grad_(False)
    latent = torch.randn(1, 4, 8, 8, requires_grad=True)
    prompt = torch.randn(1, 12, unet.config.cross_attention_dim)
    with FlopCounterMode(display=False) as forward:
        out = unet(latent, 1, prompt).sample
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert backward.get_total_flops() == pytest.approx(forward.get_total_flops(), rel=0.15)


def test_a_checkpoint_in_a_folder_is_counted_from_its_own_files(tmp_path):
    pipe = tiny_pipe()
    pipe.save_pretrained(tmp_path)
    counted = count_model(shapes_of(str(tmp_path)), 16, 16)
    assert counted.unet_parameters == sum(w.numel() for w in pipe.unet.parameters())


def test_an_unknown_model_says_which_are_known():
    with pytest.raises(EngineError, match=r"shapes of some/thing are not known.*xl-base"):
        shapes_of("some/thing")


def test_a_broken_config_is_named(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"unet/config.json is not a readable model config"):
        shapes_of(str(tmp_path))
