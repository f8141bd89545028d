"""Decorator shared by the assets that train, merge or measure adapters."""

from collections.abc import Callable, Collection
from typing import Any

import dagster as dg

from pipelines.resources import Engines
from pipelines.runtime.ray_cluster import op_tags


def alignment_asset(
    engines: Engines,
    *,
    room: str,
    after: Collection[str],
    description: str,
    kinds: Collection[str] = ("pytorch",),
    pool: str = "trainers",
    partitions: dg.PartitionsDefinition | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """``dg.asset`` decorator: one run loads one model.

    Args:
        engines: of the profile.
        room: the room that the asset makes.
        after: names of the assets that it reads.
        description: for the Dagster UI.
        kinds: for the Dagster UI.
        pool: of runs that use a GPU.
        partitions: of the asset, if it has some.

    Returns:
        The decorator.
    """
    profile = engines.profile
    return dg.asset(
        key_prefix=profile.name,
        deps=[dg.AssetKey([profile.name, name]) for name in after],
        partitions_def=partitions,
        pool=pool,
        op_tags=op_tags(profile.ray, room),
        group_name="alignment",
        kinds=set(kinds),
        description=description,
    )
