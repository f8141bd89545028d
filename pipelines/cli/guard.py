"""`alignguard guard ...`: train prompt guards, show their metrics, try one on a prompt."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from alignguard_data.contracts.errors import ConfigError, InputMissing
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.places import Place
from alignguard_train.guards.config import GUARDS, guard_steps
from alignguard_train.guards.reader import imported_partition
from pipelines.cli.console import Output, table
from pipelines.cli.options import Json, OwnProfile, OwnRoot

if TYPE_CHECKING:
    from pipelines.resources import Engines

NO_GAIN = "does not beat the logistic probe on unseen concepts"
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="GUARD...", help=f"Of {', '.join(GUARDS)}; default: all."),
]
Imported = Annotated[
    str | None,
    typer.Option(
        metavar="IMPORT",
        help="Of an import (`alignguard import coprov2`), by its name or folder, instead of the "
        "release.",
    ),
]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Guards: what reads a prompt before the model draws.",
)


@app.callback()
def group() -> None:
    """Guards, which check prompts before the model draws."""


@app.command("train")
def train_command(
    guards: Names = None,
    imported: Imported = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Train guards on the release, set their thresholds and measure them.

    Only what is missing or stale is made. If killed, the next call resumes.

    An import names categories and no concepts, so guards that need concepts refuse it; without
    names, those that can learn from it are trained.
    """
    from alignguard_train.guards.reader import guard_file

    engines, console = _engines(), Output(stderr=as_json)
    names, folder = _chosen(engines, guards, imported)
    files = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        for name in names:
            bar = bars.add_task(name, total=guard_steps(engines.profile.guards, name))
            _make(engines, name, folder, lambda done, bar=bar: bars.advance(bar, done))
            files[name] = str(guard_file(engines.data, name, folder))
    if as_json:
        Output().json({"guards": files})
        return
    for name, file in files.items():
        console.say((f"{name:<13}", "bold"), f" {file}")
    _show(console, engines, list(files), folder)
    if folder is not None and not guards:
        for why in _unfit(engines, GUARDS):
            console.say(("!", "yellow"), f" {why}")


@app.command("score")
def score_command(
    guards: Names = None,
    imported: Imported = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Show the metrics of trained guards, per split, with 95 % intervals."""
    engines = _engines()
    folder = _folder(engines, imported)
    names = _known(guards) if guards else _trained(engines, folder)
    if as_json:
        found = {name: _measures(engines, name, folder) for name in names}
        Output().json({"guards": found, "notes": _notes(engines, names, folder)})
        return
    _show(Output(), engines, names, folder)


@app.command("try")
def try_command(
    prompt: Annotated[str, typer.Argument(help="The prompt, in quotes.")],
    guard: Annotated[
        str | None, typer.Option(help="Its name; default: every guard that is trained.")
    ] = None,
    blacklist: Annotated[
        list[str] | None,
        typer.Option(
            help="For Latent Guard: a concept in words or by its key, instead of the trained ones; "
            "repeatable."
        ),
    ] = None,
    imported: Imported = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Run guards on one prompt: `alignguard guard try "a red ball on the left"`."""
    engines = _engines()
    folder = _folder(engines, imported)
    names = _known([guard]) if guard else _trained(engines, folder)
    rows = [_decision(engines, name, prompt, blacklist, folder) for name in names]
    if as_json:
        Output().json({"decisions": rows})
        return
    shown = table("guard", "decision", "reason", "score", "threshold", "draw instead")
    for row in rows:
        cells = [row["guard"], row["action"], row["reason"], f"{row['score']:.3f}"]
        shown.add_row(*cells, f"{row['threshold']:.3f}", row["prompt"] or "")
    Output().print(shown)


def _engines() -> "Engines":
    from pipelines.profile import load_profile
    from pipelines.resources import Engines, data_root

    return Engines(load_profile(), data_root())


def _known(names: Sequence[str] | None) -> list[str]:
    if faults := _strange(names):
        raise ConfigError("alignguard guard", faults)
    return list(names or GUARDS)


def _strange(names: Sequence[str] | None) -> list[str]:
    known = ", ".join(GUARDS)
    return [f"no guard {name!r}; there are {known}" for name in names or () if name not in GUARDS]


def _chosen(
    engines: "Engines", names: Sequence[str] | None, imported: str | None
) -> tuple[list[str], Place | None]:
    """The guards to train, and the import to train them on; every fault is said at once."""
    if imported is None:
        return _known(names), None
    faults, folder = _strange(names), None
    wanted = [name for name in names or GUARDS if name in GUARDS]
    unfit = _unfit(engines, wanted)
    faults += unfit if names else []
    try:
        folder = _folder(engines, imported)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError("alignguard guard", faults)
    return [name for name in wanted if not _unfit(engines, [name])], folder


def _unfit(engines: "Engines", names: Sequence[str]) -> list[str]:
    """Why some guards cannot learn from an import."""
    from alignguard_train.guards.imported import unfit

    return [why for name in names if (why := unfit(name, engines.profile.guards))]


def _folder(engines: "Engines", imported: str | None) -> Place | None:
    from alignguard_train.guards.imported import imported_folder

    return None if imported is None else imported_folder(engines.data, imported)


def _make(
    engines: "Engines", name: str, folder: Place | None, progress: Callable[[int], object]
) -> None:
    from alignguard_train.guards.room import make_guard, make_imported_guard

    data, base, config = engines.data, engines.base, engines.profile.guards
    if folder is None:
        make_guard(data, name, base, engines.taxonomy.concepts, config, progress)
    else:
        make_imported_guard(data, name, base, folder, config, progress)


def _partition(engines: "Engines", name: str, folder: Place | None) -> Place:
    if folder is None:
        return engines.data.partition("guards", name)
    return imported_partition(engines.data, name, folder)


def _trained(engines: "Engines", folder: Place | None) -> list[str]:
    found = [name for name in GUARDS if manifests.load(_partition(engines, name, folder))]
    if not found:
        option = f" --imported {folder.name}" if folder is not None else ""
        raise InputMissing(f"no guard is trained yet: alignguard guard train{option}")
    return found


def _measures(engines: "Engines", name: str, folder: Place | None) -> list[dict[str, Any]]:
    made = _partition(engines, name, folder)
    manifests.require(made)
    return manifests.read(made, "measures").to_pylist()


def _decision(
    engines: "Engines",
    name: str,
    prompt: str,
    blacklist: Sequence[str] | None,
    folder: Place | None,
) -> dict[str, Any]:
    from alignguard_train.guards.latent_guard import LatentGuard
    from alignguard_train.guards.reader import guard_file
    from alignguard_train.guards.registry import load_guard

    guard = load_guard(guard_file(engines.data, name, folder), engines.base.pipe)
    if blacklist is not None and isinstance(guard, LatentGuard):
        guard = guard.with_blacklist(_concepts(engines, blacklist))
    (made,) = guard.decide([prompt])
    return {
        "guard": name,
        "action": made.action,
        "reason": made.reason + (", cut to the encoder's length" if made.truncated else ""),
        "score": made.score,
        "threshold": made.threshold,
        "failed": made.failed,
        "truncated": made.truncated,
        "prompt": made.prompt,
    }


def _concepts(engines: "Engines", blacklist: Sequence[str]) -> dict[str, str]:
    """Keys of the taxonomy by their names, any other text by itself; an empty text: no concept."""
    names = {concept.key: concept.name for concept in engines.taxonomy.concepts}
    return {one: names.get(one, one) for one in blacklist if one}


def _notes(engines: "Engines", names: Sequence[str], folder: Place | None) -> list[str]:
    """Warnings about the metrics."""
    notes = []
    for name in names:
        rows = _measures(engines, name, folder)
        notes += sorted({f"{name}: TPR at 1 % FPR {row['note']}" for row in rows if row["note"]})
        gains = [
            row
            for row in rows
            if row["measure"] == "auc_over_logistic" and row["split"].startswith("unseen")
        ]
        if gains and not any(row["low"] > 0 for row in gains):
            notes.append(f"{name} {NO_GAIN}: no interval of the difference is above 0")
    return notes


def _show(console: Output, engines: "Engines", names: Sequence[str], folder: Place | None) -> None:
    wanted = ("auc", "tpr_at_1", "tpr_at_5", "fpr_at_tpr95", "tpr", "fpr")
    shown = table("guard", "prompts", "n", "AUC", "TPR@1%", "TPR@5%", "FPR@TPR95", "TPR", "FPR")
    for name in names:
        rows = _measures(engines, name, folder)
        for split in dict.fromkeys(row["split"] for row in rows):
            own = {row["measure"]: row for row in rows if row["split"] == split}
            if not own.keys() & set(wanted):
                continue
            first = next(iter(own.values()))
            cells = [_cell(own.get(measure)) for measure in wanted]
            shown.add_row(name, split, f"{first['unsafe']} / {first['benign']}", *cells)
    console.print(shown)
    console.say("TPR and FPR: at the file's threshold, set on other benign prompts.")
    _show_others(console, engines, names, wanted, folder)
    for note in _notes(engines, names, folder):
        console.say(("!", "yellow"), f" {note}")


def _show_others(
    console: Output,
    engines: "Engines",
    names: Sequence[str],
    shown_already: Sequence[str],
    folder: Place | None,
) -> None:
    """Measures that only some guards have, such as a rewriter's."""
    skipped = {*shown_already, "auc_over_logistic"}
    shown = table("guard", "prompts", "n", "measure", "value")
    for name in names:
        for row in _measures(engines, name, folder):
            if row["measure"] not in skipped:
                n = str(row["unsafe"] or row["benign"])
                shown.add_row(name, row["split"], n, row["measure"], _cell(row))
    if shown.row_count:
        console.print(shown)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if math.isnan(row["value"]):
        return "not quoted"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
