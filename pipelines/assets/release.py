"""The `release` asset: CoProV2, an immutable, versioned Parquet dataset with manifest and card."""

import dagster as dg

from alignguard_data.release import build_release
from pipelines.metadata import describe
from pipelines.resources import Engines


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
        return dg.MaterializeResult(metadata=describe(manifest, engines.data.partition("release")))

    return release
