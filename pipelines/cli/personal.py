"""`alignguard personal ...`: measures, users and Sage's export of the personal adapter."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.console import Output, table
from pipelines.cli.options import Json, OwnProfile, OwnRoot

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Show measures and users of the personal adapter, and export its pairs as Sage.",
)


def _rows(name: str) -> list[dict[str, Any]]:
    """One table of the personal room.

    Raises:
        InputMissing: there is no personal adapter yet.
    """
    from alignguard_data.storage import manifest as manifests

    folder = _data().partition("personal")
    manifests.require(folder)
    return manifests.read(folder, name).to_pylist()


def _data() -> Any:
    from alignguard_data.storage.paths import DataRoot
    from pipelines.profile import load_profile
    from pipelines.resources import data_root

    return DataRoot(root=data_root(), profile=load_profile().name)


@app.command("report")
def report_command(profile: OwnProfile = None, root: OwnRoot = None, as_json: Json = False) -> None:
    """Print suppression, preservation, their harmonic mean and wins, of seen and unseen users."""
    rows = _rows("measures")
    if as_json:
        Output().json(rows)
        return
    shown = table("adapter", "users", "measure", "value", "over users", "images")
    for row in rows:
        bounds = f"{row['value']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]"
        which = (row["adapter"], row["split"], row["metric"])
        shown.add_row(*which, bounds, str(row["users"]), str(row["images"]))
    Output().print(shown)


@app.command("users")
def users_command(profile: OwnProfile = None, root: OwnRoot = None, as_json: Json = False) -> None:
    """List the users with their bans, and those whose bans could not be read."""
    users, refused = _rows("users"), _rows("refused")
    if as_json:
        Output().json({"users": users, "refused": refused})
        return
    shown = table("user", "age", "split", "banned")
    for user in users:
        banned = ", ".join(user["banned"]) or "nothing"
        shown.add_row(user["user_id"], str(user["age"]), user["split"], banned)
    Output().print(shown)
    for user in refused:
        Output().say(f"refused {user['user_id']}: {user['reason']} {user['detail']}".rstrip())


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Write the pairs per user in Sage's published schema: images and `metadata.jsonl` per split.

    The images are the release's, unblurred.
    """
    from alignguard_data.release.reader import release_folder
    from alignguard_train.personal import SageRow, export_sage

    rows = [SageRow(**row) for row in _rows("rows")]
    users = {row["user_id"]: _user(row) for row in _rows("users")}
    counts = export_sage(release_folder(_data()), rows, users, out)
    if as_json:
        Output().json({"written": str(out), "rows": counts})
        return
    Output().say(f"{out}: " + ", ".join(f"{number} {split}" for split, number in counts.items()))
    Output().say(("Holds unblurred unsafe images.", "yellow"))


def _user(row: dict[str, Any]) -> Any:
    from alignguard_train.personal import User

    values: dict[str, Any] = row | {name: tuple(row[name]) for name in ("banned", "allowed")}
    return User(**values)
