"""`alignguard plan`: the dry run as a table or JSON."""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from pipelines.plan import RoomPlan, plan_rooms
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root

SHOWN = 4


def plan_command(console: Console, *, as_json: bool) -> int:
    """Print what a run would make and why; always 0."""
    engines = Engines(load_profile(), data_root())
    plans = plan_rooms(engines)
    if as_json:
        console.print_json(data=[asdict(plan) for plan in plans])
        return 0
    table = Table("room", "to make", "why", "time", "size", "estimated from")
    for plan in plans:
        table.add_row(*_row(plan))
    console.print(table)
    if not any(plan.to_make for plan in plans):
        console.print("[bold green]Everything is up to date: a run would make nothing.[/]")
    return 0


def _row(plan: RoomPlan) -> tuple[str, ...]:
    if not plan.to_make:
        return plan.room, f"0 of {plan.partitions}", "", "", "", ""
    lines = [f"{reason} ({count})" for reason, count in list(plan.reasons.items())[:SHOWN]]
    if len(plan.reasons) > SHOWN:
        lines.append(f"and {len(plan.reasons) - SHOWN} more")
    cost = plan.cost
    return (
        plan.room,
        f"{len(plan.to_make)} of {plan.partitions}",
        "\n".join(lines),
        "?" if cost.seconds is None else _time(cost.seconds),
        "?" if cost.bytes is None else f"{cost.bytes / 2**20:,.1f} MiB",
        cost.basis,
    )


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
