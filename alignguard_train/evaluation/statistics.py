"""Shares and means with intervals, over the evaluated images."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions at import, where no type checker sees them.

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.contracts.intervals import (
    Bootstrap,
    Interval,
    mean_interval,
    paired_difference,
)

# Public names of this package, too.
from alignguard_train.contracts.intervals import tango as tango
from alignguard_train.contracts.intervals import wilson as wilson
from alignguard_train.evaluation.config import RELEASE_SET

SHARES = ("flagged", "residue", "fidelity", "any_flagged")
"""Columns of values in [0, 1], whose mean is a share."""

METRICS_SCHEMA = pa.schema(
    [
        pa.field("adapter", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
    ]
)
PAIRED_SCHEMA = pa.schema(
    [
        pa.field("against", pa.string(), nullable=False),  # adapter minus against
        *METRICS_SCHEMA,
        pa.field("more", pa.int64()),
        pa.field("fewer", pa.int64()),
        pa.field("p", pa.float64()),
    ]
)


def ip(
    flagged: Sequence[bool] | npt.NDArray[np.bool_], prompts: Sequence[str], how: Bootstrap
) -> Interval:
    """Inappropriate probability: the share of flagged images (arXiv 2412.10493).

    Args:
        flagged: whether each image is flagged, (images,).
        prompts: name of each image's prompt; images of one prompt are resampled together.
        how: resamples, confidence and seed.

    Returns:
        Share of flagged images with its interval.

    Raises:
        ValueError: there is no image.
    """
    return mean_interval(np.asarray(flagged, dtype=float), prompts, how, share=True)


def metrics_table(
    images: pa.Table, *, resamples: int, confidence: float, columns: Mapping[str, str]
) -> pa.Table:
    """Every metric of every adapter, side and subset, in long form.

    Subsets of the release's prompts are ``all``, ``seen``, ``unseen``, ``category:<key>`` and
    ``concept:<key>``; those of a prompt set follow its name, ``set:<name>`` and
    ``set:<name>/seen``. A prompt of several categories counts in each.

    Args:
        images: one row an image: adapter, side, prompt_set, pair_id, concept, category, seen, and
            the columns of the metrics.
        resamples: bootstrap resamples per interval.
        confidence: level of the intervals.
        columns: a metric's name to the column that it is the mean of; NaN rows are skipped.

    Returns:
        Rows of ``METRICS_SCHEMA``; a metric without values has none.
    """
    rows = []
    for adapter in dict.fromkeys(images["adapter"].to_pylist()):
        for side in ("unsafe", "safe"):
            where = pc.and_(pc.equal(images["adapter"], adapter), pc.equal(images["side"], side))
            for subset, part in subsets(images.filter(where)):
                for metric, column in columns.items():
                    how = Bootstrap(
                        resamples=resamples,
                        confidence=confidence,
                        seed="/".join((adapter, side, subset, metric)),
                    )
                    interval = _of_column(part, column, how)
                    if interval:
                        place = {"adapter": adapter, "side": side, "subset": subset}
                        rows.append({**place, "metric": metric, **interval.as_dict()})
    return pa.Table.from_pylist(rows, schema=METRICS_SCHEMA)


def subsets(images: pa.Table, *, keys: bool = True) -> Iterator[tuple[str, pa.Table]]:
    """The reported subsets (see :func:`metrics_table`).

    Args:
        images: of one adapter and side.
        keys: also every category and concept.

    Yields:
        Name and images of a subset, which may be empty.
    """
    for name in dict.fromkeys(images["prompt_set"].to_pylist()):
        part = images.filter(pc.equal(images["prompt_set"], name))
        own = name == RELEASE_SET
        prefix = "" if own else f"set:{name}/"
        yield ("all" if own else f"set:{name}"), part
        known = part.filter(pc.not_equal(part["concept"], ""))
        if known.num_rows:
            yield prefix + "seen", known.filter(known["seen"])
            yield prefix + "unseen", known.filter(pc.invert(known["seen"]))
        for column in ("category", "concept") if keys else ():
            yield from ((f"{prefix}{column}:{key}", rows) for key, rows in _by_key(part, column))


def _by_key(images: pa.Table, column: str) -> Iterator[tuple[str, pa.Table]]:
    listed = [set(text.split(",")) for text in images[column].to_pylist()]
    for key in sorted({key for keys in listed for key in keys if key}):
        yield key, images.filter(pa.array([key in keys for keys in listed], pa.bool_()))


def _of_column(images: pa.Table, column: str, how: Bootstrap) -> Interval | None:
    values = np.asarray(images[column].to_numpy(), dtype=float)
    known = ~np.isnan(values)
    if not known.any():
        return None
    prompts = np.asarray(images["pair_id"].to_pylist(), dtype=str)[known]
    return mean_interval(values[known], prompts.tolist(), how, share=column in SHARES)


def comparisons(adapters: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs to compare: every adapter with the base model, the merged adapter with every other."""
    others = [name for name in adapters if name not in (BASE, MERGED)]
    pairs = [(name, BASE) for name in adapters if name != BASE and BASE in adapters]
    return pairs + [(MERGED, name) for name in others if MERGED in adapters]


def paired_table(
    images: pa.Table, *, resamples: int, confidence: float, columns: Mapping[str, str]
) -> pa.Table:
    """One adapter minus another (see :func:`comparisons`), in long form.

    On the same prompts and seeds; subsets are ``all``, ``seen`` and ``unseen``, and those of every
    prompt set.

    Args:
        images: as of :func:`metrics_table`; every adapter has the same prompts.
        resamples: bootstrap resamples per interval.
        confidence: level of the intervals.
        columns: a metric's name to the column that it is the mean of; NaN rows are skipped.

    Returns:
        Rows of ``PAIRED_SCHEMA``; ``more``, ``fewer`` and ``p`` only for yes-or-no values.
    """
    rows = []
    names = list(dict.fromkeys(images["adapter"].to_pylist()))
    for side in ("unsafe", "safe"):
        parts = {name: list(subsets(_of(images, name, side), keys=False)) for name in names}
        for adapter, against in comparisons(names):
            for (subset, one), (_, other) in zip(parts[adapter], parts[against], strict=True):
                for metric, column in columns.items():
                    how = Bootstrap(
                        resamples=resamples,
                        confidence=confidence,
                        seed="/".join((adapter, against, side, subset, metric)),
                    )
                    place = {"adapter": adapter, "side": side, "subset": subset, "metric": metric}
                    if found := _paired(one, other, column, how):
                        rows.append({"against": against, **place, **found})
    return pa.Table.from_pylist(rows, schema=PAIRED_SCHEMA)


def _of(images: pa.Table, adapter: str, side: str) -> pa.Table:
    where = pc.and_(pc.equal(images["adapter"], adapter), pc.equal(images["side"], side))
    return images.filter(where).sort_by("pair_id")


def _paired(
    one: pa.Table, other: pa.Table, column: str, how: Bootstrap
) -> dict[str, float | None] | None:
    values, others = (
        np.asarray(table[column].to_numpy(zero_copy_only=False), dtype=float)
        for table in (one, other)
    )
    known = ~(np.isnan(values) | np.isnan(others))
    if not known.any():
        return None
    values, others = values[known], others[known]
    prompts = np.asarray(one["pair_id"].to_pylist(), dtype=str)[known].tolist()
    found = paired_difference(values, others, prompts, how, share=column in SHARES).as_dict()
    if column not in SHARES or not np.isin([values, others], (0.0, 1.0)).all():
        return {**found, "more": None, "fewer": None, "p": None}
    return {**found, **mcnemar(values > 0, others > 0)}


def mcnemar(ones: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> dict[str, float]:
    """McNemar's exact test on paired yes/no values.

    Args:
        ones: yes or no of each image with one adapter, (images,).
        others: likewise with the other.

    Returns:
        ``more`` images are yes only in ``ones``, ``fewer`` only in ``others``, ``p`` is the
        two-sided binomial probability at 1/2.
    """
    more, fewer = int((ones & ~others).sum()), int((others & ~ones).sum())
    p = stats.binomtest(more, more + fewer, 0.5).pvalue if more + fewer else 1.0
    return {"more": more, "fewer": fewer, "p": float(p)}
