"""Small pipes and prompts for tests of guards."""

import string

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from alignguard_data.standin.factory import base_model_folder
from alignguard_train.base import BaseModel
from alignguard_train.guards.files import GuardHeader, Threshold
from alignguard_train.guards.states import FrozenEncoder

THRESHOLD = Threshold(
    value=0.5, calibration="made up", n=400, target_fpr=0.01, achieved_fpr=0.01, low=0.0, high=0.03
)


def header_for(encoder: FrozenEncoder, kind: str = "made-up", **settings: object) -> GuardHeader:
    return GuardHeader(
        kind=kind,
        encoder=encoder.identity,
        release="made-up-v1",
        release_content_id="0" * 32,
        threshold=THRESHOLD,
        settings=settings,
    )


def standin_encoder() -> FrozenEncoder:
    return FrozenEncoder.of(BaseModel(model=str(base_model_folder())).pipe)


def eos_first_tokenizer() -> CLIPTokenizer:
    """The end-of-text token has id 1, so the largest id of any prompt is another token's."""
    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    entries = ["<|startoftext|>", "<|endoftext|>", *letters]
    return CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)}, merges=[], model_max_length=8
    )


def eos_first_encoder(eos_in_config: int | None = None, seed: int = 0) -> FrozenEncoder:
    tokenizer = eos_first_tokenizer()
    return FrozenEncoder(tokenizer, text_model(tokenizer, eos_in_config, seed))


def text_model(
    tokenizer: CLIPTokenizer, eos_in_config: int | None = None, seed: int = 0, width: int = 16
) -> CLIPTextModel:
    torch.manual_seed(seed)
    eos = tokenizer.eos_token_id if eos_in_config is None else eos_in_config
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16, projection_dim=16,
        num_hidden_layers=1, num_attention_heads=2, bos_token_id=tokenizer.bos_token_id,
        max_position_embeddings=tokenizer.model_max_length, eos_token_id=eos,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModel(config).eval()
