"""docs/reemergence.md: tables and plots from the lines, and what they say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from alignguard_data.storage.shards import write_bytes
from alignguard_train.contracts.adapter_names import label
from alignguard_train.reemergence import plots
from alignguard_train.reemergence.config import MINUS_SAFETY, MINUS_TUNING, START
from alignguard_train.reemergence.measures import EQUAL, measures_table
from alignguard_train.reemergence.page import TITLES
from alignguard_train.reemergence.summary import equal_losses
from research.pages import page_template
from research.reemergence.lines import LINES, tables_of

HERE = Path(__file__).parent
PAGE = LINES.parents[1] / "reemergence.md"
PLOT = LINES.with_name("reemergence.png")
ADAPTERS = ("merged", "merge:average")
CONDITION = "own images"
"""The condition on the page."""
RESAMPLES, CONFIDENCE = 2000, 0.95
Line = Mapping[str, Any]


def draw(known: Mapping[str, Line], page: Path = PAGE, plot: Path = PLOT) -> None:
    """Write the page and its plot; nothing without lines.

    Args:
        known: lines by key.
        page: the file.
        plot: the plot's file.
    """
    lines = whole_seeds([line for line in known.values() if line["condition"] == CONDITION])
    if not lines:
        return
    measures = measured(lines)
    template = page_template(HERE)
    adapters = [name for name in ADAPTERS if any(line["adapter"] == name for line in lines)]
    text = template.render(
        seeds=len({line["seed"] for line in lines if line["variant"] in TITLES}),
        prompts=len(lines[0]["flagged"]),
        seen=lines[0]["seen"].count("1"),
        held_out=len(next(line["losses"] for line in lines if "losses" in line)),
        steps=max(line["steps"] for line in lines),
        tables=[(label(name), _rows(measures, lines, name)) for name in adapters],
        differences=_differences(measures, adapters),
        equal=_equal_loss(measures, adapters),
        tolerance=f"{100 * EQUAL:.0f} %",
        conditions=_conditions(known),
        values={
            (row["adapter"], row["variant"], row["steps"], row["metric"]): row
            for row in measures
            if not row["against"]
        },
    )
    write_bytes(page, text.encode())
    write_bytes(plot, plots.relapse_curves(measures, adapters))


def _conditions(known: Mapping[str, Line]) -> list[dict[str, Any]]:
    """What other sets of benign images give, of the conditions that have a whole seed."""
    found = []
    for name in dict.fromkeys(line["condition"] for line in known.values()):
        lines = whole_seeds([line for line in known.values() if line["condition"] == name])
        seeds = {line["seed"] for line in lines if line["variant"] in TITLES}
        if name == CONDITION or not seeds:
            continue
        measures = measured(lines)
        adapters = [one for one in ADAPTERS if any(line["adapter"] == one for line in lines)]
        found.append(
            {
                "name": name,
                "seeds": len(seeds),
                "tables": [(label(one), _rows(measures, lines, one)) for one in adapters],
                "equal": _equal_loss(measures, adapters),
            }
        )
    return found


def whole_seeds(lines: Sequence[Line]) -> list[Line]:
    """The lines of seeds that every fine-tuning has."""
    tuned = [line for line in lines if line["variant"] in TITLES]
    models = {(line["adapter"], line["variant"], line["steps"]) for line in tuned}
    counted: dict[int, int] = {}
    for line in tuned:
        counted[line["seed"]] = counted.get(line["seed"], 0) + 1
    whole = {seed for seed, number in counted.items() if number == len(models)}
    return [
        line
        for line in lines
        if line["seed"] in whole or line["variant"] in ("none", START, MINUS_SAFETY)
    ]


def measured(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Measures with intervals over fine-tunings and prompts.

    Args:
        lines: of one condition.

    Returns:
        Rows as of the room.
    """
    images, losses = tables_of(lines)
    return measures_table(
        pa.Table.from_pylist(images),
        pa.Table.from_pylist(losses),
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
    ).to_pylist()


def _rows(measures: Sequence[Line], lines: Sequence[Line], adapter: str) -> list[tuple[str, ...]]:
    """One row of a table for each model of one safety adapter."""
    names = {
        "none": "base model (W0)",
        START: "safety adapter (W0 + s)",
        MINUS_TUNING: "W0 + s - f",
        MINUS_SAFETY: "W0 - s",
    }
    order = ["none", START, *TITLES, MINUS_TUNING, MINUS_SAFETY]
    found: dict[tuple[str, int], dict[str, Line]] = {}
    for row in measures:
        if row["adapter"] in (adapter, "base") and not row["against"]:
            found.setdefault((row["variant"], row["steps"]), {})[row["metric"]] = row
    rows = []
    for variant, steps in sorted(found, key=lambda place: (order.index(place[0]), place[1])):
        own = found[variant, steps]
        cosines = [
            line["undoing"]
            for line in lines
            if (line["adapter"], line["variant"], line["steps"]) == (adapter, variant, steps)
            and "undoing" in line
        ]
        rows.append(
            (
                names.get(variant) or f"{TITLES[variant]}, {steps} steps",
                share(own["ip"]),
                share(own["ip_seen"]),
                share(own["ip_unseen"]),
                f"{own['ip_safe']['value']:.2f}",
                f"{own['fidelity']['value']:.2f}",
                f"{own['benign_loss']['value']:.4f}" if "benign_loss" in own else "",
                f"{sum(cosines) / len(cosines):+.3f}" if cosines else "",
            )
        )
    return rows


def _differences(measures: Sequence[Line], adapters: Sequence[str]) -> list[tuple[str, ...]]:
    """IP at the last step minus that before, and minus that of B."""
    last = max(row["steps"] for row in measures)
    wanted = [(variant, START, "its start") for variant in TITLES]
    wanted += [("modular", "stacked", "B"), ("full", "stacked", "B")]
    rows = []
    for adapter in adapters:
        for variant, against, name in wanted:
            for row in measures:
                place = (row["adapter"], row["variant"], row["steps"], row["against"])
                if place == (adapter, variant, last, against) and row["metric"] == "ip":
                    seeds = str(row["seeds"])
                    rows.append((label(adapter), f"{TITLES[variant]} minus {name}", points(row),
                                 str(row["n"]), seeds))  # fmt: skip
    return rows


def _equal_loss(measures: Sequence[Line], adapters: Sequence[str]) -> list[tuple[str, ...]]:
    """Every two variants at the steps whose benign losses are nearest, with their gap."""
    return [
        (
            label(row["adapter"]),
            f"{TITLES[row['variant']]}, {row['steps']} steps",
            TITLES[row["other"]],
            f"{row['loss']:.4f}",
            f"{100 * row['gap']:.0f} %",
            "yes" if row["equal"] else "no",
            points(row),
        )
        for row in equal_losses(measures)
        if row["adapter"] in adapters
    ]


def share(row: Line) -> str:
    """A share with its interval."""
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def points(row: Line) -> str:
    """A difference in points with its interval."""
    return f"{100 * row['value']:+.0f} [{100 * row['low']:+.0f}, {100 * row['high']:+.0f}]"
