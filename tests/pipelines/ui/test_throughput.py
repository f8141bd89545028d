"""A run's rate as operations a second, and as a share of a known GPU's peak."""

import pytest

from alignguard_data.costs.gpus import GPUS, gpu_named
from pipelines.profile import load_profile
from pipelines.ui.throughput import device_name, reached


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A10G", "a10"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla T4", "t4"),
    ],
)
def test_a_driver_s_name_finds_its_data_sheet(name, key):
    assert gpu_named(name) is GPUS[key]


@pytest.mark.parametrize("name", ["", "NVIDIA L40", "NVIDIA RTX A1000", "AMD Instinct MI300X"])
def test_a_gpu_that_is_not_known_has_no_peak(name):
    assert gpu_named(name) is None


def test_the_share_is_rate_times_operations_over_the_peak():
    """SD1.5: 50 guided steps of 0.803 TFLOP and one decoding of 2.5 are about 83 TFLOP an image.

    5 images a second are 414 TFLOP/s, 42 % of an H100's 989.
    """
    found = reached(load_profile("sd15"), 5.0, "NVIDIA H100 80GB HBM3")
    assert found["tflop_per_second"] == pytest.approx(5 * (100 * 0.803 + 2.5), rel=0.01)
    assert found["share_of_peak"] == pytest.approx(found["tflop_per_second"] / 989, rel=0.01)
    assert found["gpu"] == "NVIDIA H100 80GB HBM3"


def test_a_cpu_has_a_rate_and_no_share():
    assert device_name("cpu") == ""
    assert set(reached(load_profile("standin"), 20.0, "")) == {"tflop_per_second"}
