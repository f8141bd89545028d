"""The `scores` asset: raw numbers, not labels, for every image and prompt pair."""

import dagster as dg

from alignguard_data.scores.room import score_concept
from alignguard_data.storage.tally import make_each
from pipelines.assets.per_concept import per_concept, report
from pipelines.resources import Engines
from pipelines.runtime.progress import Meter


def scores_asset(engines: Engines, concepts: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @per_concept(
        engines,
        concepts,
        room="scores",
        after="image_pairs",
        kinds={"pytorch", "parquet"},
        pool="scorers",
        description="One row per image (or prompt pair), scorer and key: the raw value.",
    )
    def scores(context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]) -> None:
        engines.own_device()
        meter = Meter(context, "scores", "images")

        def score(key: str) -> None:
            manifest = score_concept(
                engines.data,
                key,
                engines.image_scorers,
                engines.pair_scorers,
                progress=meter,
            )
            report(context, engines, "scores", key, manifest)

        make_each(context.partition_keys, score)

    return scores
