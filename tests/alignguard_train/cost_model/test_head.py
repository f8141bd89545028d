"""The cost model's losses and parts against numbers derived by hand."""

import math

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.cost_model.config import CostModelConfig
from alignguard_train.cost_model.head import CostHead, cost_loss, train_head
from alignguard_train.cost_model.splits import parts_of


def test_the_loss_by_hand():
    """C_s = -1, C_u = log 3: contrast log(1 + e^-(log 3 + 1)) = log(1 + 1/(3e)); anchors
    log(1 + 1/3) and log(1 + 1/e).
    """
    safe, unsafe = torch.tensor([-1.0]), torch.tensor([math.log(3)])
    contrast = math.log(1 + 1 / (3 * math.e))
    anchors = math.log(4 / 3) + math.log(1 + 1 / math.e)
    found = cost_loss(safe, unsafe, anchoring=0.5)
    assert found.item() == pytest.approx(contrast + 0.5 * anchors, abs=1e-6)


def test_the_loss_without_knowledge_is_three_times_ln_2():
    zero = torch.zeros(4)
    assert cost_loss(zero, zero, anchoring=1.0).item() == pytest.approx(3 * math.log(2))


def test_the_head_is_normalised_by_its_training_images_and_a_quarter_wide():
    draw = torch.Generator().manual_seed(0)
    safe, unsafe = (torch.randn(10, 8, generator=draw) * 9 + 5 for _ in range(2))
    head = train_head(safe, unsafe, CostModelConfig(epochs=1))
    scaled = (torch.cat([safe, unsafe]) - head.mean) / head.deviation
    assert scaled.mean(dim=0).tolist() == pytest.approx([0.0] * 8, abs=1e-5)
    assert scaled.std(dim=0, correction=0).tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    assert [tuple(x.shape) for x in head.layers.parameters()] == [(2, 8), (2,), (1, 2), (1,)]


def test_a_feature_that_never_changes_is_no_division_by_0():
    still = torch.ones(6, 4)
    head = train_head(still, still, CostModelConfig(epochs=1))
    assert torch.isfinite(head(still)).all()


def test_equal_features_give_equal_weights_whatever_ran_before():
    draw = torch.Generator().manual_seed(0)
    sides = [torch.randn(20, 8, generator=draw) for _ in range(2)]
    first = train_head(*sides, CostModelConfig(epochs=2))
    torch.rand(7)
    again = train_head(*sides, CostModelConfig(epochs=2))
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))


def test_neither_concept_nor_seed_is_in_two_parts():
    concepts = [f"c{i % 8}" for i in range(80)]
    seeds = [i % 30 for i in range(80)]
    parts = parts_of(concepts, seeds, share=0.25, seed=0)
    assert set(parts) == {"train", "held_out", "unseen_seed", "dropped"}

    def of(part, values):
        return {value for value, one in zip(values, parts, strict=True) if one == part}

    assert len(of("held_out", concepts)) == 2
    assert not of("train", concepts) & of("held_out", concepts)
    assert not of("train", seeds) & (of("held_out", seeds) | of("unseen_seed", seeds))


def test_the_parts_do_not_depend_on_the_order():
    concepts, seeds = [f"c{i % 8}" for i in range(80)], list(range(80))
    parts = parts_of(concepts, seeds, share=0.25, seed=0)
    assert parts_of(concepts[::-1], seeds[::-1], share=0.25, seed=0) == parts[::-1]


def test_one_concept_cannot_be_measured_on_another():
    with pytest.raises(EngineError, match=r"the release has 1 concept\(s\), and two are needed"):
        parts_of(["a.x"] * 9, range(9), share=0.25, seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_auc": 0.5}, r"min_auc must lie in \[0.9, 1\], got 0.5"),
        ({"min_right": 0.0}, r"min_right must lie in \[0.8, 1\], got 0.0"),
        ({"held_out_share": 0.0}, r"held_out_share must lie in \(0, 1\), got 0.0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
    ],
)
def test_faulty_settings_name_field_and_value(fields, message):
    with pytest.raises(ValueError, match=message):
        CostModelConfig(**fields)


def test_a_head_gives_one_cost_an_image():
    assert CostHead(8)(torch.zeros(3, 8)).shape == (3,)
