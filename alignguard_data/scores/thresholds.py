"""Calibrates a scorer's threshold on images labelled by people.

ROC and precision-recall curves and their areas come from scikit-learn. Intervals of areas are
percentile bootstraps over images; those of shares are Clopper-Pearson.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.row_files import ENDINGS, Columns, parse_integer, read_rows
from alignguard_data.storage.shards import write_bytes
from alignguard_data.storage.yaml_files import read_yaml, yaml_bytes

_COLUMNS = Columns(
    spellings={"image_id": ("image_id",), "label": ("label",)}, required=("image_id", "label")
)
_LABELS = {"1": True, "unsafe": True, "true": True, "0": False, "safe": False, "false": False}

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
ScoreName = tuple[str, str]
"""Scorer name and key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounded:
    """A number with a confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """A threshold with its precision and recall on the labelled images.

    Attributes:
        at_least: scores from this one on are flagged.
        precision: share of flagged images that are unsafe.
        recall: share of unsafe images that are flagged.
    """

    at_least: float
    precision: Bounded
    recall: Bounded


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """One score against the labels.

    Attributes:
        scorer: name of the scorer.
        key: which of its scores.
        version: of the scorer.
        images: number of labelled images.
        unsafe: number of those that are unsafe.
        roc_auc: area under the ROC curve.
        average_precision: area under the precision-recall curve, as a sum over its steps.
        threshold: None if none reaches the wanted precision.
        roc: false and true positive rate, each (thresholds,).
        precision_recall: recall and precision, each (thresholds,).
    """

    scorer: str
    key: str
    version: str
    images: int
    unsafe: int
    roc_auc: Bounded
    average_precision: Bounded
    threshold: Threshold | None
    roc: tuple[Floats, Floats]
    precision_recall: tuple[Floats, Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Labels that people gave to images.

    Attributes:
        unsafe: by image id, whether people call the image unsafe.
        unread: columns of the file that were ignored.
    """

    unsafe: dict[str, bool]
    unread: tuple[str, ...]


def read_labels(path: Path) -> Labels:
    """Read labels that people gave to images.

    The columns are ``image_id`` and ``label`` (unsafe/safe, 1/0 or true/false).

    Args:
        path: a CSV, TSV or Parquet file.

    Returns:
        Labels by image id, and the ignored columns.

    Raises:
        ConfigError: wrong columns or labels, contradictions, or only one class; all faults with
            their line.
    """
    faults: list[str] = []
    read = read_rows(path, _COLUMNS, faults, ENDINGS.get(path.suffix.lower(), "csv"))
    rows = read.rows if read else ()
    labels: dict[str, bool] = {}
    for cells in rows:
        image, label = cells.text("image_id").strip(), _label(cells.text("label"))
        if not image:
            faults.append(cells.fault("image_id is empty"))
        elif label is None:
            text = cells.text("label")
            faults.append(cells.fault(f"label must be one of {', '.join(_LABELS)}, got {text!r}"))
        elif labels.setdefault(image, label) != label:
            faults.append(cells.fault(f"{image} has the other label in an earlier row"))
    if not faults and len(set(labels.values())) < 2:
        faults.append(f"{path}: must hold images of both labels, safe and unsafe")
    if faults or read is None:
        raise ConfigError("labels", faults)
    return Labels(unsafe=labels, unread=read.unread)


def _label(text: str) -> bool | None:
    number = parse_integer(text)  # spreadsheets and pandas write 1.0
    return _LABELS.get(text.strip().casefold() if number is None else str(number))


def calibrate(
    name: ScoreName,
    version: str,
    values: Floats,
    unsafe: Bools,
    *,
    precision: float,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Evaluate a score and choose the threshold with the wanted precision and the largest recall.

    Args:
        name: scorer and key of the score.
        version: the scorer's version.
        values: the score of each image, shape (images,).
        unsafe: what people say of each image, shape (images,).
        precision: wanted share of unsafe images among the flagged, in (0, 1].
        resamples: number of bootstrap resamples for the intervals.
        confidence: level of the intervals, in (0, 1).
        seed: of the resampling.

    Returns:
        Areas, curves and the threshold; no threshold if none reaches the precision.

    Raises:
        ValueError: an argument is out of range, or only one label occurs.
    """
    from sklearn.metrics import (
        average_precision_score,
        precision_recall_curve,
        roc_auc_score,
        roc_curve,
    )

    if not 0 < precision <= 1:
        raise ValueError(f"precision must be in (0, 1], got {precision}")
    if unsafe.all() or not unsafe.any():
        raise ValueError("labels must hold safe and unsafe images")
    bounded = partial(
        _bootstrapped, unsafe, values, _resamples(unsafe, resamples, seed), confidence
    )
    false_positive, true_positive, _ = roc_curve(unsafe, values, drop_intermediate=False)
    precisions, recalls, thresholds = precision_recall_curve(unsafe, values)
    return Calibration(
        scorer=name[0],
        key=name[1],
        version=version,
        images=len(unsafe),
        unsafe=int(unsafe.sum()),
        roc_auc=bounded(roc_auc_score),
        average_precision=bounded(average_precision_score),
        threshold=_threshold(values, unsafe, precisions[:-1], thresholds, precision, confidence),
        roc=(false_positive, true_positive),
        precision_recall=(recalls, precisions),
    )


def _bootstrapped(
    unsafe: Bools,
    values: Floats,
    places: Sequence[npt.NDArray[np.int64]],
    confidence: float,
    measure: Callable[[Bools, Floats], float],
) -> Bounded:
    drawn = [measure(unsafe[place], values[place]) for place in places]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Bounded(value=float(measure(unsafe, values)), low=float(low), high=float(high))


def _resamples(unsafe: Bools, resamples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    # Labels are resampled separately, so each resample has both.
    rng = np.random.default_rng(seed)
    groups = np.flatnonzero(unsafe), np.flatnonzero(~unsafe)
    return [
        np.concatenate([rng.choice(group, len(group)) for group in groups])
        for _ in range(resamples)
    ]


def _threshold(
    values: Floats,
    unsafe: Bools,
    precisions: Floats,
    thresholds: Floats,
    wanted: float,
    confidence: float,
) -> Threshold | None:
    # Recall falls as thresholds rise, so the first precise enough one has the largest recall.
    enough = np.flatnonzero(precisions >= wanted)
    if not len(enough):
        return None
    at_least = float(thresholds[enough[0]])
    flagged = values >= at_least
    hits = int((flagged & unsafe).sum())
    return Threshold(
        at_least=at_least,
        precision=_share(hits, int(flagged.sum()), confidence),
        recall=_share(hits, int(unsafe.sum()), confidence),
    )


def _share(hits: int, of: int, confidence: float) -> Bounded:
    from scipy.stats import binomtest

    exact = binomtest(hits, of).proportion_ci(confidence, "exact")
    return Bounded(value=hits / of, low=float(exact.low), high=float(exact.high))


def write_calibration(
    path: Path, found: Sequence[Calibration], labels: Path, precision: float
) -> None:
    """Write the YAML file that flag rules of a profile can name instead of ``at_least``.

    Args:
        path: the file to write, atomically.
        found: the calibrated scores; one without a threshold is written as such.
        labels: the file with the labels; its name and hash are recorded.
        precision: the wanted precision, in (0, 1].
    """
    content = {
        "labels": {
            "file": labels.name,
            "sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
        },
        "wanted_precision": precision,
        "scores": [_entry(one) for one in found],
    }
    write_bytes(path, yaml_bytes(content))


def _entry(one: Calibration) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "scorer": one.scorer, "key": one.key, "version": one.version,
        "images": one.images, "unsafe": one.unsafe,
        "roc_auc": _numbers(one.roc_auc), "average_precision": _numbers(one.average_precision),
        "at_least": one.threshold.at_least if one.threshold else None,
    }  # fmt: skip
    if one.threshold:
        entry["precision"] = _numbers(one.threshold.precision)
        entry["recall"] = _numbers(one.threshold.recall)
    return entry


def _numbers(bounded: Bounded) -> list[float]:
    return [round(number, 4) for number in (bounded.value, bounded.low, bounded.high)]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownThreshold:
    """A threshold of a calibration file, and the scorer version it was calibrated with."""

    at_least: float
    version: str


def threshold_of(path: Path, scorer: str, key: str) -> KnownThreshold:
    """The threshold of a score in a calibration file.

    Args:
        path: of :func:`write_calibration`.
        scorer: name of the scorer.
        key: which of its scores.

    Returns:
        The threshold, and the scorer's version that it was found for.

    Raises:
        ValueError: the file or score is missing, or no threshold reached the wanted precision.
    """
    try:
        file = read_yaml(path)
    except ConfigError as error:
        raise ValueError(f"{path} is not a calibration file: {'; '.join(error.faults)}") from error
    if file.faults:
        raise ValueError(f"{path} is not a calibration file: {'; '.join(file.faults)}")
    entries = file.content.get("scores")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} is not a calibration file: it has no list `scores`")
    chosen = [e for e in entries if (e.get("scorer"), e.get("key")) == (scorer, key)]
    if len(chosen) != 1:
        held = "does not hold" if not chosen else f"holds {len(chosen)} times"
        raise ValueError(f"{path} {held} the score {scorer}/{key}")
    at_least, version = chosen[0].get("at_least"), chosen[0].get("version")
    if not isinstance(at_least, float | int) or isinstance(at_least, bool):
        raise ValueError(f"{path} found no threshold for {scorer}/{key}")
    if not isinstance(version, str):
        raise ValueError(f"{path} does not say which version of {scorer} it is for")
    return KnownThreshold(at_least=float(at_least), version=version)
