"""The `robustness` asset: attacks on the base model, the adapters and the profile's peers."""

import dagster as dg

from alignguard_train.contracts.adapter_names import guard_of
from alignguard_train.robustness.room import attack_all
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import attacked_matrix, attacked_models
from pipelines.runtime.progress import Meter
from pipelines.ui.attacks import robustness_metadata


def robustness_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""
    # A matrix with a guard as a target follows the guards too.
    behind = any(map(guard_of, engines.profile.robustness.targets))

    @alignment_asset(
        engines,
        room="robustness",
        after=["merged_adapter", "guards"] if behind else ["merged_adapter"],
        kinds={"pytorch", "parquet"},
        pool="base_model",
        description="One row per attack, target and case; success rates are in `metrics`.",
    )
    def robustness(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        manifest = attack_all(
            engines.data,
            attacked_models(engines),
            attacked_matrix(engines),
            progress=Meter(context, "robustness", "cases"),
        )
        folder = engines.data.partition("robustness")
        return dg.MaterializeResult(metadata=robustness_metadata(manifest, folder))

    return robustness
