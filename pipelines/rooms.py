"""The rooms in order, their partitions, and each partition's spec.

Shared by the assets, the driver and `alignguard status`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from alignguard_data.contracts.errors import ConfigError, InputMissing
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
from alignguard_train.contracts import adapter_names as names
from alignguard_train.contracts.adapter_names import ALL_SINGLE
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.evaluation import room as evaluation_room
from alignguard_train.evaluation.watch import HeldOutIP
from alignguard_train.experts import room as experts
from alignguard_train.experts.reader import weights_of
from alignguard_train.guards import room as guards_room
from alignguard_train.guards.config import GUARDS
from alignguard_train.hardening import room as hardening_room
from alignguard_train.hardening.reader import hardened_weights, rounds
from alignguard_train.merge import room as merge_room
from alignguard_train.personal import room as personal_room
from alignguard_train.reemergence import room as reemergence_room
from alignguard_train.reemergence.config import ReemergenceConfig
from alignguard_train.reemergence.models import Models as TunedModels
from alignguard_train.robustness import room as robustness_room
from alignguard_train.robustness.config import RobustnessConfig
from alignguard_train.robustness.targets import Models
from pipelines.resources import Engines

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


def expert_keys(engines: Engines) -> list[str]:
    """Partition keys of the experts: All-single first (the longest), then every category."""
    keys = [category.key for category in engines.taxonomy.categories]
    return [ALL_SINGLE, *keys] if engines.profile.training.all_single else keys


def guard_keys(engines: Engines) -> list[str]:
    """The guards that the profile trains, and those that were trained by hand."""
    chosen, made = engines.profile.guards.train, trained_guards(engines)
    return [key for key in GUARDS if key in chosen or key in made]


def trained_guards(engines: Engines) -> list[str]:
    """The guards that have a file."""
    folders = {key: engines.data.partition("guards", key) for key in GUARDS}
    return [key for key, folder in folders.items() if size(folder / manifests.MANIFEST)]


def merged_keys(engines: Engines) -> list[str]:
    """The experts to merge: those of the categories."""
    return [key for key in expert_keys(engines) if key != ALL_SINGLE]


def expert_categories(engines: Engines, key: str) -> list[str]:
    """Categories that one expert trains on."""
    return merged_keys(engines) if key == ALL_SINGLE else [key]


def other_categories(engines: Engines, key: str) -> list[str]:
    """The other experts' categories; none for All-single."""
    return [] if key == ALL_SINGLE else [other for other in merged_keys(engines) if other != key]


def expert_recipe(engines: Engines, key: str) -> ExpertRecipe:
    """The profile's recipe; All-single takes as many steps as all experts together."""
    recipe = engines.profile.recipe()
    if key != ALL_SINGLE:
        return recipe
    return dataclasses.replace(recipe, steps=recipe.steps * len(merged_keys(engines)))


def held_out_ip(engines: Engines, key: str) -> HeldOutIP | None:
    """Measures an expert's IP during training, if the recipe asks for it."""
    if not expert_recipe(engines, key).watch_ip_every:
        return None
    return HeldOutIP(
        data=engines.data,
        categories=expert_categories(engines, key),
        generator=engines.generator,
        scorers=engines.evaluation_scorers,
        config=engines.profile.evaluation,
    )


def adapters(engines: Engines) -> dict[str, Path | None]:
    """Name and file of every adapter in the evaluation.

    Raises:
        InputMissing: an expert or the merge does not exist yet.
    """
    data, config = engines.data, engines.profile.merge
    named: dict[str, Path | None] = {names.BASE: None}
    for key in merged_keys(engines):
        named[names.expert_name(key)] = weights_of(data, key)
    named[names.MERGED] = merge_room.merged_weights(data, config.strategy)
    for strategy in config.strategies[1:]:
        named[names.merge_name(strategy)] = merge_room.merged_weights(data, strategy)
    if engines.profile.training.all_single:
        named[names.ALL_SINGLE] = weights_of(data, ALL_SINGLE)
    return named | hardened_adapters(engines)


def hardened_adapters(engines: Engines) -> dict[str, Path]:
    """Name and file of the merged adapter after each round of hardening.

    Raises:
        InputMissing: a round whose hard negatives are released is not made yet.
    """
    data = engines.data
    return {names.hardened_name(k): hardened_weights(data, k) for k in rounds(data)}


def _taxonomy(engines: Engines, key: str) -> PartitionSpec:
    return taxonomy.spec(engines.data, engines.taxonomy)


def _prompts(engines: Engines, key: str) -> PartitionSpec:
    concept = engines.taxonomy.concept(key)
    return prompts.spec(
        engines.data, concept, engines.writer, engines.profile.writing, engines.gate_tools
    )


def _images(engines: Engines, key: str) -> PartitionSpec:
    return images.spec(engines.data, key, engines.generator, engines.profile.sampling)


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


def continuation(engines: Engines) -> hardening_room.Continuation:
    """How a round of hardening goes on, by the profile."""
    profile = engines.profile
    return hardening_room.Continuation(
        categories=tuple(merged_keys(engines)),
        recipe=dataclasses.replace(profile.recipe(), steps=profile.hardening.steps),
        merge=profile.merge,
        share=profile.hardening.share,
        seed=profile.training.seed,
    )


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


def attacked_models(engines: Engines) -> Models:
    """What attacks run on, and their judge.

    Raises:
        InputMissing: an expert or the merge does not exist yet.
    """
    return Models(
        adapters=adapters(engines),
        generator=engines.attack_generator,
        base=engines.base,
        scorers=engines.attack_scorers,
        evaluation=engines.profile.evaluation,
        guards={key: guards_room.guard_file(engines.data, key) for key in trained_guards(engines)},
    )


def attacked_matrix(engines: Engines) -> RobustnessConfig:
    """The profile's matrix, with the adapter after each round of hardening among its targets."""
    own = engines.profile.robustness
    more = [names.hardened_name(k) for k in rounds(engines.data)]
    return dataclasses.replace(own, targets=tuple(dict.fromkeys([*own.targets, *more])))


def _robustness(engines: Engines, key: str) -> PartitionSpec:
    return robustness_room.spec(
        engines.data, attacked_models(engines), attacked_matrix(engines), key
    )


def tuned_models(engines: Engines, config: ReemergenceConfig | None = None) -> TunedModels:
    """What is fine-tuned and drawn with, and its judge.

    Args:
        engines: the profile's.
        config: names the safety adapters; None: the profile's.

    Raises:
        ConfigError: an adapter is not made by this profile.
        InputMissing: an expert or the merge does not exist yet.
    """
    every = {name: path for name, path in adapters(engines).items() if path}
    named = (config or engines.profile.reemergence).adapters
    if named is None:
        named = tuple(
            name for name in every if name == names.MERGED or name.startswith(names.MERGE)
        )
    if unknown := [name for name in named if name not in every]:
        known = ", ".join(every)
        faults = [f"reemergence.adapters: there is no {one}; there are {known}" for one in unknown]
        raise ConfigError("profile", faults)
    return TunedModels(
        adapters={name: every[name] for name in named},
        base=engines.base,
        generator=engines.generator,
        scorers=engines.evaluation_scorers,
        evaluation=engines.profile.evaluation,
    )


def _reemergence(engines: Engines, key: str) -> PartitionSpec:
    return reemergence_room.spec(
        engines.data, tuned_models(engines), engines.profile.reemergence, key
    )


def personal_job(engines: Engines) -> personal_room.PersonalJob:
    """What the personal room needs.

    Raises:
        ConfigError: the profile has no personal section.
        InputMissing: there is no merge yet.
    """
    profile = engines.profile
    encoder, ban_writer = engines.personal_engines
    assert profile.personal
    return personal_room.PersonalJob(
        categories=tuple(category.key for category in engines.taxonomy.categories),
        config=profile.personal.users,
        recipe=profile.personal.build_recipe(),
        encoder=encoder,
        ban_writer=ban_writer,
        base=engines.base,
        generator=engines.generator,
        scorers=engines.evaluation_scorers,
        flags=profile.evaluation.flags,
        merged=merge_room.merged_weights(engines.data, profile.merge.strategy),
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


def made_by_run(engines: Engines) -> tuple[Room, ...]:
    """The rooms that a run makes: with its personal section, also the personal adapter's."""
    return ROOMS if engines.profile.personal is None else (*ROOMS[:-1], PERSONAL, ROOMS[-1])


def rooms_of(engines: Engines) -> tuple[Room, ...]:
    """Every room of this profile, those that a run makes first."""
    return (*made_by_run(engines), *BESIDE_A_RUN)


def merged_adapter(engines: Engines) -> Place:
    """The file of the adapter merged by the profile's strategy."""
    return merge_room.merged_file(engines.data, engines.profile.merge.strategy)


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
