"""The `robustness` asset: attacks on the base model, the adapters and the profile's peers."""

import dagster as dg

from alignguard_train.contracts.adapter_names import guard_of
from alignguard_train.robustness.room import attack_all
from pipelines.resources import Engines
from pipelines.room_inputs import attacked_matrix, attacked_models
from pipelines.runtime.progress import Meter
from pipelines.runtime.ray_cluster import op_tags
from pipelines.ui.attacks import robustness_metadata


def robustness_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""
    # A matrix with a guard as a target follows the guards too.
    behind = any(map(guard_of, engines.profile.robustness.targets))
    deps = ["merged_adapter", "guards"] if behind else ["merged_adapter"]

    @dg.asset(
        key_prefix=engines.profile.name,
        deps=[dg.AssetKey([engines.profile.name, name]) for name in deps],
        pool="base_model",
        op_tags=op_tags(engines.profile.ray, "robustness"),
        group_name="alignment",
        kinds={"pytorch", "parquet"},
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
