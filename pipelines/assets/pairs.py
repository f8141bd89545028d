"""The `preference_pairs` asset: pairs that carry a preference, and the reasons of dropped ones."""

import dagster as dg

from alignguard_data.pairs.room import filter_pairs
from alignguard_data.storage.tally import make_each
from pipelines.assets.per_concept import per_concept, report
from pipelines.resources import Engines
from pipelines.runtime.progress import Meter
from pipelines.ui.previews import kept_preview


def preference_pairs_asset(
    engines: Engines, concepts: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @per_concept(
        engines,
        concepts,
        room="pairs",
        after="scores",
        kinds={"python", "parquet"},
        follows_by_itself=True,
        description="One row per kept pair; dropped pairs have a table, each with one reason.",
    )
    def preference_pairs(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> None:
        meter = Meter(context, "pairs", "concepts")

        def choose(key: str) -> None:
            concept = engines.taxonomy.concept(key)
            manifest = filter_pairs(engines.data, concept, engines.profile.filter)
            report(context, engines, "pairs", key, manifest, kept_preview)
            meter(1)

        make_each(context.partition_keys, choose)

    return preference_pairs
