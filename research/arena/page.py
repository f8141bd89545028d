"""docs/arena.md, its plots and the page that sorts, from the lines; discussion.md reads them."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignguard_data.storage.shards import write_bytes
from alignguard_train.arena.fronts import fronts
from alignguard_train.arena.page import html
from alignguard_train.arena.plots import front_plot
from alignguard_train.arena.table import Arena
from alignguard_train.arena.text import interval_text, value_text
from research.arena.measure import ATTACKED_BY, PROMPTS, REPLAYS
from research.arena.reading import Lines, arena_of_lines

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
UNSAFE = ("worst", "ip_seen", "ip_unseen", "ssr_n", "asr:no_attack", "asr:ring_a_bell",
          "asr:diffzoo_lite")  # fmt: skip
COST = ("over_refusal", "over_refusal:near-concepts", "fidelity", "distance", "seconds_ratio",
        "training_seconds")  # fmt: skip


def draw(known: Lines, times: Lines, docs: Path = DOCS) -> None:
    """Write the page; what has no line is left out.

    Args:
        known: lines by key.
        times: lines of times by key.
        docs: folder of the documentation.
    """
    arena = arena_of_lines(known, times)
    found = fronts(arena)
    titles = {column.key: column.title for column in arena.columns}
    labels = {row.name: row.label for row in arena.rows}
    text = _template().render(
        lines=len(known),
        prompts=PROMPTS,
        replays=REPLAYS,
        attacks=[name for name in ATTACKED_BY if name != "no_attack"],
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


def _template() -> Any:
    return Environment(  # noqa: S701 - Markdown
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    ).get_template("page.md.j2")


def _table(arena: Arena, keys: tuple[str, ...]) -> list[list[str]]:
    columns = [column for column in arena.columns if column.key in keys]
    rows = [["defence", *(column.title for column in columns)]]
    for row in arena.rows:
        cells = []
        for column in columns:
            shown = row.cells.get(column.key)
            text = value_text(column, shown)
            cells.append(
                text if shown is None else f"{text} {interval_text(column, shown)}, {shown.cell.n}"
            )
        rows.append([row.label, *cells])
    return rows
