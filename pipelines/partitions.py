"""Partition definitions: concepts (dynamic, from the taxonomy) and categories (static)."""

from collections.abc import Sequence

import dagster as dg

from pipelines.resources import Engines
from pipelines.rooms import expert_keys


def concept_partitions(engines: Engines) -> dg.DynamicPartitionsDefinition:
    """One partition a concept; the taxonomy asset registers them."""
    return dg.DynamicPartitionsDefinition(name=f"{engines.profile.name}_concepts")


def register_concepts(
    instance: dg.DagsterInstance, concepts: dg.DynamicPartitionsDefinition, keys: Sequence[str]
) -> None:
    """Make ``keys`` the partitions.

    New ones are added, those of withdrawn concepts taken out (what was made of them stays on disk).
    """
    name = concepts.name or ""
    for gone in set(instance.get_dynamic_partitions(name)) - set(keys):
        instance.delete_dynamic_partition(name, gone)
    instance.add_dynamic_partitions(name, keys)


def category_partitions(engines: Engines) -> dg.StaticPartitionsDefinition:
    """One partition a category, and one for the adapter trained on all of them."""
    return dg.StaticPartitionsDefinition(expert_keys(engines))
