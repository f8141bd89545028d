"""`alignguard release ...`: list, compare, export, push and withdraw."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place, user_path
from pipelines.cli.console import Output, table
from pipelines.cli.options import Json, OwnProfile, OwnRoot

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, show, verify, compare, export, push and withdraw from releases of the dataset.",
)
Version = Annotated[
    str | None, typer.Argument(help="For example v0.1.0, or a folder; default: the newest.")
]


def _data() -> DataRoot:
    from pipelines.profile import load_profile
    from pipelines.resources import data_root

    return DataRoot(root=data_root(), profile=load_profile().name)


def _folder(version: str | None) -> Place:
    """The release of this exact version (`0.1.0`, `v0.1.0`) or name, or in this folder.

    Raises:
        InputMissing: there is none.
    """
    from alignguard_data.release.room import list_releases

    data = _data()
    there = list_releases(data)
    if version is None and there:
        return there[-1]
    for folder in there:
        number = folder.name.rsplit("-v", 1)[-1]
        if version in (number, f"v{number}", folder.name):
            return folder
    if version and user_path(version).is_dir():
        return user_path(version)
    names = ", ".join(folder.name for folder in there) or "none"
    raise InputMissing(
        f"no release{f' {version}' if version else ''} in {data.releases}; there: {names}"
    )


@app.command("list")
def list_command(
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """List every release, oldest first."""
    from alignguard_data.release.room import list_releases, show_release

    found = {path.name: show_release(path) for path in list_releases(_data())}
    if as_json:
        Output().json(found)
        return
    shown = table("release", "pairs", "train", "test", "bytes")
    for name, manifest in found.items():
        size = sum(file["bytes"] for file in manifest["files"])
        train, test = manifest["rows"]["train"], manifest["rows"]["test"]
        shown.add_row(name, str(train + test), str(train), str(test), f"{size:,}")
    Output().print(shown)


@app.command("show")
def show_command(
    version: Version = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Show one release's manifest: files, counts, funnel, fingerprints, parent."""
    from alignguard_data.release.room import show_release

    manifest = show_release(_folder(version))
    if as_json:
        Output().json(manifest)
        return
    Output().json({k: v for k, v in manifest.items() if k != "files"})


@app.command("verify")
def verify_command(
    version: Version = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Compare every file of a release with the manifest; exit 1 on any difference."""
    from alignguard_data.release.room import verify_release

    folder = _folder(version)
    faults = verify_release(folder)
    if as_json:
        Output().json({"release": folder.name, "faults": faults})
    elif faults:
        for fault in faults:
            Output(stderr=True).say((fault, "red"))
    else:
        Output().say(f"{folder.name}: every file matches the manifest")
    raise typer.Exit(1 if faults else 0)


@app.command("diff")
def diff_command(
    old: Annotated[str, typer.Argument(help="For example v0.1.0, or a folder.")],
    new: Annotated[str, typer.Argument(help="Release to compare with.")],
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Show pairs added, removed or changed between two releases, by category."""
    from alignguard_data.release.changes import by_category, evaluation_changes, published_diff

    changes = published_diff(_folder(old), _folder(new))
    counts, prompts = by_category(changes), evaluation_changes(changes)
    if as_json:
        pairs = [dataclasses.asdict(pair) for pair in changes]
        Output().json({"by_category": counts, "evaluation_prompts": prompts, "pairs": pairs})
        return
    shown = table("category", "added", "removed", "changed")
    for category, row in counts.items():
        shown.add_row(category, *(str(row[kind]) for kind in ("added", "removed", "changed")))
    Output().print(shown if counts else "No pair differs.")
    if any(prompts.values()):
        said = ", ".join(f"{number} {kind}" for kind, number in prompts.items())
        Output().say(f"evaluation prompts: {said}")


@app.command("withdraw")
def withdraw_command(
    pair_ids: Annotated[list[str], typer.Argument(help="Ids of pairs of the newest release.")],
    reason: Annotated[str, typer.Option(help="Reason, for the next change log.")],
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Withdraw pairs: the next release omits them. Published releases are unchanged."""
    from alignguard_data.release.withdrawals import ledger, withdraw

    data = _data()
    written = withdraw(data, pair_ids, reason)
    if as_json:
        Output().json({"withdrawn": len(written), "ledger": str(ledger(data))})
        return
    Output().say(f"{len(written)} pair(s) written to {ledger(data)}")
    Output().say("`alignguard run --until release` cuts the release without them.")


@app.command("export")
def export_command(
    version: Version = None,
    to: Annotated[Path, typer.Option(help="New folder; must not exist.")] = Path("export"),
    tier: Annotated[
        str, typer.Option(help="card: statistics; prompts: text and hashes; full: images too.")
    ] = "prompts",
    file_format: Annotated[
        str, typer.Option("--format", help="parquet, csv, webdataset or pickapic-folder.")
    ] = "parquet",
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Export one release to another format. Only tier `full` includes (unsafe) images."""
    from alignguard_data.release.export import export_release

    files = export_release(_folder(version), to, tier=tier, file_format=file_format)
    if as_json:
        Output().json({"folder": str(to), "files": [dataclasses.asdict(file) for file in files]})
        return
    Output().say(f"{to}: {len(files)} files, {sum(file.bytes for file in files):,} bytes")


@app.command("push")
def push_command(
    address: Annotated[str, typer.Argument(help="hf://org/name, a dataset on the hub.")],
    version: Version = None,
    tier: Annotated[
        str, typer.Option(help="card: statistics; prompts: text and hashes; full: images too.")
    ] = "card",
    gated: Annotated[
        bool,
        typer.Option("--gated", help="Require access approval per reader; mandatory for full."),
    ] = False,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="New repositories are private by default."),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Push into a repository that has other files; equal names are replaced.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, without sending.")
    ] = False,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Upload one tier of a release to the Hugging Face hub as one tagged commit."""
    from alignguard_data.release.push import Push, push_release, settings_of

    push = Push(address=address, tier=tier, gated=gated, private=private, take_over=take_over)
    done = push_release(_folder(version), push, dry_run=dry_run)
    size = sum(file.bytes for file in done.files)
    if as_json:
        Output().json({**dataclasses.asdict(done), "sent": not dry_run})
        return
    if dry_run:
        shown = table("file", "bytes")
        for file in done.files:
            shown.add_row(file.name, f"{file.bytes:,}")
        Output().print(shown)
        Output().say(f"to {done.repository} ({settings_of(push)}), tag {done.tag}")
        Output().say(f"one commit: {done.message}")
        Output().say(f"{len(done.files)} files, {size:,} bytes; nothing was sent")
        return
    Output().say(f"{done.repository} {done.tag}: {len(done.files)} files, {size:,} bytes")
    Output().say(done.url)
