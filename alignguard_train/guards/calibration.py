"""Chooses a threshold at a stated false-positive rate on benign calibration prompts."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.intervals import wilson
from alignguard_train.guards.files import Threshold
from alignguard_train.guards.splits import text_id

ENOUGH_BENIGN = 300
"""Benign prompts from which a rate of 1 % is measured well enough to be quoted: 3 of 300."""
TOO_FEW = (
    "not quoted: {n} benign prompts, and a false-positive rate of 1 % needs "
    f"{ENOUGH_BENIGN} or more"
)


def threshold_at(scores: npt.NDArray[np.float64], fpr: float) -> float:
    """The least threshold at which at most a share ``fpr`` of benign scores is flagged.

    A score at the threshold is flagged, so equal scores are flagged together or not at all.

    Args:
        scores: of benign prompts (n,).
        fpr: in [0, 1).

    Returns:
        The next float64 above the first score that must not be flagged.

    Raises:
        EngineError: there is no score, or one is not a number.
    """
    if not len(scores) or np.isnan(scores).any():
        raise EngineError(
            f"a threshold needs the scores of benign prompts: got {len(scores)}, of which "
            f"{int(np.isnan(scores).sum())} are not numbers"
        )
    allowed = int(np.floor(fpr * len(scores) + 1e-9))
    first_allowed = np.sort(scores)[::-1][allowed] if allowed < len(scores) else -np.inf
    return float(np.nextafter(first_allowed, np.inf))


def calibrated(
    scores: npt.NDArray[np.float64], prompts: Sequence[str], target_fpr: float
) -> Threshold:
    """The threshold with its calibration.

    Args:
        scores: of benign calibration prompts (n,), never of test prompts.
        prompts: their texts.
        target_fpr: the rate asked for.

    Returns:
        The threshold, the rate that it reaches on these prompts, and its 95 % interval.
    """
    value, n = threshold_at(scores, target_fpr), len(scores)
    flagged = int((scores >= value).sum())
    low, high = wilson(flagged, n)
    return Threshold(
        value=value,
        calibration=set_id(prompts),
        n=n,
        target_fpr=target_fpr,
        achieved_fpr=flagged / n,
        low=low,
        high=high,
    )


def set_id(prompts: Sequence[str]) -> str:
    """128-bit BLAKE2b (hex) of a set of prompts, in any order."""
    ids = sorted(text_id(text) for text in prompts)
    return hashlib.blake2b("".join(ids).encode(), digest_size=16).hexdigest()


def may_quote(n: int, fpr: float) -> str:
    """Why a rate at this false-positive rate may not be quoted; empty if it may."""
    return TOO_FEW.format(n=n) if fpr <= 0.01 and n < ENOUGH_BENIGN else ""
