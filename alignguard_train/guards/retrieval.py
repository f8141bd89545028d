"""Pairs of the release next to a prompt: positive and negative examples, and a rewriter of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from alignguard_train.guards.records import GuardPrompt
from alignguard_train.guards.splits import share_of
from alignguard_train.guards.states import FrozenEncoder, TextStates

STATES = "examples.states"
"""Name of the tensor with the unsafe sides' end-of-text states."""
Pair = tuple[str, str]
"""Unsafe prompt and its safe twin."""


def chosen_examples(
    prompts: Sequence[GuardPrompt], states: TextStates, most: int, seed: int
) -> tuple[list[Pair], Tensor]:
    """The training pairs that a guard's file keeps, chosen by hash; never one of the test.

    Args:
        prompts: of the part ``train``.
        states: theirs, row by row.
        most: pairs at most.
        seed: of the choice.

    Returns:
        Pairs, and the unsafe sides' end-of-text states (pairs, width).
    """
    twins = {one.pair_id: one.text for one in prompts if one.pair_id and not one.unsafe}
    rows = [i for i, one in enumerate(prompts) if one.unsafe and one.pair_id in twins]
    rows = sorted(rows, key=lambda i: (share_of(prompts[i].text, seed), prompts[i].text))[:most]
    pairs = [(prompts[i].text, twins[prompts[i].pair_id]) for i in rows]
    return pairs, states.eos[torch.tensor(rows, dtype=torch.long)]


class Examples:
    """Finds the pairs whose unsafe side is next to a prompt, by the cosine of centred states.

    States of one encoder share a large common part, so they are centred first.

    Args:
        pairs: unsafe prompt and safe twin.
        states: of the unsafe sides (pairs, width).
        encoder: that made the states.
    """

    def __init__(self, pairs: Sequence[Pair], states: Tensor, encoder: FrozenEncoder) -> None:
        self.pairs, self._encoder = list(pairs), encoder
        self._centre = states.mean(dim=0) if len(states) else states.new_zeros(states.shape[1:])
        self._states = normalize(states - self._centre, dim=1)

    def nearest(self, prompts: Sequence[str], k: int) -> list[list[Pair]]:
        """The nearest pairs of each prompt, nearest first; fewer than ``k`` if there are fewer."""
        if not self.pairs or not prompts:
            return [[] for _ in prompts]
        own = normalize(self._encoder.states(prompts).eos - self._centre, dim=1)
        found = (own @ self._states.T).topk(min(k, len(self.pairs)), dim=1).indices
        return [[self.pairs[i] for i in row] for row in found.tolist()]


class RetrievalRewriter:
    """The nearest pair's safe side; see :class:`alignguard_train.guards.protocol.Rewriter`.

    Args:
        examples: pairs to choose from; without any, every answer is empty.
    """

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def rewrite(self, prompts: Sequence[str]) -> list[str]:
        """See :class:`alignguard_train.guards.protocol.Rewriter`."""
        return [found[0][1] if found else "" for found in self._examples.nearest(prompts, 1)]


def restored(
    header_settings: Mapping[str, object], tensors: Mapping[str, Tensor], encoder: FrozenEncoder
) -> Examples:
    """The examples of a guard's file.

    Args:
        header_settings: of the file's header.
        tensors: of the file.
        encoder: the header's.

    Returns:
        The pairs with their states.

    Raises:
        KeyError: the file holds none.
        TypeError: they are of another form.
    """
    pairs = header_settings["examples"]
    if not isinstance(pairs, list):
        raise TypeError("examples must be a list of pairs")
    return Examples([(unsafe, safe) for unsafe, safe in pairs], tensors[STATES], encoder)
