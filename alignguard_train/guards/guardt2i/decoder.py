"""The language model of GuardT2I: writes the prompt that a text embedding says.

The published code gives every token position 0 when it decodes, and rounds the embeddings it is
trained on to integers. Here positions count up in training and in decoding, and embeddings stay as
they are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.guards.config import GuardT2ISettings
from alignguard_train.guards.states import TextStates, eos_positions

IGNORED = -100
ROWS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Of the guarded encoder: size, longest prompt, begin, end and padding."""

    size: int
    length: int
    begin: int
    end: int
    pad: int


class Decoder(nn.Module):
    """A GPT with cross-attention to the encoder's states.

    Args:
        width: of the encoder's states.
        vocabulary: of the encoder, in which it writes.
        settings: sizes, and what it is conditioned on.
    """

    def __init__(self, width: int, vocabulary: Vocabulary, settings: GuardT2ISettings) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        self.vocabulary = vocabulary
        self._whole = settings.condition == "tokens"
        self.project = nn.Linear(width, settings.width)
        config = GPT2Config(
            vocab_size=vocabulary.size,
            n_positions=vocabulary.length,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            add_cross_attention=True,
            use_cache=False,
            bos_token_id=vocabulary.begin,
            eos_token_id=vocabulary.end,
        )
        self.model = GPT2LMHeadModel(config)

    def forward(self, ids: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """Logits of the next tokens.

        Args:
            ids: token ids so far (rows, places), from position 0 on.
            condition: the encoder's states (rows, keys, width).
            mask: which keys there are (rows, keys).

        Returns:
            Logits (rows, places, vocabulary).
        """
        model: Any = self.model
        return model(
            input_ids=ids,
            encoder_hidden_states=self.project(condition),
            encoder_attention_mask=mask,
        ).logits

    def following(
        self, ids: Tensor, encoded: Tensor, mask: Tensor, past: Any = None
    ) -> tuple[Tensor, Any]:
        """The likeliest next tokens, from the newest ones and what is kept of those before.

        Args:
            ids: token ids that are not in ``past`` yet (rows, places).
            encoded: the projected states of the encoder (rows, keys, width).
            mask: which keys there are (rows, keys).
            past: keys and values of the tokens before; None: there are none.

        Returns:
            Token ids (rows,), and keys and values with those of ``ids``.
        """
        model: Any = self.model
        found = model(
            input_ids=ids,
            encoder_hidden_states=encoded,
            encoder_attention_mask=mask,
            past_key_values=past,
            use_cache=True,
        )
        return found.logits[:, -1].argmax(dim=-1), found.past_key_values

    def condition(self, states: TextStates, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder attends to: all states up to the end token, or only that one.

        Args:
            states: of the prompts.
            ids: their token ids (rows, length).

        Returns:
            States (rows, keys, width) as they are, and which keys there are (rows, keys).
        """
        if not self._whole:
            return states.eos[:, None], torch.ones(len(states), 1, dtype=torch.long)
        ends = eos_positions(ids, self.vocabulary.end)
        places = torch.arange(ids.shape[1])[None]
        return states.tokens, (places <= ends[:, None]).long()


def labels_of(ids: Tensor, end: int) -> Tensor:
    """What each place must write next; :data:`IGNORED` from the end token on.

    Args:
        ids: token ids (rows, length), begin token first, padded after the end token.
        end: id of the end token.

    Returns:
        Labels (rows, length - 1).
    """
    ends = eos_positions(ids, end)
    following = ids[:, 1:].clone()
    places = torch.arange(following.shape[1])[None]
    following[places >= ends[:, None]] = IGNORED
    return following


def train_decoder(
    decoder: Decoder,
    states: TextStates,
    ids: Tensor,
    settings: GuardT2ISettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Teach a decoder, in place, to write each prompt from its states; labels play no part.

    Args:
        decoder: with random weights.
        states: of the training prompts, unsafe and benign.
        ids: their token ids (rows, length).
        settings: steps, batch and rate.
        seed: of the batches.
        progress: called with 1 after each step.

    Raises:
        EngineError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = labels_of(ids, decoder.vocabulary.end)
    condition, mask = decoder.condition(states, ids)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=settings.learning_rate)
    steps = settings.steps
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    decoder.train()
    for _ in range(steps):
        rows = torch.randint(len(ids), (settings.batch_size,), generator=generator)
        longest = int((labels[rows] != IGNORED).sum(dim=1).max())
        logits = decoder(ids[rows, :longest], condition[rows], mask[rows])
        lost = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[rows, :longest].flatten(), ignore_index=IGNORED
        )
        if not torch.isfinite(lost):
            raise EngineError("GuardT2I's loss is not finite: lower learning_rate")
        optimiser.zero_grad()
        lost.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if progress:
            progress(1)
    decoder.eval()


@torch.no_grad()
def decoded(decoder: Decoder, states: TextStates, ids: Tensor) -> Tensor:
    """Write the likeliest text of each prompt's states, up to the end token.

    Args:
        decoder: trained.
        states: of the prompts.
        ids: their token ids, which only say where padding begins.

    Returns:
        Token ids (rows, length), begin token first, padded after the end token.
    """
    words = decoder.vocabulary
    condition, mask = decoder.condition(states, ids)
    encoded, past = decoder.project(condition), None
    written = torch.full((len(ids), 1), words.begin)
    ended = torch.zeros(len(ids), dtype=torch.bool)
    while written.shape[1] < words.length and not bool(ended.all()):
        following, past = decoder.following(written[:, -1:], encoded, mask, past)
        following[ended] = words.pad
        ended |= following == words.end
        written = torch.cat([written, following[:, None]], dim=1)
    missing = words.length - written.shape[1]
    return nn.functional.pad(written, (0, missing), value=words.pad)


@torch.no_grad()
def negative_log_likelihood(decoder: Decoder, states: TextStates, ids: Tensor) -> Tensor:
    """Mean over a prompt's tokens of -log p(token | tokens before, states), in one pass.

    Args:
        decoder: trained.
        states: of the prompts.
        ids: their token ids (rows, length).

    Returns:
        Nats a token (rows,), float64; the end token counts.
    """
    labels = labels_of(ids, decoder.vocabulary.end)
    logits = decoder(ids[:, :-1], *decoder.condition(states, ids)).double()
    lost = nn.functional.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    return lost.sum(dim=1) / (labels != IGNORED).sum(dim=1)
