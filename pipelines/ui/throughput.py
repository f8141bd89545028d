"""Rendering's share of the device's peak, from its rate and the operations per image."""

from functools import lru_cache

from alignguard_data.contracts.errors import EngineError
from alignguard_data.costs.flops import count_model, shapes_of
from alignguard_data.costs.gpus import gpu_named
from pipelines.profile import Profile
from pipelines.profile_paths import resolve_model


def reached(
    profile: Profile, images_per_second: float, device: str | None = None
) -> dict[str, float | str]:
    """``tflop_per_second``, and ``share_of_peak`` and ``gpu`` if known.

    The latter two need a known GPU. Empty if the base model's shapes are unknown.

    Args:
        profile: the base model and its sampling.
        images_per_second: what was measured.
        device: the GPU's driver name, empty on a CPU; None: the profile's device.
    """
    if device is None:
        device = device_name(profile.base_model.device)
    flops = _image_flops(profile)
    if flops is None:
        return {}
    tera = images_per_second * flops / 1e12
    gpu = gpu_named(device)
    shown: dict[str, float | str] = {"tflop_per_second": float(f"{tera:.3g}")}
    if gpu:
        shown |= {"share_of_peak": float(f"{tera / gpu.tflops:.3g}"), "gpu": device}
    return shown


def device_name(device: str) -> str:
    """Driver name of the GPU of a profile's ``device``; empty without one."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return ""
    return torch.cuda.get_device_name(None if device == "auto" else device)


@lru_cache(maxsize=8)
def _flops(model: str, height: int, width: int, steps: int, guidance: float) -> int | None:
    try:
        shapes = shapes_of(model)
    except EngineError:
        return None
    return count_model(shapes, height, width).image(steps, guidance)


def _image_flops(profile: Profile) -> int | None:
    size = profile.sampling
    return _flops(
        resolve_model(profile.base_model.model),
        size.height,
        size.width,
        size.num_inference_steps,
        size.guidance_scale,
    )
