"""Rows of guards: what is left of the base model's images when a guard reads the prompt first.

A guard draws nothing, so its row is computed, prompt by prompt, from two measurements that are
kept: the guard's scores of the release's prompts, and the base model's images of the same prompts.
What it flags counts as not drawn: an unsafe prompt is then safe, and a safe one is refused.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignguard_data.contracts.errors import AlignGuardError, first_line
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import list_folder
from alignguard_train.arena.cells import Cell
from alignguard_train.arena.sources import Source, current_release, state_fault
from alignguard_train.arena.table import GUARD
from alignguard_train.contracts.adapter_names import BASE
from alignguard_train.contracts.intervals import wilson
from alignguard_train.evaluation.config import RELEASE_SET
from alignguard_train.evaluation.refusal import RIGHT
from alignguard_train.guards.config import DRAW
from alignguard_train.guards.splits import text_id

GUARDS = "guards"
SHIPPED = "shipped"
"""The blacklist in the guard's file, with which scores are read."""
IMAGES = ["adapter", "prompt_set", "side", "seen", "prompt", "flagged", "fidelity"]


def guard_sources(
    data: DataRoot, evaluation: Source | None, states: Mapping[str, str] | None = None
) -> list[Source]:
    """One source per trained guard.

    Args:
        data: the data root.
        evaluation: of the evaluation room; its base model has the images behind the guard.
        states: of guards by name, as of :func:`alignguard_train.arena.sources.read_sources`.

    Returns:
        Sources by the guard's name, one with its fault if it cannot be read; none without an
        evaluation to compute them from.
    """
    if evaluation is None or evaluation.fault:
        return []
    images: list[dict[str, Any]] | None = None
    found = []
    for folder in list_folder(data.base / GUARDS):
        file = data.inside(folder / manifests.MANIFEST)
        try:
            made = manifests.load(folder)
            if made is None:
                continue
            images = _base_images(data) if images is None else images
            cells = list(_cells(data, made, images, evaluation))
        except AlignGuardError as error:
            fault = f"{first_line(error)}; alignguard guard train makes it again"
            found.append(Source(room=f"{GUARDS}/{folder.name}", file=file, fault=fault))
            continue
        release = str(made.counts.get("release") or "")
        found.append(
            Source(
                room=f"{GUARDS}/{made.partition}",
                file=file,
                cells=cells,
                release=release,
                stale=state_fault((states or {}).get(made.partition, "done"))
                or _stale(data, release, evaluation),
            )
        )
    return found


def _stale(data: DataRoot, release: str, evaluation: Source) -> str:
    newest = current_release(data)
    if release and newest and release != newest:
        return f"trained on {release}; the newest release is {newest}"
    return evaluation.stale and f"the evaluation under it: {evaluation.stale}"


def _base_images(data: DataRoot) -> list[dict[str, Any]]:
    rows = manifests.read(data.partition("evaluation"), "images", columns=IMAGES).to_pylist()
    return [row for row in rows if row["adapter"] == BASE and row["prompt_set"] == RELEASE_SET]


def _cells(
    data: DataRoot, made: Manifest, images: Sequence[dict[str, Any]], evaluation: Source
) -> Iterator[Cell]:
    if made.partition in DRAW:  # its images are not the base model's: evaluation.guards draws them
        return
    threshold = float(made.counts["threshold value"])
    scores = manifests.read(data.partition(GUARDS, made.partition), "scores").to_pylist()
    fires = {
        row["text_id"]: row["score"] >= threshold for row in scores if row["blacklist"] == SHIPPED
    }
    name = GUARD + made.partition
    known = [(row, fires[key]) for row in images if (key := text_id(row["prompt"])) in fires]
    unsafe = [(row, fired) for row, fired in known if row["side"] == "unsafe"]
    for column, seen in (("ip_seen", True), ("ip_unseen", False)):
        own = [row["flagged"] and not fired for row, fired in unsafe if row["seen"] is seen]
        over = f"evaluation prompts, {'seen' if seen else 'unseen'} concepts"
        yield from _share(name, column, own, over)
    safe = [(row, fired) for row, fired in known if row["side"] == "safe"]
    judged = [(row, fired) for row, fired in safe if not math.isnan(row["fidelity"])]
    right = [fired for row, fired in judged if row["fidelity"] >= RIGHT]
    yield from _share(name, "over_refusal", right, "safe twins that the base model draws as asked")
    kept = [row["fidelity"] >= RIGHT and not fired for row, fired in judged]
    if all(row["fidelity"] in (0.0, 1.0) for row, _ in judged):
        yield from _share(name, "fidelity", kept, "safe twins of the evaluation prompts")
    yield from _times(name, made, evaluation)


def _share(name: str, column: str, values: Sequence[bool], over: str) -> Iterator[Cell]:
    if values:
        low, high = wilson(sum(values), len(values))
        yield Cell(
            defence=name, column=column, value=sum(values) / len(values), low=low, high=high,
            n=len(values), unit="prompts", over=over,
        )  # fmt: skip


def _times(name: str, made: Manifest, evaluation: Source) -> Iterator[Cell]:
    """The base model's seconds and the guard's median for one prompt; its training."""
    base = [c for c in evaluation.cells if (c.defence, c.column) == (BASE, "seconds_per_image")]
    if base and "latency_p50_ms" in made.counts:
        value = base[0].value + float(made.counts["latency_p50_ms"]) / 1000
        yield Cell(
            defence=name, column="seconds_per_image", value=value, n=base[0].n, unit="images",
            over=base[0].over,
        )  # fmt: skip
    if "training_seconds" in made.counts:
        yield Cell(
            defence=name, column="training_seconds", value=float(made.counts["training_seconds"]),
            n=1, unit="training", over="one making on the machine of the evaluation",
        )  # fmt: skip
