"""Latent Guard's training: the contrastive loss and its sampling by concept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.guards.config import LatentGuardSettings
from alignguard_train.guards.latent_guard import MappingLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptPairs:
    """States of the pairs that Latent Guard learns from.

    Attributes:
        unsafe: (pairs, 1 + length, width), end-of-text state first.
        safe: likewise; NaN rows for pairs whose twin is no negative.
        concept_of: (pairs,), rows of ``concepts``.
        concepts: end-of-text states (concepts, width).
    """

    unsafe: Tensor
    safe: Tensor
    concept_of: Tensor
    concepts: Tensor


def contrastive_loss(unsafe: Tensor, safe: Tensor | None) -> Tensor:
    """Both terms of the published loss: concept to prompt, and prompt to concept.

    With S_ij the score of unsafe prompt i and concept j, R_ij that of safe twin i and m_k the
    largest of row k of R:

    - concept to prompt: mean over j of -log(e^S_jj / (sum_i e^S_ij + sum_i e^R_ij));
    - prompt to concept: mean over i of -log(e^S_ii / (sum_j e^S_ij + sum_k e^m_k)).

    Args:
        unsafe: S (n, n), whose item i is of concept i.
        safe: R (twins, n), any number of twins; None: no safe twin.

    Returns:
        The sum of both terms, a scalar with gradients.
    """
    own = unsafe.diagonal()
    rows, columns = unsafe, unsafe
    if safe is not None and len(safe):
        columns = torch.cat([columns, safe])
        largest = safe.max(dim=1).values
        rows = torch.cat([rows, largest.expand(len(rows), -1)], dim=1)
    to_prompt = torch.logsumexp(columns, dim=0) - own
    to_concept = torch.logsumexp(rows, dim=1) - own
    return to_prompt.mean() + to_concept.mean()


def train_layer(
    pairs: ConceptPairs,
    settings: LatentGuardSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> MappingLayer:
    """Train the mapping layer.

    A step takes one random pair of each of up to ``batch_size`` concepts, so that no batch holds
    two prompts of one concept, which would be each other's false negatives.

    Args:
        pairs: states of unsafe prompts, of their twins and of the concepts.
        settings: sizes and training.
        seed: of the weights and the batches.
        progress: called with 1 after each step.

    Returns:
        The layer, in evaluation mode.

    Raises:
        EngineError: fewer than two concepts, or a loss that is not finite.
    """
    by_concept = _pairs_by_concept(pairs)
    if len(by_concept) < 2:
        raise EngineError(
            f"Latent Guard compares concepts and needs two or more: got {len(by_concept)}"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = MappingLayer(pairs.unsafe.shape[2], settings).train()
    optimiser = torch.optim.AdamW(layer.parameters(), lr=settings.learning_rate)
    for _ in range(settings.steps):
        rows = _one_pair_of_each(by_concept, settings.batch_size, generator)
        concepts = pairs.concepts[pairs.concept_of[rows]]
        twins = pairs.safe[rows]
        twins = twins[~twins[:, 0, 0].isnan()] if settings.safe_twins else twins[:0]
        scores = layer(torch.cat([pairs.unsafe[rows], twins]), concepts)
        loss = contrastive_loss(scores[: len(rows)], scores[len(rows) :])
        if not torch.isfinite(loss):
            raise EngineError("Latent Guard's loss is not finite: lower learning_rate")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress:
            progress(1)
    return layer.eval()


def _pairs_by_concept(pairs: ConceptPairs) -> Mapping[int, Tensor]:
    return {
        concept: (pairs.concept_of == concept).nonzero()[:, 0]
        for concept in pairs.concept_of.unique().tolist()
    }


def _one_pair_of_each(
    by_concept: Mapping[int, Tensor], most: int, generator: torch.Generator
) -> Tensor:
    keys: Sequence[int] = list(by_concept)
    chosen = torch.randperm(len(keys), generator=generator)[:most].tolist()
    return torch.stack(
        [
            by_concept[keys[i]][
                torch.randint(len(by_concept[keys[i]]), (1,), generator=generator)[0]
            ]
            for i in chosen
        ]
    )
