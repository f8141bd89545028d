"""The console script `alignguard`: thin commands over the driver and the libraries.

Every command exits with 0 on success, and with 1 and a short message on a fault.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from alignguard_data import __version__
from pipelines.cli import guard, import_data, trials
from pipelines.cli import personal as personal_commands
from pipelines.cli import release as release_commands
from pipelines.cli.console import Output
from pipelines.cli.last_net import guarded
from pipelines.cli.options import (
    Json,
    OwnProfile,
    OwnRoot,
    ProfileOption,
    RootOption,
    defaults,
    use_profile,
    use_root,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""From a list of concepts that an image model must not draw to a preference dataset,
    one LoRA expert per category, one merged safety adapter, and its evaluation.

    Start with `alignguard doctor`, then `alignguard run`. The environment variables
    `ALIGNGUARD_PROFILE` (default `standin`) and `ALIGNGUARD_ROOT` (default `./data`) say which
    deployment and where its data lives.""",
)
app.add_typer(release_commands.app, name="release")
app.add_typer(import_data.app, name="import")
app.add_typer(personal_commands.app, name="personal")
app.add_typer(guard.app, name="guard")


def _say_version(wanted: bool) -> None:
    if wanted:
        Output().say(f"alignguard {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version),
]


@app.callback()
def choose(
    context: typer.Context,
    profile: ProfileOption = None,
    root: RootOption = None,
    as_json: Json = False,
    version: VersionOption = False,
) -> None:
    """Options of every command; they override the environment."""
    use_profile(profile)
    use_root(root or "data")
    if as_json:
        context.default_map = defaults(context.command, as_json=True)


@app.command()
def run(
    until: Annotated[
        str | None, typer.Option(help="Stop after this room, for example `release`.")
    ] = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Bring every room up to date with live progress, then print the result table.

    Makes only what is missing or stale. After a kill, the next run resumes.
    """
    from pipelines.cli.run import run_command

    raise typer.Exit(run_command(Output(stderr=as_json), until, as_json=as_json))


@app.command()
def plan(
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Also estimate a full run on this GPU, for example `h100`, from operation counts."
        ),
    ] = None,
    peak_share: Annotated[
        float, typer.Option(help="With --gpu: share of the GPU's 16-bit peak that is reached.")
    ] = 0.4,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Show what `alignguard run` would make and why, with time and size, without making it.

    `alignguard plan --profile sdxl --gpu h100` needs no GPU and no weights.
    """
    from pipelines.cli.plan import plan_command

    raise typer.Exit(plan_command(Output(), gpu=gpu, peak_share=peak_share, as_json=as_json))


@app.command()
def status(
    verify: Annotated[
        bool, typer.Option(help="Compare every file's hash with its manifest.")
    ] = False,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Show rooms x partitions: done, short, empty, stale, missing, failed.

    *done*: the manifest matches the current configuration and inputs. *short*: done, with fewer
    rows than requested; the next run asks again. *empty*: the last run produced nothing. *stale*:
    made from another configuration or other inputs. *missing*: never completed. *failed*: the last
    run failed.
    """
    from pipelines.cli.status import status_command

    raise typer.Exit(status_command(Output(), as_json=as_json, verify=verify))


@app.command()
def doctor(
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Check what this machine can run and print a fix for what is missing.

    Exit code 1 if the profile cannot run: weights, licence, GPU, disk, server.
    """
    from pipelines.cli.doctor import doctor_command

    raise typer.Exit(doctor_command(Output(), as_json=as_json))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="Any SELECT; `SHOW TABLES` lists tables and views.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the result to a .csv, .parquet or .json file.")
    ] = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Query the index, for example `alignguard sql "SELECT * FROM coverage"`.

    Views: coverage, funnel_totals, flag_rates, near_misses, duplicates, lineage, image_pairs,
    preference_pairs, release_pairs, and drift('v0.1.0', 'v0.2.0').
    """
    from pipelines.cli.sql import sql_command

    raise typer.Exit(sql_command(Output(), query, out=out, as_json=as_json))


@app.command()
def show(
    pair: Annotated[str, typer.Argument(help="A pair's id or a prefix of it.")],
    out: Annotated[
        Path | None,
        typer.Option(help="PNG of both images; default: pair-ID.png in the current folder."),
    ] = None,
    reveal: Annotated[bool, typer.Option(help="Do not blur the unsafe image (logged).")] = False,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Show a pair's history (prompts, images, scores, verdict, releases) and its blurred images."""
    from pipelines.cli.show import show_command

    raise typer.Exit(show_command(Output(), pair, out=out, reveal=reveal, as_json=as_json))


@app.command()
def report(
    reveal: Annotated[
        bool,
        typer.Option(help="Also write a report with unblurred unsafe images (logged)."),
    ] = False,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Print the result table and the report's path."""
    from pipelines.cli.report import report_command

    raise typer.Exit(report_command(Output(), reveal=reveal, as_json=as_json))


for trial in (trials.attack, trials.harden, trials.arena, trials.reemergence):
    app.command()(trial)


@app.command()
def calibrate(
    labels: Annotated[
        Path, typer.Argument(help="CSV: image_id (of the index), label (safe/unsafe or 0/1).")
    ],
    precision: Annotated[
        float, typer.Option(help="Target share of unsafe images among flagged ones.")
    ] = 0.95,
    every_score: Annotated[
        bool, typer.Option(help="All scores of the index, not only those of the flag rules.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="YAML file to write; default: in the data root.")
    ] = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Calibrate the flag rules' thresholds on labelled images, with ROC and PR curves.

    `alignguard sql "SELECT image_id, side, concept FROM images USING SAMPLE 200" --json` lists
    images to label. Use the result in a profile: `{scorer: q16, key: inappropriate, calibrated:
    thresholds.yaml}` instead of `at_least`.
    """
    from pipelines.cli.calibrate import calibrate_command

    raise typer.Exit(
        calibrate_command(
            Output(),
            labels,
            precision=precision,
            every_score=every_score,
            out=out,
            as_json=as_json,
        )
    )


@app.command("convert-q16")
def convert_q16(
    source: Annotated[Path, typer.Argument(help="The authors' prompts.p (ml-research/Q16).")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Convert Q16's published pickle of class vectors to safetensors, without executing it."""
    from alignguard_data.scores.scorers.q16 import convert_q16 as convert

    count, width = convert(source, target)
    if as_json:
        Output().json({"written": str(target), "vectors": count, "width": width})
    else:
        Output().say(f"{target}: {count} vectors of width {width}")


@app.command("convert-weights")
def convert_weights(
    folder: Annotated[Path, typer.Argument(help="A model folder in diffusers' format.")],
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Convert pickled weights (.bin, .pt) to safetensors; pickles are never loaded directly."""
    from alignguard_data.engines.pickled import convert_weights as convert

    written = [str(path) for path in convert(folder)]
    if as_json:
        Output().json({"written": written})
    for path in [] if as_json else written:
        Output().say(f"wrote {path}")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on; keep it local.")] = "127.0.0.1",
    profile: OwnProfile = None,
    root: OwnRoot = None,
) -> None:
    """Open the Dagster UI on the same runs; every asset can be materialized there."""
    from pipelines.profile import load_profile
    from pipelines.resources import data_root
    from pipelines.runtime.materialize import open_instance
    from pipelines.runtime.worker_slots import open_pools

    with open_instance(data_root()) as instance:
        open_pools(instance, load_profile())
        os.chdir(instance.root_directory)  # location of dagster.yaml
    Output().say(f"Dagster UI: http://{host}:{port}   (stop with Ctrl-C)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "dagster", "dev", "-m", "pipelines.definitions"]
    os.execv(  # noqa: S606 - no shell is wanted
        sys.executable, [*command, "-h", host, "-p", str(port), "--log-level", "warning"]
    )


def main() -> None:
    """Entry point: faults a user can fix end in a message, not a traceback."""
    for library in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(library, "error")  # they warn about unneeded features
    guarded(app)
