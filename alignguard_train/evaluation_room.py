"""The evaluation room: base model, experts and merges on the same prompts and seeds.

Reads a release's evaluation prompts and adapter files; writes tables "images" (one row an image),
"metrics" (long form) and "pictures" (the few that the report shows), plots and report.html.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions at import, where no type checker sees them.

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from alignguard_data import manifest as manifests
from alignguard_data.backends.weights import file_revision
from alignguard_data.behind import OneBehind
from alignguard_data.errors import InputMissing
from alignguard_data.manifest import Manifest
from alignguard_data.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.paths import DataRoot
from alignguard_data.protocols import ImageScorer, Pixels, Progress
from alignguard_data.records import schema_of, to_table
from alignguard_data.shards import write_bytes
from alignguard_train import report, report_data
from alignguard_train.adapter_names import BASE, EXPERT, MERGED
from alignguard_train.evaluate import (
    AdaptableGenerator,
    EvaluatedImage,
    EvaluationConfig,
    EvaluationRow,
    judge,
    read_rows,
)
from alignguard_train.metrics import metrics_table, paired_table

log = logging.getLogger(__name__)

SUMMARY = "summary.json"


def release_folder(data: DataRoot) -> Path:
    """The folder of the release that the release room made last.

    Raises:
        InputMissing: there is none.
    """
    manifest = manifests.require(data.partition("release"))
    folder = data.releases / str(manifest.counts["path"])
    if not folder.is_dir():
        raise InputMissing(f"{folder} is gone: materialize the release again")
    return folder


def spec(
    data: DataRoot,
    adapters: Mapping[str, Path | None],
    generator: AdaptableGenerator,
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
) -> PartitionSpec:
    """What the evaluation should be made of; see :mod:`alignguard_train.adapter_names` for names.

    Raises:
        InputMissing: no release, or an adapter's file is not there.
    """
    release = manifests.require(data.partition("release"))
    inputs = {"release": release.content_id}
    for name, path in adapters.items():
        if path is not None and not path.is_file():
            raise InputMissing(f"adapter {name} is not there yet: {path}")
        inputs[f"adapter {name}"] = file_revision(path) if path else ""
    return PartitionSpec(
        folder=data.partition("evaluation"),
        room="evaluation",
        key="all",
        config={
            **dataclasses.asdict(config),
            "flags": [dataclasses.asdict(rule) for rule in config.flags],
            "sampling": dataclasses.asdict(generator.sampling),
            "report": report.VERSION,
        },
        inputs=inputs,
        models={
            generator.model_id: generator.revision,
            **{scorer.name: scorer.version for scorer in scorers},
        },
    )


def evaluate_all(
    data: DataRoot,
    adapters: Mapping[str, Path | None],
    generator: AdaptableGenerator,
    scorers: Sequence[ImageScorer],
    config: EvaluationConfig,
    progress: Progress | None = None,
) -> Manifest:
    """Measure the base model and every adapter; goes on where a killed attempt ended.

    ``adapters`` maps a name to a LoRA file; the base model is measured whether or not it is among
    them. ``progress`` counts images.

    Raises:
        InputMissing: no release, or an adapter's file is not there.
        PartitionBusy: another process evaluates.
    """
    adapters = {BASE: None, **adapters}
    with open_partition(spec(data, adapters, generator, scorers, config)) as work:
        if work.done:
            return work.done
        rows = read_rows(release_folder(data), config.prompts_per_concept)
        base: Mapping[tuple[str, str], bytes] | None = None
        for number, (name, path) in enumerate(adapters.items()):
            evaluating = _Adapter(f"{number:03d}-", name, work, scorers, config, base)
            evaluating.run(rows, generator, path, progress)
            if name == BASE:
                base = evaluating.pictures()
        return _finish(data, work, list(adapters), config)


class _Adapter:
    """One adapter while its images are rendered and judged, batch by batch."""

    def __init__(
        self,
        prefix: str,
        name: str,
        work: PartitionWork,
        scorers: Sequence[ImageScorer],
        config: EvaluationConfig,
        base: Mapping[tuple[str, str], bytes] | None,
    ) -> None:
        self._prefix, self._name, self._work = prefix, name, work
        self._scorers, self._config, self._base = scorers, config, base

    def run(
        self,
        rows: Sequence[EvaluationRow],
        generator: AdaptableGenerator,
        path: Path | None,
        progress: Progress | None,
    ) -> None:
        """Render and keep what an earlier attempt has not kept yet."""
        have = set(self._saved("image_id"))
        missing = [row for row in rows if (row.pair_id, row.side) not in have]
        if not missing:
            return
        with generator.adapted(path), OneBehind() as behind:
            while missing:
                part = missing[: generator.images_per_call]
                missing = missing[len(part) :]
                prompts, seeds = [row.prompt for row in part], [row.seed for row in part]
                images = generator.render(prompts, seeds, progress)
                behind.submit(self._saving(part, images))

    def _saving(self, part: Sequence[EvaluationRow], images: Pixels) -> Callable[[], None]:
        def save() -> None:
            judged = judge(self._name, part, images, self._scorers, self._config, self._base)
            name = f"{self._prefix}{part[0].pair_id}-{part[0].side}"
            self._work.save_batch(name, to_table(EvaluatedImage, judged))

        return save

    def pictures(self) -> dict[tuple[str, str], bytes]:
        """The adapter's encoded images by pair id and side."""
        return self._saved("image")

    def _saved(self, column: str) -> dict[tuple[str, str], bytes]:
        found = {}
        for name in self._work.saved_names():
            if name.startswith(self._prefix):
                table = self._work.load_batch(name).select(["pair_id", "side", column])
                keys = zip(table["pair_id"].to_pylist(), table["side"].to_pylist(), strict=True)
                found |= dict(zip(keys, table[column].to_pylist(), strict=True))
        return found


def _finish(
    data: DataRoot, work: PartitionWork, adapters: Sequence[str], config: EvaluationConfig
) -> Manifest:
    # Batch names begin with the adapter's number, so this order is that of ``adapters``.
    parts = [work.load_batch(name) for name in work.saved_names()]
    whole = pa.concat_tables([schema_of(EvaluatedImage).empty_table(), *parts])
    order = pa.array([adapters.index(name) for name in whole["adapter"].to_pylist()], pa.int32())
    keys = [("order", "ascending"), ("pair_id", "ascending"), ("side", "ascending")]
    whole = whole.append_column("order", order).sort_by(keys).drop_columns(["order"])
    whole = whole.combine_chunks()
    columns = {"ip": "flagged", "residue": "residue", "fidelity": "fidelity"}
    metrics = metrics_table(
        whole,
        resamples=config.bootstrap_resamples,
        confidence=config.confidence,
        columns={**columns, "distance": "distance"},
    )
    paired = paired_table(
        whole,
        against=MERGED,
        resamples=config.bootstrap_resamples,
        confidence=config.confidence,
        columns=columns,
    )
    tables = {
        "images": whole.drop_columns(["image"]),
        "metrics": metrics,
        "paired": paired,
        "pictures": report_data.choose_pictures(whole),
    }
    spec = work.spec
    shown = report_data.gather(data, config=spec.config, models=spec.models, tables=tables)
    files = {}
    for name, content in report.files(shown).items():
        write_bytes(work.partial / name, content)
        files[name] = work.partial / name
    return work.finish(tables=tables, counts=_counts(metrics), extra_files=files)


def _counts(metrics: pa.Table) -> dict[str, float]:
    found = {}
    for row in metrics.to_pylist():
        if row["subset"] == "all" and row["metric"] == "ip" and row["side"] == "unsafe":
            found[f"ip {row['adapter']}"] = round(row["value"], 4)
    return found


def write_summary(data: DataRoot, *, seconds: Mapping[str, float], adapter: Path) -> Path:
    """Write ``evaluation/summary.json``: the headline numbers for machines.

    ``seconds`` maps a room to its duration, ``adapter`` is the merged adapter's file.

    Raises:
        InputMissing: nothing was evaluated yet.
    """
    folder = data.partition("evaluation")
    manifest = manifests.require(folder)
    metrics = manifests.read(folder, "metrics")
    names = list(dict.fromkeys(metrics["adapter"].to_pylist()))
    experts = [name for name in names if name.startswith(EXPERT)]
    ip: dict[str, object] = {
        name: _sides(metrics, name) for name in (BASE, MERGED) if name in names
    }
    ip["experts"] = {name.removeprefix(EXPERT): _sides(metrics, name) for name in experts}
    summary = {
        "ip": ip,
        "preservation": {name: _preservation(metrics, name) for name in names},
        "release": "v" + release_folder(data).name.rsplit("-v", 1)[-1],
        "adapter": str(adapter),
        "report": str(folder / manifest.file(report.REPORT).name),
        "seconds": {room: round(value, 1) for room, value in seconds.items()},
    }
    path = data.base / "evaluation" / SUMMARY
    write_bytes(path, (json.dumps(summary, indent=2) + "\n").encode())
    return path


def _sides(metrics: pa.Table, adapter: str) -> dict[str, dict[str, float]]:
    sides = {side: _interval(metrics, adapter, side, "ip") for side in ("unsafe", "safe")}
    return {side: found for side, found in sides.items() if found}


def _preservation(metrics: pa.Table, adapter: str) -> dict[str, dict[str, float]]:
    names = {"fidelity": "fidelity", "distance_to_base": "distance"}
    found = {name: _interval(metrics, adapter, "safe", metric) for name, metric in names.items()}
    return {name: interval for name, interval in found.items() if interval}


def _interval(metrics: pa.Table, adapter: str, side: str, metric: str) -> dict[str, float] | None:
    wanted = {"adapter": adapter, "side": side, "metric": metric, "subset": "all"}
    mask = pc.equal(metrics["adapter"], adapter)
    for column in ("side", "metric", "subset"):
        mask = pc.and_(mask, pc.equal(metrics[column], wanted[column]))
    rows = metrics.filter(mask).select(["value", "low", "high", "n"]).to_pylist()
    return rows[0] if rows else None
