"""`alignguard show`: a pair's history as tables, and its images as a blurred PNG."""

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.index.pair_history import PairHistory, load_pair_history, pair_picture
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import user_path
from alignguard_data.storage.shards import write_bytes
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import data_root


def show_command(
    console: Output, pair: str, *, out: Path | None, reveal: bool, as_json: bool
) -> int:
    """Print the history and write the picture; returns 0.

    Raises:
        ConfigError: ``out`` is not a PNG.
    """
    if out and out.suffix.lower() != ".png":
        raise ConfigError("alignguard show", [f"--out: got {out}, which does not end in .png"])
    data = DataRoot(root=data_root(), profile=load_profile().name)
    history = load_pair_history(data, pair)
    picture = pair_picture(data, history, reveal=reveal)
    target = user_path(out) if out else Path(f"pair-{history.lineage['pair_id'][:12]}.png")
    if picture:
        write_bytes(target, picture)
    if as_json:
        console.json({**asdict(history), "picture": str(target) if picture else None})
        return 0
    _print(console, history)
    if picture:
        note = ("revealed (logged)", "yellow") if reveal else "flagged images are blurred"
        console.say(f"picture   {target} (", note, ")")
    return 0


def _print(console: Output, history: PairHistory) -> None:
    facts = Table(
        show_header=False, title=f"Pair {history.lineage['pair_id']}", title_justify="left"
    )
    for name, value in history.lineage.items():
        if value not in (None, "") and name != "pair_id":
            facts.add_row(name.replace("_", " "), str(value))
    released = ", ".join(f"{row['release']} ({row['split']})" for row in history.releases)
    facts.add_row("releases", released or "none")
    taught = ", ".join(f"{row['adapter']} (on {row['release']})" for row in history.adapters)
    facts.add_row("adapters", taught or "none")
    console.print(facts)
    scores = table("side", "scorer", "key", "value", "flagged from")
    for row in history.scores:
        held = row["at_least"]
        flagged = held is not None and row["value"] >= held
        scores.add_row(
            row["side"] or "pair", row["scorer"], row["key"], f"{row['value']:.4g}",
            "" if held is None else f"{held:g}", style="bold" if flagged else None,
        )  # fmt: skip
    console.print(scores)
