"""The dagster.yaml of a Dagster home: ours, unless the user wrote or edited it.

Our file opens with a hash of its content. If the hash matches, the file was not edited and a newer
version replaces it. Any other file is the user's (a run launcher, a Postgres storage, other limits)
and is not touched.
"""

import hashlib
import logging
from importlib import resources
from pathlib import Path

import dagster as dg
from dagster import _check
from dagster_shared import yaml_utils

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.shards import atomic_file
from alignguard_data.storage.yaml_files import read_yaml

log = logging.getLogger(__name__)

NAME = "dagster.yaml"
_MARK = b"# Written by AlignGuard, and replaced by a newer one until you edit it; hash "

_EARLIER = {"f45a24dae40215f1"}
"""Hashes of our files from before the mark."""


def shipped() -> bytes:
    """Content for a Dagster home: the package's file under its mark."""
    body = resources.files("pipelines.runtime").joinpath(NAME).read_bytes()
    return _MARK + _hash(body) + b"\n" + body


def place(home: Path) -> None:
    """Write our dagster.yaml into ``home``, unless the user's file is there.

    Logs one line about a user's file.

    Raises:
        OSError: the folder cannot be read or written.
    """
    kept = home / NAME
    there = kept.read_bytes() if kept.exists() else None
    if there is not None and not _untouched(there):
        log.warning("keeping your own %s", kept)
    elif there != shipped():
        with atomic_file(kept) as temporary:
            temporary.write_bytes(shipped())


def opened(home: Path) -> dg.DagsterInstance:
    """The instance configured in this folder (``DAGSTER_HOME``), with its run launcher loaded.

    Raises:
        ConfigError: its dagster.yaml is not YAML, has unknown fields, or names missing classes.
    """
    if faults := read_yaml(home / NAME, may_be_empty=True).faults:
        raise ConfigError(str(home / NAME), faults)
    try:
        instance = dg.DagsterInstance.get()
        _ = instance.run_launcher  # else its faults appear only when a run is queued
        return instance
    except dg.DagsterInvalidConfigError as error:
        faults = [fault.message.partition(" Expected:")[0] for fault in error.errors]
    except (yaml_utils.yaml.YAMLError, _check.CheckError) as error:  # YAML 1.1 refuses some of 1.2
        faults = [" ".join(str(error).removeprefix("Failure condition: ").split())]
    raise ConfigError(str(home / NAME), faults)


def _untouched(content: bytes) -> bool:
    first, _, body = content.partition(b"\n")
    return first == _MARK + _hash(body) or _hash(content).decode() in _EARLIER


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()
