"""The reemergence room: does benign fine-tuning bring back what a safety adapter removed?

Reads a release, safety adapters and the base model. Writes tables "images" (one row per judged
image), "measures" (long form, with intervals), "losses", "models", "layers" and "left_out", and
report.html. A killed attempt resumes at its step.
"""

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignguard_data.contracts.errors import ConfigError, InputMissing, IntegrityError, NothingMade
from alignguard_data.contracts.flags import version_faults
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import to_table
from alignguard_data.engines.weights import file_revision
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis, digests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.shards import sha256_file, write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.evaluation.judge import read_rows
from alignguard_train.reemergence import page
from alignguard_train.reemergence.columns import RECORDS
from alignguard_train.reemergence.config import BenignConfig, ReemergenceConfig
from alignguard_train.reemergence.models import Models
from alignguard_train.reemergence.records import LeftOut
from alignguard_train.reemergence.summary import ROOM, summarized, write_summary

if TYPE_CHECKING:
    from alignguard_train.adapters.lora import Lora
    from alignguard_train.evaluation.records import EvaluationRow
    from alignguard_train.reemergence.benign import BenignRow

FORMAT = 3
"""Part of the fingerprint: raise it when rows change for equal input, as with the training."""


def spec(
    data: DataRoot, models: Models, config: ReemergenceConfig, key: str = UNPARTITIONED
) -> PartitionSpec:
    """Spec of the room, or of another measurement beside it under another ``key``.

    Args:
        data: the data folder.
        models: safety adapters, base model and judge.
        config: the profile's section ``reemergence``.
        key: the partition.

    Returns:
        The spec.

    Raises:
        InputMissing: there is no release, or an adapter's file is missing.
        ConfigError: an adapter is not made by this profile or is of another base model, or
            thresholds were calibrated with another scorer version.
    """
    _check(models, config)
    inputs = {f"adapter {name}": file_revision(path) for name, path in models.adapters.items()}
    inputs |= digests(("prompts", dataclasses.astuple(row)) for row in _prompts(data, config))
    inputs |= _benign_inputs(data, config.benign)
    generator, evaluation = models.generator, models.evaluation
    settings = dataclasses.asdict(config)
    settings["benign"].pop("folder")  # its content is an input
    settings["recipe"].pop("checkpoint_every")  # changes no weight
    settings["recipe"].pop("gradient_checkpointing")
    return PartitionSpec(
        folder=data.partition(ROOM, key),
        room=ROOM,
        key=key,
        config={
            **settings,
            "adapters": list(models.adapters),
            "flags": [dataclasses.asdict(rule) for rule in evaluation.flags],
            "fidelity": evaluation.fidelity and dataclasses.asdict(evaluation.fidelity),
            "sampling": generator.sampling.fingerprint_fields,
            "report": page.VERSION,
            **basis(ROOM, format=FORMAT, judges_text=True, engine=models.base, tables=RECORDS),
        },
        inputs=inputs,
        models={
            generator.model_id: generator.revision,
            **models.base.models,
            **{scorer.name: scorer.version for scorer in models.scorers},
        },
        promises=partial(summarized, data) if key == UNPARTITIONED else None,
    )


def _prompts(data: DataRoot, config: ReemergenceConfig) -> "list[EvaluationRow]":
    try:
        return read_rows(release_folder(data), config.prompts_per_concept)
    except IntegrityError as error:
        raise InputMissing(str(error)) from error


def _benign_inputs(data: DataRoot, config: BenignConfig) -> dict[str, str]:
    if not config.folder:
        return train_rows(data)
    folder = Path(config.folder)
    if not folder.is_dir():
        raise ConfigError("profile", [f"reemergence.benign.folder: there is no folder {folder}"])
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digests(
        ("benign folder", (str(path.relative_to(folder)), sha256_file(path))) for path in files
    )


def _check(models: Models, config: ReemergenceConfig) -> None:
    """Refuse what can be refused without loading a model."""
    from alignguard_train.reemergence.arithmetic import header_of

    base, faults = models.base, []
    for name, path in models.adapters.items():
        if not path.is_file():
            raise InputMissing(f"adapter {name} does not exist yet: {path}")
        header = header_of(path)
        trained = header.get("alignguard.base_revision", base.revision)
        if trained != base.revision:
            of = header.get("alignguard.base_model", "another model")
            faults.append(
                f"reemergence.adapters: {name} was trained on {of} at {trained}, not on "
                f"{base.model_id} at {base.revision}"
            )
    rules = models.evaluation.flags
    faults += version_faults(rules, {scorer.name: scorer.version for scorer in models.scorers})
    if faults:
        raise ConfigError("profile", faults)


def measure_reemergence(
    data: DataRoot,
    models: Models,
    config: ReemergenceConfig,
    progress: Progress | None = None,
    key: str = UNPARTITIONED,
) -> Manifest:
    """Fine-tune, draw and judge, unless it is up to date; resumes a killed attempt.

    Args:
        data: the data folder.
        models: safety adapters, base model and judge.
        config: the profile's section ``reemergence``.
        progress: called with the number of training steps, or images, just finished.
        key: the partition; another measurement than the profile's goes beside it.

    Returns:
        The partition's manifest.

    Raises:
        InputMissing: there is no release, or an adapter's file is missing.
        ConfigError: an adapter is of another model or of other layers, or benign files are wrong.
        NothingMade: there is no unsafe prompt, or not two benign rows.
        EngineError: the error of a fine-tuning is not finite.
        PartitionBusy: another process is measuring.
    """
    with open_partition(spec(data, models, config, key)) as work:
        # Without its summary the partition is not done, but no model is lost.
        made = work.spec.made() or _make(data, work, models, config, progress)
    if key == UNPARTITIONED:
        write_summary(data)
    return made


def _make(
    data: DataRoot,
    work: PartitionWork,
    models: Models,
    config: ReemergenceConfig,
    progress: Progress | None,
) -> Manifest:
    from alignguard_train.reemergence.benign import encoded
    from alignguard_train.reemergence.measures import measures_table
    from alignguard_train.reemergence.measuring import Data, Measuring

    prompts = _prompts(data, config)
    if not any(row.side == "unsafe" for row in prompts):
        raise NothingMade(["reemergence: the release has no unsafe evaluation prompt"])
    train, held_out, left = _benign(data, models, config)
    safety = _loaded(models)
    read = Data(
        train=encoded(train, models.base),
        held_out=encoded(held_out, models.base),
        held_out_rows=held_out,
        prompts=prompts,
    )
    measuring = Measuring(work, models, config, safety, read, progress)
    measuring.run()
    tables = measuring.tables()
    tables["measures"] = measures_table(
        tables["images"],
        tables["losses"],
        resamples=config.bootstrap_resamples,
        confidence=config.confidence,
    )
    tables["left_out"] = to_table(LeftOut, left)
    counts: dict[str, Any] = {
        "release": release_folder(data).name,
        "benign_train": len(train),
        "benign_held_out": len(held_out),
        "prompts": len(prompts) // 2,
    }
    files = page.files(
        config=work.spec.config, models=work.spec.models, tables=tables, counts=counts,
        profile=data.profile,
    )  # fmt: skip
    for name, content in files.items():
        write_bytes(work.partial / name, content)
    images = tables["images"].num_rows
    return work.finish(
        tables={name: tables[name] for name in RECORDS},
        rejected=Counter(row.reason for row in left),
        counts={**counts, **page.headline(tables["measures"])},
        extra_files={name: work.partial / name for name in files},
        tally=Tally(wanted=images, made=images, unit="images"),
    )


def _benign(
    data: DataRoot, models: Models, config: ReemergenceConfig
) -> "tuple[list[BenignRow], list[BenignRow], list[LeftOut]]":
    from alignguard_train.reemergence.benign import benign_rows, divided, judged_benign

    sampling = models.generator.sampling
    size = sampling.height, sampling.width
    rows, refused = benign_rows(release_folder(data), config.benign, size)
    rows, flagged = judged_benign(rows, models.scorers, models.evaluation.flags)
    train, held_out = divided(rows, config.benign)
    return train, held_out, [*refused, *flagged]


def _loaded(models: Models) -> "dict[str, Lora]":
    """The safety adapters, each of whose layers is one of the base model's.

    Raises:
        ConfigError: layers that are not there, or have another shape, by adapter.
    """
    from alignguard_train.adapters.lora import load_lora
    from alignguard_train.reemergence.arithmetic import unfit_layers

    safety = {name: load_lora(path) for name, path in models.adapters.items()}
    faults = []
    for name, lora in safety.items():
        if odd := unfit_layers(models.base.denoiser, lora):
            faults.append(
                f"reemergence.adapters: {name} ({models.adapters[name].name}) does not fit "
                f"{models.base.model_id}: {odd[0]}"
                + (f" and {len(odd) - 1} more" if odd[1:] else "")
            )
    if faults:
        raise ConfigError("profile", faults)
    return safety


def measures_of(data: DataRoot, key: str = UNPARTITIONED) -> list[dict[str, Any]]:
    """The rows of a finished measurement's table of measures.

    Args:
        data: the data folder.
        key: the partition.

    Returns:
        Rows as dictionaries.

    Raises:
        InputMissing: there is none.
    """
    folder = data.partition(ROOM, key)
    manifests.require(folder)
    return manifests.read(folder, "measures").to_pylist()
