"""The hardening room: experts continue training with a round's hard negatives.

One partition per round. Round 1 continues from the experts room, each later one from the previous
round. An expert whose category has no hard negative keeps its weights. Then all are merged by the
profile's strategy. A killed attempt resumes at the step.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.contracts.protocols import Progress
from alignguard_data.contracts.records import to_table
from alignguard_data.release.checks import rows_of
from alignguard_data.release.hard_rows import hard_rows
from alignguard_data.release.reader import hard_part, release_folder, train_rows
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis, reads
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import atomic_file
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.cost_model.reader import costs_input
from alignguard_train.experts.reader import weights_of
from alignguard_train.hardening.reader import MERGED_FILE, ROOM, hardened_expert, rounds
from alignguard_train.hardening.records import HardenedExpert
from alignguard_train.merge.by_strategy import cut, merge_by
from alignguard_train.merge.config import MergeConfig

FORMAT = 1
"""Part of the fingerprint: raise it when a round's files change for equal input."""
TABLES = {"experts": HardenedExpert}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """How a round goes on.

    Attributes:
        categories: keys of the experts.
        recipe: the profile's, with the round's steps.
        merge: the profile's section ``merge``.
        share: the highest share of an expert's rows that are hard negatives.
        seed: of the training.
    """

    categories: tuple[str, ...]
    recipe: ExpertRecipe
    merge: MergeConfig
    share: float
    seed: int


def spec(data: DataRoot, round: int, base: BaseModel, how: Continuation) -> PartitionSpec:
    """Spec of one round.

    Args:
        data: the data folder.
        round: its number, from 1.
        base: the base model.
        how: steps, share and merge.

    Returns:
        The spec; stale when an expert, the round before, a row that is read or the recipe changes.

    Raises:
        InputMissing: there is no release, an expert or the round before is not made, or the newest
            release has no hard negative of this round.
    """
    known = rounds(data)
    if round not in known:
        raise InputMissing(f"{release_folder(data).name} has no hard negative of round {round}")
    release = manifests.require(data.partition("release"))
    parts = [hard_part(key, one) for key in how.categories for one in known if one <= round]
    return PartitionSpec(
        folder=data.partition(ROOM, str(round)),
        room=ROOM,
        key=str(round),
        config={
            "recipe": how.recipe.fingerprint_fields,
            "merge": dataclasses.asdict(how.merge),
            "share": how.share,
            "seed": how.seed,
            "categories": list(how.categories),
            **basis(ROOM, format=FORMAT, engine=base, tables=TABLES),
        },
        inputs={
            **train_rows(data, how.categories),
            **reads(release, parts),
            **(costs_input(data) if how.recipe.cost_margin else {}),
            **_starts(data, round, how.categories, known),
        },
        models=base.models,
    )


def _starts(
    data: DataRoot, round: int, categories: Sequence[str], known: Sequence[int]
) -> dict[str, str]:
    """Content id of the weights that the experts continue from."""
    before = [one for one in known if one < round]
    if before:
        return {ROOM: manifests.require(data.partition(ROOM, str(before[-1]))).content_id}
    return {
        f"experts/{key}": manifests.require(data.partition("experts", key)).content_id
        for key in categories
    }


def make_hardened(
    data: DataRoot,
    round: int,
    base: BaseModel,
    how: Continuation,
    progress: Progress | None = None,
) -> Manifest:
    """Go on with every expert that has a hard negative, then merge all.

    Table ``experts``: the hard negatives and pairs of each. Files: every expert and
    ``merged.safetensors``, in diffusers' format.

    Args:
        data: the data folder.
        round: its number, from 1.
        base: the base model.
        how: steps, share and merge.
        progress: called with the number of steps just finished.

    Returns:
        The manifest of the finished round.

    Raises:
        InputMissing: see :func:`spec`.
        PartitionBusy: another process makes this round.
        EngineError: NaN, or divergence of the chosen side.
    """
    with open_partition(spec(data, round, base, how)) as work:
        if work.done:
            return work.done
        from alignguard_train.adapters.lora import load_lora, save_lora
        from alignguard_train.encodings.room import shared_encodings

        plans = [_plan(data, round, key, how) for key in how.categories]
        files = {f"experts/{p.category}.safetensors": _go_on(data, work, base, how, p, progress)
                 for p in plans}  # fmt: skip
        once = {pair: min(times, 1) for plan in plans for pair, times in plan.repeats.items()}
        encoded = shared_encodings(data, base, how.categories, flip=False, repeats=once)
        experts = [load_lora(path) for path in files.values()]
        made = merge_by(how.merge.strategy, experts, how.categories, base, encoded, how.merge)
        merged = work.partial / MERGED_FILE
        save_lora(cut(made.lora, how.merge.rank)[0], merged, _metadata(data, round, base))
        rows = [plan.row(how.recipe.steps) for plan in plans]
        return work.finish(
            tables={"experts": to_table(HardenedExpert, rows)},
            extra_files={**files, MERGED_FILE: merged},
            counts={
                "release": release_folder(data).name,
                "hard_negatives": sum(plan.hard for plan in plans),
                "experts_trained": sum(plan.hard > 0 for plan in plans),
                "steps": how.recipe.steps,
            },
            tally=Tally(wanted=len(plans), made=len(plans), unit="experts"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """One expert's rows in a round; ``start`` is the file that it continues from."""

    category: str
    start: Path
    hard: int
    pairs: int
    times: int
    repeats: Mapping[str, int]

    def row(self, steps: int) -> HardenedExpert:
        return HardenedExpert(
            category=self.category,
            hard_negatives=self.hard,
            repeats=self.times,
            pairs=self.pairs,
            steps=steps if self.hard else 0,
        )


def _plan(data: DataRoot, round: int, category: str, how: Continuation) -> _Plan:
    folder = release_folder(data)
    rows = rows_of(folder, "train", ("pair_id", "category")).to_pylist()
    own = [row["pair_id"] for row in rows if row["category"] == category]
    found = hard_rows(folder)
    hard = [pair for pair in own if pair in found and found[pair].round <= round]
    plain = [pair for pair in own if pair not in found]
    times = repeats_for(len(plain), len(hard), how.share)
    before = [one for one in rounds(data) if one < round]
    return _Plan(
        category=category,
        start=hardened_expert(data, before[-1], category) if before else weights_of(data, category),
        hard=len(hard),
        pairs=len(plain) + len(hard),
        times=times,
        repeats={**dict.fromkeys(found, 0), **dict.fromkeys(hard, times)},
    )


def repeats_for(plain: int, hard: int, share: float) -> int:
    """How often each hard negative is a row, so that they are at most ``share`` of all; at least 1.

    Args:
        plain: number of other rows.
        hard: number of hard negatives.
        share: in (0, 1).

    Returns:
        Rows of each hard negative, 1 or more.
    """
    if not hard:
        return 1
    return max(1, math.floor(share * plain / ((1 - share) * hard)))


def _go_on(
    data: DataRoot,
    work: PartitionWork,
    base: BaseModel,
    how: Continuation,
    plan: _Plan,
    progress: Progress | None,
) -> Path:
    """The expert's file after the round; one that a killed attempt finished is taken over."""
    from alignguard_train.adapters.lora import load_lora, save_lora
    from alignguard_train.experts.job import ExpertJob, train_job

    file = work.partial / "experts" / f"{plan.category}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        lora = load_lora(plan.start)
        if plan.hard:
            job = ExpertJob(
                data=data,
                categories=(plan.category,),
                base=base,
                recipe=how.recipe,
                seed=how.seed + int(work.spec.key),
                checkpoint=work.partial / f"{plan.category}.checkpoint.safetensors",
                others=tuple(key for key in how.categories if key != plan.category),
                repeats=plan.repeats,
                start=plan.start,
            )
            lora = train_job(job, 1, None, progress)[0].lora
        with atomic_file(file) as path:  # half a file would be taken over by the next call
            save_lora(lora, path, _metadata(data, int(work.spec.key), base))
    return file


def _metadata(data: DataRoot, round: int, base: BaseModel) -> dict[str, str]:
    return {
        "alignguard.release": release_folder(data).name,
        "alignguard.base_model": base.model_id,
        "alignguard.base_revision": base.revision,
        "alignguard.hardening_round": str(round),
    }
