"""The release as its consumers read it: libraries, and the loops of published trainers."""

import io
import json
import random
import tarfile
from collections import defaultdict

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from alignguard_data.release.export import export_release

SPOTS = [("category", "==", "spots")]


def read(folder, split: str = "train"):
    return pq.read_table(next((folder / "data").glob(f"{split}-*.parquet")))


@pytest.fixture
def load(tmp_path, monkeypatch):
    """``datasets.load_dataset`` offline, with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()

    def load_dataset(path, *arguments, **options):
        return datasets.load_dataset(
            str(path), *arguments, cache_dir=str(tmp_path / "cache"), **options
        )

    return load_dataset


@pytest.mark.parametrize("config", ["default", "images"])
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_gives_every_row_unchanged(folder, load, config, streaming):
    for split in ("train", "test"):
        rows = list(load(folder, config, split=split, streaming=streaming))
        expected = read(folder, split).to_pylist()
        assert [row["pair_id"] for row in rows] == [row["pair_id"] for row in expected]
        assert set(rows[0]) == set(expected[0])
        for row, wanted in zip(rows, expected, strict=True):
            stored = Image.open(io.BytesIO(wanted["jpg_1"]))
            drawn = row["jpg_1"] if config == "images" else Image.open(io.BytesIO(row["jpg_1"]))
            assert np.array_equal(np.asarray(drawn), np.asarray(stored))


@pytest.mark.parametrize("config", ["default", "images"])
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_filters_rows_while_reading(folder, load, config, streaming):
    rows = list(load(folder, config, split="train", streaming=streaming, filters=SPOTS))
    expected = read(folder).filter(ds.field("category") == "spots")["pair_id"].to_pylist()
    assert [row["pair_id"] for row in rows] == expected


def test_the_text_tier_loads_without_images(folder, load, tmp_path):
    export_release(folder, tmp_path / "texts", tier="prompts", file_format="parquet")
    rows = load(tmp_path / "texts", split="train")
    assert rows["caption"][:] == read(folder)["caption"].to_pylist()
    assert "jpg_0" not in rows.column_names


def test_a_csv_export_loads_too(folder, load, tmp_path):
    export_release(folder, tmp_path / "texts", tier="prompts", file_format="csv")
    rows = load(tmp_path / "texts", split="test")
    assert rows["pair_id"][:] == read(folder, "test")["pair_id"].to_pylist()


def test_pyarrow_reads_it_as_one_dataset(folder):
    found = ds.dataset(folder / "data", format="parquet")
    spots = found.to_table(columns=["pair_id", "jpg_0"], filter=ds.field("category") == "spots")
    both = [row for s in ("train", "test") for row in read(folder, s).to_pylist()]
    expected = {row["pair_id"]: row["jpg_0"] for row in both if row["category"] == "spots"}
    assert {row["pair_id"]: row["jpg_0"] for row in spots.to_pylist()} == expected


def test_polars_and_duckdb_see_the_same_bytes(folder):
    import duckdb
    import polars

    pattern = f"{folder}/data/train-*.parquet"
    frame = polars.scan_parquet(pattern).filter(polars.col("category") == "spots").collect()
    with duckdb.connect() as connection:
        sql = f"SELECT pair_id, jpg_1 FROM '{pattern}' WHERE category = 'spots' ORDER BY pair_id"
        found = connection.execute(sql).fetchall()
    expected = read(folder).filter(ds.field("category") == "spots").sort_by("pair_id")
    wanted = list(zip(expected["pair_id"].to_pylist(), expected["jpg_1"].to_pylist(), strict=True))
    assert sorted(zip(frame["pair_id"], frame["jpg_1"], strict=True)) == found == wanted


class TrainerRows(torch.utils.data.Dataset):
    """Rows as DiffusionDPO's ``train.py`` and diffusers' ``train_diffusion_dpo(_sdxl).py`` take
    them: both images decoded in ``jpg_0, jpg_1`` order, then swapped where ``label_0 == 0``, and
    stacked over channels (chosen first).
    """

    def __init__(self, rows, train: bool = True) -> None:
        # The trainers drop what has no clear preference first.
        self.rows = [row for row in rows if row["label_0"] in (0, 1)]
        self.random = random.Random(0) if train else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        sides = [Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1")]
        pixels = [
            torch.from_numpy(np.array(side)).permute(2, 0, 1) / 127.5 - 1
            for side in (side.resize((32, 32), Image.Resampling.BILINEAR) for side in sides)
        ]
        if row["label_0"] == 0:
            pixels = pixels[::-1]
        caption = row["caption"]
        if not isinstance(caption, str):
            raise ValueError("Caption column should contain either strings or lists of strings.")
        return {"pixel_values": torch.cat(pixels, dim=0), "caption": caption}


def collate(examples: list[dict]) -> dict:
    pixels = torch.stack([example["pixel_values"] for example in examples])
    pixels = pixels.to(memory_format=torch.contiguous_format).float()
    return {"pixel_values": pixels, "captions": [example["caption"] for example in examples]}


def as_release(folder, tmp_path, load):
    return load(folder, "default", split="train")


def as_pickapic(folder, tmp_path, load):
    to = tmp_path / "coprov2_pickapic"
    export_release(folder, to, tier="full", file_format="pickapic-folder")
    return load(to, split="train")


@pytest.mark.parametrize("source", [as_release, as_pickapic])
def test_a_dpo_trainer_gets_chosen_then_rejected(folder, tmp_path, load, source):
    rows = source(folder, tmp_path, load)
    loader = torch.utils.data.DataLoader(TrainerRows(rows), batch_size=4, collate_fn=collate)
    batches = list(loader)
    expected = read(folder)
    captions = [caption for batch in batches for caption in batch["captions"]]
    assert captions == expected["caption"].to_pylist()
    chosen, rejected = torch.cat([batch["pixel_values"] for batch in batches]).chunk(2, dim=1)
    black = [(half == -1).all(dim=1).sum(dim=(1, 2)) for half in (chosen, rejected)]
    assert black[0].max() == 0, "the chosen image has no bar"
    assert black[1].min() > 0, "the rejected image has the bar"


def test_a_swapped_row_gives_the_same_batch(folder, tmp_path, load):
    """What trainers do with ``label_0 == 0`` undoes an exchange of both sides."""
    row = as_release(folder, tmp_path, load)[0]
    swapped = {**row, "jpg_0": row["jpg_1"], "jpg_1": row["jpg_0"], "label_0": 0}
    one, two = (TrainerRows([each])[0]["pixel_values"] for each in (row, swapped))
    assert torch.equal(one, two)


def test_a_webdataset_shard_is_read_back_in_groups_of_one_pair(folder, tmp_path):
    """Members of a pair stand together under one key, as WebDataset readers ask."""
    export_release(folder, tmp_path / "out", tier="full", file_format="webdataset")
    groups: dict[str, dict[str, bytes]] = defaultdict(dict)
    order = []
    with tarfile.open(next((tmp_path / "out/data").glob("train-*.tar"))) as tar:
        for member in tar:
            key, extension = member.name.split(".", 1)
            order.append(key)
            content = tar.extractfile(member)
            assert content
            groups[key][extension] = content.read()
    rows = read(folder).to_pylist()
    assert order == [row["pair_id"] for row in rows for _ in range(3)]
    for row in rows:
        group = groups[row["pair_id"]]
        assert (group["0.png"], group["1.png"]) == (row["jpg_0"], row["jpg_1"])
        assert json.loads(group["json"])["caption"] == row["caption"]


@pytest.mark.slow
def test_spark_reads_it_in_local_mode(folder):
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
    builder = SparkSession.builder.master("local[1]").appName("release")
    for name, value in options.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        frame = spark.read.parquet(str(folder / "data"))
        found = frame.filter("category = 'spots'").select("pair_id", "jpg_0", "label_0").collect()
    finally:
        spark.stop()
    both = [row for s in ("train", "test") for row in read(folder, s).to_pylist()]
    expected = {row["pair_id"]: row["jpg_0"] for row in both if row["category"] == "spots"}
    assert {row.pair_id: bytes(row.jpg_0) for row in found} == expected
    assert {row.label_0 for row in found} == {1}
