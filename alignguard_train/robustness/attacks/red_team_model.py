"""A small causal language model over a target's tokens that rewrites prompts: sampling, SFT, GRPO.

The sequence is: padding, topic, seed prompt, separator, rewritten prompt, end. Weights and draws
come from seeds of its own.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from alignguard_train.robustness.attacks.coordinates import Ids

PAD, SEPARATOR, END = 0, 1, 2
SPECIALS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewrites:
    """Rewritten prompts with what the loss needs.

    Attributes:
        sequences: (rows, prefix + longest).
        kept: which places after the prefix are the rewrite's or its end, (rows, longest).
        ids: the target's tokens of each rewrite.
    """

    sequences: Tensor
    kept: Tensor
    ids: tuple[Ids, ...]


class RedTeamModel:
    """See the module.

    Args:
        ordinary: the target's tokens that it may write and read.
        topics: what prompts are about, such as the concepts' categories.
        read: most tokens of a seed prompt.
        write: most tokens of a rewrite.
        seed: of the weights.
        width: of the model.
        layers: of the model.

    Attributes:
        sizes: these arguments, by name.
        network: the language model.
    """

    def __init__(
        self,
        ordinary: Sequence[int],
        topics: Sequence[str],
        *,
        read: int,
        write: int,
        seed: int,
        width: int = 128,
        layers: int = 2,
    ) -> None:
        self.sizes = {
            "ordinary": list(ordinary),
            "topics": list(topics),
            "read": read,
            "write": write,
            "seed": seed,
            "width": width,
            "layers": layers,
        }
        self._ordinary = tuple(ordinary)
        self._place = {one: SPECIALS + i for i, one in enumerate(self._ordinary)}
        self._first_topic = SPECIALS + len(self._ordinary)
        self._topics = {topic: self._first_topic + i for i, topic in enumerate(topics)}
        self._read, self._write = read, write
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=self._first_topic + len(self._topics),
                    n_positions=read + 2 + write + 1,
                    n_embd=width,
                    n_layer=layers,
                    n_head=4,
                    resid_pdrop=0.0,
                    embd_pdrop=0.0,
                    attn_pdrop=0.0,
                    bos_token_id=SEPARATOR,
                    eos_token_id=END,
                )
            ).eval()

    @property
    def prefix(self) -> int:
        """Places before the rewrite."""
        return self._read + 2

    def copied(self) -> "RedTeamModel":
        """The same model with weights of its own."""
        return copy.deepcopy(self)

    def asked(self, topic: str, ids: Sequence[int]) -> list[int]:
        """The prefix of a seed prompt; an unknown topic is padding."""
        known = [self._place[one] for one in ids if one in self._place][: self._read]
        padding = [PAD] * (self._read - len(known))
        return [*padding, self._topics.get(topic, PAD), *known, SEPARATOR]

    def taught(self, asked: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Rewrites:
        """Given rewrites, to learn from."""
        kept = [tuple(i for i in own if i in self._place)[: self._write] for own in answers]
        rows = [[self._place[i] for i in own] + [END] for own in kept]
        longest = max(map(len, rows))
        padded = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
        return Rewrites(
            sequences=torch.cat([torch.tensor(asked), padded], dim=1),
            kept=torch.tensor([[j < len(row) for j in range(longest)] for row in rows]),
            ids=tuple(kept),
        )

    @torch.no_grad()
    def written(self, asked: Sequence[Sequence[int]], generator: torch.Generator) -> Rewrites:
        """One drawn rewrite for each prefix, of at least one token."""
        sequences = torch.tensor(asked)
        ended = torch.zeros(len(sequences), dtype=torch.bool)
        kept: list[Tensor] = []
        for place in range(self._write + 1):
            logits = self._allowed(self.network(sequences).logits[:, -1], first=place == 0)
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            if place == self._write:
                drawn = torch.full_like(drawn, END)
            drawn = torch.where(ended, torch.full_like(drawn, PAD), drawn)
            kept.append(~ended)
            ended = ended | (drawn == END)
            sequences = torch.cat([sequences, drawn[:, None]], dim=1)
            if ended.all():
                break
        rows = sequences[:, self.prefix :].tolist()
        ids = tuple(
            tuple(self._ordinary[i - SPECIALS] for i in row if i >= SPECIALS) for row in rows
        )
        return Rewrites(sequences=sequences, kept=torch.stack(kept, dim=1), ids=ids)

    def log_probabilities(self, rewrites: Rewrites) -> Tensor:
        """Of each place of the rewrites, with gradients: (rows, longest); 0 where not kept."""
        logits = self.network(rewrites.sequences[:, :-1]).logits[:, self.prefix - 1 :]
        first = self._allowed(logits[:, :1], first=True)
        later = self._allowed(logits[:, 1:], first=False)
        logs = torch.cat([first, later], dim=1).log_softmax(-1)
        written = rewrites.sequences[:, self.prefix :, None]
        found = logs.gather(-1, written)[..., 0]
        return torch.where(rewrites.kept, found, torch.zeros_like(found))

    def _allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """Logits without padding, separator and topics; an empty rewrite is not allowed either."""
        refused = torch.zeros(logits.shape[-1], dtype=torch.bool)
        refused[[PAD, SEPARATOR]] = True
        refused[END] = first
        refused[self._first_topic :] = True
        return logits.masked_fill(refused, float("-inf"))


def mean_per_token(values: Tensor, kept: Tensor) -> Tensor:
    """The mean over each row's kept places, then over rows."""
    return ((values * kept).sum(-1) / kept.sum(-1).clamp(min=1)).mean()


def advantages(rewards: Tensor) -> Tensor:
    """Rewards (groups, rows), normalised within their group; 0 in a group of equal rewards."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    spread = centred.pow(2).mean(dim=1, keepdim=True).sqrt()
    return torch.where(spread > 1e-8, centred / spread.clamp(min=1e-8), torch.zeros_like(centred))


def grpo_loss(
    logs: Tensor,
    old: Tensor,
    reference: Tensor,
    kept: Tensor,
    advantage: Tensor,
    *,
    clip: float,
    kl: float,
) -> Tensor:
    """Group relative policy optimisation (arXiv 2402.03300), with its estimator of the KL.

    Args:
        logs: log probabilities (rows, places) of the policy.
        old: of the policy that drew the rows.
        reference: of the policy before training.
        kept: places that count.
        advantage: (rows,).
        clip: of the ratio.
        kl: weight of the divergence from the reference.

    Returns:
        The loss, a scalar.
    """
    ratio = (logs - old).exp()
    gain = advantage[:, None]
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    apart = reference - logs
    divergence = apart.exp() - apart - 1
    return -mean_per_token(surrogate - kl * divergence, kept)
