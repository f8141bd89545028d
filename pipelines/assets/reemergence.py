"""The `reemergence` asset: what benign fine-tuning brings back, of each safety adapter."""

import dagster as dg

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.places import size
from alignguard_train.evaluation.report.summary import write_model_card
from alignguard_train.reemergence.room import measure_reemergence
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import merged_adapter, tuned_models
from pipelines.runtime.progress import Meter
from pipelines.ui.reemergence import reemergence_metadata


def reemergence_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @alignment_asset(
        engines,
        room="reemergence",
        after=["merged_adapter"],
        kinds={"pytorch", "parquet"},
        description="One row per judged image of a fine-tuned model; IP by steps is in `measures`.",
    )
    def reemergence(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        manifest = measure_reemergence(
            engines.data,
            tuned_models(engines),
            engines.profile.reemergence,
            progress=Meter(context, "reemergence", "steps and images"),
        )
        if size(engines.data.partition("evaluation") / manifests.MANIFEST):
            write_model_card(engines.data, adapter=merged_adapter(engines))
        folder = engines.data.partition("reemergence")
        return dg.MaterializeResult(metadata=reemergence_metadata(manifest, folder))

    return reemergence
