"""The dry run over the graph: nothing is made, and what follows a change is shown as following."""

import json

from typer.testing import CliRunner

from alignguard_data.planning import NEVER_MADE
from pipelines.cli.app import app
from pipelines.plan import FOLLOWS, plan_rooms
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS


def test_of_nothing_everything_is_to_be_made_and_nothing_is(reduced, tmp_path):
    engines = Engines(load_profile(str(reduced)), tmp_path / "data")
    plans = {plan.room: plan for plan in plan_rooms(engines)}
    assert list(plans) == [room.name for room in ROOMS]
    assert plans["prompts"].reasons == {NEVER_MADE: 6}
    assert plans["images"].reasons == {FOLLOWS: 6}
    assert plans["evaluation"].to_make == ["all"]
    assert not (tmp_path / "data").exists()


def test_the_command_prints_json_for_machines(reduced):
    done = CliRunner().invoke(app, ["--profile", str(reduced), "plan", "--json"])
    assert done.exit_code == 0, done.output
    assert {room["room"] for room in json.loads(done.output)} == {room.name for room in ROOMS}
