"""How many processes a room gets, and that their chunks are disjoint and whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.profile import load_profile
from pipelines.profile_sections import BaseModelChoice, Training
from pipelines.rooms import ROOMS
from pipelines.runtime.materialize import open_instance
from pipelines.runtime.ray_cluster import RayCluster
from pipelines.runtime.worker_slots import (
    RUNS_PER_SLOT,
    WorkerSlot,
    chunks,
    open_pools,
    worker_slots,
)

STANDIN = load_profile("standin")


def room(name):
    return next(room for room in ROOMS if room.name == name)


def with_devices(*devices, parallel=1):
    model = BaseModelChoice(model=STANDIN.base_model.model, devices=list(devices))
    training = Training(recipe=STANDIN.training.recipe, parallel=parallel)
    return STANDIN.model_copy(update={"base_model": model, "training": training})


def test_images_and_scores_get_a_process_a_device():
    two = with_devices("cuda:0", "cuda:1")
    wanted = [WorkerSlot(device="cuda:0"), WorkerSlot(device="cuda:1")]
    assert worker_slots(two, room("images")) == worker_slots(two, room("scores")) == wanted


def test_one_device_or_none_needs_no_further_process():
    assert worker_slots(STANDIN, room("images")) == []
    assert worker_slots(with_devices("cuda:3"), room("images")) == []


def test_more_trainers_than_devices_share_them():
    found = [
        slot.device
        for slot in worker_slots(with_devices("cuda:0", "cuda:1", parallel=3), room("experts"))
    ]
    assert found == ["cuda:0", "cuda:1", "cuda:0"]


def test_every_device_trains_an_expert():
    assert len(worker_slots(with_devices("cuda:0", "cuda:1"), room("experts"))) == 2


def test_on_a_cluster_only_rooms_with_models_leave_this_machine():
    far = STANDIN.model_copy(update={"ray": RayCluster(address="http://head:8265", runs=3)})
    count = {room.name: len(worker_slots(far, room)) for room in ROOMS}
    assert count == {
        "taxonomy": 0, "prompts": 3, "images": 3, "scores": 3, "pairs": 0,
        "index": 0, "release": 0, "guards": 3, "experts": 3, "merge": 1, "hardening": 3,
        "evaluation": 1,
    }  # fmt: skip


@given(st.integers(0, 400), st.integers(0, 9), st.integers(1, 120))
def test_chunks_are_slices_that_cover_everything_once(keys, num_slots, per_run):
    names = [f"c{i:03d}" for i in range(keys)]
    profile = STANDIN.model_copy(update={"concepts_per_run": per_run})
    found = chunks(profile, room("images"), names, num_slots)
    assert [key for chunk in found for key in chunk] == names
    assert all(0 < len(chunk) <= per_run for chunk in found)
    if num_slots > 1 and keys >= num_slots * RUNS_PER_SLOT:
        assert len(found) >= num_slots, "no slot is left without work"


def test_pools_get_as_many_slots_as_there_are_devices(tmp_path):
    with open_instance(tmp_path) as instance:
        open_pools(instance, with_devices("cuda:0", "cuda:1", parallel=3))
        limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    assert limits == {"base_model": 2, "scorers": 2, "trainers": 3}


def test_a_limit_that_someone_set_stays_where_there_is_one_device(tmp_path):
    with open_instance(tmp_path) as instance:
        instance.event_log_storage.set_concurrency_slots("base_model", 5)
        open_pools(instance, with_devices())
        assert instance.event_log_storage.get_pool_limits()[0].limit == 5


@pytest.mark.parametrize("cluster", [{"gpus": {"pairs": 1}}, {"runs": 0}, {"adress": "x"}])
def test_a_faulty_cluster_is_refused(cluster):
    with pytest.raises(ValueError, match=next(iter(cluster))):
        RayCluster.model_validate(cluster)
