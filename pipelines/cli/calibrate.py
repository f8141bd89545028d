"""`alignguard calibrate`: thresholds from labelled images, as a table, a plot and a YAML file."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from rich.table import Table

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.index.sql import query
from alignguard_data.scores.thresholds import (
    Bounded,
    Calibration,
    ScoreName,
    calibrate,
    read_labels,
    write_calibration,
)
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import scratch, user_path
from alignguard_data.storage.shards import write_bytes
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import data_root

_SCORES = """
    select distinct scorer, key, scorer_version, subject_id, value
    from scores where subject = 'image' order by all"""


def calibrate_command(
    console: Output,
    labels: Path,
    *,
    precision: float,
    every_score: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Calibrate the scores of the profile's flag rules, or all scores; returns 0.

    Raises:
        ConfigError: --out is not a YAML file, the labels have faults, or no labelled image has a
            score.
    """
    _check_options(precision, out)
    profile = load_profile()
    data = DataRoot(root=data_root(), profile=profile.name)
    read = read_labels(labels)
    said = read.unsafe
    rules = (*profile.filter.flags, *profile.evaluation.flags)
    wanted = None if every_score else {(rule.scorer, rule.key) for rule in rules}
    scores = _scores(data, said, wanted)
    known = {image for values in scores.values() for image in values[1]}
    _check_labels(labels, said, known)
    found = [
        _calibrate(name, *scores[name], said, precision)
        for name in track(scores, "calibrating", console=console, transient=True, disable=as_json)
    ]
    target = user_path(out) if out else scratch(data.base) / "calibration" / f"{labels.stem}.yaml"
    _write(target, found, labels, precision)
    report = {
        "labels": len(said),
        "without_score": len(said) - len(known),
        "file": str(target),
        "plot": str(target.with_suffix(".png")),
        "unread_columns": list(read.unread),
    }
    if as_json:
        console.json({**report, "scores": [_plain(one) for one in found]})
    else:
        console.print(_table(found, precision))
        _say(console, report)
    return 0


def _check_options(precision: float, out: Path | None) -> None:
    if not 0 < precision <= 1:
        raise ConfigError("alignguard calibrate", [f"--precision: got {precision:g}, not (0, 1]"])
    if out and out.suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(
            "alignguard calibrate",
            [f"--out: got {out}, which does not end in .yaml (the plot goes next to it as .png)"],
        )


def _check_labels(labels: Path, said: Mapping[str, bool], known: Collection[str]) -> None:
    if len({said[image] for image in known}) < 2:
        raise ConfigError(
            str(labels),
            [
                f"{len(known)} of its {len(said)} images have scores, not of both labels: "
                "image_id must be one of the index (table images)"
            ],
        )


def _say(console: Output, report: Mapping[str, Any]) -> None:
    if report["without_score"]:
        console.say((f"{report['without_score']} labelled images have no score", "yellow"))
    if report["unread_columns"]:
        console.say(f"not read: column(s) {', '.join(report['unread_columns'])}")
    console.say(f"thresholds {report['file']}\nplot       {report['plot']}")
    console.say(
        "In a profile's flags, name the file instead of at_least: "
        "{scorer: ..., key: ..., calibrated: FILE}"
    )


def _scores(
    data: DataRoot, said: dict[str, bool], wanted: set[ScoreName] | None
) -> dict[ScoreName, tuple[str, dict[str, float]]]:
    """Score name to its version and the labelled images' values.

    Raises:
        ConfigError: images have scores of several versions of one scorer.
    """
    versions: dict[str, set[str]] = {}
    found: dict[ScoreName, tuple[str, dict[str, float]]] = {}
    for scorer, key, version, image, value in query(data, _SCORES)[1]:
        if image in said and (wanted is None or (scorer, key) in wanted):
            found.setdefault((scorer, key), (version, {}))[1][image] = value
            versions.setdefault(scorer, set()).add(version)
    if mixed := {name: seen for name, seen in versions.items() if len(seen) > 1}:
        raise ConfigError(
            "scores",
            [
                f"{name}: the labelled images have scores of versions {', '.join(sorted(seen))}: "
                "`alignguard run --until index` scores them again"
                for name, seen in mixed.items()
            ],
        )
    return found


def _calibrate(
    name: ScoreName, version: str, values: dict[str, float], said: dict[str, bool], wanted: float
) -> Calibration:
    images = sorted(values)
    return calibrate(
        name,
        version,
        np.array([values[image] for image in images]),
        np.array([said[image] for image in images]),
        precision=wanted,
    )


def _write(target: Path, found: list[Calibration], labels: Path, precision: float) -> None:
    from alignguard_data.scores.plots import calibration_plot

    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target.with_suffix(".png"), calibration_plot(found, precision))
    write_calibration(target, found, labels, precision)


def _plain(one: Calibration) -> dict[str, object]:
    chosen = asdict(one)
    return {
        name: value for name, value in chosen.items() if name not in ("roc", "precision_recall")
    }


def _table(found: list[Calibration], precision: float) -> Table:
    shown = table(
        "score", "images", "unsafe", "ROC area", "average precision", "flag at", "precision",
        "recall", title=f"Thresholds of precision {precision:g} or more, with 95 % intervals",
    )  # fmt: skip
    for one in sorted(found, key=lambda one: -one.roc_auc.value):
        chosen = one.threshold
        shown.add_row(
            f"{one.scorer}/{one.key}", str(one.images), str(one.unsafe), _shown(one.roc_auc),
            _shown(one.average_precision), f"{chosen.at_least:.4g}" if chosen else "none",
            _shown(chosen.precision) if chosen else "", _shown(chosen.recall) if chosen else "",
        )  # fmt: skip
    return shown


def _shown(bounded: Bounded) -> str:
    return f"{bounded.value:.3f} [{bounded.low:.3f}, {bounded.high:.3f}]"
