"""The `evaluation` asset: base model, experts and merges on held-out prompts."""

import dagster as dg

from alignguard_train.evaluation.report.summary import write_model_card, write_summary
from alignguard_train.evaluation.room import evaluate_all
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import adapters, merged_adapter
from pipelines.rooms import made_by_run, room_seconds
from pipelines.runtime.progress import Meter
from pipelines.ui.results import evaluation_metadata


def evaluation_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""
    # An evaluation with guards follows them too.
    deps = ["merged_adapter", *(["guards"] if engines.profile.evaluation.guards else [])]

    @alignment_asset(
        engines,
        room="evaluation",
        after=deps,
        kinds={"pytorch", "parquet"},
        pool="base_model",
        description="One row per evaluated image; IP and preservation are in `metrics`.",
    )
    def evaluation(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        manifest = evaluate_all(
            engines.data,
            adapters(engines),
            engines.generator,
            engines.evaluation_scorers,
            engines.profile.evaluation,
            progress=Meter(context, "evaluation", "images"),
            extractor=engines.evaluation_features,
        )
        folder = engines.data.partition("evaluation")
        adapter = merged_adapter(engines)
        write_model_card(engines.data, adapter=adapter)
        # Attacks come after it: they must not change its summary.
        seconds = room_seconds(engines, made_by_run(engines))
        write_summary(engines.data, seconds=seconds, adapter=adapter)
        return dg.MaterializeResult(metadata=evaluation_metadata(manifest, folder))

    return evaluation
