"""Room ``taxonomy``: the concepts of the taxonomy file as a table.

All faults of the file are reported at once, with place, line and value.
"""

import dataclasses
from collections import Counter

from alignguard_data.contracts.records import Concept, to_table
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.tally import Tally
from alignguard_data.taxonomy.parse import Taxonomy

ROOM = "taxonomy"
FORMAT = 1
"""Part of the fingerprint: increment when the files change for equal concepts."""


def spec(data: DataRoot, taxonomy: Taxonomy) -> PartitionSpec:
    """Spec of the taxonomy's partition.

    Args:
        data: the data folder.
        taxonomy: the taxonomy.

    Returns:
        The spec of the one partition ``all``.
    """
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={**dataclasses.asdict(taxonomy), **basis(ROOM, format=FORMAT)},
        inputs={},
    )


def write_taxonomy(data: DataRoot, taxonomy: Taxonomy) -> Manifest:
    """Write table ``concepts``, one row per concept.

    Args:
        data: the data folder.
        taxonomy: the taxonomy.

    Returns:
        The room's manifest.
    """
    with open_partition(spec(data, taxonomy)) as work:
        if work.done:
            return work.done
        counts = {
            "categories": len(taxonomy.categories),
            **{f"{k}_concepts": n for k, n in Counter(c.split for c in taxonomy.concepts).items()},
        }
        number = len(taxonomy.concepts)
        return work.finish(
            tables={"concepts": to_table(Concept, taxonomy.concepts)},
            counts=counts,
            tally=Tally(wanted=number, made=number, unit="concepts"),
        )
