"""An evaluation's memory and its files do not grow with its images."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_train.evaluation import shards as evaluation_shards
from alignguard_train.evaluation.judge import judge
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from alignguard_train.evaluation.shards import AdapterShards, BaseImages
from tests.alignguard_train.evaluation.world import CONFIG, ColourFeatures, RedScorer

PNG_BYTES = 512 * 512 * 3


def test_five_times_the_images_take_hardly_more_memory(tmp_path):
    """Each further image would cost its 786 KB, and several times that where they are joined."""
    command = [
        sys.executable,
        "-m",
        "tests.alignguard_train.evaluation.memory_probe",
        str(tmp_path),
    ]
    done = subprocess.run([*command, "2", "10"], capture_output=True, text=True, check=True)
    (few, low), (many, high) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (24, 120)
    assert (high - low) / (many - few) < 0.3 * PNG_BYTES


@pytest.mark.parametrize(
    ("what", "pairs", "images"), [("bench", (2, 10), (24, 120)), ("held_out", (4, 40), (12, 120))]
)
def test_the_bench_and_the_ip_while_training_hold_a_batch_at_a_time(tmp_path, what, pairs, images):
    command = [
        sys.executable,
        "-m",
        "tests.alignguard_train.evaluation.bench_memory",
        what,
        str(tmp_path),
    ]
    command += map(str, pairs)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (few, low), (many, high) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == images
    assert (high - low) / (many - few) < 0.3 * PNG_BYTES


@pytest.fixture
def work(tmp_path):
    spec = PartitionSpec(
        folder=tmp_path / "evaluation", room="evaluation", key="all", config={}, inputs={}
    )
    with open_partition(spec) as opened:
        yield opened


def drawn(adapter: str, count: int) -> list[EvaluatedImage]:
    """Judged images of 16 x 16, each of its own colour."""
    rows = [
        EvaluationRow(
            pair_id=f"p{i:03d}", side="safe", concept="a.b", category="a", seen=True, prompt="x",
            seed=i, width=16, height=16, guidance_scale=1.0,
        )
        for i in range(count)
    ]  # fmt: skip
    pixels = np.stack([np.full((16, 16, 3), i, np.uint8) for i in range(count)])
    return judge(adapter, rows, pixels, [RedScorer()], CONFIG, None, ColourFeatures())


def test_a_file_holds_no_more_bytes_of_images_than_its_bound(work, monkeypatch):
    images = drawn("base", 20)
    monkeypatch.setattr(evaluation_shards, "SHARD_BYTES", 5 * len(images[0].image))
    shards = AdapterShards(work, 0, "base")
    shards.save(images)
    held = [shards.read(name, ["image"])["image"].to_pylist() for name in shards.files()]
    assert len(held) >= 4
    assert [image for part in held for image in part] == [image.image for image in images]
    assert all(sum(map(len, part)) <= 5 * len(images[0].image) for part in held)


def test_base_images_are_found_a_file_at_a_time(work):
    images = drawn("base", 12)
    shards = AdapterShards(work, 0, "base")
    for first in range(0, 12, 3):
        shards.save(images[first : first + 3])
    base = BaseImages(shards)
    assert len(base) == 12
    for image in [*images, *reversed(images)]:
        found = base[image.pair_id, "safe"]
        assert (found.image, found.features) == (image.image, image.features)
        assert len(base._open) <= BaseImages.FILES


def test_only_what_the_report_shows_is_kept_of_an_adapter(work):
    images = [dataclasses.replace(image, adapter="merged") for image in drawn("base", 6)]
    shards = AdapterShards(work, 1, "merged", lambda image: image.pair_id == "p004")
    shards.save(images)
    assert shards.pictures({"p004", "p005"})["pair_id"].to_pylist() == ["p004"]
    assert shards.pictures({"p004"})["image"].to_pylist() == [images[4].image]
    assert shards.numbers()["pair_id"].to_pylist() == [image.pair_id for image in images]


def test_features_come_back_in_the_order_that_is_asked_for(work):
    shards = AdapterShards(work, 1, "merged")
    shards.save(drawn("merged", 6))
    shards.save([dataclasses.replace(i, pair_id=f"q{i.pair_id}") for i in drawn("merged", 6)])
    found = shards.features().of([("qp005", "safe"), ("p002", "safe")])
    assert np.allclose(found[:, 0], [5 / 255, 2 / 255])
