"""Tokens into text conditions, by ids or as weighted sums, through every text encoder of a pipe.

Encoders are reached by what transformers publishes: ``get_input_embeddings()``, and a hook on the
output of that module. Test: a one-hot row of weights gives the states of its token.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Conditions, Pipe, concatenated

ENCODED_ROWS = 256
"""Rows per forward pass without gradients; a search over a whole vocabulary has many thousands."""


class PipeVocabulary:
    """The tokens that mean the same in every tokenizer of a pipe.

    Attributes:
        ordinary: ids that a search may use: no special tokens of any tokenizer, sorted.
        length: the most tokens of a prompt, without begin and end.

    Args:
        pipe: its tokenizers.
    """

    def __init__(self, pipe: Pipe) -> None:
        tokenizers = [tokenizer for tokenizer, _ in encoders(pipe)]
        shared = set.intersection(*(set(one.get_vocab().items()) for one in tokenizers))
        special = {i for one in tokenizers for i in one.all_special_ids}
        self._tokenizer = tokenizers[0]
        self.ordinary = tuple(sorted({i for _, i in shared} - special))
        self.length = min(one.model_max_length for one in tokenizers) - 2

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Ids without begin and end, not truncated; an unknown character is the unknown token."""
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self._tokenizer.decode(list(ids))).strip()


def encoders(pipe: Pipe) -> list[tuple[Any, Any]]:
    """Tokenizers and text encoders, in the order in which the pipe joins their states."""
    found: list[tuple[Any, Any]] = [(pipe.tokenizer, pipe.text_encoder)]
    if isinstance(pipe, StableDiffusionXLPipeline):
        found.append((pipe.tokenizer_2, pipe.text_encoder_2))
    return found


@torch.no_grad()
def encode_tokens(pipe: Pipe, tokens: Sequence[Sequence[int]]) -> Conditions:
    """Conditions of token sequences as the pipe makes them of their text.

    Args:
        pipe: its tokenizers and text encoders.
        tokens: ids of each prompt, without begin, end and padding.

    Returns:
        States (rows, length, width); of SDXL the pooled state too.

    Raises:
        EngineError: a sequence is longer than a text encoder reads.
    """
    starts = range(0, len(tokens), ENCODED_ROWS)
    return concatenated([_conditions(pipe, tokens[i : i + ENCODED_ROWS]) for i in starts])


def encode_weights(pipe: Pipe, weights: Tensor, ordinary: Sequence[int]) -> Conditions:
    """Conditions of weighted tokens, with gradients to the weights.

    Args:
        pipe: its text encoders.
        weights: shape (rows, tokens, len(ordinary)).
        ordinary: the tokens of the last axis.

    Returns:
        States (rows, length, width) through which gradients reach the weights; of SDXL the pooled
        state too.

    Raises:
        EngineError: there are more tokens than a text encoder reads, or other ones.
    """
    rows, tokens, width = weights.shape
    if width != len(ordinary):
        raise EngineError(f"{width} weights a token, but the vocabulary has {len(ordinary)}")
    # Any ordinary token holds a place: its embedding is replaced, and it is no end of the text.
    return _conditions(pipe, [[ordinary[0]] * tokens] * rows, weights, torch.tensor(ordinary))


def _conditions(
    pipe: Pipe,
    tokens: Sequence[Sequence[int]],
    weights: Tensor | None = None,
    ordinary: Tensor | None = None,
) -> Conditions:
    is_xl = isinstance(pipe, StableDiffusionXLPipeline)
    states, pooled = [], None
    for tokenizer, encoder in encoders(pipe):
        ids, mask = (part.to(encoder.device) for part in padded(tokenizer, tokens))
        given: dict[str, Any] = {"output_hidden_states": True} if is_xl else {}
        if getattr(encoder.config, "use_attention_mask", False):
            given["attention_mask"] = mask
        table = encoder.get_input_embeddings()
        with _replaced(table, weights, ordinary):
            found = encoder(ids, **given)
        # The pipe's own choice: SDXL takes the layer before the last, and the second encoder's
        # projected state of the text's end.
        states.append(found.hidden_states[-2] if is_xl else found[0])
        pooled = found[0] if is_xl else None
    return Conditions(states=torch.cat(states, dim=-1), pooled=pooled)


def padded(tokenizer: Any, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Begin, tokens, end and the tokenizer's own padding, and the mask of what is no padding.

    Args:
        tokenizer: names begin, end, padding and the length.
        tokens: ids of each row.

    Returns:
        Ids and mask, both (rows, length), int64; the mask is 1 up to the end token.

    Raises:
        EngineError: a sequence is longer than the tokenizer's text encoder reads.
    """
    length = tokenizer.model_max_length
    longest = max(map(len, tokens))
    if longest > length - 2:
        raise EngineError(f"a prompt of {longest} tokens: the text encoder reads {length - 2}")
    ids = torch.full((len(tokens), length), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, own in enumerate(tokens):
        whole = [tokenizer.bos_token_id, *own, tokenizer.eos_token_id]
        ids[row, : len(whole)] = torch.tensor(whole)
        mask[row, : len(whole)] = 1
    return ids, mask


@contextmanager
def _replaced(table: Any, weights: Tensor | None, ordinary: Tensor | None) -> Iterator[None]:
    """Replace the embeddings of the tokens after the first by weighted sums, within the block."""
    if weights is None or ordinary is None:
        yield
        return

    def hook(_: Any, __: Any, output: Tensor) -> Tensor:
        known = table.weight[ordinary.to(output.device)]
        mixed = weights.to(output.device, output.dtype) @ known
        return torch.cat([output[:, :1], mixed, output[:, 1 + mixed.shape[1] :]], dim=1)

    handle = table.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
