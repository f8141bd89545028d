"""The `guards` asset: what reads a prompt before the model draws, trained on the release."""

import dagster as dg

from alignguard_train.guards.room import make_guard
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.runtime.progress import Meter
from pipelines.ui.metadata import describe


def guards_asset(engines: Engines, kinds: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @alignment_asset(
        engines,
        room="guards",
        after=["release"],
        partitions=kinds,
        description="One guard of prompts per partition, with its threshold and its measures.",
    )
    def guards(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        key = context.partition_key
        manifest = make_guard(
            engines.data,
            key,
            engines.base,
            engines.taxonomy.concepts,
            engines.profile.guards,
            progress=Meter(context, "guards", "steps"),
        )
        return dg.MaterializeResult(
            metadata=describe(manifest, engines.data.partition("guards", key))
        )

    return guards
