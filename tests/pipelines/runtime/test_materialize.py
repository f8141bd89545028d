"""Runs as Dagster records them: failures are short and clear, killed runs do not stay started."""

import queue
import subprocess
import sys

import dagster as dg
import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.engines.text.vllm_writer import WorkerFailed
from alignguard_data.storage import manifest as manifests
from pipelines.cli.status import room_states
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS
from pipelines.runtime.driver import Listener, run_rooms
from pipelines.runtime.materialize import (
    PROCESS_TAG,
    RoomFailed,
    close_dead_runs,
    materialize,
    open_instance,
)
from tests.conftest import command_environment, reduced_profile

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")


@pytest.fixture
def engines(reduced, tmp_path) -> Engines:
    return Engines(load_profile(str(reduced)), tmp_path / "data")


@pytest.fixture
def instance(tmp_path):
    with open_instance(tmp_path / "data") as opened:
        yield opened


def room(name):
    return next(room for room in ROOMS if room.name == name)


def test_a_room_is_a_run_in_the_kept_instance(engines, instance):
    engines.data.prepare()
    materialize(build_definitions(engines), instance, engines, room("taxonomy"), ["all"])
    run = instance.get_runs()[0]
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert manifests.require(engines.data.partition("taxonomy")).run_id == run.run_id
    assert instance.get_dynamic_partitions("reduced_concepts") == [
        concept.key for concept in engines.taxonomy.concepts
    ]


def test_a_missing_input_fails_with_its_own_words(engines, instance):
    engines.data.prepare()
    definitions = build_definitions(engines)
    materialize(definitions, instance, engines, room("taxonomy"), ["all"])
    key = engines.taxonomy.concepts[0].key
    with pytest.raises(RoomFailed, match=r"InputMissing.*prompts"):
        materialize(definitions, instance, engines, room("images"), [key])


def test_an_engine_that_fails_speaks_for_itself_and_not_its_cause(engines, instance):
    class Silent:
        model_id, revision = "silent", "1"

        def generate(self, requests):
            try:
                queue.Queue().get_nowait()
            except queue.Empty as error:
                raise WorkerFailed("vLLM worker gave no answer for 9 s") from error

    engines.data.prepare()
    engines.__dict__["writer"] = Silent()
    definitions = build_definitions(engines)
    materialize(definitions, instance, engines, room("taxonomy"), ["all"])
    key = engines.taxonomy.concepts[0].key
    with pytest.raises(RoomFailed, match=r"^WorkerFailed: vLLM worker gave no answer for 9 s$"):
        materialize(definitions, instance, engines, room("prompts"), [key])


def test_status_knows_which_partitions_of_a_range_failed(engines, instance):
    """A run over several concepts is one run for all of them; success since then clears them."""
    engines.data.prepare()
    definitions = build_definitions(engines)
    materialize(definitions, instance, engines, room("taxonomy"), ["all"])
    keys = [concept.key for concept in engines.taxonomy.concepts]
    with pytest.raises(RoomFailed):
        materialize(definitions, instance, engines, room("images"), keys[1:3])
    states = room_states(engines, instance, room("images"))
    assert [key for key, state in states.items() if state == "failed"] == keys[1:3]
    assert set(room_states(engines, instance, room("prompts")).values()) == {"missing"}
    materialize(definitions, instance, engines, room("prompts"), keys[1:3])
    assert room_states(engines, instance, room("prompts"))[keys[1]] == "done"


def test_the_writer_is_closed_when_the_room_ends(engines, instance):
    """A language model must give its GPU back before images are rendered."""

    class Closing:
        def __init__(self, writer) -> None:
            self._writer, self.closed = writer, 0

        def __getattr__(self, name: str):
            return getattr(self._writer, name)

        def close(self) -> None:
            self.closed += 1

    engines.data.prepare()
    engines.__dict__["writer"] = Closing(engines.writer)
    definitions = build_definitions(engines)
    materialize(definitions, instance, engines, room("taxonomy"), ["all"])
    keys = [concept.key for concept in engines.taxonomy.concepts]
    materialize(definitions, instance, engines, room("prompts"), keys[:2])
    assert engines.writer.closed == 1


def test_a_run_whose_process_was_killed_is_closed(instance):
    run = instance.create_run_for_job(
        dg.job(name="j")(lambda: None),
        status=dg.DagsterRunStatus.STARTED,
        tags={PROCESS_TAG: "999999999@1.00"},
    )
    assert close_dead_runs(instance) == 1
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_kill_while_a_dead_run_is_closed_leaves_no_slot_held(instance, monkeypatch):
    """The next process would never get that slot.

    Whoever is killed in the middle of closing has freed it already, and the run is closed the next
    time.
    """
    run = instance.create_run_for_job(
        dg.job(name="j")(lambda: None),
        status=dg.DagsterRunStatus.STARTED,
        tags={PROCESS_TAG: "999999999@1.00"},
    )
    storage = instance.event_log_storage
    storage.set_concurrency_slots("base_model", 1)
    storage.claim_concurrency_slot("base_model", run.run_id, "images")
    with monkeypatch.context() as killed:

        def kill(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        killed.setattr(instance, "report_run_failed", kill)
        with pytest.raises(KeyboardInterrupt):
            close_dead_runs(instance)
    assert storage.get_concurrency_info("base_model").active_slot_count == 0
    assert close_dead_runs(instance) == 1


def test_a_living_run_is_left_alone(instance):
    from pipelines.runtime.materialize import _process_name

    instance.create_run_for_job(
        dg.job(name="j")(lambda: None),
        status=dg.DagsterRunStatus.STARTED,
        tags={PROCESS_TAG: _process_name()},
    )
    assert close_dead_runs(instance) == 0


def test_scorers_that_would_share_a_column_are_refused_before_anything_is_made(engines):
    class Named:
        keys, version = ("x",), "1"

        def __init__(self, name):
            self.name = name

    engines.__dict__["image_scorers"] = [Named("my-judge"), Named("my.judge")]
    with pytest.raises(ConfigError, match=r"'my-judge' .*'my\.judge' .*share the column"):
        run_rooms(engines, Listener())
    assert not engines.data.base.exists()


def test_a_step_elsewhere_builds_the_job_by_name(tmp_path):
    """In a process of its own, as the definitions are those that the environment names."""
    profile, root = reduced_profile(tmp_path / "profile"), tmp_path / "data"
    code = (
        "from pipelines.definitions import defs\n"
        "from pipelines.profile import load_profile\n"
        "from pipelines.resources import Engines, data_root\n"
        "from pipelines.rooms import ROOMS\n"
        "from pipelines.runtime.materialize import materialize_remotely, open_instance\n"
        "engines = Engines(load_profile(), data_root())\n"
        "engines.data.prepare()\n"
        "instance = open_instance(engines.data.root)\n"
        "materialize_remotely(instance, engines, ROOMS[0], ['all'])\n"
        "print(ROOMS[0].states(engines))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=command_environment(root, profile),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "{'all': 'done'}" in done.stdout, done.stdout + done.stderr
