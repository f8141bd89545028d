"""The `merged_adapter` asset: one LoRA adapter from all experts (Co-Merge), and its baselines."""

import dagster as dg

from alignguard_train.merge.room import make_merges
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import merged_keys
from pipelines.runtime.progress import Meter
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe


def merged_adapter_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @alignment_asset(
        engines,
        room="merge",
        after=["experts"],
        description="One LoRA adapter from all experts; with the baselines' adapters.",
    )
    def merged_adapter(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        manifest = make_merges(
            engines.data,
            merged_keys(engines),
            engines.base,
            engines.profile.merge,
            progress=Meter(context, "merge", "strategies"),
        )
        folder = engines.data.partition("merge")
        return dg.MaterializeResult(
            metadata={**describe(manifest, folder), **file_columns(manifest, folder)}
        )

    return merged_adapter
