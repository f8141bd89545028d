"""report.html of the reemergence room: what benign fine-tuning brings back, and how it is measured.

It holds no image and no prompt.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alignguard_train.contracts.adapter_names import label
from alignguard_train.contracts.pages import templates
from alignguard_train.reemergence.config import MINUS_SAFETY, MINUS_TUNING, START
from alignguard_train.reemergence.measures import AT_EQUAL_LOSS, EQUAL
from alignguard_train.reemergence.summary import REPORT, equal_losses, relapses

Measure = Mapping[str, Any]
TITLES = {"full": "A full", "stacked": "B stacked", "modular": "C modular"}
VERSION = 2
"""Part of the room's fingerprint: raise it when the page's content changes."""
DOUBTFUL = 0.05
"""Share of flagged images of safe prompts from which IP may be the judge's error: the images are
unlike any that it knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of texts: a row's name, then one cell a column."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def files(
    *,
    config: Mapping[str, Any],
    models: Mapping[str, str],
    tables: Mapping[str, pa.Table],
    counts: Mapping[str, Any],
    profile: str,
) -> dict[str, bytes]:
    """The page and its plots by file name; byte-identical for equal tables.

    Args:
        config: of the room's manifest.
        models: revisions by model id.
        tables: of the room.
        counts: numbers of benign rows and prompts.
        profile: the profile's name.

    Returns:
        Contents by file name.
    """
    from alignguard_train.reemergence import plots

    measures = tables["measures"].to_pylist()
    adapters = list(config["adapters"])
    pictures = {
        "relapse.png": plots.relapse_curves(measures, adapters),
        "loss.png": plots.loss_against_ip(measures, adapters),
    }
    page = (
        templates("alignguard_train.reemergence")
        .get_template("reemergence.html.j2")
        .render(
            profile=profile,
            lines=verdicts(measures),
            warning=_warning(measures),
            plots={name.removesuffix(".png"): _uri(png) for name, png in pictures.items()},
            tables=_tables(measures, tables["models"].to_pylist(), adapters),
            method=_method(config, models, counts, tables["left_out"].num_rows),
        )
    )
    return {**pictures, REPORT: page.encode()}


def headline(table: pa.Table) -> dict[str, float]:
    """IP after the longest fine-tuning, by adapter and variant, for the manifest.

    Args:
        table: the measures.

    Returns:
        Numbers by name.
    """
    measures = table.to_pylist()
    last = {
        (row["adapter"], row["variant"]): row
        for row in sorted(measures, key=lambda row: row["steps"])
        if (row["metric"], row["against"]) == ("ip", "")
    }
    return {f"ip {a} {v}": round(row["value"], 4) for (a, v), row in last.items()}


def verdicts(measures: Sequence[Measure]) -> list[str]:
    """One sentence for each safety adapter and variant: whether IP rises over that at step 0.

    Args:
        measures: rows of the table of measures.

    Returns:
        Sentences.
    """
    lines = []
    for adapter, by_variant in relapses(measures).items():
        for variant, found in by_variant.items():
            change = f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, "
            change += f"{100 * found['high']:+.1f}] points"
            word = "brings it back" if found["relapses"] else "no relapse seen"
            lines.append(
                f"{label(adapter)}, {TITLES[variant]}: {word}, IP {change} after "
                f"{found['steps']} steps (n = {found['n']} prompts, {_tunings(found['seeds'])})."
            )
    return lines


def _tunings(number: int) -> str:
    return f"{number} fine-tuning" + ("s" if number > 1 else "")


def _warning(measures: Sequence[Measure]) -> str:
    odd = [
        f"{label(row['adapter'])}, {TITLES[row['variant']]} at {row['steps']} steps: "
        f"{100 * row['value']:.0f} %"
        for row in measures
        if (row["metric"], row["against"]) == ("ip_safe", "")
        and row["variant"] in TITLES
        and row["value"] > DOUBTFUL
    ]
    if not odd:
        return ""
    return (
        "The judge flags images of safe prompts too, so IP there may be its error on images of the "
        "new style: " + "; ".join(odd) + "."
    )


_COLUMNS = {
    "ip": "IP",
    "ip_seen": "IP, seen",
    "ip_unseen": "IP, unseen",
    "ip_safe": "IP, safe prompts",
    "fidelity": "safe scenes right",
    "distance": "distance to base",
    "benign_loss": "benign loss",
}


def _tables(
    measures: Sequence[Measure], models: Sequence[Measure], adapters: Sequence[str]
) -> list[Table]:
    found = [_of_adapter(measures, adapter) for adapter in adapters]
    return [*found, _differences(measures), _equal_loss(measures), _of_weights(models)]


def _of_adapter(measures: Sequence[Measure], adapter: str) -> Table:
    rows: dict[tuple[str, int], dict[str, Measure]] = {}
    for row in measures:
        if row["adapter"] in (adapter, "base") and not row["against"]:
            rows.setdefault((row["variant"], row["steps"]), {})[row["metric"]] = row
    order = ["none", START, *TITLES, MINUS_TUNING, MINUS_SAFETY]
    names = {
        "none": "W0 (base model)",
        START: "W0 + s",
        MINUS_TUNING: "W0 + s - f",
        MINUS_SAFETY: "W0 - s",
    }
    shown = []
    for variant, steps in sorted(rows, key=lambda place: (order.index(place[0]), place[1])):
        name = names.get(variant) or f"{TITLES[variant]}, {steps} steps"
        shown.append((name, [_cell(rows[variant, steps].get(metric)) for metric in _COLUMNS]))
    return Table(
        title=label(adapter),
        note="s: the safety adapter; f: what the stacked fine-tuning adds. Intervals in brackets.",
        columns=list(_COLUMNS.values()),
        rows=shown,
    )


def _differences(measures: Sequence[Measure]) -> Table:
    rows = [
        (
            f"{label(row['adapter'])}: {TITLES[row['variant']]} minus "
            f"{_against(row['against'])}, {row['steps']} steps",
            [_cell(row), str(row["n"]), str(row["seeds"])],
        )
        for row in measures
        if row["metric"] == "ip"
        and row["against"]
        and not row["against"].endswith(AT_EQUAL_LOSS)
        and row["variant"] in ("modular", "full")
    ]
    return Table(
        title="Differences of IP",
        note="On the same prompts and seeds, at the same steps.",
        columns=["difference", "prompts", "fine-tunings"],
        rows=rows,
    )


def _against(name: str) -> str:
    return TITLES.get(name, "W0 + s")


def _equal_loss(measures: Sequence[Measure]) -> Table:
    rows = [
        (
            f"{label(row['adapter'])}: {TITLES[row['variant']]}, {row['steps']} steps, minus "
            f"{TITLES[row['other']]}",
            [_cell(row), f"{row['loss']:.4f}", f"{100 * row['gap']:.0f} %",
             "equal" if row["equal"] else "not equal", str(row["n"]), str(row["seeds"])],
        )
        for row in equal_losses(measures)
    ]  # fmt: skip
    return Table(
        title="Differences of IP at equal benign loss",
        note="The second variant is taken at the step, of each fine-tuning, whose benign loss is "
        f"nearest to the first's; losses count as equal up to {100 * EQUAL:.0f} % apart.",
        columns=["difference", "loss of the first", "gap", "losses", "prompts", "fine-tunings"],
        rows=rows,
    )


def _of_weights(models: Sequence[Measure]) -> Table:
    rows = [
        (
            f"{label(row['adapter'])}: {TITLES[row['variant']]}, {row['steps']} steps, "
            f"seed {row['seed']}",
            [f"{row[name]:.3f}" for name in ("undoing", "undone_share", "size", "train_loss")],
        )
        for row in models
    ]
    return Table(
        title="What the fine-tuning does to the safety adapter's weights",
        note="cos(f, -s): 1 where the fine-tuning undoes the adapter; share undone along s; norm "
        "of f over that of s.",
        columns=["cos(f, -s)", "share undone", "size", "train loss"],
        rows=rows,
    )


def _cell(row: Measure | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _method(
    config: Mapping[str, Any], models: Mapping[str, str], counts: Mapping[str, Any], left: int
) -> list[tuple[str, str]]:
    benign, recipe = config["benign"], config["recipe"]
    rules = [f"{r['scorer']}/{r['key']} ≥ {r['at_least']:g}" for r in config["flags"]]
    return [
        ("Benign images", f"{counts['benign_train']} to train on, {counts['benign_held_out']} "
         f"held out, {left} left out (flagged or refused); style {benign['style']}"),
        ("Fine-tuning", f"rank {recipe['rank']}, learning rate {recipe['lr']:g} (all weights: "
         f"{recipe['full_lr']:g}), batches of {recipe['batch_size']}, plain denoising error"),
        ("Fine-tunings", f"seeds {', '.join(map(str, config['seeds']))}, of one safety adapter "
         "each"),
        ("Prompts", f"{counts['prompts']} evaluation pairs of the release, one image each"),
        ("Flagged when", " or ".join(rules)),
        ("Intervals", "over prompts, and over fine-tunings where there are several"),
        ("Models", ", ".join(f"{name} {version}" for name, version in models.items())),
    ]  # fmt: skip


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
