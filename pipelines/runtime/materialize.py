"""Executes one room's partitions as one Dagster run, here or remotely."""

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
import psutil
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.definitions.reconstruct import ReconstructableRepository
from sqlalchemy.exc import OperationalError

from alignguard_data.contracts.errors import AlignGuardError, ConfigError, StorageError, first_line
from alignguard_data.storage.places import Place, addressable, scratch, user_path
from pipelines.profile import PROFILE_VARIABLE, load_profile
from pipelines.resources import ROOT_VARIABLE, Engines, data_root
from pipelines.rooms import Room
from pipelines.runtime import instance_file

HOME_VARIABLE = "DAGSTER_HOME"
PROCESS_TAG = "alignguard/process"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RoomFailed(AlignGuardError):
    """A room's run failed; the text is the shortest reason."""


def open_instance(root: Place) -> dg.DagsterInstance:
    """The kept Dagster instance.

    ``DAGSTER_HOME``, else a folder inside the data root, or in the scratch of a bucket.

    Keeps a dagster.yaml that the user wrote or edited.

    Raises:
        StorageError: the folder is not writable or not local.
        ConfigError: the user's dagster.yaml has faults.
    """
    wanted = os.environ.setdefault(HOME_VARIABLE, str(scratch(root) / ".dagster"))
    if "://" in wanted:
        raise StorageError(f"{HOME_VARIABLE}={wanted} must be a local folder; unset it or name one")
    home = addressable(user_path(wanted), HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = str(home)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        instance_file.place(home)
        free = shutil.disk_usage(home).free
    except OSError as error:
        raise StorageError(f"{HOME_VARIABLE}={home} cannot be written: {error.strerror}") from error
    if free < 64 * 2**20:
        raise StorageError(
            f"{home} is on a full disk ({free / 2**20:.0f} MiB free); free some space"
        )
    return instance_file.opened(home)


def close_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs as failed whose process was killed; returns how many.

    A killed process does not report its end, so its run would appear active.
    """
    active = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
    dead = 0
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=active)):
        process = run.tags.get(PROCESS_TAG)
        if process and not _alive(process):
            # Its pool slot would stay taken and block the next run. Freed first: if we are killed
            # in between, the run is still active and the next process closes it.
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            instance.report_run_failed(run, message="its process was killed; run again to resume")
            dead += 1
    return dead


def materialize(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    engines: Engines,
    room: Room,
    keys: Sequence[str],
) -> None:
    """Run one room for some of its partitions (the room skips finished ones).

    Raises:
        RoomFailed: with the first cause's message.
    """
    job = definitions.resolve_implicit_global_asset_job_def()
    with _recorded(instance):
        result = job.execute_in_process(
            instance=instance,
            asset_selection=[_asset_key(engines, room)],
            tags=_tags(room, keys),
            run_config=_QUIET,
            raise_on_error=False,
        )
    if not result.success:
        raise RoomFailed(_reason(result))


def materialize_remotely(
    instance: dg.DagsterInstance, engines: Engines, room: Room, keys: Sequence[str]
) -> None:
    """Like :func:`materialize`, but the definitions' executor decides where the step runs.

    The step's process loads `pipelines.definitions`, so profile and root come from the environment.

    Raises:
        RoomFailed: with the first cause's message.
        ConfigError: the environment names another profile or data root.
    """
    if load_profile() != engines.profile or data_root() != engines.data.root:
        variables = f"{PROFILE_VARIABLE} and {ROOT_VARIABLE}"
        raise ConfigError(
            variables, ["must match this run: remote steps load profile and data from them"]
        )
    repository = ReconstructableRepository.for_module("pipelines.definitions", "defs")
    with _recorded(instance):
        result = dg.execute_job(
            repository.get_reconstructable_job(IMPLICIT_ASSET_JOB_NAME),
            instance=instance,
            asset_selection=[_asset_key(engines, room)],
            tags=_tags(room, keys),
            run_config=_QUIET,
        )
        if not result.success:
            raise RoomFailed(_reason(result))


@contextmanager
def _recorded(instance: dg.DagsterInstance) -> Iterator[None]:
    """Turn Dagster's failure to record a run (full or read-only disk) into a StorageError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        try:
            yield
        except (OSError, OperationalError) as error:
            cause = first_line(error)
            home = instance.root_directory
            free = shutil.disk_usage(home).free / 2**20
            raise StorageError(
                f"{home} cannot be written ({free:.0f} MiB free): {cause}"
            ) from error


def _asset_key(engines: Engines, room: Room) -> dg.AssetKey:
    return dg.AssetKey([engines.profile.name, room.asset])


def _tags(room: Room, keys: Sequence[str]) -> dict[str, str]:
    tags = {PROCESS_TAG: _process_name()}
    if room.partitioned_by:
        tags["dagster/asset_partition_range_start"] = keys[0]
        tags["dagster/asset_partition_range_end"] = keys[-1]
    return tags


def _process_name() -> str:
    # The start time distinguishes a process from a later one with the same pid.
    return f"{os.getpid()}@{psutil.Process().create_time():.2f}"


def _alive(name: str) -> bool:
    number, _, started = name.partition("@")
    try:
        return abs(psutil.Process(int(number)).create_time() - float(started)) < 1.0
    except (psutil.NoSuchProcess, ValueError):
        return False


def _reason(result: dg.ExecuteInProcessResult | dg.JobExecutionResult) -> str:
    """Failed checks with their findings, else our own error's text, else the innermost error's."""
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    if failed:
        return "; ".join(f"check {check.check_name}: {check.description}" for check in failed)
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            ours = _class_names(AlignGuardError)
            while error.cause and error.cls_name not in ours:
                error = error.cause
            said = error.message.strip()
            name = error.cls_name or ""
            # Like a traceback's last line, without the class's module.
            return name + said.partition(name)[2] if name in ours else said
    return "the run failed; see it with `alignguard ui`"


def _class_names(base: type) -> set[str]:
    return {base.__name__}.union(*map(_class_names, base.__subclasses__()))
