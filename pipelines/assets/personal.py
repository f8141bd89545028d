"""The `personal_adapter` asset: one adapter that draws by each user's bans."""

import dagster as dg

from alignguard_train.personal.room import make_personal
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.room_inputs import personal_job
from pipelines.runtime.progress import Meter
from pipelines.ui.metadata import describe


def personal_adapter_asset(engines: Engines) -> dg.AssetsDefinition:
    """Build the asset for one profile."""

    @alignment_asset(
        engines,
        room="personal",
        after=["release", "merged_adapter"],
        kinds={"pytorch", "parquet"},
        description="One adapter for all users; suppression and preservation are in `measures`.",
    )
    def personal_adapter(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        manifest = make_personal(
            engines.data, personal_job(engines), progress=Meter(context, "personal", "steps")
        )
        return dg.MaterializeResult(metadata=describe(manifest, engines.data.partition("personal")))

    return personal_adapter
