"""What the UI shows of a partition: whole, blurred, and small enough for it."""

import base64
import io
import shutil

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_shared.serdes import serialize_value
from PIL import Image

from alignguard_data.contracts.pixels import encode_png
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.release.room import latest_release, show_release
from alignguard_data.safety.blur import blurred, preview_grid
from alignguard_data.storage import manifest as manifests
from pipelines.ui import previews
from pipelines.ui.columns import LINEAGE, first_data_file, release_columns, room_columns
from pipelines.ui.metadata import bars, describe, funnel, partition_funnel, pictures
from tests.alignguard_data.tiny_rooms import TinyRooms

UI_BYTES = 200_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> TinyRooms:
    """The tiny world up to its first release; no test changes it."""
    rooms = TinyRooms(root=tmp_path_factory.mktemp("filled") / "data").fill("pairs")
    return rooms.fill_from("index", "release")


def size(shown: dict[str, dg.MetadataValue]) -> int:
    event = dg.AssetMaterialization(asset_key="a", metadata=shown)
    return len(serialize_value(event).encode())


def _type(field: pa.Field) -> str:
    return str(field.type).replace("element", "item")  # Parquet's word for what a list holds


def picture(shown: dict[str, dg.MetadataValue]) -> np.ndarray:
    text = str(shown[previews.NAME].value)
    encoded = text.split("base64,", 1)[1].removesuffix(")")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def first_images(rooms: TinyRooms, concept: str, pairs: int) -> dict[str, list[np.ndarray]]:
    rows = manifests.read(rooms.data.partition("images", concept), "images").to_pylist()
    held = {"unsafe": [], "safe": []}
    for row in rows[: 2 * pairs]:
        held[row["side"]].append(np.asarray(Image.open(io.BytesIO(row["image"]))))
    return held


def test_a_bar_is_a_share_of_its_stage():
    drawn = bars([("pairs", "kept", 75), ("pairs", "clean", 25), ("release", "kept", 3)])
    first, second, third = drawn.splitlines()
    assert (first.count("█"), second.count("█"), third.count("█")) == (18, 6, 24)
    assert first.endswith("75")
    assert first.startswith("pairs: kept")


def test_a_lost_row_is_never_invisible():
    assert bars([("pairs", "kept", 10_000), ("pairs", "clean", 1)]).splitlines()[1].count("█") == 1
    assert "█" not in bars([("pairs", "kept", 0)])


def test_a_partitions_funnel_sums_to_what_came_in(filled):
    concept = filled.taxonomy.concepts[0].key
    manifest = manifests.require(filled.data.partition("pairs", concept))
    records = partition_funnel(manifest)["funnel"].records
    assert sum(int(record.data["rows"]) for record in records) == manifest.counts["pairs"]


@pytest.mark.parametrize("room", SHARD_RECORDS)
def test_the_shown_columns_are_those_of_the_shard(filled, room):
    key = "all" if room == "taxonomy" else filled.taxonomy.concepts[0].key
    folder = filled.data.partition(room, key)
    shard = pq.read_schema(folder / manifests.require(folder).files[0].name)
    shown = room_columns("tiny", room)["dagster/column_schema"].value
    assert [(c.name, c.type) for c in shown.columns] == [(f.name, _type(f)) for f in shard]


@pytest.mark.parametrize("room", LINEAGE)
def test_lineage_names_columns_that_exist(room):
    assets = {"taxonomy": "taxonomy", "prompts": "prompt_pairs", "images": "image_pairs",
              "scores": "scores", "pairs": "preference_pairs"}  # fmt: skip
    columns = {
        assets[name]: {
            c.name for c in room_columns("tiny", name)["dagster/column_schema"].value.columns
        }
        for name in assets
    }
    shown = room_columns("tiny", room)["dagster/column_lineage"].value
    assert shown.deps_by_column
    assert set(shown.deps_by_column) <= columns[assets[room]]
    for deps in shown.deps_by_column.values():
        assert all(dep.column_name in columns[dep.asset_key.path[-1]] for dep in deps)


def test_every_release_column_but_the_label_says_where_it_comes_from(filled):
    file = first_data_file(latest_release(filled.data))
    shown = release_columns("tiny", file)
    names = [column.name for column in shown["dagster/column_schema"].value.columns]
    assert names == pq.read_schema(file).names
    assert set(names) - set(shown["dagster/column_lineage"].value.deps_by_column) == {"label_0"}


def test_every_image_of_a_preview_is_blurred(filled):
    """Even clean ones: a picture in an event log stays there when a threshold moves."""
    concept = filled.taxonomy.concepts[0].key
    held = first_images(filled, concept, previews.PAIRS_SHOWN)
    images = [*held["unsafe"], *held["safe"]]
    n = len(held["unsafe"])
    wanted = preview_grid([blurred(image) for image in images], [False] * len(images), columns=n)
    sharp = preview_grid(images, [False] * len(images), columns=n)
    shown = picture(previews.images_preview(filled.data, concept)).astype(int)
    far = np.abs(shown - np.asarray(Image.open(io.BytesIO(sharp))).astype(int)).mean()
    near = np.abs(shown - np.asarray(Image.open(io.BytesIO(wanted))).astype(int)).mean()
    assert near < 4 < far  # a JPEG is not exact


def test_pairs_show_only_what_was_kept(filled):
    concept = filled.taxonomy.concepts[0].key
    kept = manifests.read(filled.data.partition("pairs", concept), "kept")["pair_id"].to_pylist()
    expected = previews.images_preview(filled.data, concept, kept)
    assert previews.kept_preview(filled.data, concept) == expected
    assert previews.images_preview(filled.data, concept, []) == {}


def test_pictures_share_a_budget_and_say_what_was_left_out():
    small, large = encode_png(np.zeros((4, 4, 3), np.uint8)), b"\x89PNG" + bytes(200_000)
    shown = pictures({"large": large, "small": small})
    assert "data:image/png" in str(shown["small"].value)
    assert shown["large"].value == "200,004 bytes; see the partition's folder"


def noisy_images(rooms: TinyRooms, concept: str) -> None:
    """Photographs do not compress: noise of 512 pixels in place of the tiny images."""
    folder = rooms.data.partition("images", concept)
    path = folder / manifests.require(folder).file("images").name
    table = pq.read_table(path)
    draw = np.random.default_rng(0)
    noise = [encode_png(draw.integers(0, 256, (512, 512, 3), np.uint8)) for _ in range(12)]
    images = [noise[i % 12] for i in range(len(table))]
    place = table.schema.get_field_index("image")
    pq.write_table(table.set_column(place, table.schema.field(place), [images]), path)


def test_the_largest_materialization_fits_what_the_ui_takes(filled, tmp_path):
    """Every reason and stage there can be, long names, and images that do not compress."""
    concept = filled.taxonomy.concepts[0].key
    shutil.copytree(filled.data.root, tmp_path / "data")
    filled = TinyRooms(root=tmp_path / "data")
    noisy_images(filled, concept)
    folder = filled.data.partition("images", concept)
    manifest = manifests.require(folder)
    reasons = {f"a_reason_of_the_longest_kind_{i:03}": 10**6 + i for i in range(200)}
    counts = {f"a count of a scorer {i:03}": "x" * 1000 for i in range(100)}
    models = {f"organisation/model-{i:03}": "0" * 2000 for i in range(100)}
    largest = manifests.Manifest(
        **{
            **{f: getattr(manifest, f) for f in manifest.__dataclass_fields__},
            "rejected": reasons,
            "counts": counts,
            "models": models,
        }
    )
    noise = np.random.default_rng(1).integers(0, 256, (150, 180, 3), np.uint8)
    shown = {
        **describe(largest, folder),
        **funnel([(f"stage {i % 6}", reason, n) for i, (reason, n) in enumerate(reasons.items())]),
        **room_columns("a-profile-with-a-long-name", "images"),
        **previews.images_preview(filled.data, concept),
    }
    assert previews.NAME in shown
    assert size(shown) < UI_BYTES / 2
    plots = pictures({f"plot {i}": encode_png(noise) for i in range(4)})
    assert sum("base64" in str(value.value) for value in plots.values()) == 1
    assert size(shown | plots) < UI_BYTES


def test_the_release_shows_its_own_funnel(filled):
    folder = latest_release(filled.data)
    rows = show_release(folder)["funnel"]
    records = funnel(rows)["funnel"].records
    assert [[r.data["stage"], r.data["reason"], r.data["rows"]] for r in records] == rows
    assert rows
    assert previews.NAME in previews.release_preview(first_data_file(folder))
