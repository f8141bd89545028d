"""The `index` asset: a DuckDB file over every manifest's shards, rebuildable at any time."""

import dagster as dg

from alignguard_data.audit.funnel import FunnelRow, totals
from alignguard_data.contracts.records import from_table
from alignguard_data.index.room import build_index
from alignguard_data.storage import manifest as manifests
from pipelines.resources import Engines
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe, funnel, named_values


def index_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @dg.asset(
        key_prefix=engines.profile.name,
        deps=[dg.AssetKey([engines.profile.name, "preference_pairs"])],
        group_name="dataset",
        kinds={"duckdb"},
        automation_condition=dg.AutomationCondition.eager(),
        description="Tables and named views over the shards, in one DuckDB file.",
    )
    def index(engines: dg.ResourceParam[Engines]) -> dg.MaterializeResult:
        manifest = build_index(engines.data, engines.taxonomy)
        folder = engines.data.partition("index")
        rows = from_table(FunnelRow, manifests.read(folder, "funnel"))
        shown = {**describe(manifest, folder), **funnel(totals(rows))}
        shown |= file_columns(manifest, folder)
        shown["tables"] = named_values("table", manifest.counts["tables"])
        return dg.MaterializeResult(metadata=shown)

    return index
