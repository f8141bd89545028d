"""report.html of the robustness room: the matrix of attacks and defences, and how it was made.

It holds no image and no prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alignguard_train.contracts.adapter_names import BASE, MERGED, guard_of, label
from alignguard_train.contracts.pages import templates
from alignguard_train.robustness.measures import PLAIN, SUCCESS

VERSION = 2
"""Part of the room's fingerprint: raise it when the page's content changes."""
REPORT = "report.html"

Metrics = Mapping[tuple[str, str, str, str], Mapping[str, float]]
"""By attack, target, subset and metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell; ``heat`` in [0, 0.6] colours it."""

    value: str
    more: str = ""
    heat: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A table of attacks by columns; an empty cell is None."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]


def html(
    *,
    config: Mapping[str, Any],
    models: Mapping[str, str],
    tables: Mapping[str, pa.Table],
    profile: str,
) -> str:
    """The page; byte-identical for equal tables.

    Args:
        config: of the room's manifest.
        models: revisions by model id.
        tables: of the room: cases, metrics, paired, prepared.
        profile: the profile's name.

    Returns:
        A whole HTML document, which loads nothing from elsewhere.
    """
    metrics = metrics_of(tables["metrics"])
    return (
        templates("alignguard_train.robustness")
        .get_template("robustness.html.j2")
        .render(
            profile=profile,
            config=config,
            headline=_headline(metrics, config),
            matrices=_matrices(metrics, tables, config),
            method=_method(config, models, tables["cases"]),
        )
    )


def metrics_of(table: pa.Table) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """The table of metrics by attack, target, subset and metric."""
    return {
        (row["attack"], row["target"], row["subset"], row["metric"]): {
            name: row[name] for name in ("value", "low", "high", "n")
        }
        for row in table.to_pylist()
    }


def _headline(metrics: Metrics, config: Mapping[str, Any]) -> str:
    target = MERGED if MERGED in config["targets"] else config["targets"][-1]
    found = {
        attack: numbers
        for (attack, name, subset, metric), numbers in metrics.items()
        if (name, subset, metric) == (target, "all", SUCCESS) and attack != PLAIN
    }
    if not found:
        return "No attack was judged."
    worst = max(found, key=lambda attack: found[attack]["value"])
    return (
        f"The strongest attack on {label(target)} is {worst}: with a fresh seed its prompts break "
        f"{_share(found[worst])} of {found[worst]['n']:.0f} cases."
    )


def _matrices(
    metrics: Metrics, tables: Mapping[str, pa.Table], config: Mapping[str, Any]
) -> list[Matrix]:
    targets = list(config["targets"])
    names = list(dict.fromkeys(attack for attack, *_ in metrics))
    level, seeds = f"{100 * config['confidence']:g} %", config["replay_seeds"]

    def by_target(metric: str, subset: str = "all") -> list[tuple[str, list[Cell | None]]]:
        return [
            (name, [_rate(metrics.get((name, target, subset, metric))) for target in targets])
            for name in names
        ]

    def matrix(title: str, note: str, metric: str, subset: str = "all") -> Matrix:
        return Matrix(
            title=title, note=note, columns=[label(t) for t in targets],
            rows=by_target(metric, subset),
        )  # fmt: skip

    return [
        matrix("Success with a fresh seed (replay ASR)", "Share of cases whose best prompt draws "
               f"the concept at a seed that no search saw; {level} intervals (Wilson), n in "
               "parentheses. A prompt that a target's guard blocks is no success.", SUCCESS),
        matrix("The same on concepts that experts were trained on", "", SUCCESS, "seen"),
        matrix("The same on held-out concepts", "", SUCCESS, "unseen"),
        *([matrix("Prompts that pass the guard (bypass)", "A prompt that passes and draws "
                  "something else is no success.", "bypass"),
           matrix("Success with a fresh seed, guards off", "", "replay_asr")]
          if any(guard_of(target) for target in targets) else []),
        matrix(f"One or more of {seeds} fresh seeds (ASR-{seeds})",
               "In the row no_attack it is SSR-N. Guards are off here and below.", "asr_n"),
        matrix("At the search's own seed (ASR)", "Unsafe without attack, or broken. The excess "
               "over the first table is selection: the search chose by this seed.", "asr"),
        matrix("Unsafe share of all fresh images", f"{level} bootstrap over cases.", "image_rate"),
        matrix("Coherent share of all fresh images", "A broken image is no safe image: a low rate "
               "above counts only where this is high.", "coherent"),
        _queries(metrics, names, targets, tables["prepared"]),
        _against_base(tables["paired"], names, targets),
    ]  # fmt: skip


def _rate(found: Mapping[str, float] | None) -> Cell | None:
    if found is None:
        return None
    bounds = f"[{found['low']:.2f}, {found['high']:.2f}] ({found['n']:.0f})"
    return Cell(value=f"{found['value']:.2f}", more=bounds, heat=0.6 * found["value"])


def _queries(
    metrics: Metrics, names: Sequence[str], targets: Sequence[str], prepared: pa.Table
) -> Matrix:
    """What a case costs on the target where it costs most, and what the preparation did."""
    columns = {
        "images": "images",
        "text encoder": "text_forwards",
        "token gradients": "text_backwards",
        "denoiser": "unet_forwards",
        "its gradients": "unet_backwards",
        "guard": "guard_calls",
    }
    before = prepared.to_pylist()

    def cell(name: str, counter: str) -> Cell:
        found = [metrics.get((name, target, "all", counter)) for target in targets]
        most = max((one["value"] for one in found if one), default=0.0)
        shared = max((row[counter] for row in before if row["attack"] == name), default=0)
        return Cell(value=f"{most:,.0f}", more=f"+ {shared:,} once" if shared else "")

    return Matrix(
        title="Queries of a case",
        note="Mean rows that one search sends through each part of its target, on the target where "
        "that is most; and what the attack used once, before its first case.",
        columns=list(columns),
        rows=[(name, [cell(name, counter) for counter in columns.values()]) for name in names],
    )


def _against_base(paired: pa.Table, names: Sequence[str], targets: Sequence[str]) -> Matrix:
    found = {
        (row["attack"], row["target"]): row
        for row in paired.to_pylist()
        if (row["metric"], row["against_target"]) == (SUCCESS, BASE)
        and row["against_attack"] == row["attack"]
    }
    others = [name for name in targets if name != BASE]

    def cell(name: str, target: str) -> Cell | None:
        row = found.get((name, target))
        if row is None:
            return None
        bounds = f"[{row['low']:+.2f}, {row['high']:+.2f}] p = {row['p']:.2g}"
        return Cell(value=f"{row['value']:+.2f}", more=bounds)

    return Matrix(
        title="Difference to the base model",
        note="Replay ASR on the same cases and seeds: interval of Tango, McNemar's exact test.",
        columns=[label(name) for name in others],
        rows=[(name, [cell(name, target) for target in others]) for name in names],
    )


def _share(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.0f} % [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"


def _method(
    config: Mapping[str, Any], models: Mapping[str, str], cases: pa.Table
) -> list[tuple[str, str]]:
    rows = cases.to_pylist()
    plain = [row for row in rows if (row["attack"], row["target"]) == (PLAIN, BASE)]
    safe = sum(not row["base_unsafe"] for row in plain)
    rules = [f"{r['scorer']}/{r['key']} ≥ {r['at_least']:g}" for r in config["flags"]]
    rule = config["coherent"]
    shows = f"{rule['scorer']}/{rule['key']} ≥ {rule['at_least']:g}" if rule else "not flat"
    return [
        ("Cases", f"{len(plain)} evaluation prompts of the release, one a concept in turn"),
        ("Already safe", f"{safe} of them: the base model draws no concept at the search's seed"),
        ("Seeds", f"one for the search, {config['replay_seeds']} fresh ones for the replay, of the "
         "case's id; none is of training or evaluation"),
        ("Unsafe when", " or ".join(rules)),
        ("Coherent when", shows),
        ("Judge failed", str(sum(row["stop_reason"] == "judge_failed" for row in rows))),
        *((f"Attack {one['label']}", _listed(one)) for one in config["attacks"]),
        ("Models", ", ".join(f"{name} {version}" for name, version in models.items())),
    ]  # fmt: skip


def _listed(attack: Mapping[str, Any]) -> str:
    given = [
        ", ".join(f"{name} {value}" for name, value in sorted(attack[part].items()))
        for part in ("params", "budget")
    ]
    return "; ".join(part for part in [attack["name"], *given] if part)
