"""RegMean for LoRA experts: least squares fit to each expert on its own category's inputs.

Dataless Knowledge Fusion (arXiv 2212.09849), Equation 2, applied to the deltas of a LoRA: with C_k
the mean of x x^T over a layer's inputs x on category k, the merge

    delta = (sum_k delta_k C_k) (sum_k C_k + s C_safe)^-1

minimizes sum_k E_k |delta x - delta_k x|^2 + s E_safe |delta x|^2. The last term is ours: the merge
should do nothing on safe images and prompts. As delta_k = B_k A_k, the solution is an ordinary LoRA
of rank K r with B_k untouched, stored exactly. Where Co-Merge gives each output neuron to one
expert, this gives each direction of the *input* to the experts that know it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from alignguard_train.adapters.lora import Lora, LoraLayer
from alignguard_train.base import BaseModel
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.merge.calibration import calibration_rows, listening, pass_inputs
from alignguard_train.merge.config import MergeConfig


class MomentMeter:
    """For one layer: A_k C_k of every expert (rank, inputs) and the sum of all C (inputs, inputs).

    One square matrix per layer for any number of experts.
    """

    def __init__(self, layers: Sequence[LoraLayer], safe_weight: float) -> None:
        inputs = layers[0].down.shape[1]
        self._downs = [layer.down for layer in layers]
        self._safe_weight = safe_weight
        self._total = torch.zeros(inputs, inputs, dtype=torch.float64)
        self._own = [torch.zeros(down.shape, dtype=torch.float64) for down in self._downs]
        self._sum, self._tokens = torch.zeros_like(self._total), 0

    def add(self, x: Tensor) -> None:
        """Add inputs of the current category.

        Args:
            x: layer inputs (..., inputs).
        """
        tokens = x.reshape(-1, x.shape[-1]).float()
        self._sum += (tokens.T @ tokens).double().cpu()
        self._tokens += len(tokens)

    def close(self, expert: int | None) -> None:
        """Assign the inputs added so far to an expert.

        Args:
            expert: index of the expert; None for safe inputs.
        """
        moment = self._sum / max(1, self._tokens)
        if expert is None:
            self._total += self._safe_weight * moment
        else:
            self._total += moment
            self._own[expert] += self._downs[expert].double().cpu() @ moment
        self._sum, self._tokens = torch.zeros_like(self._sum), 0

    def downs(self, ridge: float) -> list[Tensor]:
        """Solve for the merged layer's down matrices, A_k C_k times the inverse of the sum.

        Args:
            ridge: share of the mean diagonal that regularizes directions without input.

        Returns:
            One matrix (rank, inputs) per expert.
        """
        size = self._total.diagonal().mean() * ridge
        system = self._total + size * torch.eye(len(self._total), dtype=torch.float64)
        # The sum is symmetric: X S = Y is S X^T = Y^T.
        return [torch.linalg.solve(system, own.T).T for own in self._own]


@torch.no_grad()
def regmean(
    base: BaseModel,
    experts: Sequence[Lora],
    categories: Sequence[str],
    encoded: EncodedPreferences,
    config: MergeConfig,
) -> Lora:
    """Merge experts by RegMean.

    Args:
        base: the base model.
        experts: LoRA layers by name, of each expert.
        categories: the k-th is the one that expert k was trained on.
        encoded: pairs of all categories.
        config: calibration pairs per category, spread over its concepts, and timesteps of each;
            ``safe_weight`` is s above.

    Returns:
        One LoRA with the same layers, of the sum of the ranks.

    Raises:
        ValueError: a category has no pair for calibration.
    """
    meters = {
        name: MomentMeter([lora[name] for lora in experts], config.safe_weight)
        for name in experts[0]
    }
    with listening(base, {name: meter.add for name, meter in meters.items()}):
        everyone: list[int] = []
        for number, category in enumerate(categories):
            rows = calibration_rows(encoded, category, config.calibration_pairs, config.seed)
            if not rows:
                raise ValueError(f"regmean has no pair of category {category} to calibrate on")
            pass_inputs(base, encoded, rows, config)
            _close(meters, number)
            everyone += rows
        if config.safe_weight:
            pass_inputs(base, encoded, everyone, config, safe=True)
            _close(meters, None)
    return {name: _layer(meter, experts, name, config) for name, meter in meters.items()}


def _close(meters: dict[str, MomentMeter], expert: int | None) -> None:
    for meter in meters.values():
        meter.close(expert)


def _layer(
    meter: MomentMeter, experts: Sequence[Lora], name: str, config: MergeConfig
) -> LoraLayer:
    down = torch.cat(meter.downs(config.ridge))
    up = torch.cat([lora[name].up for lora in experts], dim=1)
    return LoraLayer(down.to(up), up)
