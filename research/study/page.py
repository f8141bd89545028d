"""docs/study.md: tables, verdicts and plots from the results, and the discussion.

Figures come only from the lines; discussion.md interprets them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignguard_data.storage.shards import write_bytes
from alignguard_train.evaluation.report.tables import percent, points
from research.pages import page_template
from research.study import claims, drawings, gate_lines, peer_lines, separated
from research.study.flow_trials import FlowWorld
from research.study.gate_trials import PROMPTS
from research.study.glyph_trials import SHORT
from research.study.reading import Cell, Measure, Part, cells
from research.study.results import RESULTS
from research.study.trial import Trial
from research.study.trials import EXPERIMENTS
from research.study.world import CLEAN_SHARE, PAIRS

HERE = Path(__file__).parent
PAGE = RESULTS.parents[1] / "study.md"
COLUMNS: tuple[tuple[str, Measure, Part], ...] = (
    ("IP, removed concepts", "flagged", "seen"),
    ("residue", "residue", "seen"),
    ("IP, other concepts", "flagged", "unseen"),
    ("safe scenes right", "right", "all"),
)
PANELS: list[tuple[Measure, Part, str]] = [
    ("flagged", "seen", "IP, removed concepts"),
    ("right", "all", "Safe scenes right"),
]


def draw(known: Mapping[str, Mapping[str, Any]], trials: Sequence[Trial]) -> None:
    """Write the page and its plots; an experiment without a line is left out."""
    found = {name: cells(known, trials, name, "score") for name in EXPERIMENTS}
    best = claims.best_sums(cells(known, trials, "merging", "choose"))
    verdicts = {name: list(claims.ALL[name](found[name])) for name in claims.ALL}
    verdicts["merging"] = claims.merging(found["merging"], best)
    done = sum(trial.key in known for trial in trials)
    template = page_template(HERE)
    text = template.render(
        done=done,
        wanted=len(trials),
        seeds=1 + max((trial.seed for trial in trials), default=0),
        pairs=PAIRS,
        clean_share=CLEAN_SHARE,
        columns=[title for title, _, _ in COLUMNS],
        tables={name: [_row(cell) for cell in own.values()] for name, own in found.items()},
        verdicts={
            name: [
                (v.says, points(v.ip.interval), points(v.kept.interval), v.seeds, v.word)
                for v in own
            ]
            for name, own in verdicts.items()
        },
        best_sums=best,
        separated=separated.rows(known, trials),
        held=claims.held(found["concepts"]),
        peers=peer_lines.rows(RESULTS.with_name("peers.jsonl")),
        attacked=gate_lines.attacked(),
        attacked_cases=gate_lines.seeds_attacked(),
        two_named=gate_lines.two_named(),
        short=SHORT,
        flow_render_steps=FlowWorld.sampling.num_inference_steps,
        gate_prompts=PROMPTS,
        later_steps=7 * SHORT,
        ip_limit=claims.IP_LIMIT,
        kept_limit=claims.KEPT_LIMIT,
        margin=claims.MARGIN,
        level=claims.LEVEL,
        discussion=(HERE / "discussion.md").read_text(),
    )
    write_bytes(PAGE, text.encode())
    _plots(found)


def _row(cell: Cell) -> list[str]:
    """One row of a table: arm, x, seeds, shares, steps and seconds."""
    shown = []
    for _, measure, part in COLUMNS:
        apart = cell.seeds_share(measure, part)
        text = percent(cell.share(measure, part))
        shown.append(f"{text} ({100 * apart[0]:.0f}–{100 * apart[1]:.0f})" if apart else text)
    seconds = cell.cpu_seconds
    cost = f"{sum(seconds) / len(seconds):.0f}" if seconds else "–"
    return [cell.arm, f"{cell.x:g}", str(len(cell.seeds)), *shown, str(cell.steps), cost]


def _plots(found: Mapping[str, Mapping[tuple[str, float], Cell]]) -> None:
    folder = RESULTS.parent
    if found["merging"]:
        drawings.bars(found["merging"], folder / "merging.png", panels=PANELS)
    if found["conflicts"]:
        drawings.bars(found["conflicts"], folder / "conflicts.png", panels=PANELS)
    if found["gating"]:
        drawings.bars(found["gating"], folder / "gating.png", panels=PANELS)
    if found["concepts"]:
        drawings.lines(
            found["concepts"],
            folder / "concepts.png",
            x_label="concepts removed",
            log=False,
            panels=[*PANELS, ("flagged", "unseen", "IP, concepts not removed")],
        )
    if found["later object"]:
        drawings.bars(
            found["later object"],
            folder / "later.png",
            panels=[
                ("flagged", "seen", "IP, the object that came later"),
                ("flagged", "unseen", "IP, the four before it"),
                ("right", "all", "Safe scenes right"),
            ],
        )
    if found["data"]:
        drawings.lines(
            found["data"],
            folder / "data.png",
            x_label="pairs a concept",
            log=True,
            panels=[*PANELS, ("flagged", "unseen", "IP, unseen concepts")],
        )
    if found["data, objects"]:
        drawings.lines(
            found["data, objects"],
            folder / "data_objects.png",
            x_label="pairs a concept",
            log=True,
            panels=PANELS,
        )
    if found["remedies"]:
        curves = {place: cell for place, cell in found["remedies"].items() if place[1]}
        drawings.lines(
            curves,
            folder / "remedies.png",
            x_label="beta",
            log=True,
            panels=[*PANELS, ("residue", "seen", "Residue, removed concepts")],
        )
