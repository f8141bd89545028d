"""Partitions: concepts (dynamic, from the taxonomy); categories, guards and rounds (static)."""

from collections.abc import Sequence

import dagster as dg

from alignguard_train.guards.config import GUARDS
from alignguard_train.hardening.config import MOST_ROUNDS
from pipelines.resources import Engines
from pipelines.room_inputs import expert_keys


def concept_partitions(engines: Engines) -> dg.DynamicPartitionsDefinition:
    """One partition per concept, registered by the taxonomy asset."""
    return dg.DynamicPartitionsDefinition(name=f"{engines.profile.name}_concepts")


def register_concepts(
    instance: dg.DagsterInstance, concepts: dg.DynamicPartitionsDefinition, keys: Sequence[str]
) -> None:
    """Set the partitions to ``keys``.

    Adds new ones and deletes those of removed concepts (their files remain).
    """
    name = concepts.name or ""
    for gone in set(instance.get_dynamic_partitions(name)) - set(keys):
        instance.delete_dynamic_partition(name, gone)
    instance.add_dynamic_partitions(name, keys)


def category_partitions(engines: Engines) -> dg.StaticPartitionsDefinition:
    """One partition per category, and one for the adapter trained on all categories."""
    return dg.StaticPartitionsDefinition(expert_keys(engines))


def guard_partitions() -> dg.StaticPartitionsDefinition:
    """One partition per guard, whether the profile trains it or not."""
    return dg.StaticPartitionsDefinition(list(GUARDS))


def round_partitions() -> dg.StaticPartitionsDefinition:
    """One partition per possible round of hardening."""
    return dg.StaticPartitionsDefinition([str(k) for k in range(1, MOST_ROUNDS + 1)])
