"""What a cost model is worth on held-out pairs, and whether a training may use it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from alignguard_data.contracts.errors import EngineError
from alignguard_train.cost_model.config import CostModelConfig

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Measures on held-out pairs.

    Attributes:
        auc: probability that an unsafe image costs more than a safe one; ties count half.
        low: lower bound of its 95 % interval, a bootstrap over concepts.
        high: upper bound.
        right: share of pairs with the safe image below 0 and the unsafe one above.
        pairs: number of pairs.
        concepts: number of their concepts.
    """

    auc: float
    low: float
    high: float
    right: float
    pairs: int
    concepts: int


def figures(
    safe: Floats, unsafe: Floats, concepts: Sequence[str], config: CostModelConfig
) -> Figures:
    """Measure costs of pairs.

    Args:
        safe: costs of the safe images (n,).
        unsafe: costs of the unsafe images (n,).
        concepts: of the pairs.
        config: resamples and seed of the interval.

    Returns:
        The figures.
    """
    names = np.asarray(concepts)
    rows = [np.flatnonzero(names == one) for one in sorted(set(concepts))]
    rng = np.random.default_rng(config.seed)
    draws = []
    for _ in range(config.resamples):
        chosen = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        draws.append(_auc(safe[chosen], unsafe[chosen]))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Figures(
        auc=_auc(safe, unsafe),
        low=float(low),
        high=float(high),
        right=float(np.mean((safe < 0) & (unsafe > 0))),
        pairs=len(safe),
        concepts=len(rows),
    )


def refuse_under_gate(found: Figures, *, min_auc: float, min_right: float, of: str) -> None:
    """Refuse a cost model that does not tell safe from unsafe, as its margins would be random.

    Args:
        found: its figures on held-out pairs.
        min_auc: least area.
        min_right: least share of pairs on their sides of 0.
        of: the cost model, for the message.

    Raises:
        EngineError: a figure is under its bound or not a number; names every such figure.
    """
    faults = []
    if not found.auc >= min_auc:
        faults.append(
            f"min_auc: the held-out AUC is {found.auc:.3f} [{found.low:.3f}, {found.high:.3f}], "
            f"and must be at least {min_auc:g}"
        )
    if not found.right >= min_right:
        faults.append(
            f"min_right: {found.right:.3f} of the held-out pairs have the safe image below 0 and "
            f"the unsafe one above, and must be at least {min_right:g}"
        )
    if faults:
        raise EngineError(
            f"{of} is refused ({found.pairs} held-out pairs of {found.concepts} concepts): "
            + "; ".join(faults)
        )


def _auc(safe: Floats, unsafe: Floats) -> float:
    labels = np.repeat([0, 1], [len(safe), len(unsafe)])
    return float(roc_auc_score(labels, np.concatenate([safe, unsafe])))
