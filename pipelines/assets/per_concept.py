"""Decorator and reporting shared by the assets partitioned by concept."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from pipelines.resources import Engines
from pipelines.runtime.ray_cluster import op_tags
from pipelines.ui.columns import room_columns
from pipelines.ui.metadata import describe, partition_funnel
from pipelines.ui.previews import MOST_PREVIEWED


def per_concept(
    engines: Engines,
    concepts: dg.PartitionsDefinition,
    *,
    after: str,
    description: str,
    room: str,
    kinds: set[str],
    pool: str | None = None,
    follows_by_itself: bool = False,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """``dg.asset`` decorator: one run covers many concepts with one model load.

    ``follows_by_itself``: remade when its input changes, if the automation sensor is on.
    """
    return dg.asset(
        key_prefix=engines.profile.name,
        deps=[dg.AssetKey([engines.profile.name, after])],
        partitions_def=concepts,
        backfill_policy=dg.BackfillPolicy.multi_run(engines.profile.concepts_per_run),
        pool=pool,
        op_tags=op_tags(engines.profile.ray, room),
        # Only for seconds of CPU work; an upstream change never starts a GPU.
        automation_condition=dg.AutomationCondition.eager() if follows_by_itself else None,
        group_name="dataset",
        kinds=kinds,
        description=description,
    )


def report(
    context: dg.AssetExecutionContext,
    engines: Engines,
    room: str,
    key: str,
    manifest: Manifest,
    preview: Callable[[DataRoot, str], dict[str, dg.MetadataValue]] | None = None,
) -> None:
    """Attach metadata to one partition only (a result's would go to all)."""
    shown = {
        **describe(manifest, engines.data.partition(room, key)),
        **partition_funnel(manifest),
        **room_columns(engines.profile.name, room),
    }
    if preview and len(context.partition_keys) <= MOST_PREVIEWED:
        shown |= preview(engines.data, key)
    context.add_asset_metadata(shown, partition_key=key)
