"""Room ``index``: one DuckDB file with tables and named views over every shard.

It is a cache that can be rebuilt. A new file is built next to the old one and replaces it with the
manifest. Images stay in their shards. Readers open the file read-only.
"""

import time

import duckdb

from alignguard_data.audit.funnel import Manifests, concept_manifests
from alignguard_data.index.database import FILE, REWRITTEN, write_database
from alignguard_data.index.sql import ROOM
from alignguard_data.index.tables import described_columns
from alignguard_data.index.views import VIEWS
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.tally import Tally
from alignguard_data.taxonomy.parse import Taxonomy

FORMAT = 1
"""Part of the fingerprint: increment when the file changes for equal tables and views."""


def spec(data: DataRoot, taxonomy: Taxonomy) -> PartitionSpec:
    """Spec of the index, over the partitions of all concepts.

    Args:
        data: the data folder.
        taxonomy: its concepts.

    Returns:
        The spec of the one partition ``all``.

    Raises:
        InputMissing: a partition is not complete.
    """
    return _spec(data, concept_manifests(data, taxonomy))


def _spec(data: DataRoot, found: Manifests) -> PartitionSpec:
    inputs = {f"{room}/{key}": manifest.content_id for (room, key), manifest in found.items()}
    inputs["taxonomy"] = manifests.require(data.partition("taxonomy")).content_id
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={
            "tables": described_columns(),
            "views": VIEWS,
            "duckdb": duckdb.__version__,
            **basis(ROOM, format=FORMAT),
        },
        inputs=inputs,
    )


def build_index(data: DataRoot, taxonomy: Taxonomy) -> Manifest:
    """Build the DuckDB file from the shards, each verified as it is read.

    Unchanged partitions are reused from the last file (see ``index/database.py``).

    The partition's table is ``funnel`` (FunnelRow). ``counts`` records how it was built, the number
    of partitions read and reused, and the rows of each table.

    Args:
        data: the data folder.
        taxonomy: its concepts.

    Returns:
        The room's manifest.

    Raises:
        InputMissing: a partition is not complete.
        IntegrityError: a shard differs from its manifest; it is named.
    """
    found = concept_manifests(data, taxonomy)
    with open_partition(_spec(data, found)) as work:
        if work.done:
            return work.done
        started = time.monotonic()
        file, written = write_database(work, data, taxonomy, found)
        return work.finish(
            tables={"funnel": written.funnel},
            extra_files={FILE: file},
            counts={
                "build": written.how,
                "partitions_read": written.read,
                "partitions_taken_over": written.taken_over,
                "inserted_rows": written.inserted,
                "rows_per_second": round(written.inserted / (time.monotonic() - started)),
                REWRITTEN: written.rewritten,
                "tables": written.rows,
            },
            tally=Tally(wanted=len(found), made=len(found), unit="partitions"),
        )
