"""Logistic regression on end-of-text states: which class a prompt belongs to, as plain tensors.

scikit-learn fits it; the result needs only torch, is a handful of tensors in a file, and lets
gradients through to the states.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the penalty, the strongest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearGate:
    """A fitted classifier of states.

    Attributes:
        classes: at least two, sorted.
        mean: of the training states (width,).
        scale: their standard deviation (width,); 1 where it is 0.
        weights: (classes, width), of standardized states.
        bias: (classes,).
        penalty: the chosen inverse strength.
        held_out: share of the states to choose the penalty with that it classifies right.
    """

    classes: tuple[str, ...]
    mean: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    penalty: float
    held_out: float

    def logits(self, states: Tensor) -> Tensor:
        """Scores (rows, classes) of states (rows, width), up to a constant per row."""
        return (states.float() - self.mean) / self.scale @ self.weights.T + self.bias

    def probabilities(self, states: Tensor) -> Tensor:
        """Of each class: (rows, classes)."""
        return self.logits(states).softmax(dim=1)

    def classes_of(self, states: Tensor) -> list[str]:
        """The most probable class of each state."""
        return [self.classes[i] for i in self.logits(states).argmax(dim=1).tolist()]


def fit_linear(
    states: Tensor,
    labels: Sequence[str],
    held_states: Tensor,
    held_labels: Sequence[str],
    penalties: Sequence[float] = PENALTIES,
) -> LinearGate:
    """Fit a gate with every penalty, and keep the one that is right most often on held-out states.

    Args:
        states: to fit on (rows, width).
        labels: their classes.
        held_states: to choose the penalty with (rows, width); in no fit.
        held_labels: their classes.
        penalties: inverse strengths; of equally good ones the first is kept.

    Returns:
        The gate.

    Raises:
        ValueError: fewer than two classes, or nothing held out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(set(labels)) < 2 or not held_labels:
        raise ValueError(f"{len(set(labels))} classes, {len(held_labels)} held-out states")
    scaler = StandardScaler().fit(states.numpy())
    x, held = (scaler.transform(part.numpy()) for part in (states, held_states))
    fitted = [LogisticRegression(C=one, max_iter=2000).fit(x, list(labels)) for one in penalties]
    right = [float(one.score(held, list(held_labels))) for one in fitted]
    best = max(range(len(fitted)), key=right.__getitem__)
    weights, bias = (
        torch.from_numpy(part).float() for part in (fitted[best].coef_, fitted[best].intercept_)
    )
    if len(weights) == 1:  # of two classes scikit-learn has one row, the second class's log-odds
        weights = torch.cat([torch.zeros_like(weights), weights])
        bias = torch.cat([torch.zeros_like(bias), bias])
    return LinearGate(
        classes=tuple(map(str, fitted[best].classes_)),
        mean=torch.from_numpy(scaler.mean_).float(),
        scale=torch.from_numpy(scaler.scale_).float(),
        weights=weights,
        bias=bias,
        penalty=penalties[best],
        held_out=right[best],
    )
