"""Refreshing: a sensor that watches the taxonomy file, and a schedule that tops up and releases.

Both are off until someone turns them on in the UI. Both read the file anew each time, ask only for
what is not up to date, and leave the rest to the rooms, which skip what is done.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import dagster as dg

from alignguard_data.contracts.errors import ConfigError
from pipelines.partitions import concept_partitions, register_concepts
from pipelines.resources import Engines
from pipelines.rooms import ROOMS, SOUND, ask_each

Job = Any
"""What ``define_asset_job`` gives; Dagster exports no name for it."""

WATCHED_EVERY_SECONDS = 60
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

_PER_CONCEPT = [room for room in ROOMS if room.partitioned_by == "concept"]


def dataset_job(engines: Engines) -> Job:
    """Every room from the taxonomy to the release, for a range of concepts."""
    rooms = ["taxonomy", *(room.asset for room in _PER_CONCEPT), "index", "release"]
    return dg.define_asset_job(
        name=f"{engines.profile.name}_dataset",
        selection=dg.AssetSelection.assets(*(_key(engines, room) for room in rooms)),
        description="Brings the dataset up to date and cuts a release.",
    )


def taxonomy_sensor(engines: Engines, job: Job) -> dg.SensorDefinition:
    """Asks for the concepts that the taxonomy file added or changed, and for nothing else.

    A concept that was taken out is not touched: it stays on disk, and the next release leaves it
    out and says so.
    """
    concepts = concept_partitions(engines)
    chosen = [_key(engines, "taxonomy"), *(_key(engines, room.asset) for room in _PER_CONCEPT)]

    @dg.sensor(
        name=f"{engines.profile.name}_taxonomy_file",
        job=job,
        minimum_interval_seconds=WATCHED_EVERY_SECONDS,
        description="New and changed concepts of the taxonomy file are made; the rest is kept.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        fresh = _reread(engines)
        if isinstance(fresh, dg.SkipReason):
            return fresh
        wanted = due_concepts(fresh)
        named = {concept.key for concept in fresh.taxonomy.concepts}
        if not wanted:
            return dg.SkipReason("every concept is up to date")
        asked = _digest(wanted)
        if asked == context.cursor:
            return dg.SkipReason(f"{len(wanted)} concepts were asked for already")
        known = list(context.instance.get_dynamic_partitions(_name(concepts)))
        new = [key for key in wanted if key not in known]
        # A run names the first and the last of its concepts, in the partitions' own order.
        due = [key for key in known if key in wanted] + new
        size = engines.profile.concepts_per_run
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{asked}-{first}",
                    asset_selection=chosen,
                    tags=_range(due[first : first + size]),
                )
                for first in range(0, len(due), size)
            ],
            dynamic_partitions_requests=[
                concepts.build_add_request(new),
                concepts.build_delete_request([key for key in known if key not in named]),
            ],
            cursor=asked,
        )

    return watch


def refresh_schedule(engines: Engines, job: Job, cron: str) -> dg.ScheduleDefinition:
    """Tops every concept up to the profile's number of pairs and cuts a release, in one run."""
    concepts = concept_partitions(engines)

    @dg.schedule(
        name=f"{engines.profile.name}_refresh",
        cron_schedule=cron,
        execution_timezone=engines.profile.refresh_timezone,
        job=job,
        description="Tops every concept up to its number of pairs and cuts a release.",
    )
    def refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        fresh = _reread(engines)
        if isinstance(fresh, dg.SkipReason):
            return fresh
        keys = [concept.key for concept in fresh.taxonomy.concepts]
        register_concepts(context.instance, concepts, keys)
        return dg.RunRequest(tags=_range(context.instance.get_dynamic_partitions(_name(concepts))))

    return refresh


def due_concepts(engines: Engines) -> dict[str, str]:
    """Concepts whose prompts are missing or stale.

    They were made from another record or configuration; each comes with the fingerprint of what
    they should be.
    """
    prompts = next(room for room in ROOMS if room.name == "prompts")

    def wanted(key: str) -> str | None:
        spec = prompts.spec(engines, key)
        return None if spec.state() in SOUND else spec.fingerprint

    found = ask_each(engines, prompts.partitions(engines), wanted)
    return {key: fingerprint for key, fingerprint in found.items() if fingerprint}


def _reread(engines: Engines) -> Engines | dg.SkipReason:
    """Engines that have read the taxonomy file anew; what to say instead while it has faults."""
    fresh = Engines(engines.profile, engines.data.root)
    try:
        _ = fresh.taxonomy  # kept by the engines from here on
    except ConfigError as error:
        return dg.SkipReason(f"nothing is made until the file is mended: {error}")
    return fresh


def _digest(due: Mapping[str, str]) -> str:
    return blake2b(repr(sorted(due.items())).encode(), digest_size=8).hexdigest()


def _range(keys: Sequence[str]) -> dict[str, str]:
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}


def _name(concepts: dg.DynamicPartitionsDefinition) -> str:
    return concepts.name or ""


def _key(engines: Engines, asset: str) -> dg.AssetKey:
    return dg.AssetKey([engines.profile.name, asset])
