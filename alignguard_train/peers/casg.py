"""Conflict-aware Adaptive Safety Guidance on SLD (CVPR 2026, arXiv 2602.20880); no training.

Each step finds the category most aligned with the prompt's direction (CaCI), and SLD guides away
from that category only (CrGA), so categories do not conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.peers.concept import Concept, check, of_categories
from alignguard_train.peers.guided import Branches, guided
from alignguard_train.peers.pipes import joined_text
from alignguard_train.peers.sld import Level, Safety, SafetyMomentum, level


def most_aligned(without: Tensor, given: Tensor, categories: Tensor) -> Tensor:
    """Find the category closest in direction to each row's prompt.

    argmax over k of <e(c_k) - e, e(c_p) - e> / |e(c_k) - e|, the cosine up to the prompt's norm,
    which is the same for all k (the paper's category identification).

    Args:
        without: predictions without a prompt (rows, ...).
        given: with the prompt, likewise.
        categories: predictions with each category's text (categories, rows, ...).

    Returns:
        Index of the category (rows,), int64.
    """
    prompt = (given - without).flatten(1)
    harmful = (categories - without).flatten(2)
    along = torch.einsum("krd,rd->kr", harmful, prompt)
    return (along / harmful.norm(dim=2).clamp(min=1e-12)).argmax(dim=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CASG:
    """Guides each image away from the category closest to its prompt.

    Attributes:
        level: of SLD, whose guidance it uses.
        template: ``{}`` in it becomes the names of a category's concepts.
    """

    level: Level = "medium"
    template: str = "{}"

    def __post_init__(self) -> None:
        level(self.level)

    def apply(self, pipe: Pipe, concepts: Sequence[Concept]) -> Pipe:
        """See :class:`alignguard_train.peers.concept.Peer`."""
        check(concepts, self.template)
        texts = [joined_text(pipe, own, self.template) for own in of_categories(concepts).values()]
        return guided(pipe, texts, lambda: _Correction(level(self.level)))


class _Correction:
    def __init__(self, safety: Safety) -> None:
        self._guidance = SafetyMomentum(safety)

    def __call__(self, step: Branches) -> Tensor:
        chosen = most_aligned(step.without, step.given, step.concepts)
        rows = torch.arange(len(chosen), device=chosen.device)
        return self._guidance.step(step.without, step.given, step.concepts[chosen, rows], step.done)
