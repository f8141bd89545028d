"""The Dagster code location: every room of the active profile."""

import os
import warnings

import dagster as dg

from alignguard_data.storage.partition import RUN_ID_VARIABLE
from pipelines.assets.cost_model import cost_model_asset
from pipelines.assets.evaluation import evaluation_asset
from pipelines.assets.experts import experts_asset
from pipelines.assets.guards import guards_asset
from pipelines.assets.hardening import hardened_adapter_asset
from pipelines.assets.images import image_pairs_asset
from pipelines.assets.index import index_asset
from pipelines.assets.merge import merged_adapter_asset
from pipelines.assets.pairs import preference_pairs_asset
from pipelines.assets.personal import personal_adapter_asset
from pipelines.assets.prompts import prompt_pairs_asset
from pipelines.assets.reemergence import reemergence_asset
from pipelines.assets.release import release_asset
from pipelines.assets.robustness import robustness_asset
from pipelines.assets.scores import scores_asset
from pipelines.assets.taxonomy import taxonomy_asset
from pipelines.checks import asset_checks
from pipelines.partitions import (
    category_partitions,
    concept_partitions,
    guard_partitions,
    round_partitions,
)
from pipelines.profile import DEFAULT_PROFILE, PROFILE_VARIABLE, load_profile, settled
from pipelines.resources import ROOT_VARIABLE, Engines, data_root
from pipelines.runtime.ray_cluster import ray_executor
from pipelines.sensors.refresh import dataset_job, refresh_schedule, taxonomy_sensor


def build_definitions(engines: Engines) -> dg.Definitions:
    """All assets and checks of one profile on one data root."""
    with warnings.catch_warnings():
        # Backfill policies are beta; runs over many concepts need them.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _definitions(engines)


def _definitions(engines: Engines) -> dg.Definitions:
    concepts = concept_partitions(engines)
    categories = category_partitions(engines)
    assets = [
        taxonomy_asset(engines, concepts),
        prompt_pairs_asset(engines, concepts),
        image_pairs_asset(engines, concepts),
        scores_asset(engines, concepts),
        preference_pairs_asset(engines, concepts),
        index_asset(engines),
        release_asset(engines),
        guards_asset(engines, guard_partitions()),
        experts_asset(engines, categories),
        merged_adapter_asset(engines),
        hardened_adapter_asset(engines, round_partitions()),
        evaluation_asset(engines),
        robustness_asset(engines),
        reemergence_asset(engines),
    ]
    if engines.profile.cost_model:
        assets.append(cost_model_asset(engines, engines.profile.cost_model.settings))
    if engines.profile.personal:
        assets.append(personal_adapter_asset(engines))
    job = dataset_job(engines)
    cron = engines.profile.refresh
    return dg.Definitions(
        assets=assets,
        jobs=[job],
        sensors=[taxonomy_sensor(engines, job)],
        schedules=[refresh_schedule(engines, job, cron)] if cron else [],
        asset_checks=asset_checks(engines),
        resources={"engines": _engines_of_a_run(engines)},
        # One process per run: models load once, and only if a step needs them.
        executor=_executor(engines),
    )


def _executor(engines: Engines) -> dg.ExecutorDefinition:
    cluster = engines.profile.ray
    if cluster is None:
        return dg.in_process_executor
    environment = {
        PROFILE_VARIABLE: settled(os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE),
        ROOT_VARIABLE: str(engines.data.root),
    }
    return ray_executor(cluster, environment)


def _engines_of_a_run(engines: Engines) -> dg.ResourceDefinition:
    """The engines; manifests record the run's id."""

    def start(context: dg.InitResourceContext) -> Engines:
        os.environ[RUN_ID_VARIABLE] = context.run.run_id if context.run else ""
        return engines

    return dg.ResourceDefinition(start)


defs = build_definitions(Engines(load_profile(), data_root()))
