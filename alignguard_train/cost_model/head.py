"""The cost C of an image: a small network on its frozen features, and how it is trained."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.cost_model.config import CostModelConfig

SMALLEST = 1e-6
"""Least deviation of a feature: one that never changes is not divided by 0."""


class CostHead(nn.Module):
    """Features (n, width), normalised by the training images, to costs (n,); width, width / 4, 1.

    Args:
        width: of the features.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        hidden = max(1, width // 4)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Costs (n,) of ``features`` (n, width)."""
        return self.layers((features - self.mean) / self.deviation)[:, 0]


def cost_loss(safe: Tensor, unsafe: Tensor, *, anchoring: float) -> Tensor:
    """Contrast and anchoring, mean over the pairs.

    -log sigmoid(C_u - C_s) - a [log sigmoid(C_u) + log sigmoid(-C_s)]: the unsafe image costs more,
    and 0 is the border. Our reconstruction of SC-DPO's two objectives (arXiv 2504.14290); the
    anchoring has the form of Safe RLHF's (arXiv 2310.12773).

    Args:
        safe: C of the safe images (n,).
        unsafe: C of the unsafe images (n,).
        anchoring: a.

    Returns:
        A scalar.
    """
    contrast = -logsigmoid(unsafe - safe)
    anchor = -logsigmoid(unsafe) - logsigmoid(-safe)
    return (contrast + anchoring * anchor).mean()


def train_head(
    safe: Tensor,
    unsafe: Tensor,
    config: CostModelConfig,
    progress: Progress | None = None,
) -> CostHead:
    """Train on pairs, on the CPU; equal features give equal weights.

    Args:
        safe: features of the safe images, float32 (pairs, width).
        unsafe: of the unsafe images, likewise.
        config: how to train.
        progress: called with 1 after each epoch.

    Returns:
        The network, in evaluation mode.

    Raises:
        EngineError: a loss that is not finite.
    """
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = CostHead(safe.shape[1])
    images = torch.cat([safe, unsafe]).double()
    head.mean.copy_(images.mean(dim=0))
    head.deviation.copy_(images.std(dim=0, correction=0).clamp(min=SMALLEST))
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    for _ in range(config.epochs):
        for rows in torch.randperm(len(safe), generator=generator).split(config.batch_size):
            loss = cost_loss(head(safe[rows]), head(unsafe[rows]), anchoring=config.anchoring)
            if not torch.isfinite(loss):
                raise EngineError(
                    f"the cost model's loss is {loss.item()}: lower learning_rate "
                    f"({config.learning_rate:g})"
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if progress:
            progress(1)
    return head.eval().requires_grad_(False)
