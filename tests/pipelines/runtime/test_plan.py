"""The dry run over the graph: nothing is made, and what follows a change is shown as following."""

import json
from functools import lru_cache

import pytest
import yaml
from typer.testing import CliRunner

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.costs.flops import count_model, shapes_of
from alignguard_data.storage.planning import NEVER_MADE
from pipelines.cli.app import app
from pipelines.profile import load_profile
from pipelines.profile_paths import resolve_model
from pipelines.resources import Engines
from pipelines.rooms import ALL_ROOMS
from pipelines.runtime.plan import FOLLOWS, plan_rooms
from tests.conftest import reduced_profile

BASE = resolve_model(load_profile("standin").base_model.model)


def test_of_nothing_everything_is_to_be_made_and_nothing_is(reduced, tmp_path):
    engines = Engines(load_profile(str(reduced)), tmp_path / "data")
    plans = {plan.room: plan for plan in plan_rooms(engines)}
    assert list(plans) == [room.name for room in ALL_ROOMS]
    assert plans["prompts"].reasons == {NEVER_MADE: 6}
    assert plans["images"].reasons == {FOLLOWS: 6}
    assert plans["evaluation"].to_make == ["all"]
    assert not (tmp_path / "data").exists()


def test_the_command_prints_json_for_machines(reduced):
    done = CliRunner().invoke(app, ["--profile", str(reduced), "plan", "--json"])
    assert done.exit_code == 0, done.output
    assert {room["room"] for room in json.loads(done.output)} == {room.name for room in ALL_ROOMS}


@lru_cache
def budget_of(profile, gpu="h100", *more):
    done = CliRunner().invoke(app, ["plan", "--profile", profile, "--json", "--gpu", gpu, *more])
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


def test_encodings_are_costed_once_for_all_trainings():
    """SD1.5: 4 x 64 x 64 numbers a latent and 77 x 768 a caption, 4 bytes each, as TF32 reads
    float32; four images where the recipe flips. A VAE encoding at 512 x 512 is about 1.1 TFLOP.
    """
    pairs = round(351 * 45 * 0.8)
    made = budget_of("sd15")["encodings"]
    latents = (4 if load_profile("sd15").recipe().flip else 2) * 4 * 64 * 64
    assert made["units"] == pairs
    assert made["gib"] * 2**30 == pytest.approx(pairs * 4 * (latents + 2 * 77 * 768))
    images = latents // (4 * 64 * 64)
    assert made["tflop"] / (pairs * images * 1.1) == pytest.approx(1, abs=0.05)
    assert made["hours"] == pytest.approx(made["tflop"] / (494 * 0.4) / 3600)  # TF32


def test_an_evaluation_counts_the_further_seeds_of_unsafe_prompts_of_defences(tmp_path):
    """Of base, merged and All-single; the stand-in's prompt set is benign."""
    one, three = tmp_path / "one", tmp_path / "three"
    for folder, seeds in ((one, 1), (three, 3)):
        folder.mkdir()
        reduced_profile(folder, evaluation__prompt_sets=[], evaluation__seeds=seeds)
    counted = [budget_of(str(f / "reduced.yaml"))["evaluation"]["units"] for f in (one, three)]
    merges = len(load_profile(str(one / "reduced.yaml")).merge.strategies)
    unsafe = counted[0] / 2 / (1 + 2 + merges + 1)
    assert counted[1] - counted[0] == 3 * 2 * unsafe


def test_an_evaluation_counts_every_prompt_set_under_every_adapter(tmp_path):
    """Two prompts of a set.

    One without guidance at the profile's size, so half the UNet's forwards of an image; and one
    with the profile's own, as an image of the release.
    """
    (tmp_path / "set.csv").write_text("prompt,guidance_scale\na ring,1\na bar,\n")
    written = reduced_profile(tmp_path, evaluation__prompt_sets=[], evaluation__seeds=1)
    plain = yaml.safe_load(written.read_text())
    path = tmp_path / "with.yaml"
    without = budget_of(str(tmp_path / "reduced.yaml"))["evaluation"]
    plain["evaluation"]["prompt_sets"] = [{"name": "mine", "path": str(tmp_path / "set.csv")}]
    path.write_text(yaml.safe_dump(plain))
    found = budget_of(str(path))["evaluation"]

    adapters = 1 + 2 + len(load_profile(str(path)).merge.strategies) + 1  # base, two experts, all
    assert found["units"] - without["units"] == 2 * adapters
    sampling = load_profile(str(path)).sampling
    flops = count_model(shapes_of(BASE), sampling.height, sampling.width)
    steps = sampling.num_inference_steps
    unguided = flops.text + steps * flops.unet + flops.decode
    guided = 2 * flops.text + 2 * steps * flops.unet + flops.decode
    more = (found["tflop"] - without["tflop"]) * 1e12
    assert more == pytest.approx(adapters * (unguided + guided), rel=1e-6)


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
