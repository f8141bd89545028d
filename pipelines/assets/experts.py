"""The `experts` asset: one LoRA expert per category, trained with Diffusion-DPO on the release."""

import dagster as dg

from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.report.plots import training_curves
from alignguard_train.experts.room import TENSORBOARD, board_of, make_expert
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import expert_categories, expert_recipe, held_out_ip, other_categories
from pipelines.runtime.progress import Meter
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe, pictures


def experts_asset(engines: Engines, categories: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @alignment_asset(
        engines,
        room="experts",
        after=["release", *(["cost_model"] if engines.profile.cost_model else [])],
        partitions=categories,
        description="One LoRA expert per category (and `all-single`, trained on all of them).",
    )
    def experts(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        key = context.partition_key
        manifest = make_expert(
            engines.data,
            key,
            expert_categories(engines, key),
            engines.base,
            expert_recipe(engines, key),
            seed=engines.profile.training.seed,
            processes=engines.profile.training.processes,
            held_out_ip=held_out_ip(engines, key),
            progress=Meter(context, "experts", "steps"),
            others=other_categories(engines, key),
        )
        folder = engines.data.partition("experts", key)
        curves = training_curves({key: manifests.read(folder, "history")})
        shown = pictures({"training curves": curves})
        board = dg.MetadataValue.path(str(board_of(engines.data, key, manifest.fingerprint)))
        shown |= {TENSORBOARD: board}
        return dg.MaterializeResult(
            metadata={**describe(manifest, folder), **shown, **file_columns(manifest, folder)}
        )

    return experts
