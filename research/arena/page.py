"""docs/arena.md, its plots and the page that sorts, from the lines; discussion.md reads them."""

from pathlib import Path
from typing import Any

from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.columns import Column
from alignguard_train.arena.fronts import fronts
from alignguard_train.arena.page import html
from alignguard_train.arena.plots import front_plot
from alignguard_train.arena.table import Arena, Shown
from alignguard_train.arena.text import MISSING, interval_text, value_text
from alignguard_train.reemergence.config import VARIANTS
from research.arena.measure import ATTACKED_BY, PROMPTS, REPLAYS
from research.arena.reading import Lines, arena_of_lines, whole_fine_tunings
from research.pages import page_template
from research.reemergence.lines import EXPERT_STEPS
from research.study.glyph_trials import FULL

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
RELAPSE = tuple(f"reemergence:{variant}" for variant in VARIANTS)
UNSAFE = ("worst", "ip_seen", "ip_unseen", "ssr_n", "asr:no_attack", "asr:ring_a_bell",
          "asr:diffzoo_lite", *RELAPSE)  # fmt: skip
COST = ("over_refusal", "over_refusal:near-concepts", "fidelity", "distance", "seconds_ratio",
        "training_seconds")  # fmt: skip


def draw(known: Lines, times: Lines, tuned: Lines, docs: Path = DOCS) -> None:
    """Write the page; what has no line is left out.

    Args:
        known: lines by key.
        times: lines of times by key.
        tuned: lines of :mod:`research.reemergence` by key.
        docs: folder of the documentation.
    """
    arena = arena_of_lines(known, times, tuned)
    found = fronts(arena)
    titles = {column.key: column.title for column in arena.columns}
    labels = {row.name: row.label for row in arena.rows}
    text = page_template(HERE).render(
        lines=len(known),
        prompts=PROMPTS,
        replays=REPLAYS,
        attacks=[name for name in ATTACKED_BY if name != "no_attack"],
        relapse=_relapse(arena, tuned),
        tables=[_table(arena, keys) for keys in (UNSAFE, COST)],
        fronts=[
            {
                "file": f"{front.cost}.png",
                "title": f"{titles[front.safety]} against {titles[front.cost].lower()}",
                "on": ", ".join(labels[name] for name in front.on) or "none",
                "left_out": [f"{labels[name]} ({why})" for name, why in front.left_out.items()],
            }
            for front in found
        ],
        discussion=(HERE / "discussion.md").read_text(),
    )
    write_bytes(docs / "arena.md", text.encode())
    write_bytes(docs / "arena" / "table.html", html(arena).encode())
    for front in found:
        if front.points:
            write_bytes(docs / "arena" / f"{front.cost}.png", front_plot(arena, front))


def _relapse(arena: Arena, tuned: Lines) -> dict[str, Any]:
    """What the page says of the re-emergence columns; empty without any."""
    shown = [row.cells[key] for row in arena.rows for key in RELAPSE if key in row.cells]
    if not shown:
        return {}
    lines = whole_fine_tunings(tuned)
    return {
        "prompts": shown[0].cell.n,
        "steps": max(line["steps"] for line in lines),
        "seeds": len({line["seed"] for line in lines if line["variant"] in VARIANTS}),
        "trained": EXPERT_STEPS,
        "here": FULL,
    }


def _table(arena: Arena, keys: tuple[str, ...]) -> list[list[str]]:
    columns = [column for column in arena.columns if column.key in keys]
    rows = [["defence", *(column.title for column in columns)]]
    for row in arena.rows:
        cells = []
        for column in columns:
            shown = row.cells.get(column.key)
            cells.append(_cell(column, shown))
        rows.append([row.label, *cells])
    return rows


def _cell(column: Column, shown: Shown | None) -> str:
    if shown is None:
        return "–" if column.key in RELAPSE else MISSING
    return f"{value_text(column, shown)} {interval_text(column, shown)}, {shown.cell.n}"
