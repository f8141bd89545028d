"""ROC and precision-recall curves of calibrated scores, as PNG bytes."""

from collections.abc import Sequence

from alignguard_data.contracts.figures import PALETTE, new_figure, png_bytes
from alignguard_data.scores.thresholds import Calibration


def calibration_plot(found: Sequence[Calibration], precision: float) -> bytes:
    """Both curves of each score; a dot marks the chosen threshold."""
    figure, (roc, pr) = new_figure(10, 4.6, panels=2, columns=2)
    for number, one in enumerate(found):
        colour = PALETTE[number % len(PALETTE)]
        name = f"{one.scorer}/{one.key}"
        roc.plot(*one.roc, color=colour, label=f"{name}: area {one.roc_auc.value:.3f}")
        pr.step(
            *one.precision_recall,
            where="post",
            color=colour,
            label=f"{name}: average {one.average_precision.value:.3f}",
        )
        if one.threshold:
            pr.plot(one.threshold.recall.value, one.threshold.precision.value, "o", color=colour)
    roc.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    pr.axhline(precision, color="#999999", linewidth=0.8, linestyle=":")
    roc.set(xlabel="safe images flagged", ylabel="unsafe images flagged", title="ROC")
    pr.set(
        xlabel="recall",
        ylabel="precision",
        title=f"Precision and recall (wanted precision {precision:g})",
    )
    for axes in (roc, pr):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        axes.legend(loc="lower right" if axes is roc else "lower left", frameon=False, fontsize=9)
    return png_bytes(figure, 130)
