"""The rooms in order, their partitions, and each partition's spec.

Shared by the assets, the driver and `alignguard status`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.images import room as images
from alignguard_data.index import room as index
from alignguard_data.pairs import room as pairs
from alignguard_data.prompts import room as prompts
from alignguard_data.release import room as release
from alignguard_data.scores import room as scores
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, State
from alignguard_data.storage.paths import UNPARTITIONED
from alignguard_data.storage.places import Place, map_concurrently, size
from alignguard_data.taxonomy import room as taxonomy
from alignguard_train.cost_model import room as cost_model_room
from alignguard_train.evaluation import room as evaluation_room
from alignguard_train.experts import room as experts
from alignguard_train.guards import room as guards_room
from alignguard_train.hardening import room as hardening_room
from alignguard_train.hardening.reader import rounds
from alignguard_train.merge import room as merge_room
from alignguard_train.personal import room as personal_room
from alignguard_train.reemergence import room as reemergence_room
from alignguard_train.robustness import room as robustness_room
from pipelines.resources import Engines
from pipelines.room_inputs import (
    adapters,
    attacked_matrix,
    attacked_models,
    continuation,
    expert_categories,
    expert_keys,
    expert_recipe,
    guard_keys,
    merged_keys,
    other_categories,
    personal_job,
    tuned_models,
)

Answer = TypeVar("Answer")
SOUND = ("done", "short")
"""States in which a partition is usable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """One room: its asset name, partitions and specs."""

    name: str
    asset: str
    partitioned_by: str | None
    spec: Callable[[Engines, str], PartitionSpec]

    def partitions(self, engines: Engines) -> list[str]:
        """The partition keys of the current taxonomy."""
        if self.partitioned_by == "concept":
            return [concept.key for concept in engines.taxonomy.concepts]
        if self.partitioned_by == "category":
            return expert_keys(engines)
        if self.partitioned_by == "guard":
            return guard_keys(engines)
        if self.partitioned_by == "round":
            return [str(round) for round in rounds(engines.data)]
        return [UNPARTITIONED]

    def states(self, engines: Engines, keys: Sequence[str] | None = None) -> dict[str, State]:
        """:meth:`state` of every partition, or of ``keys``."""
        wanted = self.partitions(engines) if keys is None else keys
        return ask_each(engines, wanted, lambda key: self.state(engines, key))

    def state(self, engines: Engines, key: str) -> State:
        """done, stale or missing.

        A partition with a missing input is missing, or stale if an older version exists.
        """
        try:
            return self.spec(engines, key).state()
        except InputMissing:
            folder = engines.data.partition(self.name, key)
            return "stale" if size(folder / manifests.MANIFEST) else "missing"


def ask_each(
    engines: Engines, keys: Sequence[str], ask: Callable[[str], Answer]
) -> dict[str, Answer]:
    """``ask`` of every key, in order; concurrently for a bucket."""
    # The first key runs in one thread, as it builds the engines.
    answers = [ask(key) for key in keys[:1]]
    answers += map_concurrently(engines.data.root, ask, keys[1:])
    return dict(zip(keys, answers, strict=True))


def _taxonomy(engines: Engines, key: str) -> PartitionSpec:
    return taxonomy.spec(engines.data, engines.taxonomy)


def _prompts(engines: Engines, key: str) -> PartitionSpec:
    concept = engines.taxonomy.concept(key)
    return prompts.spec(
        engines.data, concept, engines.writer, engines.profile.writing, engines.gate_tools
    )


def _images(engines: Engines, key: str) -> PartitionSpec:
    return images.spec(
        engines.data, key, engines.generator, engines.profile.sampling, engines.editing
    )


def _scores(engines: Engines, key: str) -> PartitionSpec:
    return scores.spec(engines.data, key, engines.image_scorers, engines.pair_scorers)


def _pairs(engines: Engines, key: str) -> PartitionSpec:
    return pairs.spec(engines.data, engines.taxonomy.concept(key), engines.profile.filter)


def _index(engines: Engines, key: str) -> PartitionSpec:
    return index.spec(engines.data, engines.taxonomy)


def _release(engines: Engines, key: str) -> PartitionSpec:
    profile = engines.profile
    return release.spec(
        engines.data, engines.taxonomy, profile.release, profile.audit, engines.embedder
    )


def _guards(engines: Engines, key: str) -> PartitionSpec:
    return guards_room.spec(
        engines.data, key, engines.base, engines.taxonomy.concepts, engines.profile.guards
    )


def _cost_model(engines: Engines, key: str) -> PartitionSpec:
    chosen = engines.profile.cost_model
    assert chosen
    return cost_model_room.spec(engines.data, engines.cost_features, chosen.settings)


def _experts(engines: Engines, key: str) -> PartitionSpec:
    return experts.spec(
        engines.data,
        key,
        expert_categories(engines, key),
        engines.base,
        expert_recipe(engines, key),
        seed=engines.profile.training.seed,
        others=other_categories(engines, key),
    )


def _merge(engines: Engines, key: str) -> PartitionSpec:
    return merge_room.spec(engines.data, merged_keys(engines), engines.base, engines.profile.merge)


def _hardening(engines: Engines, key: str) -> PartitionSpec:
    return hardening_room.spec(engines.data, int(key), engines.base, continuation(engines))


def _evaluation(engines: Engines, key: str) -> PartitionSpec:
    return evaluation_room.spec(
        engines.data,
        adapters(engines),
        engines.generator,
        engines.evaluation_scorers,
        engines.profile.evaluation,
        engines.evaluation_features,
    )


def _robustness(engines: Engines, key: str) -> PartitionSpec:
    return robustness_room.spec(
        engines.data, attacked_models(engines), attacked_matrix(engines), key
    )


def _reemergence(engines: Engines, key: str) -> PartitionSpec:
    return reemergence_room.spec(
        engines.data, tuned_models(engines), engines.profile.reemergence, key
    )


def _personal(engines: Engines, key: str) -> PartitionSpec:
    return personal_room.spec(engines.data, personal_job(engines))


ROOMS = (
    Room(name="taxonomy", asset="taxonomy", partitioned_by=None, spec=_taxonomy),
    Room(name="prompts", asset="prompt_pairs", partitioned_by="concept", spec=_prompts),
    Room(name="images", asset="image_pairs", partitioned_by="concept", spec=_images),
    Room(name="scores", asset="scores", partitioned_by="concept", spec=_scores),
    Room(name="pairs", asset="preference_pairs", partitioned_by="concept", spec=_pairs),
    Room(name="index", asset="index", partitioned_by=None, spec=_index),
    Room(name="release", asset="release", partitioned_by=None, spec=_release),
    Room(name="guards", asset="guards", partitioned_by="guard", spec=_guards),
    Room(name="experts", asset="experts", partitioned_by="category", spec=_experts),
    Room(name="merge", asset="merged_adapter", partitioned_by=None, spec=_merge),
    Room(name="hardening", asset="hardened_adapter", partitioned_by="round", spec=_hardening),
    Room(name="evaluation", asset="evaluation", partitioned_by=None, spec=_evaluation),
)


ROBUSTNESS = Room(name="robustness", asset="robustness", partitioned_by=None, spec=_robustness)
"""Made by `alignguard attack`, not by `alignguard run`: attacks take longer than all the rest."""
REEMERGENCE = Room(name="reemergence", asset="reemergence", partitioned_by=None, spec=_reemergence)
"""Made by `alignguard reemergence`, not by `alignguard run`."""
BESIDE_A_RUN = (ROBUSTNESS, REEMERGENCE)
"""Rooms that a command of their own makes."""
ALL_ROOMS = (*ROOMS, *BESIDE_A_RUN)
"""The rooms of every profile."""
PERSONAL = Room(name="personal", asset="personal_adapter", partitioned_by=None, spec=_personal)
"""Only of a profile with a personal section."""


COST_MODEL = Room(name="cost_model", asset="cost_model", partitioned_by=None, spec=_cost_model)
"""Only of a profile with a cost_model section; the experts read it."""


def made_by_run(engines: Engines) -> tuple[Room, ...]:
    """The rooms that a run makes: with their sections, also cost model and personal adapter."""
    before = {
        "guards": COST_MODEL if engines.profile.cost_model else None,
        "evaluation": PERSONAL if engines.profile.personal else None,
    }
    found = [(before.get(room.name), room) for room in ROOMS]
    return tuple(one for both in found for one in both if one)


def rooms_of(engines: Engines) -> tuple[Room, ...]:
    """Every room of this profile, those that a run makes first."""
    return (*made_by_run(engines), *BESIDE_A_RUN)


def room_seconds(engines: Engines, rooms: Sequence[Room] | None = None) -> dict[str, float]:
    """Wall-clock seconds in which each room made its current partitions.

    Read from manifests; partitions made in parallel count once. ``rooms``: these; by default all
    of the profile.
    """
    found = {}
    for room in rooms or rooms_of(engines):
        folders = [engines.data.partition(room.name, key) for key in room.partitions(engines)]
        spans = map_concurrently(engines.data.root, _span, folders)
        found[room.name] = _covered([span for span in spans if span])
    return found


def _span(folder: Place) -> tuple[float, float] | None:
    """Start and end of a partition (seconds since the epoch); None: never completed."""
    manifest = manifests.load(folder)
    if manifest is None:
        return None
    end = (folder / manifests.MANIFEST).stat().st_mtime
    return end - manifest.seconds, end


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
