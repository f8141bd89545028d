"""The inputs of each room by the profile: keys, recipes, adapters and models."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.engines.model_source import resolve_model
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.places import Place, size
from alignguard_train.contracts import adapter_names as names
from alignguard_train.contracts.adapter_names import ALL_SINGLE
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.evaluation.watch import HeldOutIP
from alignguard_train.experts.reader import weights_of
from alignguard_train.guards.config import GUARDS
from alignguard_train.guards.reader import guard_file
from alignguard_train.hardening import room as hardening_room
from alignguard_train.hardening.reader import hardened_weights, rounds
from alignguard_train.merge import room as merge_room
from alignguard_train.personal import room as personal_room
from alignguard_train.reemergence.config import ReemergenceConfig
from alignguard_train.reemergence.models import Models as TunedModels
from alignguard_train.robustness.config import AttackConfig, RobustnessConfig
from alignguard_train.robustness.targets import Models
from pipelines.profile_paths import RED_TEAM
from pipelines.resources import Engines


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


def continuation(engines: Engines) -> hardening_room.Continuation:
    """Settings of a round of hardening, by the profile."""
    profile = engines.profile
    return hardening_room.Continuation(
        categories=tuple(merged_keys(engines)),
        recipe=dataclasses.replace(profile.recipe(), steps=profile.hardening.steps),
        merge=profile.merge,
        share=profile.hardening.share,
        seed=profile.training.seed,
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
        guards={key: guard_file(engines.data, key) for key in trained_guards(engines)},
    )


def attacked_matrix(engines: Engines) -> RobustnessConfig:
    """The profile's matrix, with the adapter after each round of hardening among its targets."""
    own = engines.profile.robustness
    more = [names.hardened_name(k) for k in rounds(engines.data)]
    return dataclasses.replace(
        own,
        attacks=placed_attacks(own.attacks),
        targets=tuple(dict.fromkeys([*own.targets, *more])),
    )


def placed_attacks(attacks: Sequence[AttackConfig]) -> tuple[AttackConfig, ...]:
    """Attacks with the place of a red-team model that a package carries.

    Raises:
        EngineError: the package is not installed.
    """
    try:
        return tuple(
            dataclasses.replace(
                one, params={**one.params, RED_TEAM: resolve_model(one.params[RED_TEAM])}
            )
            if RED_TEAM in one.params
            else one
            for one in attacks
        )
    except ValueError as error:
        raise EngineError(f"robustness.attacks: {error} (alignguard doctor)") from error


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


def merged_adapter(engines: Engines) -> Place:
    """The file of the adapter merged by the profile's strategy."""
    return merge_room.merged_file(engines.data, engines.profile.merge.strategy)
