"""The sensor over the taxonomy file, the schedule, and what follows by itself."""

import itertools
import json
import time
import warnings

import dagster as dg
import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage import manifest as manifests
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.sensors import refresh
from pipelines.sensors.asked import (
    ASKED_AT_MOST,
    ASKED_TAG,
    FIRST_WAIT_SECONDS,
    read_cursor,
    runs_of,
)
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

    def execute(self, request, *assets, raises=True):
        """Run a request; of its assets, those named here (all without a name)."""
        chosen = request.asset_selection or []
        if assets:
            chosen = [key for key in chosen if key.path[-1] in assets]
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=chosen,
            tags=request.tags,
            run_config=QUIET,
            raise_on_error=raises,
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


class Clock:
    """The sensor's time, which a test turns on."""

    def __init__(self, monkeypatch):
        self.now = time.time()
        monkeypatch.setattr(refresh.time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def faulty(tmp_path):
    """A world whose writer gives no prompt for the concepts that ``faults.json`` names."""
    writer = {
        "use": "tests.pipelines.faulty_engines:FaultyWriter",
        "params": {"faults": str(tmp_path / "faults.json")},
    }
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(tmp_path, instance, writer=writer)
        world.faults = tmp_path / "faults.json"
        yield world


def asked_for(found) -> list[tuple[str, str]]:
    """First and last concept of each run that is asked for."""
    return [(one.tags[RANGE_START], one.tags[RANGE_END]) for one in found.run_requests or []]


def test_a_concept_whose_run_failed_is_asked_for_again_and_then_is_up_to_date(faulty, clock):
    keys = [concept.key for concept in faulty.engines.taxonomy.concepts]
    bad = keys[2]
    faulty.faults.write_text(json.dumps({bad: 0}))
    found = faulty.look()
    (request,) = found.run_requests
    assert not faulty.execute(request, *WRITING, raises=False).success
    assert faulty.made() == sorted(set(keys) - {bad})

    waiting = faulty.look(found.cursor)
    assert not waiting.run_requests
    assert "6 concepts were asked for already" in waiting.skip_message
    clock.now += FIRST_WAIT_SECONDS + 60
    again = faulty.look(waiting.cursor)
    # The others lack their images, as the run ended with its first room: no run of theirs holds
    # the one that failed.
    assert sorted(asked_for(again)) == sorted([(bad, bad), (keys[0], keys[1]), (keys[3], keys[-1])])
    assert {one.run_key for one in again.run_requests}.isdisjoint({request.run_key})
    faulty.faults.unlink()
    for one in again.run_requests:
        assert faulty.execute(one, *WRITING).success
    done = faulty.look(again.cursor)
    assert done.skip_message == "every concept is up to date"
    assert read_cursor(done.cursor) == {}


def test_a_concept_that_keeps_failing_is_asked_for_later_each_time_and_then_left(faulty, clock):
    faulty.faults.write_text(json.dumps({"*": 0}))
    cursor, asked, started = None, [], clock.now
    for _ in range(200):  # ticks, one a minute
        found = faulty.look(cursor)
        cursor = found.cursor
        for request in found.run_requests or []:
            asked.append(round((clock.now - started) / 60))
            assert not faulty.execute(request, *WRITING, raises=False).success
        clock.now += 60
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(gaps) == 4, "and no more"
    waits = zip(gaps, (5, 10, 20, 40), strict=True)
    assert all(wait <= gap <= wait + 3 for gap, wait in waits), gaps
    assert f"6 concepts failed {ASKED_AT_MOST} times and are left" in found.skip_message

    faulty.faults.unlink()
    faulty.edit(lambda concepts: concepts[0].update(split="test"))
    changed = faulty.look(cursor)
    assert asked_for(changed) == [(faulty.partitions()[0],) * 2], "what changed is asked for afresh"


def test_a_run_that_is_not_over_is_waited_for(world, clock):
    found = world.look()
    (request,) = found.run_requests
    run = world.instance.create_run_for_job(
        world.definitions.resolve_job_def("reduced_dataset"),
        tags=request.tags,
        status=dg.DagsterRunStatus.STARTED,
    )
    clock.now += 100 * FIRST_WAIT_SECONDS
    again = world.look(found.cursor)
    assert "6 concepts are being made" in again.skip_message
    world.instance.report_run_failed(run)
    clock.now += FIRST_WAIT_SECONDS + 60
    assert len(world.look(again.cursor).run_requests) == 1


def test_a_run_that_failed_in_a_later_room_is_asked_for_again(written, clock):
    """Its prompts are there, so that nothing but the failed run says that it is not done."""
    written.edit(lambda concepts: concepts[0].update(split="test"))
    found = written.look()
    (request,) = found.run_requests
    assert written.execute(request, *WRITING).success
    (run,) = written.instance.get_runs(dg.RunsFilter(tags={ASKED_TAG: request.tags[ASKED_TAG]}))
    assert "up to date" in written.look(found.cursor).skip_message
    written.instance.delete_run(run.run_id)
    failed = written.instance.create_run_for_job(
        written.definitions.resolve_job_def("reduced_dataset"), tags=request.tags
    )
    written.instance.report_run_failed(failed)
    clock.now += FIRST_WAIT_SECONDS + 60
    again = written.look(found.cursor)
    assert asked_for(again) == [(written.partitions()[0],) * 2]


@pytest.mark.parametrize("cursor", [None, "", "9f0c", "12345678", "[1]", '{"format": 1}'])
def test_a_cursor_of_another_version_remembers_nothing(cursor):
    assert read_cursor(cursor) == {}


@pytest.mark.parametrize(
    ("groups", "apart", "runs"),
    [
        ([["a", "b", "c", "d"]], set(), [["a", "b", "c"], ["d"]]),
        ([["d", "a", "b"]], set(), [["a", "b", "d"]]),
        ([["a", "b", "d"]], {"c"}, [["a", "b"], ["d"]]),
        ([["a", "c"], ["b"]], set(), [["a"], ["c"], ["b"]]),
        ([["a", "b"]], {"z"}, [["a", "b"]]),
        ([], set(), []),
    ],
)
def test_no_run_reaches_over_what_must_not_be_made(groups, apart, runs):
    assert list(runs_of(groups, list("abcd"), 3, apart)) == runs
