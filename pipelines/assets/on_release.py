"""Decorator shared by the assets that train one model per partition on the release."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from pipelines.resources import Engines
from pipelines.runtime.ray_cluster import op_tags


def on_release(
    engines: Engines, partitions: dg.PartitionsDefinition, *, room: str, description: str
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """``dg.asset`` decorator: one run trains one model.

    Args:
        engines: of the profile.
        partitions: one model each.
        room: the room that the asset makes.
        description: for the Dagster UI.

    Returns:
        The decorator.
    """
    return dg.asset(
        key_prefix=engines.profile.name,
        deps=[dg.AssetKey([engines.profile.name, "release"])],
        partitions_def=partitions,
        pool="trainers",
        op_tags=op_tags(engines.profile.ray, room),
        group_name="alignment",
        kinds={"pytorch"},
        description=description,
    )
