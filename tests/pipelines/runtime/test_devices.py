"""A process owns one GPU, sees no other, and gives it back however it ends."""

import subprocess
import sys
import time

import pytest

from alignguard_data.contracts.errors import ConfigError, EngineError
from pipelines.profile import load_profile
from pipelines.runtime import devices
from tests.conftest import reduced_profile


@pytest.fixture(autouse=True)
def nothing_owned(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_owned", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(devices.VISIBLE_VARIABLE, "4,5,7")
    monkeypatch.delenv(devices.DEVICE_VARIABLE, raising=False)


@pytest.fixture
def other(tmp_path):
    """A process that owns the first GPU until it is killed."""
    code = (
        "import sys, time; from pipelines.runtime.devices import own_device;"
        "print(own_device(['cuda:0', 'cuda:1']), flush=True); time.sleep(600)"
    )
    environment = {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "4,5,7", "PATH": ""}
    environment["PYTHONPATH"] = ":".join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "cuda:0"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_an_owner_sees_its_device_alone():
    import os

    assert devices.own_device(["cuda:2"]) == "cuda:2"
    assert os.environ[devices.VISIBLE_VARIABLE] == "7"
    assert devices.own_device(["cuda:0"]) == "cuda:2", "it keeps what it has"


def test_without_devices_nothing_changes():
    import os

    assert devices.own_device([]) is None
    assert os.environ[devices.VISIBLE_VARIABLE] == "4,5,7"


def test_two_processes_own_two_devices(other):
    assert devices.own_device(["cuda:0", "cuda:1"]) == "cuda:1"


def test_a_killed_owners_device_is_free(other, caplog):
    started = time.monotonic()
    other.kill()
    assert devices.own_device(["cuda:0"], wait=0.05) == "cuda:0"
    assert time.monotonic() - started < 20


def test_the_environment_says_which_even_when_it_is_busy(other, monkeypatch):
    monkeypatch.setenv(devices.DEVICE_VARIABLE, "cuda:0")
    assert devices.own_device(["cuda:1"]) == "cuda:0"


def test_a_cpu_hides_every_gpu_and_is_owned_many_times():
    assert devices.visible_number("cpu") == ""
    assert devices.own_device(["cpu", "cpu"]) == "cpu"


@pytest.mark.parametrize(("device", "message"), [("cuda:3", "3 GPU"), ("gpu1", "cuda:NUMBER")])
def test_a_device_that_is_not_there_is_refused(device, message):
    with pytest.raises(EngineError, match=message):
        devices.visible_number(device)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"devices": ["cuda:0", "cuda:0"]}, "twice"),
        ({"device": "cuda:0", "devices": ["cuda:1"]}, "not both"),
        ({"devices": ["gpu1"]}, r"base_model.devices.0.*cuda:NUMBER.*gpu1"),
    ],
)
def test_a_profiles_faulty_devices_are_named(tmp_path, chosen, message):
    model = {"model": "package:alignguard_data.standin/checkpoints/base"}
    path = reduced_profile(tmp_path, base_model={**model, **chosen})
    with pytest.raises(ConfigError, match=message):
        load_profile(str(path))
