"""The shared cache of encodings: equal to a new encoding, made once, safe to kill and to damage."""

import io
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from alignguard_data.contracts.errors import EngineError
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_train.adapters.lora import load_lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings import room as encodings
from alignguard_train.encodings.encoder import encode, images_at_once, load_preferences
from alignguard_train.encodings.room import shared_encodings
from alignguard_train.experts.reader import weights_of
from alignguard_train.experts.room import make_expert
from alignguard_train.experts.trainer import train_expert
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl

RELEASE = "coprov2-test-v0.1.0"
EVERY = torch.arange(7)


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def base(request, tmp_path_factory) -> BaseModel:
    folder = tmp_path_factory.mktemp("models") / request.param
    pipe = tiny_pipe("epsilon") if request.param == "sd15" else tiny_xl()
    pipe.save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu")


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return write_release(DataRoot(root=tmp_path / "data", profile="tiny"))


def write_release(data: DataRoot, seed: int = 0) -> DataRoot:
    """Two shards of train pairs, categories interleaved, and the release room's manifest."""
    draw = np.random.default_rng(seed)

    def png() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    rows = [
        {
            "pair_id": f"p{i}", "concept": f"{'ab'[i % 2]}.x", "category": "ab"[i % 2],
            "caption": f"a b c {i}", "caption_safe": f"a b {i}", "jpg_0": png(), "jpg_1": png(),
        }
        for i in range(7)
    ]  # fmt: skip
    folder = data.releases / RELEASE / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate((rows[:3], rows[3:])):
        pq.write_table(pa.Table.from_pylist(part), folder / f"train-{number:05d}-of-00002.parquet")
    (folder.parent / "manifest.json").write_text("{}")  # without one it is no release
    made = PartitionSpec(
        folder=data.partition("release"),
        room="release",
        key="all",
        config={"seed": seed},
        inputs={},
    )
    with open_partition(made) as work:
        work.finish(tables={"rows": pa.table({"seed": [seed]})}, counts={"path": RELEASE})
    return data


def same(found, wanted, rows: torch.Tensor) -> None:
    for name in ("chosen", "rejected", "chosen_flipped", "rejected_flipped"):
        assert torch.equal(getattr(found, name)[rows], getattr(wanted, name)[rows]), name
    for name in ("unsafe", "safe"):
        ours, theirs = getattr(found, name)[rows], getattr(wanted, name)[rows]
        assert torch.equal(ours.states, theirs.states)
        assert (ours.pooled is None) == (theirs.pooled is None)
        assert ours.pooled is None or torch.equal(ours.pooled, theirs.pooled)
    assert torch.equal(found.empty.states, wanted.empty.states)
    assert found.empty.pooled is None or torch.equal(found.empty.pooled, wanted.empty.pooled)


@pytest.mark.parametrize("rows", [8, 2])
def test_cached_encodings_are_those_of_encoding_anew(base, data, rows, monkeypatch):
    """Bit for bit and in release order, for one category and for all, in one shard or several."""
    monkeypatch.setattr(encodings, "SHARD_BATCHES", rows // 2)
    monkeypatch.setattr("alignguard_train.encodings.encoder.ENCODE_ROWS", 2)
    release = data.releases / RELEASE
    for categories in (["a", "b"], ["b"]):
        wanted = encode(load_preferences(release, categories), base, flip=True)
        found = shared_encodings(data, base, categories, flip=True)
        assert found.categories == wanted.categories
        assert found.chosen.shape == wanted.chosen.shape
        same(found, wanted, torch.arange(len(wanted)).flip(0))


RECIPE = ExpertRecipe(
    rank=2, steps=3, batch_size=2, warmup_steps=0, lr=1e-2, flip=True, caption_dropout=0.5
)


@pytest.mark.parametrize("categories", [["a"], ["a", "b"]])
def test_an_expert_has_the_same_weights_with_and_without_the_cache(
    base, data, tmp_path, categories
):
    encoded = encode(load_preferences(data.releases / RELEASE, categories), base, flip=True)
    plain = train_expert(base, encoded, RECIPE, seed=4, checkpoint=tmp_path / "c").lora
    make_expert(data, "x", categories, base, RECIPE, seed=4)
    cached = load_lora(weights_of(data, "x"))
    assert all(torch.equal(plain[n].up, cached[n].up) for n in plain)
    assert all(torch.equal(plain[n].down, cached[n].down) for n in plain)


@pytest.fixture
def counted(base, monkeypatch) -> list[int]:
    """Sizes of the batches that went through the VAE."""
    sizes: list[int] = []
    vae = base.pipe.vae
    through = vae.encode

    def count(pixels):
        sizes.append(len(pixels))
        time.sleep(0.05)  # so that two at once would overlap
        return through(pixels)

    monkeypatch.setattr(vae, "encode", count)
    return sizes


def test_two_at_once_encode_once(base, data, counted):
    with ThreadPoolExecutor(2) as pool:
        ask = lambda _: shared_encodings(data, base, ["a", "b"], flip=False)  # noqa: E731
        one, two = pool.map(ask, range(2))
    assert sum(counted) == 14  # 7 pairs of two images
    assert torch.equal(one.chosen[EVERY], two.chosen[EVERY])


@pytest.mark.parametrize(
    ("height", "width", "at_once"),
    [(64, 64, 64), (512, 512, 16), (768, 768, 7), (1024, 1024, 4), (4096, 4096, 1)],
)
def test_the_larger_an_image_the_fewer_go_through_the_vae_at_once(height, width, at_once):
    assert images_at_once(height, width) == at_once


def test_batches_and_shards_are_bounded_by_pixels(base, data, counted, monkeypatch):
    """The release's images have 16 x 16 pixels: three at once, 4 pairs of `a` and 3 of `b`."""
    monkeypatch.setattr("alignguard_train.encodings.encoder.ENCODED_PIXELS", 3 * 16 * 16)
    monkeypatch.setattr(encodings, "SHARD_BATCHES", 1)
    shared_encodings(data, base, ["a", "b"], flip=False)
    assert sum(counted) == 14
    assert max(counted) == 3
    rows = manifests.read(data.partition("encodings", "plain"), "rows")["shard"].to_pylist()
    assert max(rows.count(shard) for shard in rows) == 3


def test_the_last_rows_of_a_category_are_not_held_until_the_end(base, data, monkeypatch):
    """Row 5 is the last of `b`, row 6 is of `a`."""
    streamed, written = encodings.stream_rows, []

    def spied(release):
        for row in streamed(release):
            written.append([path.name for path in data.root.rglob("b-*.safetensors")])
            yield row

    monkeypatch.setattr(encodings, "stream_rows", spied)
    shared_encodings(data, base, ["a", "b"], flip=False)
    assert written == [[]] * 6 + [["b-00000.safetensors"]]


def full_above(base, monkeypatch, images: int) -> None:
    """A device whose memory holds so many images at once."""
    through = base.pipe.vae.encode

    def encode(pixels):
        if len(pixels) > images:
            raise torch.OutOfMemoryError("injected")
        return through(pixels)

    monkeypatch.setattr(base.pipe.vae, "encode", encode)


def test_a_full_device_gets_smaller_batches(base, data, monkeypatch):
    wanted = encode(load_preferences(data.releases / RELEASE), base)
    full_above(base, monkeypatch, 1)
    found = encode(load_preferences(data.releases / RELEASE), base)
    assert torch.allclose(found.chosen[EVERY], wanted.chosen[EVERY], atol=1e-5)


def test_one_image_that_does_not_fit_is_named(base, data, monkeypatch):
    full_above(base, monkeypatch, 0)
    with pytest.raises(EngineError, match="cannot encode one image of 16x16"):
        shared_encodings(data, base, ["a"], flip=False)


def test_flips_are_encoded_only_where_a_recipe_asks_for_them(base, data, counted):
    shared_encodings(data, base, ["a"], flip=False)
    assert sum(counted) == 14
    shared_encodings(data, base, ["b"], flip=True)
    assert sum(counted) == 28


def test_a_damaged_shard_is_made_anew(base, data):
    before = shared_encodings(data, base, ["a"], flip=False).chosen[EVERY[:4]]
    shard = next(data.partition("encodings", "plain").rglob("a-00000.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert torch.equal(shared_encodings(data, base, ["a"], flip=False).chosen[EVERY[:4]], before)


def test_another_release_replaces_the_encodings_and_readers_keep_theirs(base, data):
    old = shared_encodings(data, base, ["a"], flip=False)
    first = old.chosen[EVERY[:4]]
    write_release(data, seed=1)
    new = shared_encodings(data, base, ["a"], flip=False)
    assert not torch.equal(new.chosen[EVERY[:4]], first)
    assert torch.equal(old.chosen[EVERY[:4]], first)
    folders = [p for p in data.partition("encodings", "plain").iterdir() if p.is_dir()]
    assert len(folders) == 1


def test_precision_vae_and_release_name_the_cache(base, data, tmp_path):
    folder = base.source.model
    found = [
        encodings.spec(data, one, "plain").fingerprint
        for one in (
            base,
            BaseModel(model=folder, device="cpu"),
            BaseModel(model=folder, device="cpu", dtype="bfloat16"),
        )
    ]
    assert found[0] == found[1] != found[2]
    vae = BaseModel(model=folder, device="cpu", vae=str(tmp_path), vae_revision=None)
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    assert vae.models.keys() == {base.model_id, f"vae {tmp_path.name}"}


def test_a_category_without_pairs_is_named(base, data):
    with pytest.raises(EngineError, match="the release has no train pair of c"):
        shared_encodings(data, base, ["c"], flip=False)


def test_mapped_rows_are_read_only_when_asked_for(tmp_path):
    from alignguard_train.encodings.mapped import MappedRows

    save_file({"x": torch.zeros(2048, 16_384)}, tmp_path / "x.safetensors")  # 128 MiB

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    before = resident()
    rows = MappedRows([encodings._mapped(tmp_path / "x.safetensors")["x"]], torch.arange(2048))
    assert rows[torch.tensor([3, 2000])].shape == (2, 16_384)
    assert resident() - before < 32


MAKE = """
import sys
from pathlib import Path
from alignguard_data.storage.paths import DataRoot
from alignguard_train.encodings import encoder
from alignguard_train.encodings import room as encodings
from alignguard_train.base import BaseModel
encoder.ENCODE_ROWS = encodings.SHARD_BATCHES = 1
base = BaseModel(model=sys.argv[1], device="cpu")
data = DataRoot(root=Path(sys.argv[2]), profile="tiny")
encodings.shared_encodings(data, base, ["a", "b"], flip=False)
"""


def test_killed_and_gone_on_the_encodings_are_those_of_a_calm_run(tmp_path, monkeypatch, base):
    """The files that the killed process finished are kept, and the whole has the same id."""
    calm, killed = (
        write_release(DataRoot(root=tmp_path / name, profile="tiny")) for name in ("calm", "killed")
    )
    monkeypatch.setattr(encodings, "SHARD_BATCHES", 1)
    monkeypatch.setattr("alignguard_train.encodings.encoder.ENCODE_ROWS", 1)
    shared_encodings(calm, base, ["a"], flip=False)
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE, base.source.model, str(killed.root)],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.DEVNULL,
    )
    folder, deadline = killed.partition("encodings", "plain"), time.monotonic() + 600
    while not list(folder.glob(".*.partial/*.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob(".*.partial/*.safetensors")}
    assert kept
    assert not (folder / manifests.MANIFEST).exists()
    shared_encodings(killed, base, ["a"], flip=False)
    ids = [manifests.require(d.partition("encodings", "plain")) for d in (calm, killed)]
    assert ids[0].content_id == ids[1].content_id
    for name, modified in kept.items():
        assert next(folder.rglob(name)).stat().st_mtime_ns == modified
