"""The `prompt_pairs` asset: unsafe prompts and their safe twins, written for each concept."""

import dagster as dg

from alignguard_data.prompts.room import close_writer, write_prompt_pairs
from alignguard_data.storage.tally import make_each
from pipelines.assets.per_concept import per_concept, report
from pipelines.resources import Engines
from pipelines.runtime.progress import Meter


def prompt_pairs_asset(engines: Engines, concepts: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @per_concept(
        engines,
        concepts,
        room="prompts",
        after="taxonomy",
        kinds={"llm", "parquet"},
        description="One row per accepted prompt pair; refused replies have a table.",
    )
    def prompt_pairs(context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]) -> None:
        meter = Meter(context, "prompts", "pairs")

        def write(key: str) -> None:
            manifest = write_prompt_pairs(
                engines.data,
                engines.taxonomy.concept(key),
                engines.writer,
                engines.profile.writing,
                progress=meter,
                tools=engines.gate_tools,
            )
            report(context, engines, "prompts", key, manifest)

        try:
            make_each(context.partition_keys, write)
        finally:
            close_writer(engines.writer)  # the next room needs its GPU

    return prompt_pairs
