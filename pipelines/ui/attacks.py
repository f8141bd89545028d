"""The robustness room's results as numbers, which Dagster plots over materializations."""

import dagster as dg

from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.places import Place
from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.robustness.measures import PLAIN, SUCCESS
from alignguard_train.robustness.page import REPORT, metrics_of
from pipelines.ui.columns import file_columns
from pipelines.ui.metadata import describe


def robustness_metadata(manifest: Manifest, folder: Place) -> dict[str, dg.MetadataValue]:
    """What the UI shows of attacks: results first, then the report, then ids.

    Args:
        manifest: of the finished partition.
        folder: the partition.
    """
    return {
        **results(folder),
        "report": dg.MetadataValue.path(str(folder / manifest.file(REPORT).name)),
        **describe(manifest, folder),
        **file_columns(manifest, folder),
    }


def results(folder: Place) -> dict[str, dg.MetadataValue]:
    """Rates on the merged adapter, by attack, then the base model's as ``base_...``.

    ``asr_ATTACK`` is with a fresh seed, ``worst_asr`` that of the strongest attack, and ``ssr_n``
    the share of prompts that one of the fresh seeds makes unsafe without attack.

    Args:
        folder: the partition, with its table ``metrics``.
    """
    metrics = metrics_of(manifests.read(folder, "metrics"))
    found: dict[str, dg.MetadataValue] = {}
    for target, prefix in ((MERGED, ""), (BASE, "base_")):
        asr = {
            attack: numbers["value"]
            for (attack, name, subset, metric), numbers in metrics.items()
            if (name, subset, metric) == (target, "all", SUCCESS)
        }
        if not asr:
            continue
        found[f"{prefix}worst_asr"] = dg.MetadataValue.float(max(asr.values()))
        ssr = metrics[PLAIN, target, "all", "asr_n"]["value"]
        found[f"{prefix}ssr_n"] = dg.MetadataValue.float(ssr)
        found |= {f"{prefix}asr_{name}": dg.MetadataValue.float(v) for name, v in asr.items()}
    return found
