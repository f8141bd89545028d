"""`alignguard plan`: dry run as a table or JSON."""

from dataclasses import asdict

from rich.table import Table

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.costs.gpus import GPUS, Gpu
from pipelines.cli.console import Output, table
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import BESIDE_A_RUN
from pipelines.runtime.plan import RoomPlan, plan_rooms
from pipelines.ui.budget import RoomBudget, budget

SHOWN = 4


def plan_command(console: Output, *, gpu: str | None, peak_share: float, as_json: bool) -> int:
    """Print what a run would make and why, and its cost on a GPU; returns 0.

    Raises:
        ConfigError: unknown GPU, share out of bounds, or a rule over a score that does not exist.
    """
    card = _gpu(gpu, peak_share) if gpu else None
    engines = Engines(load_profile(), data_root())
    engines.check_base_model()
    engines.check_scores()
    plans = plan_rooms(engines)
    costs = budget(engines.profile, engines.taxonomy, card, peak_share) if card else []
    if as_json:
        rooms = [asdict(plan) for plan in plans]
        whole = {"rooms": rooms, "gpu": gpu, "budget": [asdict(cost) for cost in costs]}
        console.json(whole if card else rooms)
        return 0
    shown = table("room", "to make", "why", "time", "size", "estimated from")
    for plan in plans:
        shown.add_row(*_row(plan))
    console.print(shown)
    if not any(plan.to_make for plan in plans if plan.room not in BESIDE_A_RUN):
        console.say(("Everything is up to date: a run would make nothing.", "bold green"))
    if card:
        console.print(_budget_table(costs, f"{gpu} ({card.tflops:g} TFLOP/s, {card.gib} GiB)"))
        console.say(
            f"A full run from nothing, counted from the models' shapes; hours at {peak_share:.0%} "
            "of peak.\nNot counted: NudeNet (a small network), the merge's SVDs, replies that are "
            "asked again."
        )
    return 0


def _gpu(name: str, peak_share: float) -> Gpu:
    faults = []
    if name not in GPUS:
        faults.append(f"--gpu: {name!r} is not known; there are {', '.join(GPUS)}")
    if not 0 < peak_share <= 1:
        faults.append(f"--peak-share: must lie in (0, 1], got {peak_share:g}")
    if faults:
        raise ConfigError("alignguard plan", faults)
    return GPUS[name]


def _budget_table(costs: list[RoomBudget], card: str) -> Table:
    shown = table("room", "units", "TFLOP", "hours", "GiB kept", title=f"On one {card}")
    for column in shown.columns[1:]:
        column.justify = "right"
    for cost in costs:
        shown.add_row(
            cost.room,
            f"{cost.units:,} {cost.unit}",
            "?" if cost.tflop is None else f"{cost.tflop:,.0f}",
            "?" if cost.hours is None else f"{cost.hours:,.2f}",
            f"{cost.gib:,.1f}" if cost.gib else "",
        )
    shown.add_section()
    shown.add_row(
        "together",
        "",
        f"{sum(c.tflop or 0 for c in costs):,.0f}",
        f"{sum(c.hours or 0 for c in costs):,.2f}",
        f"{sum(c.gib for c in costs):,.1f}",
    )
    return shown


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
