"""The `release` asset: CoProV2, an immutable, versioned Parquet dataset with manifest and card."""

import dagster as dg

from alignguard_data.release.room import build_release, show_release
from pipelines.resources import Engines
from pipelines.ui.columns import file_columns, first_data_file, release_columns
from pipelines.ui.metadata import describe, funnel
from pipelines.ui.previews import release_preview


def release_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @dg.asset(
        key_prefix=engines.profile.name,
        deps=[dg.AssetKey([engines.profile.name, "index"])],
        group_name="dataset",
        kinds={"parquet"},
        description="One row per released pair; refused while a blocking check fails.",
    )
    def release(engines: dg.ResourceParam[Engines]) -> dg.MaterializeResult:
        profile = engines.profile
        manifest = build_release(
            engines.data,
            engines.taxonomy,
            profile.release,
            profile.audit,
            embedder=engines.embedder,
        )
        folder = engines.data.releases / str(manifest.counts["path"])
        file = first_data_file(folder)
        shown = {
            **describe(manifest, engines.data.partition("release")),
            **funnel(show_release(folder)["funnel"]),
            **file_columns(manifest, engines.data.partition("release")),
            **release_columns(profile.name, file),
            **release_preview(file),
        }
        texts = {"card": "README.md", "change_log": "CHANGELOG.md", "leak_report": "leaks.json"}
        shown |= {k: dg.MetadataValue.path(str(folder / name)) for k, name in texts.items()}
        return dg.MaterializeResult(metadata=shown)

    return release
