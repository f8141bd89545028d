"""The loss of a reply against numbers derived by hand."""

import math

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.rewriter.losses import IGNORED, reply_loss

LOGITS = torch.tensor([[[0.0, math.log(3.0)]]])  # p = 1/4, 3/4
START = torch.tensor([[[0.0, 0.0]]])  # 1/2, 1/2
LABELS = torch.tensor([[0]])


def loss_and_gradient(safe: float | None, start=START, kl_weight: float = 0.5):
    logits = LOGITS.clone().requires_grad_()
    weights = None if safe is None else torch.tensor([[safe]])
    lost = reply_loss(logits, LABELS, weights, start, kl_weight)
    lost.backward()
    assert logits.grad is not None
    return lost.item(), logits.grad[0, 0].tolist()


def test_a_safe_token_is_learned_by_cross_entropy():
    """-log(1/4), and p - onehot = (1/4 - 1, 3/4)."""
    lost, gradient = loss_and_gradient(1.0)
    assert lost == pytest.approx(math.log(4))
    assert gradient == pytest.approx([-0.75, 0.75])


def test_an_unsafe_token_stays_with_the_start_model():
    """KL = 1/4 log(1/2) + 3/4 log(3/2); its gradient is p_i (log(p_i / q_i) - KL); weight 1/2."""
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    lost, gradient = loss_and_gradient(0.0)
    assert lost == pytest.approx(0.5 * divergence)
    wanted = [0.5 * 0.25 * (math.log(0.5) - divergence), 0.5 * 0.75 * (math.log(1.5) - divergence)]
    assert gradient == pytest.approx(wanted)


def test_a_token_in_between_is_the_weighed_sum():
    safe, unsafe, between = (loss_and_gradient(v) for v in (1.0, 0.0, 0.3))
    assert between[0] == pytest.approx(0.3 * safe[0] + 0.7 * unsafe[0])
    mixed = [0.3 * a + 0.7 * b for a, b in zip(safe[1], unsafe[1], strict=True)]
    assert between[1] == pytest.approx(mixed)


def test_all_safe_is_the_plain_loss_bit_for_bit():
    torch.manual_seed(0)
    logits, start = torch.randn(2, 5, 11), torch.randn(2, 5, 11)
    labels = torch.randint(11, (2, 5))
    labels[0, 3:] = IGNORED
    gradients = []
    for safe in (None, torch.ones(2, 5)):
        own = logits.clone().requires_grad_()
        lost = reply_loss(own, labels, safe, start)
        lost.backward()
        gradients.append((lost.detach(), own.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


def test_at_the_start_an_unsafe_reply_has_no_gradient():
    _, gradient = loss_and_gradient(0.0, start=LOGITS)
    assert gradient == pytest.approx([0.0, 0.0], abs=1e-6)


def test_padding_changes_neither_term():
    logits = torch.cat([LOGITS, torch.tensor([[[5.0, -5.0]]])], dim=1)
    start = torch.cat([START, torch.tensor([[[-9.0, 9.0]]])], dim=1)
    labels = torch.tensor([[0, IGNORED]])
    lost = reply_loss(logits, labels, torch.tensor([[0.3, 0.0]]), start)
    assert lost.item() == pytest.approx(loss_and_gradient(0.3)[0])


def test_without_a_start_model_only_safe_replies_can_be_learned():
    assert loss_and_gradient(1.0, start=None)[0] == pytest.approx(math.log(4))
    with pytest.raises(EngineError, match="needs the start model"):
        loss_and_gradient(0.5, start=None)


def test_a_batch_without_a_label_is_refused():
    with pytest.raises(EngineError, match="they are empty"):
        reply_loss(LOGITS, torch.tensor([[IGNORED]]))
