"""The sensor over the taxonomy file, the schedule, and what follows by itself."""

import warnings

import dagster as dg
import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage import manifest as manifests
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.sensors.refresh import RANGE_END, RANGE_START
from tests.conftest import reduced_profile

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
ADDED = {"slug": "ring", "name": "ring", "split": "train"}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
CHEAP = {"preference_pairs", "index"}


class World:
    """A profile whose taxonomy file a test edits, its definitions, and a Dagster instance."""

    def __init__(self, folder, instance, **changes):
        self.profile_file = reduced_profile(folder / "profile", **changes)
        self.taxonomy_file = folder / "profile" / "taxonomy.yaml"
        self.root = folder / "data"
        self.instance = instance
        self.engines.data.prepare()
        # A code server loads them once, and sees the file's edits by the sensor alone.
        self.loaded = build_definitions(self.engines)

    @property
    def engines(self):
        return Engines(load_profile(str(self.profile_file)), self.root)

    @property
    def definitions(self):
        return build_definitions(self.engines)

    def edit(self, change):
        taxonomy = yaml.safe_load(self.taxonomy_file.read_text())
        change(taxonomy["categories"][0]["concepts"])
        self.taxonomy_file.write_text(yaml.safe_dump(taxonomy))

    def look(self, cursor=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sensor = self.loaded.resolve_sensor_def("reduced_taxonomy_file")
        with dg.build_sensor_context(instance=self.instance, cursor=cursor) as context:
            found = sensor.evaluate_tick(context)
        # What Dagster's daemon does with a result, before it launches the runs.
        for request in found.dynamic_partitions_requests or []:
            name = request.partitions_def_name
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(name, request.partition_keys)
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(name, key)
        return found

    def execute(self, request, *assets):
        """Run a request; of its assets, those named here (all without a name)."""
        chosen = request.asset_selection or []
        if assets:
            chosen = [key for key in chosen if key.path[-1] in assets]
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=chosen, tags=request.tags, run_config=QUIET
        )

    def partitions(self):
        return list(self.instance.get_dynamic_partitions("reduced_concepts"))

    def made(self, room="prompts"):
        return sorted(
            path.parent.name for path in self.root.glob(f"reduced/{room}/*/manifest.json")
        )


@pytest.fixture
def world(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


WRITING = ("taxonomy", "prompt_pairs")


@pytest.fixture
def written(world):
    """All six concepts have their prompts."""
    (request,) = world.look().run_requests
    assert world.execute(request, *WRITING).success
    return world


def test_at_first_every_concept_is_asked_for_in_one_run(world):
    found = world.look()
    keys = [concept.key for concept in world.engines.taxonomy.concepts]
    (request,) = found.run_requests
    assert world.partitions() == keys
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (keys[0], keys[-1])
    asked = [key.path[-1] for key in request.asset_selection]
    assert asked == ["taxonomy", "prompt_pairs", "image_pairs", "scores", "preference_pairs"]


def test_what_was_asked_for_is_not_asked_again(world):
    found = world.look()
    assert "6 concepts were asked for already" in world.look(found.cursor).skip_message


def test_a_file_that_did_not_change_asks_for_nothing(written):
    assert written.look().skip_message == "every concept is up to date"


def test_a_run_holds_no_more_concepts_than_the_profile_says(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        found = World(tmp_path, instance, concepts_per_run=4).look()
    assert len(found.run_requests) == 2
    assert len({request.run_key for request in found.run_requests}) == 2


def test_a_new_concept_is_made_and_nothing_else(written):
    before = {
        key: manifests.require(written.engines.data.partition("prompts", key)).run_id
        for key in written.made()
    }
    written.edit(lambda concepts: concepts.append(ADDED))
    (request,) = written.look().run_requests
    (new,) = set(written.partitions()) - set(before)
    assert request.tags[RANGE_START] == request.tags[RANGE_END] == new
    assert written.execute(request, *WRITING).success
    assert set(written.made()) == {*before, new}
    for key, run in before.items():
        assert manifests.require(written.engines.data.partition("prompts", key)).run_id == run


def test_a_changed_concept_is_made_again_each_time_it_changes(written):
    cursor = None
    for split in ("test", "train"):
        written.edit(lambda concepts, split=split: concepts[0].update(split=split))
        found = written.look(cursor)
        cursor = found.cursor
        (request,) = found.run_requests
        assert request.tags[RANGE_START] == request.tags[RANGE_END] == written.partitions()[0]
        assert written.execute(request, *WRITING).success


def test_a_concept_that_was_taken_out_stays_on_disk_and_leaves_the_partitions(written):
    gone = written.partitions()[0]
    written.edit(lambda concepts: concepts.pop(0))
    written.edit(lambda concepts: concepts.append(ADDED))
    written.look()
    assert gone not in written.partitions()
    assert gone in written.made()


def test_faults_of_the_file_are_shown_and_nothing_is_asked(written):
    written.edit(lambda concepts: concepts.append(dict(concepts[0])))
    found = written.look()
    assert "nothing is made until the file is mended" in found.skip_message
    assert str(written.taxonomy_file) in found.skip_message


def test_without_a_cron_line_there_is_no_schedule(world):
    assert not list(world.definitions.schedules or [])


def test_the_schedule_tops_up_every_concept_and_cuts_a_release(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        world = World(tmp_path, instance, refresh="0 3 * * 1")
        schedule = world.definitions.resolve_schedule_def("reduced_refresh")
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
        with dg.build_schedule_context(instance=instance) as context:
            (request,) = schedule.evaluate_tick(context).run_requests
        keys = [concept.key for concept in world.engines.taxonomy.concepts]
        assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (keys[0], keys[-1])
        job = world.definitions.resolve_job_def("reduced_dataset")
        done = job.execute_in_process(instance=instance, tags=request.tags, run_config=QUIET)
        assert done.success
        assert (world.root / "reduced/releases/coprov2-reduced-v0.1.0/manifest.json").exists()


def test_a_wrong_cron_line_names_the_field(tmp_path):
    profile = reduced_profile(tmp_path, refresh="every now and then")
    with pytest.raises(ConfigError, match=r"refresh: .*cron line.*every now and then"):
        load_profile(str(profile))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_the_schedule_reads_its_hours_in_the_profiles_zone(zone, tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        world = World(tmp_path, instance, refresh="0 3 * * 1", refresh_timezone=zone)
        schedule = world.definitions.resolve_schedule_def("reduced_refresh")
        assert schedule.execution_timezone == zone


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "Europe", 3])
def test_a_wrong_time_zone_names_the_field(zone, tmp_path):
    profile = reduced_profile(tmp_path, refresh_timezone=zone)
    with pytest.raises(ConfigError, match=r"refresh_timezone: "):
        load_profile(str(profile))


def test_only_cheap_rooms_follow_by_themselves(world):
    graph = world.definitions.resolve_asset_graph()
    follow = {
        key.path[-1]
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition is not None
    }
    assert follow == CHEAP


def test_pairs_follow_when_their_concept_was_scored(written):
    key = written.partitions()[0]
    tags = {RANGE_START: key, RANGE_END: key}
    rooms = ("image_pairs", "scores")
    request = dg.RunRequest(
        tags=tags, asset_selection=[dg.AssetKey(["reduced", room]) for room in rooms]
    )
    first = dg.evaluate_automation_conditions(written.definitions, written.instance)
    assert written.execute(request).success
    found = dg.evaluate_automation_conditions(
        written.definitions, written.instance, cursor=first.cursor
    )
    assert found.get_requested_partitions(dg.AssetKey(["reduced", "preference_pairs"])) == {key}
    assert found.get_num_requested(dg.AssetKey(["reduced", "image_pairs"])) == 0
