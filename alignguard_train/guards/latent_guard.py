"""Latent Guard (ECCV 2024, arXiv 2404.08031): is a concept of a blacklist in the prompt?

A mapping layer above the frozen encoder makes an embedding of the prompt, seen from a concept, and
one of the concept; their scaled cosine is the score. The guard's score is the largest over the
blacklist, which may change at any time, less an offset per concept: a benign prompt's maximum grows
with the length of the list, and the offset takes that out.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.guards.config import LatentGuardSettings
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.protocol import EMPTY_BLACKLIST, Decision
from alignguard_train.guards.states import FrozenEncoder, TextStates
from alignguard_train.guards.text_guard import TextGuard

ROWS = 256
OFFSET_PERCENTILE = 99.0

log = logging.getLogger(__name__)


class MappingLayer(nn.Module):
    """The embedding mapping layer: linear maps with bias, and one softmax over tokens.

    Args:
        width: of the encoder's states.
        settings: sizes, and whether the concept attends to tokens.
    """

    def __init__(self, width: int, settings: LatentGuardSettings) -> None:
        super().__init__()
        self._heads, self._head_width = settings.heads, settings.head_width
        self._attends = settings.cross_attention
        inner = settings.heads * settings.head_width
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.prompt_out = nn.Linear(inner, settings.out_width)
        self.concept_out = nn.Linear(inner, settings.out_width)
        self.scale = nn.Parameter(torch.tensor(1 / 0.07))

    def forward(self, prompts: Tensor, concepts: Tensor) -> Tensor:
        """Compare prompts with concepts.

        Args:
            prompts: end-of-text state, then token states (prompts, 1 + length, width).
            concepts: end-of-text states (concepts, width).

        Returns:
            Scaled cosines (prompts, concepts).
        """
        query = self.query(concepts)
        of_concepts = normalize(self.concept_out(query), dim=-1)
        if not self._attends:
            of_prompts = normalize(self.prompt_out(self.value(prompts[:, 0])), dim=-1)
            return self.scale * (of_prompts @ of_concepts.T)
        split = (self._heads, self._head_width)
        key = self.key(prompts).unflatten(-1, split)
        value = self.value(prompts).unflatten(-1, split)
        query = query.unflatten(-1, split)
        # Keys and values once per prompt, queries once per concept: n times cheaper than pairs.
        weights = torch.einsum("chd,plhd->pchl", query, key) / self._head_width**0.5
        seen = torch.einsum("pchl,plhd->pchd", weights.softmax(dim=-1), value)
        of_prompts = normalize(self.prompt_out(seen.flatten(2)), dim=-1)
        return self.scale * torch.einsum("pcd,cd->pc", of_prompts, of_concepts)


class LatentHead:
    """Scores prompts against a blacklist.

    Args:
        layer: the trained mapping layer.
        names: the blacklist's keys, for reasons.
        concepts: end-of-text states of the blacklist (concepts, width).
        offsets: subtracted per concept (concepts,).
    """

    def __init__(
        self, layer: MappingLayer, names: Sequence[str], concepts: Tensor, offsets: Tensor
    ) -> None:
        self._layer, self.names = layer.eval(), tuple(names)
        self._concepts, self._offsets = concepts, offsets

    @torch.no_grad()
    def matrix(self, states: TextStates) -> npt.NDArray[np.float64]:
        """Scores less offsets (rows, concepts)."""
        if not self.names:
            return np.zeros((len(states), 0))
        parts = [
            self._layer(states[i : i + ROWS].all_states, self._concepts) - self._offsets
            for i in range(0, len(states), ROWS)
        ]
        return torch.cat(parts).double().numpy() if parts else np.zeros((0, len(self.names)))

    def scores(self, states: TextStates) -> npt.NDArray[np.float64]:
        """The largest over the blacklist (rows,); -inf for an empty one."""
        return self.matrix(states).max(axis=1, initial=-np.inf)

    def details(self, states: TextStates) -> list[str]:
        """The concept with the largest score of each row."""
        if not self.names:
            return [""] * len(states)
        return [self.names[i] for i in self.matrix(states).argmax(axis=1)]


class LatentGuard(TextGuard):
    """Latent Guard with its current blacklist.

    Args:
        header: its file's.
        encoder: the encoder that the header names.
        layer: the trained mapping layer.
        blacklist: key to the text that names the concept.
        references: benign prompts from which offsets are taken; none: no offsets.
        trained_on: keys of the concepts of its training.
    """

    head: LatentHead

    def __init__(
        self,
        header: GuardHeader,
        encoder: FrozenEncoder,
        layer: MappingLayer,
        blacklist: Mapping[str, str],
        *,
        references: Sequence[str],
        trained_on: Sequence[str],
    ) -> None:
        self._layer, self._references = layer, tuple(references)
        self._trained_on = frozenset(trained_on)
        self._reference_states: TextStates | None = None
        self.blacklist = dict(blacklist)
        super().__init__(header, encoder, self._head(encoder))

    def with_blacklist(self, blacklist: Mapping[str, str]) -> "LatentGuard":
        """The same guard with another list, without training.

        A concept that it was not trained on is used by its text, and one line of the log says so.

        Args:
            blacklist: key to the text that names the concept; an empty one allows every prompt.

        Returns:
            A guard of the same file and threshold; this one keeps its list.

        Raises:
            ConfigError: a text is empty or longer than the encoder reads; names every one.
        """
        check_blacklist(blacklist, self.encoder)
        if strange := sorted(set(blacklist) - self._trained_on):
            log.warning(
                "%d of %d concepts were not in the guard's training and are used by their text: %s",
                len(strange), len(blacklist), ", ".join(strange[:5]),
            )  # fmt: skip
        return LatentGuard(
            self.header,
            self.encoder,
            self._layer,
            blacklist,
            references=self._references,
            trained_on=sorted(self._trained_on),
        )

    def decide(self, prompts: Sequence[str]) -> list[Decision]:
        """See :class:`alignguard_train.guards.protocol.Guard`; an empty blacklist allows all."""
        if not self.blacklist:
            return [
                Decision(
                    action="allow",
                    reason=EMPTY_BLACKLIST,
                    score=-np.inf,
                    threshold=self.threshold,
                )
                for _ in prompts
            ]
        return super().decide(prompts)

    def _head(self, encoder: FrozenEncoder) -> LatentHead:
        concepts = encoder.states(list(self.blacklist.values())).eos
        return LatentHead(
            self._layer, list(self.blacklist), concepts, self._offsets(encoder, concepts)
        )

    def _offsets(self, encoder: FrozenEncoder, concepts: Tensor) -> Tensor:
        if not self._references or not len(concepts):
            return torch.zeros(len(concepts))
        return offsets_of(self._layer, encoder.states(self._references), concepts)


@torch.no_grad()
def offsets_of(layer: MappingLayer, benign: TextStates, concepts: Tensor) -> Tensor:
    """Each concept's 99th percentile of its scores on benign prompts.

    Args:
        layer: the trained layer.
        benign: states of benign prompts.
        concepts: end-of-text states (concepts, width).

    Returns:
        Offsets (concepts,), float64.
    """
    scores = torch.cat(
        [layer(benign[i : i + ROWS].all_states, concepts) for i in range(0, len(benign), ROWS)]
    )
    return torch.from_numpy(np.percentile(scores.double().numpy(), OFFSET_PERCENTILE, axis=0))


def check_blacklist(blacklist: Mapping[str, str], encoder: FrozenEncoder) -> None:
    """Refuse texts that name no concept.

    Args:
        blacklist: key to the text that names the concept.
        encoder: counts tokens.

    Raises:
        ConfigError: a text is empty or longer than the encoder reads; names every one.
    """
    faults = []
    for key, text in blacklist.items():
        if not text.strip():
            faults.append(f"{key!r}: the concept's text is empty")
        elif (n := encoder.counted(text)) > encoder.identity.length:
            faults.append(
                f"{key!r}: {n} tokens are more than the encoder's {encoder.identity.length}"
            )
    if faults:
        raise ConfigError("blacklist", faults)
