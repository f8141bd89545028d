"""Tiny CLIP models with random weights: the real classes, processors and tokenizers."""

# pyright: reportArgumentType=false
# transformers and diffusers annotate their constructors more narrowly than they take values.

from pathlib import Path

import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from benchmarks.tiny.diffusion import tiny_tokenizer

WIDTH = 16


def _config(vocabulary: int, end: int, tokens: int = 12) -> CLIPConfig:
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    vision = CLIPVisionConfig(
        **small, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=WIDTH
    )
    text = CLIPTextConfig(
        **small, num_attention_heads=2, vocab_size=vocabulary, max_position_embeddings=tokens,
        projection_dim=WIDTH, eos_token_id=end,
    )  # fmt: skip
    return CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH
    )


def _processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def save_clip(folder: Path, tokenizer: CLIPTokenizer | None = None) -> Path:
    """Save a CLIP model with its processor and tokenizer; return its folder."""
    torch.manual_seed(0)
    tokenizer = tokenizer or tiny_tokenizer()
    model = CLIPModel(_config(len(tokenizer), tokenizer.eos_token_id, tokenizer.model_max_length))
    # Random weights of the usual size give nearly the same embedding to every image.
    torch.nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.5)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    _processor().save_pretrained(folder)
    return folder


def save_checker(folder: Path) -> Path:
    """Save a safety checker with its processor; return its folder."""
    torch.manual_seed(1)
    checker = StableDiffusionSafetyChecker(_config(64, 63))
    torch.nn.init.normal_(checker.vision_model.embeddings.patch_embedding.weight, std=0.5)
    for name in ("concept_embeds", "special_care_embeds"):
        torch.nn.init.normal_(getattr(checker, name))
    # So that some random images lie on either side.
    torch.nn.init.constant_(checker.concept_embeds_weights, 0.45)
    torch.nn.init.constant_(checker.special_care_embeds_weights, 0.3)
    checker.save_pretrained(folder, safe_serialization=True)
    _processor().save_pretrained(folder)
    return folder
