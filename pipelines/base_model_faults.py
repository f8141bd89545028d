"""Profile settings that its base model does not support, found before anything is made.

A flow model (SD3.5, FLUX) has a transformer in place of the UNet, so options that reach into a
UNet, and those of a diffusion's noise schedule, are refused here by their field and value.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.flow import guidance_fault, shift_fault
from alignguard_train.evaluation.prompt_sets import read_prompt_sets
from alignguard_train.robustness.registry import ATTACKS
from pipelines.profile import Profile
from pipelines.profile_paths import resolve_model

UNET_ONLY = "reaches into a UNet's forward or weights, which a transformer does not have"
PIXELS = 8
"""A side of the published VAEs' latents, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configs:
    """A checkpoint's class and the configurations of its parts; empty where they are unknown."""

    pipe: str
    vae: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    denoiser: Mapping[str, Any]


def base_model_faults(profile: Profile) -> list[str]:
    """Find every setting that the base model does not fit.

    Args:
        profile: a valid profile.

    Returns:
        One fault a setting, with its field and value; empty, too, for a hub id whose
        configurations are neither on this disk nor known here.
    """
    configs = configs_of(resolve_model(profile.base_model.model), profile.base_model.revision)
    return [] if configs is None else list(_faults(profile, configs))


def _faults(profile: Profile, configs: Configs) -> Iterator[str]:
    from alignguard_data.engines.families.registry import pipe_classes

    family, flow = pipe_classes().get(configs.pipe), profile.base_model.flow
    if family is None:
        return
    model = profile.base_model.model
    if profile.edited_pairs:
        from alignguard_data.engines.diffusion.editing import editing_fault

        if fault := editing_fault(family.name, profile.sampling, profile.edited_pairs.strength):
            yield fault
    if not family.flow:
        if flow is not None:
            yield f"base_model.flow: {model} is a {configs.pipe}, no flow model; leave it out"
        return
    if flow is None:
        yield (
            f"base_model.flow: missing, but {model} is a flow model ({configs.pipe}); say how it "
            "is trained, with times and shift (docs/how-to/flow.md)"
        )
    else:
        embedded = bool(configs.denoiser.get("guidance_embeds", False))
        fits = (shift_fault(flow, configs.scheduler), guidance_fault(flow, embedded=embedded))
        yield from filter(None, fits)
    for name in ("scaling_factor", "shift_factor"):
        if profile.base_model.vae is None and configs.vae and configs.vae.get(name) is None:
            yield f"base_model.model: vae/config.json of {model} has no {name}"
    yield from _unet_only(profile, family)
    yield from _sampling(profile, family)


def _unet_only(profile: Profile, family: Any) -> Iterator[str]:
    from alignguard_train.experts.unfit import unfit

    model = profile.base_model.model
    for fault in unfit(profile.recipe(), family, model, flow=True):
        yield f"training: {fault}"
    if profile.personal:
        yield f"personal: the adapter of users {UNET_ONLY} ({model}); leave the section out"
    for peer in profile.evaluation.peers:
        yield f"evaluation.peers: {peer} {UNET_ONLY} ({model}); leave it out"
    for target in profile.robustness.targets:
        if target.startswith("peer:"):
            yield f"robustness.targets: {target} {UNET_ONLY} ({model}); leave it out"
    for attack in profile.robustness.attacks:
        if "unet" in ATTACKS[attack.name].needs:
            yield f"robustness.attacks: {attack.name} {UNET_ONLY} ({model}); leave it out"


def _sampling(profile: Profile, family: Any) -> Iterator[str]:
    sampling = profile.sampling
    if sampling.solver != "checkpoint":
        yield f"sampling.solver: {sampling.solver} is a solver of diffusion, not of a flow"
    if sampling.negative_prompt and family.distilled:
        yield (
            f"sampling.negative_prompt: {sampling.negative_prompt!r}, but {family.name} renders "
            "without classifier-free guidance; leave it empty"
        )
    unit = family.latent_multiple * PIXELS
    for name in ("width", "height"):
        if (value := getattr(sampling, name)) % unit:
            yield f"sampling.{name}: {value} is no multiple of {unit}: latents have odd sides"
    for one in read_prompt_sets(profile.evaluation.prompt_sets):
        asked = {(p.width or unit, p.height or unit) for p in one.prompts}
        for width, height in sorted(size for size in asked if any(side % unit for side in size)):
            yield (
                f"evaluation.prompt_sets: {one.config.name} asks for {width}x{height} pixels, no "
                f"multiples of {unit}: latents have odd sides"
            )


def configs_of(model: str, revision: str | None) -> Configs | None:
    """The configurations of a checkpoint's parts, without loading it.

    Args:
        model: its folder or hub id.
        revision: commit of a hub id.

    Returns:
        Those of the folder, of the hub's cache on this disk, or of a published checkpoint whose
        shapes are known; None if there is none of these.

    Raises:
        EngineError: a file is not JSON.
    """
    index = _read(model, revision, "model_index.json")
    if index is None:
        return _published(model)
    part = "transformer" if "transformer" in index else "unet"
    return Configs(
        pipe=str(index.get("_class_name")),
        vae=_read(model, revision, "vae/config.json") or {},
        scheduler=_read(model, revision, "scheduler/scheduler_config.json") or {},
        denoiser=_read(model, revision, f"{part}/config.json") or {},
    )


def _published(model: str) -> Configs | None:
    from alignguard_data.costs.flops import shapes_of

    try:
        shapes = shapes_of(model)
    except EngineError:
        return None  # `alignguard doctor` and the engine say what is missing
    if "pipe" not in shapes:
        return None
    return Configs(
        pipe=shapes["pipe"],
        vae=shapes["vae"],
        scheduler=shapes["scheduler"],
        denoiser=shapes["transformer"],
    )


def _read(model: str, revision: str | None, name: str) -> dict[str, Any] | None:
    """A JSON file of a checkpoint, from its folder or the hub's cache; None if it is not there."""
    folder = Path(model)
    if folder.is_dir():
        path = folder / name
    else:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, name, revision=revision)
        if not isinstance(cached, str):
            return None
        path = Path(cached)
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise EngineError(f"{path} is not a readable model config: {error}") from error
