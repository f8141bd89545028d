"""Whoever asks for prompts and hashes fetches no images; what is fetched is checked."""

import dataclasses
import shutil
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.images.room import render_pairs
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage import places as storage
from alignguard_data.storage.partition import PartitionSpec, open_partition
from tests.alignguard_data.tiny_rooms import SAMPLING, TinyGenerator, TinyRooms
from tests.bucket_server import BUCKET, serving

SIDE = 192
BLOB = 20_000


@dataclass
class NoisyGenerator(TinyGenerator):
    """The drawn world large and with noise, so that an image is far more than its row."""

    def _draw(self, prompt: str, seed: int) -> Pixels:
        small = super()._draw(prompt, seed)
        large = small.repeat(SIDE // 16, axis=0).repeat(SIDE // 16, axis=1)
        noise = np.random.default_rng(seed).integers(0, 32, large.shape, dtype=np.uint8)
        return np.where(large > 0, large - noise, large)


class NoisyRooms(TinyRooms):
    """Its rooms."""

    def _images(self) -> None:
        large = dataclasses.replace(SAMPLING, width=SIDE, height=SIDE)
        keys = [c.key for c in self.taxonomy.concepts]
        render_pairs(self.data, keys, self.generator, large)


def test_a_release_on_a_bucket_fetches_its_images_three_times(tmp_path, monkeypatch):
    """To score them, to check every file's hash, and to release them; it was seven times."""
    monkeypatch.setattr(manifests, "WHOLE_FILE_BYTES", 200_000)
    with serving() as (proxy, environment):
        for name, value in {**environment, "ALIGNGUARD_SCRATCH": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        root = storage.parse_root(f"s3://{BUCKET}/reads")
        root.fs.mkdir(BUCKET)  # pyright: ignore[reportAttributeAccessIssue]
        rooms = NoisyRooms(root=root, generator=NoisyGenerator())  # pyright: ignore[reportArgumentType]
        rooms.data.prepare()
        rooms.fill("images")
        names = [n for n in storage.files(root) if n.endswith("/images.parquet")]
        images = sum(storage.size(root / name) or 0 for name in names)
        proxy.count(0)
        rooms.fill_from("scores", "pairs", "index", "release")
        assert 2 < proxy.fetched / images < 3.8


@pytest.fixture
def folder(tmp_path):
    """A partition with 30 images of 20 kB; `label` lies before them in the file."""
    draw = np.random.default_rng(0)
    table = pa.table(
        {
            "label": [f"row {i}" for i in range(30)],
            "image": pa.array([draw.bytes(BLOB) for _ in range(30)], pa.binary()),
        }
    )
    spec = PartitionSpec(folder=tmp_path / "p", room="images", key="a", config={}, inputs={})
    with open_partition(spec) as work:
        work.finish(tables={"images": table})
    return tmp_path / "p"


def damaged(folder, place: int) -> None:
    """One bit of the shard flipped; its size stays."""
    path = folder / manifests.require(folder).file("images").name
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("whole_file_bytes", [0, 10**9])
def test_a_damaged_column_is_named_however_it_is_read(folder, monkeypatch, whole_file_bytes):
    monkeypatch.setattr(manifests, "WHOLE_FILE_BYTES", whole_file_bytes)
    path = folder / manifests.require(folder).file("images").name
    damaged(folder, path.read_bytes().find(b"row 2"))
    with pytest.raises(IntegrityError, match="sha256"):
        manifests.read(folder, "images", columns=["label"])


def test_columns_of_a_large_file_are_read_without_its_images(folder, monkeypatch):
    """They can be read though an image is damaged; reading images fails."""
    monkeypatch.setattr(manifests, "WHOLE_FILE_BYTES", 0)
    damaged(folder, 10 * BLOB)
    read = manifests.read(folder, "images", columns=["label"])["label"].to_pylist()
    assert read == [f"row {i}" for i in range(30)]
    with pytest.raises(IntegrityError, match="sha256"):
        manifests.read(folder, "images")


def test_a_cut_file_is_named_before_anything_is_read(folder, monkeypatch):
    monkeypatch.setattr(manifests, "WHOLE_FILE_BYTES", 0)
    path = folder / manifests.require(folder).file("images").name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="its manifest says"):
        manifests.read(folder, "images", columns=["label"])


def test_a_file_that_is_gone_is_named(folder, monkeypatch):
    monkeypatch.setattr(manifests, "WHOLE_FILE_BYTES", 0)
    shutil.rmtree((folder / manifests.require(folder).file("images").name).parent)
    with pytest.raises(IntegrityError, match="missing"):
        manifests.read(folder, "images", columns=["label"])
