"""Partition definitions: concepts (dynamic, from the taxonomy) and categories (static)."""

import dagster as dg

from pipelines.resources import Engines
from pipelines.rooms import expert_keys


def concept_partitions(engines: Engines) -> dg.DynamicPartitionsDefinition:
    """One partition a concept; the taxonomy asset registers them."""
    return dg.DynamicPartitionsDefinition(name=f"{engines.profile.name}_concepts")


def category_partitions(engines: Engines) -> dg.StaticPartitionsDefinition:
    """One partition a category, and one for the adapter trained on all of them."""
    return dg.StaticPartitionsDefinition(expert_keys(engines))
