"""The `image_pairs` asset: both images of each pair, from the same noise or one edited."""

from functools import partial

import dagster as dg

from alignguard_data.images.room import edit_pairs, render_pairs
from pipelines.assets.per_concept import per_concept, report
from pipelines.resources import Engines
from pipelines.runtime.progress import Meter
from pipelines.ui.previews import images_preview
from pipelines.ui.throughput import reached


def image_pairs_asset(engines: Engines, concepts: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @per_concept(
        engines,
        concepts,
        room="images",
        after="prompt_pairs",
        kinds={"diffusers", "parquet"},
        pool="base_model",
        description="One row per rendered image: both prompts of each pair, same seed.",
    )
    def image_pairs(context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]) -> None:
        engines.own_device()
        make = partial(edit_pairs, editing=engines.editing) if engines.editing else render_pairs
        manifests = make(
            engines.data,
            context.partition_keys,
            engines.generator,
            engines.profile.sampling,
            progress=Meter(context, "images", "images"),
        )
        for key, manifest in manifests.items():
            report(context, engines, "images", key, manifest, images_preview)
            rate = manifest.counts["images_per_second"]
            context.add_asset_metadata(reached(engines.profile, rate), partition_key=key)

    return image_pairs
