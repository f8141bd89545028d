"""Image to image (SDEdit, arXiv 2108.01073) through diffusers' own pipes of a family."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Edit, Pixels
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.diffusion.solvers import with_solver
from alignguard_data.engines.families.registry import FAMILIES
from alignguard_data.engines.out_of_memory import is_out_of_memory


def editing_fault(family: str, sampling: Sampling, strength: float) -> str:
    """Why images cannot be edited with these settings; empty if they can.

    Args:
        family: name of the base model's family.
        sampling: its settings.
        strength: share of the noise that is added.

    Returns:
        The fault with field and value.
    """
    classes = _classes()
    if family not in classes:
        return (
            f"edited_pairs: image to image is not supported for {family}, which is distilled and "
            f"has no negative prompt; supported are {', '.join(classes)}"
        )
    if sampling.guidance_scale <= 1:
        return (
            f"edited_pairs: sampling.guidance_scale must be over 1, got {sampling.guidance_scale}: "
            "without guidance the negative prompt has no effect"
        )
    if int(sampling.num_inference_steps * strength) < 1:
        return (
            f"edited_pairs.strength: {strength} of sampling.num_inference_steps "
            f"{sampling.num_inference_steps} is less than one step"
        )
    return ""


def _classes() -> dict[str, str]:
    """Diffusers' class of image to image by name of the family, of those that have one."""
    return {family.name: family.editing_class for family in FAMILIES if family.editing_class}


def editing_pipe(pipe: Pipe, family: str, sampling: Sampling, strength: float) -> Any:
    """Diffusers' image-to-image pipe over the same networks, with a scheduler of its own.

    Args:
        pipe: the loaded pipe, which is not modified.
        family: its name.
        sampling: names the solver.
        strength: share of the noise that is added.

    Returns:
        A pipe of the family's ``editing_class``.

    Raises:
        EngineError: the fault of :func:`editing_fault`.
    """
    if fault := editing_fault(family, sampling, strength):
        raise EngineError(fault)
    kind = getattr(diffusers, _classes()[family])
    # Not by `from_pipe`, which casts the networks that both share to float32.
    known = inspect.signature(kind).parameters
    options = {name: value for name, value in pipe.config.items() if not name.startswith("_")}
    parts = {**options, **pipe.components, "add_watermarker": False}
    parts["scheduler"] = with_solver(pipe.scheduler, sampling.solver)
    made = kind(**{name: part for name, part in parts.items() if name in known})
    made.set_progress_bar_config(disable=True)
    return made


def edited(
    editor: Any,
    edits: Sequence[Edit],
    images: Pixels,
    sampling: Sampling,
    strength: float,
    decode: Callable[[Tensor], Pixels],
) -> Pixels:
    """Edit images in batches of one size, one after another; on a CPU in one thread.

    Args:
        editor: of :func:`editing_pipe`.
        edits: prompt, negative prompt and seed of each row.
        images: uint8 (rows, height, width, 3).
        sampling: steps, guidance, size and batch size.
        strength: share of the noise that is added, in (0, 1].
        decode: latents (rows, channels, h, w) to images.

    Returns:
        The edited images, of the same shape.

    Raises:
        EngineError: a batch does not fit into memory.
        RuntimeError: the model failed for another reason.
    """
    size, threads, parts = sampling.batch_size, torch.get_num_threads(), [images[:0]]
    if editor.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        for start in range(0, len(edits), size):
            rows = slice(start, start + size)
            # A short batch takes other code paths, which changes the last bits.
            missing = size - len(edits[rows])
            some = [*edits[rows], *[edits[-1]] * missing]
            pictures = [*images[rows], *[images[-1]] * missing]
            with torch.inference_mode():
                latents = _edited_latents(editor, some, pictures, sampling, strength)
                parts.append(decode(latents)[: size - missing])
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise EngineError(
            f"edited_pairs: {size} images do not fit into memory; lower sampling.batch_size"
        ) from error
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(parts)


def _edited_latents(
    editor: Any,
    edits: Sequence[Edit],
    pictures: Sequence[npt.NDArray[np.uint8]],
    sampling: Sampling,
    strength: float,
) -> Tensor:
    """Latents (rows, channels, h, w) as the denoiser leaves them; each row has its own noise."""
    vae, before = editor.vae, editor.vae.dtype
    sized = {"height": sampling.height, "width": sampling.width}
    takes_size = "height" in inspect.signature(type(editor).__call__).parameters
    try:
        return editor(
            prompt=[one.prompt for one in edits],
            negative_prompt=[one.negative_prompt for one in edits],
            image=[Image.fromarray(picture) for picture in pictures],
            strength=strength,
            num_inference_steps=sampling.num_inference_steps,
            guidance_scale=sampling.guidance_scale,
            generator=[torch.Generator().manual_seed(one.seed) for one in edits],
            output_type="latent",
            **(sized if takes_size else {}),
        ).images
    finally:
        if vae.dtype != before:
            vae.to(before)  # SDXL's pipe leaves a float32 VAE in half precision
