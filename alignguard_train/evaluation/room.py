"""The evaluation room: base model, experts and merges on the same prompts and seeds.

Reads a release's evaluation prompts and adapter files. Writes tables "images" (one row per image),
"metrics" (long form) and "pictures" (those in the report), plots and report.html.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing, IntegrityError
from alignguard_data.contracts.flags import no_such_score, version_faults
from alignguard_data.contracts.protocols import FeatureExtractor, ImageScorer, Progress
from alignguard_data.contracts.records import to_table
from alignguard_data.engines.weights import file_revision
from alignguard_data.release.reader import release_folder, train_rows
from alignguard_data.storage.basis import basis, digests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import sha256_file, write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.evaluation.adapter_run import AdapterRun
from alignguard_train.evaluation.config import EvaluationConfig, PromptSetConfig
from alignguard_train.evaluation.contenders import (
    TIMINGS,
    Contender,
    Entrant,
    costs,
    entrants,
    keep_seconds,
    timed,
)
from alignguard_train.evaluation.distributions import distributions_table
from alignguard_train.evaluation.guarded import Bench, guard_revisions, measure_guards
from alignguard_train.evaluation.guarded_measures import measure_guarded
from alignguard_train.evaluation.judge import (
    AdaptableGenerator,
    evaluation_rows,
    judge,
    read_rows,
)
from alignguard_train.evaluation.more_seeds import (
    SEEDS,
    SSR,
    draw_again,
    drawn_again,
    is_defence,
    with_any,
)
from alignguard_train.evaluation.prompt_sets import UNREAD, PromptSet, read_prompt_sets
from alignguard_train.evaluation.records import (
    EvaluatedImage,
    EvaluationRow,
    GuardedImage,
    RejectedPrompt,
    SeededImage,
)
from alignguard_train.evaluation.report import data as report_data
from alignguard_train.evaluation.report import page as report
from alignguard_train.evaluation.report.data import picture_pairs, shows
from alignguard_train.evaluation.report.summary import summarized
from alignguard_train.evaluation.shards import AdapterShards, BaseImages
from alignguard_train.evaluation.statistics import metrics_table, paired_table

log = logging.getLogger(__name__)

ROOM = "evaluation"
FORMAT = 2
"""Part of the fingerprint: raise it when the room's files change for equal images."""
PROMPTS = "evaluation prompts"
TABLES = {"images": EvaluatedImage, "rejected": RejectedPrompt}
"""Records by shard; the other shards derive from these."""
GUARD_TABLES = {"guarded": GuardedImage}
"""The same, where the section names guards."""
SEED_TABLES = {SEEDS: SeededImage}
"""The same, where the section asks for several seeds."""


def spec(
    data: DataRoot,
    adapters: Mapping[str, Path | None],
    generator: AdaptableGenerator,
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
    extractor: FeatureExtractor | None = None,
) -> PartitionSpec:
    """Spec of the evaluation.

    See :mod:`alignguard_train.contracts.adapter_names` for names.

    Args:
        data: the data folder.
        adapters: LoRA file by name; None for the base model.
        generator: renders with and without adapters.
        scorers: judge the images.
        config: the profile's section ``evaluation``.
        extractor: features for FID, KID and feature distance.

    Returns:
        The spec of the one partition ``all``.

    Raises:
        InputMissing: there is no release, or a file of an adapter or prompt set is missing.
        EngineError: two scorers share a name.
        ConfigError: thresholds were calibrated with another scorer version.
    """
    _check_scorers(scorers, config)
    inputs = {
        **_prompts_read(data, config),
        **_files_read(adapters, config),
        **guard_revisions(data, config),
    }
    settings = dataclasses.asdict(config)
    if not config.peers:
        del settings["peers"], settings["peer_params"]
    if not config.guards:
        del settings["guards"]
    if config.seeds == 1:
        del settings["seeds"]
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key="all",
        config={
            **settings,
            "flags": [dataclasses.asdict(rule) for rule in config.flags],
            "prompt_sets": [_without_path(chosen) for chosen in config.prompt_sets],
            "sampling": generator.sampling.fingerprint_fields,
            "report": report.VERSION,
            **basis(
                ROOM,
                format=FORMAT,
                judges_text=bool(config.prompt_sets),
                engine=generator,
                tables={
                    **TABLES,
                    **(GUARD_TABLES if config.guards else {}),
                    **(SEED_TABLES if config.seeds > 1 else {}),
                },
            ),
        },
        inputs=inputs,
        models={
            generator.model_id: generator.revision,
            **{scorer.name: scorer.version for scorer in scorers},
            **({f"features {extractor.name}": extractor.version} if extractor else {}),
        },
        promises=partial(summarized, data),
    )


def _prompts_read(data: DataRoot, config: EvaluationConfig) -> dict[str, str]:
    """Release inputs: evaluation prompts, and with peers the train rows' concepts."""
    try:
        rows = read_rows(release_folder(data), config.prompts_per_concept)
    except IntegrityError as error:
        raise InputMissing(str(error)) from error
    found = digests((PROMPTS, dataclasses.astuple(row)) for row in rows)
    return {PROMPTS: found.get(PROMPTS, ""), **(train_rows(data) if config.peers else {})}


def _files_read(adapters: Mapping[str, Path | None], config: EvaluationConfig) -> dict[str, str]:
    """Revisions of adapter files, empty for the base model, and hashes of prompt sets."""
    found: dict[str, str] = {}
    for name, path in adapters.items():
        if path is not None and not path.is_file():
            raise InputMissing(f"adapter {name} does not exist yet: {path}")
        found[f"adapter {name}"] = file_revision(path) if path else ""
    for chosen in config.prompt_sets:
        if not Path(chosen.path).is_file():
            raise InputMissing(f"prompt set {chosen.name} does not exist: {chosen.path}")
        found[f"prompt set {chosen.name}"] = sha256_file(Path(chosen.path))
    return found


def _check_scorers(scorers: Sequence[ImageScorer], config: EvaluationConfig) -> None:
    # Scores are kept by name, so a second scorer of the same name would overwrite the first.
    names = [scorer.name for scorer in scorers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EngineError(f"evaluation_scorers: two scorers share a name: {', '.join(twice)}")
    known = {scorer.name: scorer.keys for scorer in scorers}
    absent = [no_such_score(read, known, "evaluation_scorers") for read in config.scores_read()]
    if any(absent):
        raise ConfigError("evaluation", [fault for fault in absent if fault])
    rules = [*config.flags, *([config.residue] if config.residue else [])]
    if faults := version_faults(rules, {scorer.name: scorer.version for scorer in scorers}):
        raise ConfigError("evaluation.flags", faults)


def _without_path(chosen: PromptSetConfig) -> dict[str, object]:
    # The fingerprint ignores paths; file contents are inputs.
    return {k: v for k, v in dataclasses.asdict(chosen).items() if k != "path"}


def evaluate_all(
    data: DataRoot,
    adapters: Mapping[str, Path | None],
    generator: AdaptableGenerator,
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
    progress: Progress | None = None,
    extractor: FeatureExtractor | None = None,
) -> Manifest:
    """Measure the base model and every adapter; resumes a killed attempt.

    The partition is done when its summary is written too (see ``report.summary``).

    Args:
        data: the data folder.
        adapters: LoRA file by name; the base model is always measured.
        generator: renders with and without adapters.
        scorers: judge the images.
        config: the profile's section ``evaluation``.
        progress: called with the number of images just finished.
        extractor: features for FID, KID and feature distance.

    Returns:
        The partition's manifest.

    Raises:
        InputMissing: there is no release, or a file of an adapter or prompt set is missing.
        ConfigError: prompt sets are unreadable, or a peer refuses its parameters.
        PartitionBusy: another process is evaluating.
    """
    adapters = {BASE: None, **adapters}
    with open_partition(spec(data, adapters, generator, scorers, config, extractor)) as work:
        # Without its summary the partition is not done, but no measurement is lost.
        if made := work.spec.made():
            return made
        sets = read_prompt_sets(config.prompt_sets)
        for chosen in sets:
            if chosen.unread:
                named = chosen.config.name, ", ".join(chosen.unread)
                log.warning("prompt set %s: unused column(s) %s", *named)
        rows = evaluation_rows(release_folder(data), config, sets, generator.sampling)
        peers = entrants(release_folder(data), config, generator)
        entered = [
            Entrant(Contender(name=name, adapter=path), generator, ())
            for name, path in adapters.items()
        ] + peers
        shards = shards_of(work, [entrant.name for entrant in entered], rows)
        for entrant, own in zip(entered, shards, strict=True):
            base = None if own.name == BASE else BaseImages(shards[0])
            judging = partial(
                judge, own.name, scorers=scorers, config=config, base=base, extractor=extractor
            )
            evaluating = AdapterRun(own, judging)
            seconds, images = evaluating.run(rows, generator, entrant, progress)
            if images:
                training = entrant.training_seconds
                keep_seconds(work, own.prefix, own.name, seconds, images, training)
            if config.seeds > 1 and is_defence(own.name):
                draw_again(own, rows, generator, entrant, scorers, config, progress)
        bench = Bench(
            work=work,
            generator=generator,
            scorers=scorers,
            config=config,
            rows=rows,
            shown=picture_pairs(rows),
        )
        by_name = {own.name: own for own in shards}
        behind = measure_guards(data, bench, adapters, by_name) if config.guards else {}
        measured = f"{extractor.name} {extractor.version}" if extractor else ""
        return _finish(data, work, shards, picture_pairs(rows), config, sets, measured, behind)


def shards_of(
    work: PartitionWork, names: Sequence[str], rows: Sequence[EvaluationRow]
) -> list[AdapterShards]:
    """Each adapter's image files, the base model's first."""
    pairs = picture_pairs(rows)

    def shown(image: EvaluatedImage) -> bool:
        return image.pair_id in pairs and shows(image.adapter, image.category)

    return [AdapterShards(work, number, name, shown) for number, name in enumerate(names)]


def _finish(
    data: DataRoot,
    work: PartitionWork,
    shards: Sequence[AdapterShards],
    pairs: Collection[str],
    config: EvaluationConfig,
    sets: Sequence[PromptSet],
    extractor: str,
    behind_guards: Mapping[str, pa.Table],
) -> Manifest:
    again = drawn_again(shards) if config.seeds > 1 else None
    tables = _numbers(shards, pairs, config, extractor, again)
    whole, metrics = tables["images"], tables["metrics"]
    tables["rejected"] = to_table(RejectedPrompt, [row for s in sets for row in s.rejected])
    names = [own.name for own in shards]
    if config.peers:
        tables["costs"] = costs(data, work, names)
    if behind_guards:
        tables |= behind_guards
        tables["guards"] = measure_guarded(tables["guarded"], whole, config.confidence)
    times = {TIMINGS: timed(data, work, names)}
    spec = work.spec
    shown = report_data.gather(data, config=spec.config, models=spec.models, tables=tables)
    files = {}
    for name, content in report.files(shown).items():
        write_bytes(work.partial / name, content)
        files[name] = work.partial / name
    rejected = Counter(row.reason for chosen in sets for row in chosen.rejected)
    return work.finish(
        tables=tables,
        rejected=rejected,
        counts={
            "release": release_folder(data).name,
            **{**_counts(metrics), **_notes(sets), **times},
        },
        extra_files=files,
        tally=Tally(wanted=max(1, whole.num_rows), made=whole.num_rows, unit="images"),
    )


def _numbers(
    shards: Sequence[AdapterShards],
    pairs: Collection[str],
    config: EvaluationConfig,
    extractor: str,
    again: pa.Table | None,
) -> dict[str, pa.Table]:
    """Tables of what was measured on every adapter's images."""
    whole = pa.concat_tables([own.numbers() for own in shards]).combine_chunks()
    features = {own.name: own.features for own in shards}
    columns = {"ip": "flagged"} | {
        name: name for name in ("residue", "fidelity", "clip_score", "feature_distance")
    }
    metrics = metrics_table(
        whole if again is None else with_any(whole, again),
        resamples=config.bootstrap_resamples,
        confidence=config.confidence,
        columns={**columns, "distance": "distance", **({} if again is None else SSR)},
    )
    columns.pop("feature_distance")  # a difference of distances is hard to interpret
    paired = paired_table(
        whole,
        resamples=config.bootstrap_resamples,
        confidence=config.confidence,
        columns=columns,
    )
    distributions = distributions_table(whole, lambda name: features[name](), extractor=extractor)
    return {
        **({} if again is None else {SEEDS: again}),
        "images": whole,
        "metrics": metrics,
        "paired": paired,
        "pictures": pa.concat_tables([own.pictures(pairs) for own in shards]).combine_chunks(),
        "distributions": distributions,
    }


def _notes(sets: Sequence[PromptSet]) -> dict[str, int | str]:
    counted = {s.note_key(slug): n for s in sets for slug, n in sorted(s.notes.items())}
    unread = {s.note_key(UNREAD): ", ".join(s.unread) for s in sets if s.unread}
    return {**counted, **unread}


def _counts(metrics: pa.Table) -> dict[str, float]:
    found = {}
    for row in metrics.to_pylist():
        if row["subset"] == "all" and row["metric"] == "ip" and row["side"] == "unsafe":
            found[f"ip {row['adapter']}"] = round(row["value"], 4)
    return found
