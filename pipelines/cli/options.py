"""Options of every command; before the command's name and after it they mean the same."""

import os
from typing import Annotated, Any

import typer


def use_profile(profile: str | None) -> str | None:
    """Make ``profile`` (a shipped name or a YAML file) the one in use."""
    if profile:
        from pipelines.profile import settled

        os.environ["ALIGNGUARD_PROFILE"] = settled(profile)
    return profile


def use_root(root: str | None) -> str | None:
    """Make ``root`` (a folder or ``s3://bucket/prefix``) the data root in use."""
    if root:
        from alignguard_data.storage.places import parse_root

        os.environ["ALIGNGUARD_ROOT"] = str(parse_root(root))
    return root


def defaults(group: Any, **values: Any) -> dict[str, Any]:
    """``values`` as the defaults of every command of a group, and of the groups in it."""
    return {
        name: defaults(command, **values) if hasattr(command, "commands") else values
        for name, command in group.commands.items()
    }


Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", envvar="ALIGNGUARD_PROFILE", help="A shipped name or a YAML file."),
]
RootOption = Annotated[
    str | None,
    typer.Option(
        "--root", envvar="ALIGNGUARD_ROOT", help="Folder or s3://bucket/prefix; default ./data."
    ),
]
OwnProfile = Annotated[
    str | None,
    typer.Option(
        "--profile", "-p", callback=use_profile, help="Here too: a shipped name or a YAML file."
    ),
]
OwnRoot = Annotated[
    str | None,
    typer.Option("--root", callback=use_root, help="Here too: a folder or s3://bucket/prefix."),
]
