"""The loss of a rewriter's reply: cross-entropy, weighed by how safe each chunk is.

STAR-DSS (NeurIPS 2025, arXiv 2505.17196): where a guard finds the reply so far safe, learn its
tokens; where it does not, stay with the start model.
"""

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError

IGNORED = -100
"""Label of a token that is not learned: the prompt's, and padding."""


def reply_loss(
    logits: Tensor,
    labels: Tensor,
    safe: Tensor | None = None,
    start_logits: Tensor | None = None,
    kl_weight: float = 0.5,
) -> Tensor:
    """Mean over the labelled tokens of v CE + (1 - v) w KL(model || start).

    The KL is exact, over the vocabulary.

    Args:
        logits: of the model (rows, length, vocabulary), each for the label of its own place.
        labels: token ids (rows, length); :data:`IGNORED` where nothing is learned.
        safe: v (rows, length), from 0 (unsafe) to 1 (safe); None: 1 everywhere.
        start_logits: of the start model, without gradient.
        kl_weight: w.

    Returns:
        A scalar with gradients.

    Raises:
        EngineError: a token is not safe and there is no start model, or no token is labelled.
    """
    mask = labels != IGNORED
    if not bool(mask.any()):
        raise EngineError("no token of these replies is learned: they are empty")
    log_p = torch.log_softmax(logits.float(), dim=-1)
    lost = -log_p.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    if safe is not None:
        lost = safe * lost + (1 - safe) * kl_weight * _divergence(log_p, safe, mask, start_logits)
    return (lost * mask).sum() / mask.sum()


def _divergence(
    log_p: Tensor, safe: Tensor, mask: Tensor, start_logits: Tensor | None
) -> Tensor | float:
    if start_logits is None:
        if bool(((safe < 1) & mask).any()):
            raise EngineError("a reply that is not safe throughout needs the start model's logits")
        return 0.0
    log_start = torch.log_softmax(start_logits.float(), dim=-1)
    return (log_p.exp() * (log_p - log_start)).sum(dim=-1)
