"""The room's plots as PNG bytes, byte-identical for equal numbers."""

from collections.abc import Sequence

from alignguard_data.contracts.figures import INK, MUTED, PALETTE, new_figure, png_bytes
from alignguard_train.contracts.adapter_names import label
from alignguard_train.reemergence.page import TITLES, Measure

DPI = 130
_COLOURS = dict(zip(TITLES, (PALETTE[5], PALETTE[1], PALETTE[0]), strict=True))


def relapse_curves(measures: Sequence[Measure], adapters: Sequence[str]) -> bytes:
    """IP over the steps of the fine-tuning, with intervals: one panel for each safety adapter.

    Args:
        measures: rows of the table of measures.
        adapters: names, in order.

    Returns:
        A PNG.
    """
    figure, panels = new_figure(4.6 * len(adapters), 3.4, len(adapters), len(adapters))
    for axes, adapter in zip(panels, adapters, strict=True):
        start = _find(measures, adapter, "start", 0)
        for number, (variant, title) in enumerate(TITLES.items()):
            rows = [row for row in _curve(measures, adapter, variant, "ip")]
            if not rows:
                continue
            points = [*start, *rows]
            shift = 1 + 0.015 * (number - 1)  # so that intervals do not cover each other
            x = [row["steps"] * shift for row in points]
            y = [row["value"] for row in points]
            errors = [
                [row["value"] - row["low"] for row in points],
                [row["high"] - row["value"] for row in points],
            ]
            axes.errorbar(
                x, y, yerr=errors, marker="o", markersize=4, capsize=2, linewidth=1.6,
                elinewidth=1, color=_COLOURS[variant], label=title,
            )  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("steps of benign fine-tuning", color=MUTED, fontsize=9)
        axes.set_title(f"IP, unsafe prompts: {label(adapter)}", loc="left", fontsize=10, color=INK)
    panels[0].legend(frameon=False, fontsize=9)
    return png_bytes(figure, DPI)


def loss_against_ip(measures: Sequence[Measure], adapters: Sequence[str]) -> bytes:
    """IP against benign loss, a point for each step count: equal loss is one vertical line.

    Args:
        measures: rows of the table of measures.
        adapters: names, in order.

    Returns:
        A PNG.
    """
    figure, panels = new_figure(4.6 * len(adapters), 3.4, len(adapters), len(adapters))
    for axes, adapter in zip(panels, adapters, strict=True):
        for variant, title in TITLES.items():
            rows = _curve(measures, adapter, variant, "ip")
            losses = {
                row["steps"]: row["value"]
                for row in _curve(measures, adapter, variant, "benign_loss")
            }
            if rows:
                x = [losses[row["steps"]] for row in rows]
                y = [row["value"] for row in rows]
                axes.plot(x, y, marker="o", markersize=4, linewidth=1.2,
                          color=_COLOURS[variant], label=title)  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("benign loss, held-out images", color=MUTED, fontsize=9)
        axes.set_title(f"IP at a loss: {label(adapter)}", loc="left", fontsize=10, color=INK)
    panels[0].legend(frameon=False, fontsize=9)
    return png_bytes(figure, DPI)


def _curve(measures: Sequence[Measure], adapter: str, variant: str, metric: str) -> list[Measure]:
    rows = [
        row
        for row in measures
        if (row["adapter"], row["variant"], row["against"], row["metric"])
        == (adapter, variant, "", metric)
    ]
    return sorted(rows, key=lambda row: row["steps"])


def _find(measures: Sequence[Measure], adapter: str, variant: str, steps: int) -> list[Measure]:
    return [row for row in _curve(measures, adapter, variant, "ip") if row["steps"] == steps]
