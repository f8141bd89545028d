"""The `cost_model` asset: how unsafe an image looks, learned from the release's pairs."""

import dagster as dg

from alignguard_train.cost_model.config import CostModelConfig
from alignguard_train.cost_model.room import make_cost_model
from pipelines.assets.alignment import alignment_asset
from pipelines.resources import Engines
from pipelines.runtime.progress import Meter
from pipelines.ui.metadata import describe


def cost_model_asset(engines: Engines, settings: CostModelConfig) -> dg.AssetsDefinition:
    """Build the asset for one profile.

    Args:
        engines: the profile's.
        settings: of its cost_model section.

    Returns:
        The asset.
    """

    @alignment_asset(
        engines,
        room="cost_model",
        after=["release"],
        kinds={"pytorch", "parquet"},
        description="The cost of every train image, by a model that passed its gate.",
    )
    def cost_model(
        context: dg.AssetExecutionContext, engines: dg.ResourceParam[Engines]
    ) -> dg.MaterializeResult:
        engines.own_device()
        manifest = make_cost_model(
            engines.data,
            engines.cost_features,
            settings,
            progress=Meter(context, "cost_model", "images"),
        )
        folder = engines.data.partition("cost_model")
        return dg.MaterializeResult(metadata=describe(manifest, folder))

    return cost_model
