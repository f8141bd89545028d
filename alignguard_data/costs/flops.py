"""Floating-point operations of a diffusion model, counted from its shapes.

Networks are built on torch's ``meta`` device, which computes only shapes, and counted by torch's
FLOP counter. No weights or memory are needed, and any diffusers architecture works. A multiply-add
counts as two operations.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.storage.yaml_files import read_yaml

Shapes = Mapping[str, Any]
"""Keys ``unet`` or ``transformer``, ``vae`` (configs) and ``text_encoders`` (a list of configs)."""
T5_TOKENS = {"SD3Transformer2DModel": 256, "FluxTransformer2DModel": 512}
"""Tokens of the T5 encoder by the transformer that reads them; 256 for FLUX.1 schnell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFlops:
    """Operations of one forward pass of each part, for one image of a given size.

    Attributes:
        unet: the UNet or transformer, for one latent and one caption.
        unet_parameters: number of its parameters.
        text: the text encoders, for one caption.
        decode: the VAE's decoder.
        encode: the VAE's encoder.
        latent_numbers: values of an image's latents.
        caption_numbers: values of a caption's states, and of its pooled states if there are any.
        text_parameters: number of the text encoders' parameters.
        guided: whether it renders with and without the prompt where the guidance is above 1; not
            for FLUX.1, whose guidance is an input or absent.
    """

    unet: int
    unet_parameters: int
    text: int
    decode: int
    encode: int
    latent_numbers: int
    caption_numbers: int
    text_parameters: int = 0
    guided: bool = True

    def image(self, steps: int, guidance_scale: float) -> int:
        """Operations of one image.

        Two forwards of the denoiser per step under classifier-free guidance, one text encoding for
        each of the two prompts, one decoding.

        Args:
            steps: steps of the sampler.
            guidance_scale: above 1 with classifier-free guidance.

        Returns:
            Floating-point operations.
        """
        sides = 2 if self.guided and guidance_scale > 1 else 1
        return sides * (self.text + steps * self.unet) + self.decode

    def training_pair(self, *, preservation: bool, checkpointing: bool) -> int:
        """One preference pair of Diffusion-DPO on cached latents (docs/method.md).

        The chosen and the rejected image pass the UNet three times each: policy forward, backward
        to the activations (the weights are frozen and LoRA's share is small), reference forward.
        Preservation adds a third image, gradient checkpointing one more forward per image.

        Args:
            preservation: whether the recipe preserves a third image.
            checkpointing: whether activations are computed twice.

        Returns:
            Floating-point operations.
        """
        images = 3 if preservation else 2
        return images * (4 if checkpointing else 3) * self.unet

    def encoded_pair(self, *, mirrored: bool) -> int:
        """Operations to encode a pair, which trainings share (room ``encodings``).

        Both images go through the VAE, also mirrored if a recipe flips, and both captions through
        the text encoders.

        Args:
            mirrored: whether mirrored images are encoded too.

        Returns:
            Floating-point operations.
        """
        return (4 if mirrored else 2) * self.encode + 2 * self.text

    def encoded_numbers(self, *, mirrored: bool) -> int:
        """Count the values stored per encoded pair.

        Args:
            mirrored: whether mirrored images are encoded too.

        Returns:
            Number of values.
        """
        return (4 if mirrored else 2) * self.latent_numbers + 2 * self.caption_numbers


def count_model(shapes: Shapes, height: int, width: int) -> ModelFlops:
    """Count the operations of one image.

    Args:
        shapes: shapes of the model's parts.
        height: pixels.
        width: pixels.

    Returns:
        Operations and sizes by part.
    """
    import torch
    from diffusers import AutoencoderKL

    with torch.device("meta"), torch.no_grad():
        vae: Any = AutoencoderKL.from_config(dict(shapes["vae"]))
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        latent = torch.zeros(1, vae.config.latent_channels, height // factor, width // factor)
        counted = _transformer if "transformer" in shapes else _unet
        return ModelFlops(
            decode=_count(lambda: vae.decode(latent)),
            encode=_count(lambda: vae.encode(torch.zeros(1, 3, height, width))),
            latent_numbers=latent.numel(),
            **counted(shapes, latent),
        )


def _unet(shapes: Shapes, latent: Any) -> dict[str, Any]:
    """Fields of a UNet and its text encoders."""
    import torch
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_config(dict(shapes["unet"]))
    # Prompts are padded to the encoder's full length.
    encoders = [_clip(config) for config in shapes["text_encoders"]]
    tokens = encoders[0].config.max_position_embeddings
    prompt = torch.zeros(1, tokens, unet.config.cross_attention_dim)
    return {
        "unet": _count(lambda: unet(latent, torch.ones(1), prompt, **_conditions(unet))),
        "unet_parameters": _size(unet),
        "text": sum(_read(encoder, tokens) for encoder in encoders),
        "text_parameters": sum(map(_size, encoders)),
        "caption_numbers": prompt.numel() + _pooled(unet),
    }


def _transformer(shapes: Shapes, latent: Any) -> dict[str, Any]:
    """Fields of SD3.5's or FLUX's transformer and its text encoders."""
    import diffusers
    import torch
    from transformers import T5Config, T5EncoderModel

    config = dict(shapes["transformer"])
    kind = config.pop("_class_name")
    flux = kind == "FluxTransformer2DModel"
    model: Any = getattr(diffusers, kind).from_config(config)
    read = T5_TOKENS[kind] if not flux or model.config.guidance_embeds else 256
    text, parameters, clip_tokens = 0, 0, 0
    for one in shapes["text_encoders"]:
        t5 = one.get("model_type") == "t5"
        encoder: Any = T5EncoderModel(T5Config(**one)) if t5 else _clip(one)
        clip_tokens = clip_tokens if t5 else encoder.config.max_position_embeddings
        text += _read(encoder, read if t5 else clip_tokens)
        parameters += _size(encoder)
    # SD3.5 reads CLIP's states, too, and zeros where there is no T5.
    tokens = read if flux else clip_tokens + read
    states = torch.zeros(1, tokens, model.config.joint_attention_dim)
    pooled = torch.zeros(1, model.config.pooled_projection_dim)
    asked: dict[str, Any] = {
        "hidden_states": latent,
        "timestep": torch.ones(1),
        "encoder_hidden_states": states,
        "pooled_projections": pooled,
    }
    if flux:
        places = latent.shape[2] // 2 * (latent.shape[3] // 2)
        asked |= {
            "hidden_states": torch.zeros(1, places, 4 * latent.shape[1]),
            "img_ids": torch.zeros(places, 3),
            "txt_ids": torch.zeros(tokens, 3),
            "guidance": torch.ones(1) if model.config.guidance_embeds else None,
        }
    return {
        "unet": _count(lambda: model(**asked)),
        "unet_parameters": _size(model),
        "text": text,
        "text_parameters": parameters,
        "caption_numbers": states.numel() + pooled.numel(),
        "guided": not flux,
    }


def _clip(config: Mapping[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**config))


def _size(network: Any) -> int:
    """Number of parameters."""
    return sum(weight.numel() for weight in network.parameters())


def _read(encoder: Any, tokens: int) -> int:
    """Operations of a text encoder on one caption."""
    import torch

    return _count(lambda: encoder(torch.zeros(1, tokens, dtype=torch.long)))


def count_clip_image(name: str = "clip-vit-large-patch14") -> int:
    """Operations of one image through a published CLIP's vision tower."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"), torch.no_grad():
        shape = architecture(name)["vision"]
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape))
        return _count(lambda: model(torch.zeros(1, 3, shape["image_size"], shape["image_size"])))


def _pooled(unet: Any) -> int:
    """Width of the pooled caption states; 0 if the UNet takes none."""
    if unet.config.addition_embed_type != "text_time":
        return 0
    times = 6 * unet.config.addition_time_embed_dim
    return unet.config.projection_class_embeddings_input_dim - times


def _conditions(unet: Any) -> dict[str, Any]:
    import torch

    if not (pooled := _pooled(unet)):
        return {}
    return {
        "added_cond_kwargs": {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)}
    }


def _count(forward: Callable[[], object]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


@lru_cache
def _published() -> dict[str, Any]:
    with resources.as_file(resources.files("alignguard_data.costs")) as folder:
        return read_yaml(folder / "architectures.yaml").content


def architecture(name: str) -> Shapes:
    """Shapes of a published model by its name in architectures.yaml, such as ``sd15``."""
    return _published()[name]


def shapes_of(model: str) -> Shapes:
    """Look up the shapes of a checkpoint.

    Args:
        model: its folder, or a known hub id.

    Returns:
        Shapes of its parts.

    Raises:
        EngineError: neither applies, or a config in the folder cannot be read.
    """
    folder = Path(model)
    if folder.is_dir():
        encoders = sorted(folder.glob("text_encoder*/config.json"))
        part = "transformer" if (folder / "transformer").is_dir() else "unet"
        return {
            part: _config(folder / part / "config.json"),
            "vae": _config(folder / "vae" / "config.json"),
            "text_encoders": [_config(path) for path in encoders],
        }
    pipes = [shapes for shapes in _published().values() if "vae" in shapes]
    for shapes in pipes:
        if model in shapes["models"]:
            return shapes
    known = ", ".join(name for shapes in pipes for name in shapes["models"])
    raise EngineError(
        f"base_model.model: the shapes of {model} are not known here; give its folder, or one of "
        f"{known}"
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} is not a readable model config: {error}") from error
