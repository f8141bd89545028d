"""The `hardened_adapter` asset: experts go on with a round's hard negatives, then are merged."""

import dagster as dg

from alignguard_train.hardening.room import make_hardened
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import continuation
from pipelines.runtime.progress import Meter
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe


def hardened_adapter_asset(
    engines: Engines, rounds: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @alignment_asset(
        engines,
        room="hardening",
        after=["release", "merged_adapter"],
        partitions=rounds,
        description="One merged adapter per round; `alignguard harden` finds what it learns from.",
    )
    def hardened_adapter(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        key = context.partition_key
        manifest = make_hardened(
            engines.data,
            int(key),
            engines.base,
            continuation(engines),
            progress=Meter(context, "hardening", "steps"),
        )
        folder = engines.data.partition("hardening", key)
        return dg.MaterializeResult(
            metadata={**describe(manifest, folder), **file_columns(manifest, folder)}
        )

    return hardened_adapter
