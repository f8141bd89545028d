"""Text states of a prompt from a frozen CLIP text encoder, and the encoder's identity.

Stable Diffusion 1.5 conditions on the encoder's ``last_hidden_state``, which guards read. SDXL
conditions on the penultimate states of two encoders; guards read the ``last_hidden_state`` of its
first one. The end-of-text state is at the first token equal to ``tokenizer.eos_token_id``: the
largest id is that token only in OpenAI's vocabulary.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_data.engines.loading_bars import no_bars
from alignguard_data.engines.model_source import ModelSource

ROWS = 256
"""Prompts per batch. Each is padded to the encoder's length, so states do not depend on batches."""
_ARGMAX_ID = 2
"""End-of-text id of old configurations, for which CLIP pools at the largest id instead."""

log = logging.getLogger(__name__)


class EncoderIdentity(NamedTuple):
    """Which encoder made states; a guard reads those of no other one.

    Attributes:
        encoder: class of the encoder.
        width: of its states.
        length: tokens that it reads, begin and end included.
        eos_id: id of the end-of-text token.
        weights: hash (hex) of its weights, rounded to float16, so a float16 copy is the same one.
    """

    encoder: str
    width: int
    length: int
    eos_id: int
    weights: str

    def __str__(self) -> str:
        return (
            f"{self.encoder} of width {self.width}, {self.length} tokens, end-of-text id "
            f"{self.eos_id}, weights {self.weights[:12]}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextStates:
    """States of some prompts, float32 on the CPU.

    Attributes:
        tokens: (prompts, length, width).
        eos: (prompts, width), the end-of-text token's.
        truncated: (prompts,) of bool: the prompt is longer than the encoder reads.
    """

    tokens: Tensor
    eos: Tensor
    truncated: Tensor

    def __len__(self) -> int:
        return len(self.eos)

    def __getitem__(self, rows: Tensor | slice) -> "TextStates":
        return TextStates(
            tokens=self.tokens[rows], eos=self.eos[rows], truncated=self.truncated[rows]
        )

    @property
    def all_states(self) -> Tensor:
        """The end-of-text state, then every token's: (prompts, 1 + length, width)."""
        return torch.cat([self.eos[:, None], self.tokens], dim=1)


def concatenated(parts: Sequence[TextStates]) -> TextStates:
    """All rows of several."""
    return TextStates(
        tokens=torch.cat([part.tokens for part in parts]),
        eos=torch.cat([part.eos for part in parts]),
        truncated=torch.cat([part.truncated for part in parts]),
    )


def eos_positions(ids: Tensor, eos_id: int) -> Tensor:
    """Find the first end-of-text token of each row.

    Args:
        ids: token ids (rows, length).
        eos_id: the tokenizer's.

    Returns:
        Positions (rows,), int64.

    Raises:
        EngineError: a row has none.
    """
    found = ids == eos_id
    if not bool(found.any(dim=1).all()):
        row = int((~found.any(dim=1)).nonzero()[0])
        raise EngineError(f"row {row} of the token ids has no end-of-text token ({eos_id})")
    return found.int().argmax(dim=1)


class FrozenEncoder:
    """A tokenizer and a text encoder whose states guards read.

    Args:
        tokenizer: CLIP's.
        encoder: a CLIP text model without an adapter.

    Raises:
        EngineError: tokenizer and encoder name different end-of-text tokens, or an adapter is
            attached.
    """

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder
        self._said_cut = False
        _check_eos(tokenizer, encoder)
        if any("lora_" in name for name, _ in encoder.named_parameters()):
            raise EngineError(
                "the text encoder has a LoRA adapter: a guard needs the encoder without it"
            )
        self.identity = EncoderIdentity(
            encoder=type(encoder).__name__,
            width=int(encoder.config.hidden_size),
            length=_length(tokenizer, encoder),
            eos_id=int(tokenizer.eos_token_id),
            weights=weights_hash(encoder),
        )

    @classmethod
    def of(cls, pipe: Pipe) -> "FrozenEncoder":
        """The encoder of a pipe; of SDXL's two the first.

        Args:
            pipe: a diffusers pipe.

        Returns:
            Its tokenizer and text encoder; of SDXL's two the first.

        Raises:
            EngineError: the pipe has none, or it is unsuitable.
        """
        pair: list[Any] = [getattr(pipe, name, None) for name in ("tokenizer", "text_encoder")]
        if None in pair:
            raise EngineError(f"a {type(pipe).__name__} has no tokenizer and text_encoder to read")
        return cls(*pair)

    @classmethod
    def of_checkpoint(cls, source: ModelSource, encoder: str) -> "FrozenEncoder":
        """The first encoder of a diffusers checkpoint, without the rest of it.

        Args:
            source: a folder or a hub id.
            encoder: name of its class in transformers, as a guard's header has it.

        Returns:
            On the CPU, in float32.

        Raises:
            EngineError: it cannot be loaded, or it is unsuitable.
        """
        import transformers

        where = source.arguments
        try:
            with no_bars():
                tokenizer = transformers.CLIPTokenizer.from_pretrained(
                    subfolder="tokenizer", **where
                )
                model = getattr(transformers, encoder).from_pretrained(
                    subfolder="text_encoder", use_safetensors=True, dtype=torch.float32, **where
                )
        except (AttributeError, OSError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"{source.model} has no text encoder {encoder} that can be loaded: {error}"
            ) from error
        return cls(tokenizer, model.eval())

    @property
    def tokenizer(self) -> Any:
        """The encoder's tokenizer."""
        return self._tokenizer

    @torch.no_grad()
    def states(self, prompts: Sequence[str]) -> TextStates:
        """States of prompts; longer ones are cut as the pipe cuts them, which is said once."""
        parts = [self._batch(prompts[i : i + ROWS]) for i in range(0, len(prompts), ROWS)]
        if not parts:
            nothing = torch.zeros(0, self.identity.length, self.identity.width)
            return TextStates(
                tokens=nothing, eos=nothing[:, 0], truncated=torch.zeros(0, dtype=torch.bool)
            )
        found = concatenated(parts)
        if (cut := int(found.truncated.sum())) and not self._said_cut:
            self._said_cut = True
            log.warning(
                "%d of %d prompts are longer than the encoder's %d tokens: the guard reads, as the "
                "model draws, only the beginning", cut, len(prompts), self.identity.length,
            )  # fmt: skip
        return found

    def counted(self, text: str) -> int:
        """Tokens of a text, begin and end included, not cut."""
        return len(self._tokenizer(text, verbose=False).input_ids)

    def whole_words(self) -> list[str]:
        """The vocabulary's entries that are whole words of letters, sorted."""
        entries = self._tokenizer.get_vocab()
        words = {entry.removesuffix("</w>") for entry in entries if entry.endswith("</w>")}
        return sorted(word for word in words if word.isascii() and word.isalpha())

    def ids(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (prompts, length), padded and cut, and which prompts were cut (prompts,)."""
        length, pad = self.identity.length, self._tokenizer.pad_token_id
        rows = self._tokenizer(list(prompts), verbose=False).input_ids
        cut = [
            [*row[: length - 1], self.identity.eos_id] if len(row) > length else row for row in rows
        ]
        padded = [[*row, *[pad] * (length - len(row))] for row in cut]
        return torch.tensor(padded), torch.tensor([len(row) > length for row in rows])

    @torch.no_grad()
    def states_of_ids(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token states (rows, length, width) and end-of-text states (rows, width) of token ids."""
        tokens = self._encoder(ids.to(self._encoder.device)).last_hidden_state.float().cpu()
        ends = eos_positions(ids, self.identity.eos_id)
        return tokens, tokens[torch.arange(len(ids)), ends]

    def _batch(self, prompts: Sequence[str]) -> TextStates:
        ids, truncated = self.ids(prompts)
        tokens, eos = self.states_of_ids(ids)
        return TextStates(tokens=tokens, eos=eos, truncated=truncated)


def weights_hash(encoder: Any) -> str:
    """128-bit BLAKE2b (hex) of names and values of a model's weights, rounded to float16."""
    digest = hashlib.blake2b(digest_size=16)
    named = {name.removeprefix("text_model."): x for name, x in encoder.named_parameters()}
    for name, weight in sorted(named.items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _length(tokenizer: Any, encoder: Any) -> int:
    return min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))


def _check_eos(tokenizer: Any, encoder: Any) -> None:
    configured, own = encoder.config.eos_token_id, tokenizer.eos_token_id
    pools_at_largest = configured == _ARGMAX_ID and own == encoder.config.vocab_size - 1
    if configured != own and not pools_at_largest:
        raise EngineError(
            f"the tokenizer ends a text with id {own}, but the text encoder's configuration says "
            f"eos_token_id {configured}"
        )
