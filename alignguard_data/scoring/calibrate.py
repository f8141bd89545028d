"""Which threshold of a scorer flags what people call unsafe, from images that they labelled.

ROC and precision-recall curves and their areas are scikit-learn's; intervals of areas are
percentile bootstraps over images, those of shares Clopper and Pearson's.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from alignguard_data.errors import ConfigError
from alignguard_data.shards import write_bytes

COLUMNS = ("image_id", "label")
_LABELS = {"1": True, "unsafe": True, "true": True, "0": False, "safe": False, "false": False}

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
ScoreName = tuple[str, str]
"""A scorer's name and one of its keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounded:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """Flag at this score or more; ``precision``: share of flagged images that are unsafe,
    ``recall``: share of unsafe images that are flagged."""

    at_least: float
    precision: Bounded
    recall: Bounded


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """One score against the labels. ``threshold`` is None where no threshold has the wanted
    precision. Curves: false and true positive rate; recall and precision."""

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


def read_labels(path: Path) -> dict[str, bool]:
    """Image id to whether people call the image unsafe, from a CSV file with the columns
    ``image_id`` and ``label`` (unsafe/safe, 1/0 or true/false); further columns are ignored.

    Raises:
        ConfigError: every fault with its line: columns, labels, contradictions, one class only.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(str(path), [f"column {name} is missing" for name in missing])
            rows = [(reader.line_num, row["image_id"], row["label"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(str(path), [f"cannot be read as CSV: {error}"]) from error
    labels, faults = _labels(rows)
    if not faults and len(set(labels.values())) < 2:
        faults.append("must hold images of both labels, safe and unsafe")
    if faults:
        raise ConfigError(str(path), faults)
    return labels


def _labels(rows: Sequence[tuple[int, Any, Any]]) -> tuple[dict[str, bool], list[str]]:
    labels: dict[str, bool] = {}
    faults = []
    for line, image, said in rows:
        image, label = (image or "").strip(), _LABELS.get((said or "").strip().casefold())
        if not image:
            faults.append(f"line {line}: image_id is empty")
        elif label is None:
            faults.append(f"line {line}: label must be one of {', '.join(_LABELS)}, got {said!r}")
        elif labels.setdefault(image, label) != label:
            faults.append(f"line {line}: {image} has the other label above")
    return labels, faults


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
    """Judge one score and choose the threshold of largest recall that has the wanted precision.

    Args:
        values, unsafe: shape (images,).
        precision: wanted share of unsafe images among the flagged, in (0, 1].

    Raises:
        ValueError: a bound is broken, or the images do not hold both labels.
    """
    from sklearn.metrics import (
        average_precision_score,
        precision_recall_curve,
        roc_auc_score,
        roc_curve,
    )

    if not 0 < precision <= 1:
        raise ValueError(f"precision must lie in (0, 1], got {precision}")
    if unsafe.all() or not unsafe.any():
        raise ValueError("labels must hold safe and unsafe images")
    places = _resamples(unsafe, resamples, seed)

    def bounded(measure: Any) -> Bounded:
        drawn = [measure(unsafe[place], values[place]) for place in places]
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Bounded(value=float(measure(unsafe, values)), low=float(low), high=float(high))

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


def _resamples(unsafe: Bools, resamples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    # Each label is drawn by itself, so that no resample is without one.
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
    # Thresholds rise, so recall falls along them: the first that is precise enough catches most.
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
    """Write the YAML file that a profile's flag rules can name instead of ``at_least``."""
    content = {
        "labels": {
            "file": labels.name,
            "sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
        },
        "wanted_precision": precision,
        "scores": [_entry(one) for one in found],
    }
    write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())


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


def threshold_of(path: Path, scorer: str, key: str) -> float:
    """The threshold that a calibration file holds for one score.

    Raises:
        ValueError: no such file or score, or no threshold reached the wanted precision.
    """
    try:
        content = yaml.safe_load(path.read_text())
        entries: list[Mapping[str, Any]] = content["scores"]
        chosen = [e for e in entries if (e["scorer"], e["key"]) == (scorer, key)]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no calibration that can be read ({error})") from error
    if not chosen:
        raise ValueError(f"{path} does not hold the score {scorer}/{key}")
    at_least = chosen[0].get("at_least")
    if not isinstance(at_least, float | int):
        raise ValueError(f"{path} found no threshold for {scorer}/{key}")
    return float(at_least)
