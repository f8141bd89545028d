"""The cost model's room: one partition, trained on a release's train images, with their costs."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.protocols import FeatureExtractor, Progress
from alignguard_data.contracts.records import to_table
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.tally import Tally
from alignguard_train.cost_model.config import CostModelConfig
from alignguard_train.cost_model.reader import FILE, ROOM
from alignguard_train.cost_model.records import PairCost

if TYPE_CHECKING:
    from alignguard_train.cost_model.gate import Figures, Floats
    from alignguard_train.cost_model.head import CostHead
    from alignguard_train.cost_model.source import PairFeatures

FORMAT = 1
"""Part of the fingerprint: raise it when a cost model or a cost of equal input changes."""
TABLES = {"costs": PairCost}


def spec(data: DataRoot, extractor: FeatureExtractor, config: CostModelConfig) -> PartitionSpec:
    """Spec of the room's one partition.

    Args:
        data: the data root.
        extractor: of image features; frozen.
        config: training and gate.

    Returns:
        What the partition is made of: its fingerprint covers the release, the extractor and the
        settings.

    Raises:
        InputMissing: there is no release.
    """
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={**dataclasses.asdict(config), **basis(ROOM, format=FORMAT, tables=TABLES)},
        inputs={"release": manifests.require(data.partition("release")).content_id},
        models={extractor.name: extractor.version},
    )


def make_cost_model(
    data: DataRoot,
    extractor: FeatureExtractor,
    config: CostModelConfig,
    progress: Progress | None = None,
) -> Manifest:
    """Train the cost model and store the costs of all train pairs, unless it is up to date.

    Features are computed once, in batches that a killed attempt leaves to the next.

    Args:
        data: the data root.
        extractor: of image features; frozen.
        config: training and gate.
        progress: called with the number of images just read.

    Returns:
        Manifest of the room's partition.

    Raises:
        InputMissing: there is no release.
        PartitionBusy: another process is making it.
        IntegrityError: an image of the release cannot be decoded.
        EngineError: the cost model is under its gate, or the release has one concept only.
    """
    with open_partition(spec(data, extractor, config)) as work:
        if work.done:
            return work.done
        import torch

        from alignguard_train.cost_model.gate import refuse_under_gate
        from alignguard_train.cost_model.head import train_head
        from alignguard_train.cost_model.splits import parts_of

        pairs = _features(data, extractor, config, work, progress)
        concepts = [str(row["concept"]) for row in pairs.rows]
        seeds = [int(str(row["seed"])) for row in pairs.rows]
        parts = np.array(parts_of(concepts, seeds, share=config.held_out_share, seed=config.seed))
        safe, unsafe = torch.from_numpy(pairs.safe), torch.from_numpy(pairs.unsafe)
        train = torch.from_numpy(np.flatnonzero(parts == "train"))
        head = train_head(safe[train], unsafe[train], config)
        costs = [head(side).double().numpy() for side in (safe, unsafe)]
        measured = _measured(costs, parts, concepts, config)
        refuse_under_gate(
            measured["held_out"],
            min_auc=config.min_auc,
            min_right=config.min_right,
            of="the cost model of this release",
        )
        rows = _rows(pairs, parts, costs)
        return work.finish(
            tables={"costs": to_table(PairCost, rows)},
            extra_files={FILE: _save(data, work, extractor, head, measured["held_out"])},
            counts=_counts(data, parts.tolist(), measured, costs[1] - costs[0]),
            tally=Tally(wanted=len(rows), made=len(rows), unit="pairs"),
        )


def _measured(
    costs: "list[Floats]",
    parts: "npt.NDArray[np.str_]",
    concepts: list[str],
    config: CostModelConfig,
) -> "dict[str, Figures]":
    """Figures of each part that was not trained on."""
    from alignguard_train.cost_model.gate import figures

    names = np.array(concepts)
    return {
        part: figures(costs[0][mask], costs[1][mask], names[mask].tolist(), config)
        for part in ("held_out", "unseen_seed")
        if (mask := parts == part).any()
    }


def _rows(
    pairs: "PairFeatures", parts: "npt.NDArray[np.str_]", costs: "list[Floats]"
) -> list[PairCost]:
    return [
        PairCost(
            pair_id=str(row["pair_id"]),
            concept=str(row["concept"]),
            category=str(row["category"]),
            part=str(part),
            cost_chosen=float(low),
            cost_rejected=float(high),
        )
        for row, part, low, high in zip(pairs.rows, parts, *costs, strict=True)
    ]


def _features(
    data: DataRoot,
    extractor: FeatureExtractor,
    config: CostModelConfig,
    work: PartitionWork,
    progress: Progress | None,
) -> "PairFeatures":
    from alignguard_train.cost_model.source import feature_batches, joined

    done = work.saved_names()
    if progress:
        for name in done:
            progress(2 * len(work.load_batch(name, columns=["pair_id"])))
    half = config.images_at_once // 2
    for name, table in feature_batches(release_folder(data), extractor, half, set(done)):
        work.save_batch(name, table)
        if progress:
            progress(2 * len(table))
    return joined([work.load_batch(name) for name in work.saved_names()])


def _save(
    data: DataRoot,
    work: PartitionWork,
    extractor: FeatureExtractor,
    head: "CostHead",
    measured: "Figures",
) -> Path:
    from alignguard_train.cost_model.files import CostModelHeader, save_cost_model

    header = CostModelHeader(
        features=extractor.name,
        features_version=extractor.version,
        width=len(head.mean),
        release=release_folder(data).name,
        release_content_id=work.spec.inputs["release"],
        figures=measured,
    )
    save_cost_model(work.partial / FILE, header, head)
    return work.partial / FILE


def _counts(
    data: DataRoot, parts: list[str], measured: "dict[str, Figures]", gaps: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"release": release_folder(data).name}
    found |= {f"{part} pairs": number for part, number in sorted(Counter(parts).items())}
    for part, one in measured.items():
        found |= {
            f"auc {part}": round(one.auc, 4),
            f"auc {part} low": round(one.low, 4),
            f"auc {part} high": round(one.high, 4),
            f"right {part}": round(one.right, 4),
        }
    return {**found, "median gap": round(float(np.median(gaps)), 4)}
