"""The probes on the end-of-text state: logistic regression, and SafeGuider's MLP.

SafeGuider (CCS 2025, arXiv 2510.05173): an MLP d -> 1024 -> 512 -> 2 and, for a flagged prompt, a
search for words whose deletion makes it safe. A guard that does not beat the logistic regression on
unseen concepts adds nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.guards.config import LogisticSettings, SafeGuiderSettings
from alignguard_train.guards.states import TextStates


class LogisticHead:
    """Log odds of an unsafe prompt by logistic regression.

    Args:
        weight: (width,).
        bias: a scalar.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight.double(), bias.double()

    def scores(self, states: TextStates) -> npt.NDArray[np.float64]:
        """Log odds (rows,)."""
        return (states.eos.double() @ self._weight + self._bias).numpy()

    def details(self, states: TextStates) -> list[str]:
        """It names nothing."""
        return [""] * len(states)


def fit_logistic(
    eos: Tensor, unsafe: npt.NDArray[np.bool_], settings: LogisticSettings
) -> dict[str, Tensor]:
    """Fit logistic regression on end-of-text states.

    Args:
        eos: states (rows, width).
        unsafe: which prompts are unsafe (rows,).
        settings: the penalty.

    Returns:
        ``weight`` (width,) and ``bias``, float64, for states that are not standardised.

    Raises:
        EngineError: all prompts are of one kind.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    check_both(unsafe)
    scaler = StandardScaler().fit(eos.double().numpy())
    model = LogisticRegression(C=settings.strength, class_weight="balanced", max_iter=5000)
    model.fit(scaler.transform(eos.double().numpy()), unsafe)
    # The scaling is folded into the weights.
    weight = np.ravel(model.coef_) / np.asarray(scaler.scale_)
    bias = float(np.ravel(model.intercept_)[0]) - float(weight @ np.asarray(scaler.mean_))
    return {"weight": torch.tensor(weight), "bias": torch.tensor(bias).double()}


def mlp(width: int, settings: SafeGuiderSettings) -> nn.Sequential:
    """SafeGuider's network; its outputs are the logits of unsafe and safe.

    Args:
        width: of the encoder's states.
        settings: widths of the hidden layers, and the dropout.

    Returns:
        The network, (rows, width) to (rows, 2).
    """
    layers: list[nn.Module] = []
    for wide in settings.widths:
        layers += [nn.Linear(width, wide), nn.ReLU(), nn.Dropout(settings.dropout)]
        width = wide
    return nn.Sequential(*layers, nn.Linear(width, 2))


class MLPHead:
    """Log odds of an unsafe prompt by the MLP."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval()

    @torch.no_grad()
    def scores(self, states: TextStates) -> npt.NDArray[np.float64]:
        """Log odds (rows,): p(safe) is 1 / (1 + exp(score))."""
        logits = self._network(states.eos).double()
        return (logits[:, 0] - logits[:, 1]).numpy()

    def details(self, states: TextStates) -> list[str]:
        """It names nothing."""
        return [""] * len(states)


def fit_mlp(
    eos: Tensor,
    unsafe: npt.NDArray[np.bool_],
    settings: SafeGuiderSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train SafeGuider's MLP by cross-entropy (class 1 is safe).

    Args:
        eos: states (rows, width).
        unsafe: which prompts are unsafe (rows,).
        settings: sizes and training.
        seed: of weights, dropout and batches.
        progress: called with 1 after each epoch.

    Returns:
        The network's tensors by name.

    Raises:
        EngineError: all prompts are of one kind, or the loss is not finite.
    """
    check_both(unsafe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = mlp(eos.shape[1], settings).train()
        labels = torch.from_numpy(~unsafe).long()
        step = torch.optim.SGD(
            network.parameters(), lr=settings.learning_rate, momentum=settings.momentum
        )
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(eos)).split(settings.batch_size):
                loss = nn.functional.cross_entropy(network(eos[rows]), labels[rows])
                if not torch.isfinite(loss):
                    raise EngineError("SafeGuider's loss is not finite: lower learning_rate")
                step.zero_grad()
                loss.backward()
                step.step()
            if progress:
                progress(1)
    return {name: x.detach() for name, x in network.state_dict().items()}


def mlp_head(tensors: Mapping[str, Tensor], settings: SafeGuiderSettings) -> MLPHead:
    """The head of a file's tensors.

    Args:
        tensors: of :func:`fit_mlp`.
        settings: with which they were trained.

    Returns:
        The head, with dropout off.

    Raises:
        StopIteration: they lack the first layer.
        RuntimeError: they do not fit the settings.
    """
    first = next(x for name, x in tensors.items() if name == "0.weight")
    network = mlp(first.shape[1], settings)
    network.load_state_dict(dict(tensors))
    return MLPHead(network)


def check_both(unsafe: npt.NDArray[np.bool_]) -> None:
    """Refuse training prompts of one kind only.

    Args:
        unsafe: which prompts are unsafe (rows,).

    Raises:
        EngineError: there is no unsafe, or no benign prompt.
    """
    if unsafe.all() or not unsafe.any():
        raise EngineError(
            f"a guard needs unsafe and benign prompts: got {int(unsafe.sum())} unsafe of "
            f"{len(unsafe)}"
        )


def shortened(
    words: Sequence[str],
    states_of: Any,
    head: MLPHead,
    settings: SafeGuiderSettings,
    threshold: float,
) -> list[str] | None:
    """SafeGuider's search: the fewest deleted words that make a prompt safe.

    A beam of the safest candidates loses a word a round. Of the first round with an accepted
    candidate, the one closest to the original is taken.

    Args:
        words: of the flagged prompt.
        states_of: texts to :class:`TextStates`.
        head: the guard's.
        settings: beam, depth and acceptance.
        threshold: the guard's; an accepted text is also below it.

    Returns:
        The words that are left; None if no deletion is accepted.
    """
    limit = min(threshold, float(np.log(1 / settings.accept - 1)))
    original = states_of([" ".join(words)]).eos
    beam = [tuple(words)]
    for _ in range(min(settings.most_deleted, len(words) - 1)):
        shorter = {
            (*kept[:i], *kept[i + 1 :]): None for kept in beam for i in range(len(kept))
        }  # a dictionary keeps the order, so ties do not depend on hashes
        candidates = list(shorter)
        states = states_of([" ".join(kept) for kept in candidates])
        scores = head.scores(states)
        close = nn.functional.cosine_similarity(states.eos, original).numpy()
        accepted = [
            i
            for i in range(len(candidates))
            if scores[i] <= limit and scores[i] < threshold and close[i] >= settings.min_cosine
        ]
        if accepted:
            return list(candidates[max(accepted, key=lambda i: close[i])])
        beam = [candidates[i] for i in np.argsort(scores, kind="stable")[: settings.beam]]
    return None
