"""The guards room: one partition per guard, trained on a release's prompts and never its images."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import Concept, to_table
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.storage.shards import sha256_file
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.guards.config import (
    GuardsConfig,
    GuardT2ISettings,
    RewriterSettings,
    Settings,
    gate_of,
    settings_of,
)
from alignguard_train.guards.reader import FILE, ROOM, imported_partition
from alignguard_train.guards.records import GuardMeasure, GuardScore

if TYPE_CHECKING:
    from alignguard_train.guards.files import GuardHeader
    from alignguard_train.guards.splits import Parts
    from alignguard_train.guards.training import Measured, Source

FORMAT = 5
"""Part of the fingerprint: raise it when a guard of equal inputs changes."""
TABLES = {"measures": GuardMeasure, "scores": GuardScore}
PROBE = "eos-logistic"
"""The probe that every other guard is compared with."""
JUDGE = "safeguider"
"""The guard that judges a rewriter's texts, of which it chose none."""


def spec(
    data: DataRoot,
    kind: str,
    base: BaseModel,
    concepts: Sequence[Concept],
    config: GuardsConfig,
) -> PartitionSpec:
    """Spec of one guard.

    Args:
        data: the data root.
        kind: name of the guard; its partition.
        base: the base model.
        concepts: of the taxonomy, with their terms.
        config: the profile's section.

    Returns:
        What the partition is made of: its fingerprint covers the release, benign files, concepts
        and the guard's own settings, not those of other guards.

    Raises:
        InputMissing: there is no release.
    """
    release = manifests.require(data.partition("release"))
    given = {"release": release.content_id}
    return _spec(data.partition(ROOM, kind), kind, base, concepts, config, given)


def imported_spec(
    data: DataRoot, kind: str, base: BaseModel, imported: Place, config: GuardsConfig
) -> PartitionSpec:
    """Spec of one guard that learns from an import instead of a release.

    Args:
        data: the data root.
        kind: name of the guard.
        base: the base model.
        imported: the import's folder.
        config: the profile's section.

    Returns:
        As of :func:`spec`; its folder is not that of the guard of a release.

    Raises:
        InputMissing: the import is not finished.
    """
    given = {"import": manifests.require(imported).content_id}
    return _spec(imported_partition(data, kind, imported), kind, base, (), config, given)


def _spec(
    folder: Place,
    kind: str,
    base: BaseModel,
    concepts: Sequence[Concept],
    config: GuardsConfig,
    given: dict[str, str],
) -> PartitionSpec:
    own: dict[str, Any] = dataclasses.asdict(config)
    for name in ("train", "benign", "params"):
        own.pop(name)
    settings = settings_of(kind, config.params.get(kind, {}))
    inner = gate_of(settings)
    # A model is named by its identity, not by its place on this machine.
    named = _own_model(settings)
    return PartitionSpec(
        folder=folder,
        room=ROOM,
        key=kind,
        config={
            **own,
            **basis(ROOM, format=FORMAT, judges_text=True, engine=base, tables=TABLES),
            "settings": {**dataclasses.asdict(settings), **named},
            **({"gate": _settings(inner, config)} if inner else {}),
            "concepts": _digest(concepts),
        },
        inputs={
            **given,
            **{f"{one.kind} {one.name}": _file_digest(one.path) for one in config.benign},
        },
        models={**base.models, **_own_model(settings)},
    )


def _own_model(settings: Settings) -> dict[str, str]:
    """The chat model of a rewriter, or the sentence model of GuardT2I, by name and revision."""
    if isinstance(settings, RewriterSettings) and settings.model:
        from alignguard_train.guards.rewriter.model import identity_of

        return {"model": identity_of(settings)}
    if isinstance(settings, GuardT2ISettings) and settings.similarity:
        from alignguard_train.guards.guardt2i.fitting import similarity_of

        return {"similarity": similarity_of(settings).version}
    return {}


def make_guard(
    data: DataRoot,
    kind: str,
    base: BaseModel,
    concepts: Sequence[Concept],
    config: GuardsConfig,
    progress: Progress | None = None,
) -> Manifest:
    """Train, calibrate and measure one guard, unless it is up to date.

    The partition holds the guard's file and the tables "measures" and "scores". A killed attempt
    whose file was written only measures again.

    Args:
        data: the data root.
        kind: name of the guard; its partition.
        base: the base model, whose text encoder is read.
        concepts: of the taxonomy, with their terms.
        config: the profile's section.
        progress: counts the epochs or steps of the training.

    Returns:
        Manifest of the guard's partition.

    Raises:
        InputMissing: there is no release.
        PartitionBusy: another process is making the same guard.
        ConfigError: a benign file is faulty, or the blacklist names an unknown concept.
        EngineError: nothing to train or calibrate on, or a text encoder that guards cannot read.
    """
    made = spec(data, kind, base, concepts, config)

    def read() -> "_Read":
        from alignguard_train.guards.training import Source, parts_of

        folder = release_folder(data)
        content = manifests.require(data.partition("release")).content_id
        source = Source(release=folder.name, content_id=content)
        return _Read(parts_of(folder, concepts, config), concepts, source)

    return _made(made, read, base, config, progress)


def make_imported_guard(
    data: DataRoot,
    kind: str,
    base: BaseModel,
    imported: Place,
    config: GuardsConfig,
    progress: Progress | None = None,
) -> Manifest:
    """Train, calibrate and measure one guard on an import, unless it is up to date.

    Args:
        data: the data root.
        kind: name of the guard.
        base: the base model, whose text encoder is read.
        imported: folder of an import of the published CoProV2.
        config: the profile's section; its blacklist names concepts and is left out.
        progress: counts the epochs or steps of the training.

    Returns:
        Manifest of the guard, which is kept apart from those of releases.

    Raises:
        InputMissing: the import is not finished.
        PartitionBusy: another process is making the same guard.
        ConfigError: a benign file is faulty.
        EngineError: the guard needs concepts, or there is nothing to train or calibrate on.
    """
    from alignguard_train.guards.imported import imported_parts, unfit

    config = dataclasses.replace(config, blacklist=None)
    if why := unfit(kind, config):
        raise EngineError(why)
    made = imported_spec(data, kind, base, imported, config)

    def read() -> "_Read":
        from alignguard_train.guards.training import Source

        parts, concepts = imported_parts(imported, config)
        source = Source(release=imported.name, content_id=made.inputs["import"])
        return _Read(parts, concepts, source)

    return _made(made, read, base, config, progress)


class _Read(NamedTuple):
    """The prompts that a guard learns from, their concepts, and where they are from."""

    parts: "Parts"
    concepts: Sequence[Concept]
    source: "Source"


def _made(
    made: PartitionSpec,
    read: Callable[[], _Read],
    base: BaseModel,
    config: GuardsConfig,
    progress: Progress | None,
) -> Manifest:
    kind = made.key
    with open_partition(made) as work:
        if work.done:
            return work.done
        from alignguard_train.guards.states import FrozenEncoder
        from alignguard_train.guards.training import measure_guard, train_guard

        parts, concepts, source = read()
        shared = (parts, concepts, FrozenEncoder.of(base.pipe), config, source)
        started = time.perf_counter()
        guard = train_guard(kind, *shared, work.partial / FILE, progress, base.pipe)
        seconds = time.perf_counter() - started
        probe = None if kind == PROBE else train_guard(PROBE, *shared, work.partial / "probe")
        judged = kind == "rewriter"
        other = train_guard(JUDGE, *shared, work.partial / "judge") if judged else None
        measured = measure_guard(guard, parts, concepts, config, probe, other)
        return work.finish(
            tables={
                "measures": to_table(GuardMeasure, measured.measures),
                "scores": to_table(GuardScore, measured.scores),
            },
            extra_files={FILE: work.partial / FILE},
            rejected=parts.dropped,
            counts={**_counts(guard.header, measured), "training_seconds": round(seconds, 3)},
            tally=Tally(wanted=1, made=1, unit="guards"),
        )


def _counts(header: "GuardHeader", measured: "Measured") -> dict[str, Any]:
    """The release, the threshold with its calibration, the areas of all splits, and the latency."""
    threshold = dataclasses.asdict(header.threshold)
    areas = [one for one in measured.measures if one.measure == "auc"]
    return {
        "release": header.release,
        "release_content_id": header.release_content_id,
        **{f"threshold {name}": value for name, value in threshold.items()},
        **{f"auc {one.split}": round(one.value, 4) for one in areas},
        **measured.latency,
    }


def _settings(kind: str, config: GuardsConfig) -> dict[str, Any]:
    return dataclasses.asdict(settings_of(kind, config.params.get(kind, {})))


def _digest(concepts: Sequence[Concept]) -> str:
    known = sorted((one.key, one.name, one.split, one.terms) for one in concepts)
    return hashlib.blake2b(repr(known).encode(), digest_size=16).hexdigest()


def _file_digest(path: str) -> str:
    """The file's hash; empty for a file that is not there, which the making then refuses."""
    return sha256_file(Path(path)) if Path(path).is_file() else ""
