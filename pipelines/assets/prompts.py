"""The `prompt_pairs` asset: unsafe prompts and their safe twins, written for each concept."""

import dagster as dg

from alignguard_data.prompts import write_prompt_pairs
from pipelines.assets.per_concept import per_concept, report
from pipelines.progress import Meter
from pipelines.resources import Engines


def prompt_pairs_asset(engines: Engines, concepts: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @per_concept(
        engines,
        concepts,
        after="taxonomy",
        description="One row per accepted prompt pair; rejected replies stand beside.",
    )
    def prompt_pairs(context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]) -> None:
        meter = Meter(context, "prompts", "pairs")
        for key in context.partition_keys:
            concept = engines.taxonomy.concept(key)
            config = engines.profile.writing
            manifest = write_prompt_pairs(
                engines.data,
                concept,
                engines.writer,
                config,
                progress=meter,
                count_tokens=engines.count_tokens,
            )
            report(context, engines, "prompts", key, manifest)

    return prompt_pairs
