"""The dry run over the graph: nothing is made, and what follows a change is shown as following."""

import json

from typer.testing import CliRunner

from alignguard_data.errors import ConfigError
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


def budget_of(profile, gpu="h100", *more):
    done = CliRunner().invoke(app, ["--profile", profile, "plan", "--json", "--gpu", gpu, *more])
    assert done.exit_code == 0, done.output
    return {room["room"]: room for room in json.loads(done.output)["budget"]}


def test_a_gpu_run_is_costed_without_a_gpu_or_weights():
    """DESIGN: 0.80 TFLOP a UNet forward and 2.5 a decoding, on 989 TFLOP/s."""
    rooms = budget_of("sd15")
    pairs = 351 * 45
    assert rooms["prompts"]["units"] == pairs
    images = rooms["images"]["units"]
    assert images == 2 * round(pairs * 0.8)
    by_hand = images * (2 * 50 * 0.8033 + 2.51)
    assert abs(rooms["images"]["tflop"] / by_hand - 1) < 0.02
    assert abs(rooms["images"]["hours"] / (by_hand / (989 * 0.4) / 3600) - 1) < 0.02


def test_hours_follow_the_share_of_the_peak():
    slow, fast = (budget_of("standin", "t4", "--peak-share", share) for share in ("0.2", "0.4"))
    assert slow["images"]["hours"] == 2 * fast["images"]["hours"]


def test_what_cannot_be_known_is_not_made_up():
    """The stand-in's writer is no language model."""
    assert budget_of("standin")["prompts"]["hours"] is None


def test_a_wrong_gpu_and_share_are_named_together():
    done = CliRunner().invoke(app, ["plan", "--gpu", "abacus", "--peak-share", "2"])
    assert isinstance(done.exception, ConfigError)
    assert [fault.split(":")[0] for fault in done.exception.faults] == ["--gpu", "--peak-share"]
