"""The `taxonomy` asset: validated concepts, and one dynamic partition for each."""

import dagster as dg

from alignguard_data.taxonomy.room import write_taxonomy
from pipelines.partitions import register_concepts
from pipelines.resources import Engines
from pipelines.ui.columns import room_columns
from pipelines.ui.metadata import describe


def taxonomy_asset(
    engines: Engines, concepts: dg.DynamicPartitionsDefinition
) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @dg.asset(
        key_prefix=engines.profile.name,
        group_name="dataset",
        kinds={"yaml"},
        description="One row per concept that the model must not draw; registers its partition.",
    )
    def taxonomy(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.data.prepare()
        manifest = write_taxonomy(engines.data, engines.taxonomy)
        keys = [concept.key for concept in engines.taxonomy.concepts]
        register_concepts(context.instance, concepts, keys)
        shown = describe(manifest, engines.data.partition("taxonomy"))
        shown |= room_columns(engines.profile.name, "taxonomy")
        return dg.MaterializeResult(metadata=shown)

    return taxonomy
