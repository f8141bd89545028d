"""Refreshing: a sensor that watches the taxonomy file, and a schedule that tops up and releases.

Both are off until enabled in the UI. Both re-read the file each time and request only what is not
up to date; the rooms skip finished work.
"""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import dagster as dg

from alignguard_data.contracts.errors import ConfigError
from pipelines.partitions import concept_partitions, register_concepts
from pipelines.resources import Engines
from pipelines.rooms import ROOMS, SOUND, ask_each
from pipelines.sensors.asked import (
    ASKED_AT_MOST,
    ASKED_TAG,
    Asked,
    outcome,
    read_cursor,
    runs_of,
    write_cursor,
)

Job = Any
"""Return type of ``define_asset_job``; Dagster does not export its name."""

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
    """Requests the concepts that were added or changed in the taxonomy file.

    It repeats requests whose run failed, see :mod:`pipelines.sensors.asked`.

    A removed concept stays on disk; the next release omits it and says so.
    """
    concepts = concept_partitions(engines)
    chosen = [_key(engines, "taxonomy"), *(_key(engines, room.asset) for room in _PER_CONCEPT)]

    @dg.sensor(
        name=f"{engines.profile.name}_taxonomy_file",
        job=job,
        minimum_interval_seconds=WATCHED_EVERY_SECONDS,
        description="Makes new and changed concepts of the taxonomy file; keeps the rest.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        fresh = _reread(engines)
        if isinstance(fresh, dg.SkipReason):
            return fresh
        found = look(fresh, context.instance, read_cursor(context.cursor), time.time())
        if not found.due:
            return dg.SensorResult(
                skip_reason=found.said or "every concept is up to date",
                cursor=write_cursor(found.asked),
            )
        named = {concept.key for concept in fresh.taxonomy.concepts}
        known = list(context.instance.get_dynamic_partitions(_name(concepts)))
        new = [key for group in found.due for key in group if key not in known]
        asked, requests = dict(found.asked), []
        size = engines.profile.concepts_per_run
        for keys in runs_of(found.due, known + new, size, found.apart):
            run = _digest([found.due_asked[key] for key in keys])
            asked |= {key: replace(found.due_asked[key], run=run) for key in keys}
            tags = _range(keys) | {ASKED_TAG: run}
            requests.append(dg.RunRequest(run_key=run, asset_selection=chosen, tags=tags))
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[
                concepts.build_add_request(new),
                concepts.build_delete_request([key for key in known if key not in named]),
            ],
            cursor=write_cursor(asked),
        )

    return watch


def refresh_schedule(engines: Engines, job: Job, cron: str) -> dg.ScheduleDefinition:
    """Tops up every concept to the profile's number of pairs and cuts a release, in one run."""
    concepts = concept_partitions(engines)

    @dg.schedule(
        name=f"{engines.profile.name}_refresh",
        cron_schedule=cron,
        execution_timezone=engines.profile.refresh_timezone,
        job=job,
        description="Tops up every concept to its number of pairs and cuts a release.",
    )
    def refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        fresh = _reread(engines)
        if isinstance(fresh, dg.SkipReason):
            return fresh
        keys = [concept.key for concept in fresh.taxonomy.concepts]
        register_concepts(context.instance, concepts, keys)
        return dg.RunRequest(tags=_range(context.instance.get_dynamic_partitions(_name(concepts))))

    return refresh


@dataclass(kw_only=True, slots=True)
class Found:
    """State of the concepts.

    Attributes:
        due: concepts to request now, grouped by progress: one whose prompts cannot be written does
            not block the others' images.
        due_asked: the record of each, without the run key.
        asked: requested concepts without a final result.
        apart: concepts that no run may span, as they are not up to date and not requested.
        said: one line about them.
    """

    due: list[list[str]]
    due_asked: dict[str, Asked]
    asked: dict[str, Asked]
    apart: set[str]
    said: str


def look(
    engines: Engines, instance: dg.DagsterInstance, asked: Mapping[str, Asked], now: float
) -> Found:
    """The concepts to request.

    New and changed ones, and those whose run failed, after a delay and at most
    :data:`~pipelines.sensors.asked.ASKED_AT_MOST` times.
    """
    groups: dict[str, list[str]] = {}
    found = Found(due=[], due_asked={}, asked={}, apart=set(), said="")
    running, waiting, left = [], [], []
    for key, (fingerprint, lacks) in unfinished(engines, set(asked)).items():
        before = asked.get(key)
        times = 0
        if before and before.fingerprint == fingerprint:
            came, ended = outcome(instance, before)
            if came == "succeeded" and lacks != "prompts":
                continue  # it made its part; later rooms were not requested
            times, again = before.times, before.may_be_asked_at(ended)
            if came == "running" or again is None or now < again:
                found.asked[key] = before
                found.apart.add(key)
                (running if came == "running" else left if again is None else waiting).append(key)
                continue
        groups.setdefault(lacks, []).append(key)
        found.due_asked[key] = Asked(fingerprint=fingerprint, times=times + 1, at=now, run="")
    found.due = list(groups.values())
    found.said = _said(running, waiting, left)
    return found


def unfinished(engines: Engines, asked: Set[str]) -> dict[str, tuple[str, str]]:
    """Unfinished concepts: the wanted fingerprint of their prompts, and the first missing room.

    Those whose prompts are missing or stale, and of those that were ``asked`` for the ones that
    lack a later room.
    """
    prompts, *later = _PER_CONCEPT

    def lacking(key: str) -> tuple[str, str] | None:
        spec = prompts.spec(engines, key)
        if spec.state() not in SOUND:
            return spec.fingerprint, prompts.name
        lacks = (room.name for room in later if room.state(engines, key) not in SOUND)
        first = next(lacks, None) if key in asked else None
        return (spec.fingerprint, first) if first else None

    found = ask_each(engines, prompts.partitions(engines), lacking)
    return {key: one for key, one in found.items() if one}


def _said(running: Sequence[str], waiting: Sequence[str], left: Sequence[str]) -> str:
    parts = []
    if running:
        parts.append(f"{len(running)} concepts are being made")
    if waiting:
        parts.append(
            f"{len(waiting)} concepts were asked for already, and are asked for again a while "
            "after their run failed"
        )
    if left:
        parts.append(
            f"{len(left)} concepts failed {ASKED_AT_MOST} times and are left "
            f"({', '.join(left[:3])}{', ...' if left[3:] else ''}): mend the cause and make them "
            "in the UI or with `alignguard run`, or reset this sensor's cursor"
        )
    return "; ".join(parts)


def _reread(engines: Engines) -> Engines | dg.SkipReason:
    """Engines with the re-read taxonomy file, or a message about its faults."""
    fresh = Engines(engines.profile, engines.data.root)
    try:
        _ = fresh.taxonomy  # cached by the engines
    except ConfigError as error:
        return dg.SkipReason(f"nothing is made until the file is mended: {error}")
    return fresh


def _digest(asked: Sequence[Asked]) -> str:
    return blake2b(repr(asked).encode(), digest_size=8).hexdigest()


def _range(keys: Sequence[str]) -> dict[str, str]:
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}


def _name(concepts: dg.DynamicPartitionsDefinition) -> str:
    return concepts.name or ""


def _key(engines: Engines, asset: str) -> dg.AssetKey:
    return dg.AssetKey([engines.profile.name, asset])
