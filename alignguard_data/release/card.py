"""Renders the dataset card of a release: README.md with configs, statistics and the funnel."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import pyarrow as pa

from alignguard_data.release.columns import meaning

_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}


def render_card(
    manifest: Mapping[str, Any],
    schema: pa.Schema | None,
    *,
    extension: str = ".parquet",
    plots: Sequence[str] = (),
) -> str:
    """README.md of a release, or of an export of another tier.

    Config ``default`` reads the columns as stored. Config ``images``, if there are images, declares
    the two image columns as pictures over the same files.

    Args:
        manifest: of the release; its ``tier`` says what the files hold.
        schema: columns of the data files, or None without data files.
        extension: of the data files.
        plots: file names next to the card.

    Returns:
        Markdown with YAML front matter.
    """
    source = (
        resources.files("alignguard_data.release")
        .joinpath("card.md.j2")
        .read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(source).render(
        manifest=manifest,
        licence=hub_licence(manifest["licence"]),
        columns=schema.names if schema else [],
        meaning=meaning,
        features=_features(schema) if schema else [],
        extension=extension,
        plots=plots,
        size=size_category(manifest["rows"]["train"] + manifest["rows"]["test"]),
    )


def size_category(rows: int) -> str:
    """The hub's size category for a number of rows."""
    steps: Sequence[tuple[int, str]] = (
        (1_000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
    )
    return next((name for limit, name in steps if rows < limit), "1M<n<10M")


def hub_licence(licence: str) -> dict[str, str]:
    """The card's licence fields: the hub spells SPDX ids in lower case and links other licences."""
    if "://" in licence:
        return {"license": "other", "license_name": "see-link", "license_link": licence}
    return {"license": licence.lower()} if licence else {}


def _features(schema: pa.Schema) -> list[tuple[str, str]]:
    return [
        (field.name, "image" if pa.types.is_binary(field.type) else _DTYPES[field.type])
        for field in schema
    ]
