"""Our merges against peft's `add_weighted_adapter` on the same experts, where both do one job."""

import pytest
from torch import nn

from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.strategies import merge
from benchmarks.merging import merge_with_peft, peft_model, random_experts

COUNT, RANK = 3, 4
CONFIG = MergeConfig(density=0.4, sum_scale=0.3)


class Attention(nn.Module):
    """Two projections: a wide one and a tall one."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(48, 40), nn.Linear(24, 40)


@pytest.mark.parametrize("strategy", ["average", "svd", "ties", "magnitude"])
def test_the_merged_deltas_are_pefts(strategy):
    """To 1e-5 of each layer's size: both store a full-rank delta at the rank of all experts."""
    network = Attention()
    experts = random_experts(network, COUNT, RANK)
    ours = merge(strategy, experts, {}, CONFIG).lora
    model = peft_model(network, experts)
    merge_with_peft(model, strategy, COUNT, RANK, CONFIG)
    for name, layer in ours.items():
        theirs = getattr(network, name).get_delta_weight("merged")
        assert theirs.norm() > 0.01
        assert (layer.delta - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.filterwarnings("ignore:The density 1.0 is greater:UserWarning")  # peft's own
def test_dare_that_drops_nothing_is_pefts():
    """Which weights are dropped is each one's own chance.

    Without drops both are the sum, cut to the rank of all experts, which holds it.
    """
    network, config = Attention(), MergeConfig(density=1.0, sum_scale=1.0)
    experts = random_experts(network, COUNT, RANK)
    ours = merge("dare", experts, {}, config).lora
    model = peft_model(network, experts)
    merge_with_peft(model, "dare", COUNT, RANK, config)
    for name, layer in ours.items():
        theirs = getattr(network, name).get_delta_weight("merged")
        assert (layer.delta - theirs).norm() <= 1e-5 * theirs.norm()
