"""Confidence intervals of shares, means and differences, with their assumptions.

One yes-or-no image per prompt: Wilson for a share, Tango for a difference of two adapters on the
same prompts. Several images per prompt, or values in between: a bootstrap over prompts. Several
trainings: a t-interval over trainings and prompts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

FEW = 5
"""With at most this many images of one kind, Wilson's bound on the other side undercovers."""
ENOUGH = 5
"""Number of trainings from which their variance is estimated well enough."""
Kind = Literal["share", "difference", "number"]
_PSEUDO: dict[Kind, tuple[float, ...]] = {
    "share": (0, 0, 1, 1),
    "difference": (-1, -1, 1, 1),
    "number": (),
}
"""Pseudo-prompts that keep an interval open where all prompts agree, as Agresti and Coull (1998)
add two successes and two failures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its interval.

    Attributes:
        value: the mean.
        low: lower bound.
        high: upper bound.
        n: prompts that it is over.
    """

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """The four numbers by their names in ``summary.json``."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: of the prompts, per interval.
        confidence: level of the interval, in (0, 1).
        seed: a text, from which the bootstrap's random numbers come.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: str = ""


@lru_cache(maxsize=4096)  # a report needs few distinct bounds, thousands of times
def wilson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the share ``count / n`` of independent images, by statsmodels.

    With at most :data:`FEW` images of one kind it is the wider of Wilson's (1927) and Clopper and
    Pearson's (1934): Wilson's covers a share of 0.2 / n in only 84 of 100 cases.

    Args:
        count: images that are yes, 0 to n.
        n: independent images, at least 1.
        confidence: level, in (0, 1).

    Returns:
        Lower and upper bound, in [0, 1].
    """
    from statsmodels.stats.proportion import proportion_confint  # brings pandas and patsy

    alpha = 1 - confidence
    low, high = _bounds(proportion_confint(count, n, alpha=alpha, method="wilson"))
    if min(count, n - count) <= FEW:
        exact_low, exact_high = _bounds(proportion_confint(count, n, alpha=alpha, method="beta"))
        low, high = min(low, exact_low), max(high, exact_high)
    # Rounding may leave 1e-17 where a bound is exactly 0 or 1.
    return 0.0 if count == 0 else low, 1.0 if count == n else high


def _bounds(found: Any) -> tuple[float, float]:
    low, high = found
    return float(low), float(high)


@lru_cache(maxsize=4096)
def tango(more: int, fewer: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the difference of two shares on the same ``n`` prompts.

    Score method of Tango (Statistics in Medicine 17, 1998, 891-908). The interval has a width even
    if no prompt differs, or all do.

    Args:
        more: prompts that are yes only in the first.
        fewer: prompts that are yes only in the second.
        n: prompts, at least 1.
        confidence: level, in (0, 1).

    Returns:
        Lower and upper bound of (more - fewer) / n, in [-1, 1].
    """
    z, value = stats.norm.ppf((1 + confidence) / 2), (more - fewer) / n

    def score(difference: float) -> float:
        # Variance under the wanted difference: the share of `fewer` that fits the counts best.
        a, b = 2 * n, (2 * n - more + fewer) * difference - more - fewer
        c = -fewer * difference * (1 - difference)
        share = (np.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        variance = n * (2 * share + difference * (1 - difference))
        away = more - fewer - n * difference
        return float(away / np.sqrt(variance)) if variance > 1e-12 else float(np.sign(away) * 1e9)

    low: Any = -1.0 if fewer == n else optimize.brentq(lambda d: score(d) - z, -1, value)
    high: Any = 1.0 if more == n else optimize.brentq(lambda d: score(d) + z, value, 1)
    return float(low), float(high)


def mean_interval(
    values: npt.NDArray[np.float64], prompts: Sequence[str], how: Bootstrap, *, share: bool
) -> Interval:
    """Mean of per-prompt means with its interval.

    :func:`wilson` where every prompt has one yes or no. Else a percentile bootstrap over prompts; a
    prompt's images are resampled together. A share's interval is the wider of that and of the same
    with two prompts of 0 and two of 1 added, so it stays open if all agree. Equal unbounded values
    have no width.

    Args:
        values: of each image (images,).
        prompts: name of each image's prompt (images,).
        how: resamples, confidence and seed.
        share: the values are shares, 0 to 1.

    Returns:
        The mean over prompts, with ``n`` prompts.

    Raises:
        ValueError: ``values`` is empty or differs in length from ``prompts``.
    """
    per_prompt = _prompt_means(values, prompts)
    n, value = len(per_prompt), float(per_prompt.mean())
    if share and n == len(values) and _yes_or_no(values):
        low, high = wilson(int(values.sum()), n, how.confidence)
    else:
        low, high = _resampled(per_prompt, how, "share" if share else "number")
    return Interval(value=value, low=low, high=high, n=n)


def paired_difference(
    values: npt.NDArray[np.float64],
    others: npt.NDArray[np.float64],
    prompts: Sequence[str],
    how: Bootstrap,
    *,
    share: bool,
) -> Interval:
    """Mean of ``values - others``, paired by prompt and seed, with its interval.

    Pairing cancels the difficulty of prompts, so it is narrower than the difference of two
    intervals. :func:`tango` if every prompt has one yes or no of each, else the bootstrap of
    :func:`mean_interval`.

    Args:
        values: of each image (images,).
        others: of the same prompts and seeds (images,).
        prompts: name of each image's prompt (images,).
        how: resamples, confidence and seed.
        share: the values are shares, 0 to 1.

    Returns:
        The mean difference over prompts, with ``n`` prompts.

    Raises:
        ValueError: the lengths differ, or there is no image.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} values against {len(others)}: need one each")
    differences = values - others
    per_prompt = _prompt_means(differences, prompts)
    n, value = len(per_prompt), float(per_prompt.mean())
    if share and n == len(values) and _yes_or_no(values) and _yes_or_no(others):
        more, fewer = int((differences > 0).sum()), int((differences < 0).sum())
        low, high = tango(more, fewer, n, how.confidence)
    else:
        low, high = _resampled(per_prompt, how, "difference" if share else "number")
    return Interval(value=value, low=low, high=high, n=n)


@dataclass(frozen=True, kw_only=True, slots=True)
class OverTrainings:
    """A mean over trainings and prompts with its t statistics.

    An interval covers both ``value`` and ``centre``, and a claim must hold for both.

    Attributes:
        value: the plain mean.
        centre: the mean with the added prompts.
        error: standard error with the added prompts.
        freedom: degrees of freedom of t.
        kind: share, difference or number.
        prompts: how many.
    """

    value: float
    centre: float
    error: float
    freedom: float
    kind: Kind
    prompts: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Interval of the mean, clipped to the range of the kind.

        Args:
            confidence: level, in (0, 1).

        Returns:
            ``value`` with centre ± t · error around both means.
        """
        half = self.error * float(stats.t.ppf((1 + confidence) / 2, self.freedom))
        least, most = {"share": (0, 1), "difference": (-1, 1)}.get(self.kind, (-np.inf, np.inf))
        ends = sorted((self.centre, self.value))
        return Interval(
            value=self.value,
            low=float(max(ends[0] - half, least)),
            high=float(min(ends[1] + half, most)),
            n=self.prompts,
        )

    def p_above(self, limit: float) -> float:
        """One-sided p of the claim that the mean is above ``limit``."""
        return self._p(min(self.centre, self.value) - limit)

    def p_below(self, limit: float) -> float:
        """One-sided p of the claim that the mean is below ``limit``."""
        return self._p(limit - max(self.centre, self.value))

    def _p(self, away: float) -> float:
        if self.error == 0:
            return float(away <= 0)
        return float(stats.t.sf(away / self.error, self.freedom))


def over_trainings(table: npt.NDArray[np.float64], kind: Kind) -> OverTrainings:
    """Mean of ``table`` (trainings, prompts).

    Would other trainings of the same recipe, on other prompts, say the same?

    Trainings and prompts are both random: the variance of the mean is (MS_t + MS_p - MS_e) / tp of
    a two-way table without replicates, at least the larger of the first two terms. Degrees of
    freedom are Satterthwaite's (1946); with fewer than :data:`ENOUGH` trainings their number less
    one, as they may agree by chance.

    Args:
        table: values (trainings, prompts).
        kind: share, difference or number; says which prompts are added.

    Returns:
        The mean with its standard error and degrees of freedom.

    Raises:
        ValueError: fewer than two trainings, or no prompt.
    """
    trainings, prompts = table.shape
    if trainings < 2 or not prompts:
        raise ValueError(f"need 2 trainings and a prompt, got {trainings} and {prompts}")
    added = np.tile(np.array(_PSEUDO[kind], dtype=float), (trainings, 1))
    whole = np.hstack([table, added])
    columns = whole.shape[1]
    centre = whole.mean()
    of_row, of_column = whole.mean(axis=1) - centre, whole.mean(axis=0) - centre
    rest = whole - centre - of_row[:, None] - of_column[None, :]
    free = np.array([trainings - 1, columns - 1, (trainings - 1) * (columns - 1)], dtype=float)
    sums = np.array(
        [columns * (of_row**2).sum(), trainings * (of_column**2).sum(), (rest**2).sum()]
    )
    free = np.maximum(free, 1)  # one prompt has no variance over prompts: 0 of 1, not of 0
    squares = sums / free
    variance = max(squares[0] + squares[1] - squares[2], squares[0], squares[1])
    freedom = free[0]
    if trainings >= ENOUGH and variance:
        freedom = variance**2 / (squares**2 / free).sum()
    return OverTrainings(
        value=float(table.mean()),
        centre=float(centre),
        error=float(np.sqrt(variance / whole.size)),
        freedom=float(max(freedom, free[0])),
        kind=kind,
        prompts=prompts,
    )


def two_way_interval(table: npt.NDArray[np.float64], how: Bootstrap, *, kind: Kind) -> Interval:
    """Interval of :func:`over_trainings`.

    Over prompts only, if there is one training or all trainings agree.

    Args:
        table: values (trainings, prompts).
        how: confidence; resamples and seed where only prompts vary.
        kind: share, difference or number.

    Returns:
        The mean over trainings and prompts.

    Raises:
        ValueError: ``table`` is empty.
    """
    if not table.size:
        raise ValueError("{} trainings of {} prompts: need one each".format(*table.shape))
    if (table == table[:1]).all():
        names = [str(column) for column in range(table.shape[1])]
        if kind != "difference":
            return mean_interval(table[0], names, how, share=kind == "share")
        ones, others = np.maximum(table[0], 0), np.maximum(-table[0], 0)
        return paired_difference(ones, others, names, how, share=True)
    return over_trainings(table, kind).interval(how.confidence)


def _resampled(
    per_prompt: npt.NDArray[np.float64], how: Bootstrap, kind: Kind
) -> tuple[float, float]:
    """Percentile bootstrap of a mean over prompts: the wider of with and without the added ones."""
    both = [per_prompt]
    if _PSEUDO[kind]:
        both.append(np.concatenate([per_prompt, np.array(_PSEUDO[kind], dtype=float)]))
    bounds = [float(per_prompt.mean())]
    for values in both:
        if np.ptp(values) == 0:
            continue
        found = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=how.resamples,
            confidence_level=how.confidence,
            method="percentile",
            rng=np.random.default_rng(_number(how.seed)),
        ).confidence_interval
        bounds += [float(found.low), float(found.high)]
    return min(bounds), max(bounds)


def _yes_or_no(values: npt.NDArray[np.float64]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _prompt_means(
    values: npt.NDArray[np.float64], prompts: Sequence[str]
) -> npt.NDArray[np.float64]:
    if len(values) == 0 or len(values) != len(prompts):
        raise ValueError(
            f"{len(values)} values for {len(prompts)} images: need one each, at least 1"
        )
    _, index = np.unique(np.asarray(prompts), return_inverse=True)
    return np.bincount(index, weights=values) / np.bincount(index)


def _number(seed: str) -> int:
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest())
