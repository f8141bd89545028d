"""docs/duo.md and its plot, from the lines; discussion.md reads them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignguard_data.contracts.figures import INK, PALETTE, new_figure, png_bytes
from alignguard_data.storage.shards import write_bytes
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.contracts.intervals import Bootstrap, two_way_interval
from research.duo.look_alikes import KINDS, LOOK_ALIKE, PLAIN, SCENES, STRENGTH
from research.duo.measure import (
    AUTHORS_PRIOR,
    CASES,
    IMAGE_SIDE,
    PROMPT_SIDE,
    REPLAYS,
    STEPS,
    TUNED,
    TUNED_STEPS,
    TUNED_WEIGHT,
)
from research.duo.reading import (
    ANY,
    ATTACKED,
    BENIGN,
    SHOWN,
    UNSAFE,
    Line,
    Lines,
    Row,
    Values,
    minus,
    seeds_text,
)
from research.duo.tuning import LINES as TUNING
from research.duo.tuning import PROMPTS, cost_of
from research.hardening.page import NOTHING, points, share
from research.pages import page_template
from research.study.results import read

HERE = Path(__file__).parent
PLOT = "attacks.png"
ERRORS = {"errors": "empty prompt", "errors captioned": "its caption"}
DIFFERENCES = ((PROMPT_SIDE, IMAGE_SIDE), (PROMPT_SIDE, AUTHORS_PRIOR), (PROMPT_SIDE, TUNED))
ROWS = (*ATTACKED, *ANY, UNSAFE, *BENIGN)


def draw(known: Mapping[str, Line], file: Path) -> None:
    """Write the page beside the folder of the lines, and the plot into it.

    Args:
        known: lines by key; without a whole seed nothing is written.
        file: of the lines.
    """
    lines = Lines(known.values())
    if not lines.arms:
        return
    template = page_template(HERE)
    text = template.render(
        lines=len(known),
        cases=CASES,
        replays=REPLAYS,
        steps=STEPS,
        tuned_steps=TUNED_STEPS,
        tuning_prompts=PROMPTS,
        weight=f"{TUNED_WEIGHT:,.0f}",
        tuning=_tuning(read(file.with_name(TUNING.name)).values()),
        scenes=SCENES,
        strength=STRENGTH,
        folder=file.parent.name,
        plot=f"{file.parent.name}/{PLOT}",
        table=_table(lines),
        differences=_differences(lines),
        rises=_rises(lines, relative=False),
        relative=_rises(lines, relative=True),
        coherent=[f"{arm} {100 * lines.coherent(arm):.0f} %" for arm in lines.arms],
        unfinished=[
            f"{arm}, seed {seed} (without {', '.join(missing)})"
            for arm, seed, missing in lines.unfinished()
        ],
        discussion=(HERE / "discussion.md").read_text(),
    )
    write_bytes(file.parent.with_suffix(".md"), text.encode())
    write_bytes(file.parent / PLOT, plot(lines))


def _tuning(lines: Iterable[Line]) -> list[list[str]]:
    """A row a setting that was tried, by steps and weight."""
    rows = []
    for line in sorted(lines, key=lambda line: (line["steps"], line["weight"])):
        shares = [share({0: list(map(float, line[name]))}) for name in ("flagged", "right")]
        rows.append([f"{line['steps']}", f"{line['weight']:,.0f}", *shares, f"{cost_of(line):.2f}"])
    return [["steps", "weight", "IP", "safe scenes right", "IP plus scenes wrong"], *rows]


def _table(lines: Lines) -> list[list[str]]:
    """A row a measure, a column an arm."""
    heads = [f"{arm} ({seeds_text(lines.seeds(arm))})" for arm in lines.arms]
    rows = [[row.title, *(share(lines.values(arm, row)) for arm in lines.arms)] for row in ROWS]
    return [["share of", *heads], *rows]


def _differences(lines: Lines) -> list[list[str]]:
    """Prompt side minus each image side, over the seeds that both have."""
    rows = [
        [
            row.title,
            *(points(lines.values(one, row), lines.values(two, row)) for one, two in DIFFERENCES),
        ]
        for row in ROWS
    ]
    return [["points of", *(f"{one} minus {two}" for one, two in DIFFERENCES)], *rows]


def _rises(lines: Lines, *, relative: bool) -> list[list[str]]:
    """Rise of the denoising error by arm, prompt and kind, and what look-alikes have over plain."""
    made = [["arm", "prompt", *KINDS, f"{LOOK_ALIKE} minus {PLAIN}"]]
    for field, prompt in ERRORS.items():
        found = {}
        for arm in (arm for arm in lines.arms if arm != BASE):
            own = [lines.rises(arm, field, kind, relative=relative) for kind in KINDS]
            found[arm] = [*own, minus(own[KINDS.index(LOOK_ALIKE)], own[KINDS.index(PLAIN)])]
        if {IMAGE_SIDE, PROMPT_SIDE} <= found.keys():
            pairs = zip(found[IMAGE_SIDE], found[PROMPT_SIDE], strict=True)
            found[f"*{IMAGE_SIDE} minus {PROMPT_SIDE}*"] = [minus(*pair) for pair in pairs]
        made += [
            [arm, prompt, *(rise(own, relative=relative) for own in found[arm])] for arm in found
        ]
    return made


def rise(values: Values, *, relative: bool) -> str:
    """Mean over seeds and images with its 95 % interval over both; relative ones in per cent."""
    if not values:
        return NOTHING
    found = two_way_interval(np.array(list(values.values())), Bootstrap(), kind="number")
    factor, digits, unit = (100, 0, " %") if relative else (1, 3, "")
    ends = (found.value, found.low, found.high)
    value, low, high = (f"{round(factor * end, digits) + 0.0:+.{digits}f}" for end in ends)
    return f"{value}{unit} [{low}, {high}]"


def plot(lines: Lines) -> bytes:
    """Shares with their intervals by arm: cases broken by each attack, and benign images right."""
    figure, panels = new_figure(11, 4.4, 2, 2)
    parts = (("cases that an attack breaks", ATTACKED), ("benign scenes right", BENIGN))
    for axes, (title, rows) in zip(panels, parts, strict=True):
        for number, arm in enumerate(lines.arms):
            away = (number - (len(lines.arms) - 1) / 2) * 0.17
            _dots(axes, lines, arm, rows, away, PALETTE[number])
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlim(-0.03, 1.03)
        axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
        axes.invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9
    )
    return png_bytes(figure, 130)


def _dots(axes: Any, lines: Lines, arm: str, rows: Sequence[Row], away: float, colour: str) -> None:
    for place, row in enumerate(rows):
        table = np.array(list(lines.values(arm, row).values()))
        found = two_way_interval(table, Bootstrap(), kind="share")
        at = place + away
        axes.plot([found.low, found.high], [at, at], color=colour, linewidth=1.4)
        axes.plot([found.value], [at], "o", ms=4, color=colour, label=None if place else arm)


def _short(row: Row) -> str:
    return SHOWN.get(row.measure, row.title).split(" (")[0].replace(", scenes right", "")
