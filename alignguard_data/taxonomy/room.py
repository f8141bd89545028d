"""The taxonomy: categories and their concepts, read from the YAML file that a user edits.

Every fault of the file is reported at once, with its place, line and value.
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
"""Part of the fingerprint: raise it when the room's files change for equal concepts."""


def spec(data: DataRoot, taxonomy: Taxonomy) -> PartitionSpec:
    """What the taxonomy's one partition should be made of."""
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={**dataclasses.asdict(taxonomy), **basis(ROOM, format=FORMAT)},
        inputs={},
    )


def write_taxonomy(data: DataRoot, taxonomy: Taxonomy) -> Manifest:
    """Write the concepts as table ``concepts``, one row a concept."""
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
