"""A backfill from the UI: one click, and no more runs than the profile's concepts_per_run asks for.

The mutation is the one that the UI sends; the daemon's own iterations then queue the runs.
"""

import logging
import math
from collections import Counter
from contextlib import contextmanager

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.client.query import LAUNCH_PARTITION_BACKFILL_MUTATION
from dagster_graphql.test.utils import execute_dagster_graphql

from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.sensors.refresh import RANGE_END, RANGE_START
from tests.conftest import reduced_profile

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    # Dagster's own backfill calls what it deprecates.
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning"),
]

SIZES = [
    pytest.param(23, 10, id="23 concepts"),
    pytest.param(723, 100, id="723 concepts", marks=pytest.mark.slow),
]
"""Concepts, and concepts per run."""
PER_CONCEPT = ("prompt_pairs", "image_pairs", "scores", "preference_pairs")
QUEUED = {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}
LOCATION = """
from pathlib import Path
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines

defs = build_definitions(Engines(load_profile({profile!r}), Path({root!r})))
"""
ITERATIONS = 40
LOG = logging.getLogger("tests.backfill")


class Deployment:
    """A profile of so many concepts with its definitions loaded as the UI loads them."""

    def __init__(self, folder, concepts, per_run):
        self.profile = reduced_profile(
            folder / "profile",
            concepts_per_run=per_run,
            writing__pairs_per_concept=1,
        )
        taxonomy = folder / "profile" / "taxonomy.yaml"
        taxonomy.write_text(yaml.safe_dump(many(concepts, yaml.safe_load(taxonomy.read_text()))))
        self.root = folder / "data"
        self.engines = Engines(load_profile(str(self.profile)), self.root)
        self.engines.data.prepare()
        self.keys = [concept.key for concept in self.engines.taxonomy.concepts]
        self.location = folder / "location.py"
        self.location.write_text(LOCATION.format(profile=str(self.profile), root=str(self.root)))
        self.home = folder / "dagster"
        self.home.mkdir()
        self.settings = {"run_coordinator": QUEUED}

    @contextmanager
    def open(self):
        """The instance, and the workspace that the web server and the daemon share."""
        with dg.DagsterInstance.local_temp(str(self.home), overrides=self.settings) as instance:
            instance.add_dynamic_partitions("reduced_concepts", self.keys)
            origin = InProcessCodeLocationOrigin(
                LoadableTargetOrigin(python_file=str(self.location), attribute="defs")
            )
            target = InProcessWorkspaceLoadTarget(origin)
            with WorkspaceProcessContext(instance, target) as workspace:
                yield instance, workspace


def many(concepts, taxonomy):
    """So many concepts: the first of each category, under numbers."""
    categories = taxonomy["categories"]
    shares = [concepts // 2, concepts - concepts // 2]
    for category, share in zip(categories, shares, strict=True):
        first = category["concepts"][0]
        category["concepts"] = [
            {**first, "slug": f"{first['slug']}-{number}", "split": "train"}
            for number in range(share)
        ]
    return taxonomy


def launch(workspace, keys, assets):
    """What the UI sends when "Launch backfill" is clicked; the backfill's id."""
    selection = [{"path": ["reduced", asset]} for asset in assets]
    params = {"partitionNames": keys, "assetSelection": selection}
    sent = execute_dagster_graphql(
        workspace.create_request_context(),
        LAUNCH_PARTITION_BACKFILL_MUTATION,
        {"backfillParams": params},
    )
    answer = sent.data["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return answer["backfillId"]


def iterate(instance, workspace, backfill, until):
    """Let the daemon look at its backfills until ``until(backfill)``."""
    for _ in range(ITERATIONS):
        faults = [fault for fault in execute_backfill_iteration(workspace, LOG) if fault]
        assert not faults, faults
        if until(instance.get_backfill(backfill)):
            return
    raise AssertionError(f"not done after {ITERATIONS} iterations")


def keys_of(run, order):
    """The partitions of one run: a range in the order in which they were added."""
    first, last = order.index(run.tags[RANGE_START]), order.index(run.tags[RANGE_END])
    return order[first : last + 1]


def check_runs(runs, order, assets, per_run):
    """ceil(concepts / per run) runs an asset, none of them over the limit, no concept twice."""
    for asset in assets:
        own = [run for run in runs if dg.AssetKey(["reduced", asset]) in run.asset_selection]
        held = [keys_of(run, order) for run in own]
        assert len(own) == math.ceil(len(order) / per_run)
        assert max(len(keys) for keys in held) <= per_run
        assert Counter(key for keys in held for key in keys) == Counter(order)


@pytest.mark.parametrize(("concepts", "per_run"), SIZES)
def test_one_click_on_every_room_queues_a_sane_number_of_runs(tmp_path, concepts, per_run):
    """A run holds all four rooms of its concepts, so four rooms need no more runs than one."""
    deployment = Deployment(tmp_path, concepts, per_run)
    wanted = math.ceil(concepts / per_run)
    with deployment.open() as (instance, workspace):
        backfill = launch(workspace, deployment.keys, PER_CONCEPT)
        iterate(instance, workspace, backfill, lambda found: len(instance.get_runs()) >= wanted)
        list(execute_backfill_iteration(workspace, LOG))  # asks for nothing while these wait
        runs = instance.get_runs()
    assert len(runs) == wanted
    assert {run.status for run in runs} == {dg.DagsterRunStatus.QUEUED}
    check_runs(runs, deployment.keys, PER_CONCEPT, per_run)
