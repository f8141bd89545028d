"""What ``auto`` takes on each device, and which choices enter a model's revision."""

import dataclasses

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.speed import DEFAULTS, Speed, on_device
from pipelines.profile_sections import BaseModelChoice

SAMPLING = Sampling(num_inference_steps=2, guidance_scale=3.0, width=32, height=32, batch_size=2)
BASE = {"model": "package:alignguard_data.standin/checkpoints/base"}
FREE = ("compile", "attention", "channels_last", "vae_slicing")


@pytest.mark.parametrize("device", DEFAULTS)
def test_auto_takes_the_line_of_the_device_and_a_choice_wins(device):
    line = DEFAULTS[device]
    taken = on_device(Speed(), device)
    assert {name: getattr(taken, name) for name in FREE} == {
        name: getattr(line, name) for name in FREE
    }
    other = on_device(Speed(compile=not line.compile, attention="math"), device)
    assert (other.compile, other.attention) == (not line.compile, "math")


def test_auto_never_changes_images_and_every_field_that_may_is_chosen_by_the_user():
    fields = {field.name for field in dataclasses.fields(Speed)}
    assert fields - set(FREE) == {"vae_tiling", "quantization"}
    assert not any(on_device(Speed(), device).changes_images for device in DEFAULTS)


def test_eight_bit_weights_are_not_compiled_by_auto(monkeypatch):
    line = dataclasses.replace(DEFAULTS["cuda"], compile=True)
    monkeypatch.setitem(DEFAULTS, "cuda", line)
    assert on_device(Speed(), "cuda").compile is True
    assert on_device(Speed(quantization="float8"), "cuda").compile is False


def test_a_profile_may_say_auto_and_refuses_what_is_no_choice():
    assert BaseModelChoice.model_validate(BASE | {"speed": {"compile": "auto"}}).speed == Speed()
    with pytest.raises(ValueError, match="attention"):
        BaseModelChoice.model_validate(
            {
                "model": "package:alignguard_data.standin/checkpoints/base",
                "speed": {"attention": "fast"},
            }
        )


@pytest.mark.parametrize(
    ("speed", "revision"),
    [
        (Speed(channels_last=False, attention="math", vae_slicing=True), ""),
        (Speed(vae_tiling=True), "+tiled"),
    ],
)
def test_a_revision_names_the_choices_that_change_images_and_no_others(
    tiny_folder, speed, revision
):
    """The tiny VAE's tiles are of 16 pixels, so that an image of 32 has seams."""
    plain, other = (
        DiffusersImageGenerator(model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=s)
        for s in (Speed(), speed)
    )
    assert other.revision == plain.revision + revision
    drawn = [g.render(["a", "b"], [1, 2]).astype(int) for g in (plain, other)]
    assert (np.abs(drawn[0] - drawn[1]).max() > 1) == bool(revision)


def test_a_kernel_that_the_device_lacks_is_named(tiny_folder):
    generator = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=Speed(attention="cudnn")
    )
    with pytest.raises(EngineError, match=r"speed\.attention: cudnn does not run on cpu"):
        generator.render(["a"], [1])


@pytest.mark.parametrize("attention", ["math", "native"])
def test_a_failure_that_is_not_the_kernels_is_raised_as_it_is(tiny_folder, attention):
    """Whatever it says: the same batch fails without the chosen kernel too."""
    generator = DiffusersImageGenerator(
        model=str(tiny_folder), sampling=SAMPLING, device="cpu", speed=Speed(attention=attention)
    )

    def broken(*args, **kwargs):
        raise RuntimeError("No available kernel, says something else")

    generator._loaded()._pipe.unet.forward = broken
    with pytest.raises(RuntimeError, match="says something else"):
        generator.render(["a"], [1])
