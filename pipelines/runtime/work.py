"""Work in a room's pending partitions, in units of its progress."""

from collections.abc import Sequence

from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_train.evaluation.judge import evaluation_rows, read_rows
from alignguard_train.evaluation.more_seeds import is_defence
from alignguard_train.evaluation.prompt_sets import read_prompt_sets
from alignguard_train.guards.config import guard_steps
from alignguard_train.reemergence.config import ReemergenceConfig, units
from alignguard_train.robustness.config import RobustnessConfig
from pipelines.resources import Engines
from pipelines.room_inputs import (
    adapters,
    attacked_matrix,
    expert_recipe,
    merged_keys,
    tuned_models,
)
from pipelines.rooms import Room


def expected_units(engines: Engines, room: Room, pending: Sequence[str]) -> int | None:
    """Pending pairs, images or steps; None if only the room can know."""
    profile = engines.profile
    if room.name == "prompts":
        return profile.writing.pairs_per_concept * len(pending)
    if room.name in ("images", "scores"):
        return sum(2 * _train_pairs(engines, key) for key in pending)
    if room.name == "pairs":
        return len(pending)
    if room.name == "experts":
        return sum(expert_recipe(engines, key).steps for key in pending)
    if room.name == "guards":
        return sum(guard_steps(profile.guards, key) for key in pending)
    if room.name == "merge":
        return len(profile.merge.strategies)
    if room.name == "hardening":
        return profile.hardening.steps * len(merged_keys(engines)) * len(pending)
    if room.name == "evaluation":
        folder, config = release_folder(engines.data), profile.evaluation
        sets = read_prompt_sets(config.prompt_sets)
        rows = evaluation_rows(folder, config, sets, profile.sampling)
        again = len(config.peers) + sum(is_defence(name) for name in adapters(engines))
        first = len(config.peers) + len(adapters(engines))
        unsafe = sum(row.side == "unsafe" for row in rows)
        return first * len(rows) + again * (config.seeds - 1) * unsafe
    if room.name == "robustness":
        return attacked_cases(attacked_matrix(engines))
    if room.name == "reemergence":
        return tuned_units(engines, profile.reemergence)
    return None


def tuned_units(engines: Engines, config: ReemergenceConfig) -> int:
    """Training steps and images of a measurement after fine-tuning."""
    rows = read_rows(release_folder(engines.data), config.prompts_per_concept)
    return units(config, len(tuned_models(engines, config).adapters), len(rows))


def attacked_cases(config: RobustnessConfig) -> int:
    """Cases of a matrix at most, once for each attack and target."""
    return sum(
        len(config.targets_of(attack)) * config.cases_of(attack) for attack in config.all_attacks
    )


def _train_pairs(engines: Engines, concept: str) -> int:
    manifest = manifests.require(engines.data.partition("prompts", concept))
    return int(manifest.counts.get("train", manifest.rows))
