"""The reemergence room's results as numbers, which Dagster plots over materializations."""

import dagster as dg

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place
from alignguard_train.contracts.adapter_names import MERGED
from alignguard_train.reemergence.summary import REPORT, relapses
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe


def reemergence_metadata(manifest: Manifest, folder: Place) -> dict[str, dg.MetadataValue]:
    """What the UI shows after fine-tuning: results first, then the report, then ids.

    ``relapse_VARIANT`` is the merged adapter's rise of IP at the last step.

    Args:
        manifest: of the finished partition.
        folder: the partition.
    """
    found = relapses(manifests.read(folder, "measures").to_pylist())
    first = found.get(MERGED) or next(iter(found.values()), {})
    return {
        **{
            f"relapse_{variant}": dg.MetadataValue.float(numbers["value"])
            for variant, numbers in first.items()
        },
        "report": dg.MetadataValue.path(str(folder / manifest.file(REPORT).name)),
        **describe(manifest, folder),
        **file_columns(manifest, folder),
    }
