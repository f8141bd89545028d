"""Room ``scores``: long form, one decoding, isolated faults, exact resume."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from alignguard_data.contracts import records
from alignguard_data.contracts.errors import ConfigError, EngineError, InputMissing, NothingMade
from alignguard_data.contracts.pixels import encode_png
from alignguard_data.contracts.records import (
    RejectedImage,
    RenderedImage,
    Score,
    from_table,
    to_table,
)
from alignguard_data.scores import room
from alignguard_data.scores.room import decode, score_concept, spec
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from tests.alignguard_data.tiny_rooms import InkScorer, TinyRooms, WordScorer

KEY = "lines.bar"


def scores_of(rooms: TinyRooms) -> list[Score]:
    return from_table(Score, manifests.read(rooms.data.partition("scores", KEY), "scores"))


def score(rooms: TinyRooms, *scorers):
    return score_concept(rooms.data, KEY, scorers or [InkScorer()], [WordScorer()])


def rewrite_images(rooms: TinyRooms, change) -> None:
    """Pass every image's row through ``change``; the manifest fits the new shard."""
    folder = rooms.data.partition("images", KEY)
    old = manifests.require(folder)
    rows = from_table(RenderedImage, manifests.read(folder, "images"))
    tables = {
        "images": to_table(RenderedImage, [change(i, row) for i, row in enumerate(rows)]),
        "rejected": manifests.read(folder, "rejected"),
    }
    made = PartitionSpec(folder=folder, room="images", key=KEY, config={"by": "hand"}, inputs={})
    with open_partition(made) as work:
        work.finish(tables=tables, rejected=old.rejected, counts=old.counts)


def with_bytes(row: RenderedImage, encoded: bytes, honest: bool = True) -> RenderedImage:
    identity = records.image_id(encoded) if honest else row.image_id
    return dataclasses.replace(row, image=encoded, image_id=identity)


@pytest.fixture
def drawn(rooms) -> TinyRooms:
    return rooms.fill("images")


def test_every_image_and_pair_has_every_number(drawn):
    score(drawn)
    images = manifests.require(drawn.data.partition("images", KEY)).rows
    rows = scores_of(drawn)
    assert sum(row.subject == "image" for row in rows) == images
    assert sum(row.subject == "pair" for row in rows) == images // 2
    unsafe = [row.value for row in rows if row.side == "unsafe"]
    assert unsafe == [48 / 256] * (images // 2)
    assert {row.side for row in rows if row.subject == "pair"} == {""}


def damaged(row: RenderedImage, how: str) -> RenderedImage:
    cut = row.image[: len(row.image) // 2]
    if how == "truncated":
        return with_bytes(row, cut)
    if how == "garbage":
        return with_bytes(row, b"not a picture")
    if how == "empty":
        return with_bytes(row, b"")
    if how == "not its id":
        return with_bytes(row, encode_png(np.full((16, 16, 3), 9, np.uint8)), honest=False)
    if how == "other size":
        return with_bytes(row, encode_png(np.zeros((8, 8, 3), np.uint8)))
    buffer = io.BytesIO()
    sixteen_bit = np.full((16, 16), 40_000, np.uint16)
    Image.fromarray(sixteen_bit).save(buffer, format="PNG")
    return with_bytes(row, buffer.getvalue())


@pytest.mark.parametrize(
    "how", ["truncated", "garbage", "empty", "not its id", "other size", "16 bit"]
)
def test_a_corrupt_image_does_not_affect_others(drawn, how):
    rewrite_images(drawn, lambda i, row: damaged(row, how) if i == 3 else row)
    made = score(drawn)
    images = manifests.require(drawn.data.partition("images", KEY)).rows
    assert made.rejected == {"image_corrupt": 1}
    assert made.counts["images"] == images - 1
    folder = drawn.data.partition("scores", KEY)
    (row,) = from_table(RejectedImage, manifests.read(folder, "rejected"))
    assert row.reason == "image_corrupt"
    assert (row.pair_id, row.side) not in {(s.pair_id, s.side) for s in scores_of(drawn)}


def test_where_no_image_can_be_scored_the_concept_fails(drawn):
    rewrite_images(drawn, lambda i, row: damaged(row, "garbage"))
    with pytest.raises(NothingMade, match=r"scores .*: 0 of \d+ scored images; .*image_corrupt"):
        score(drawn)


def test_each_image_is_decoded_once_for_all_scorers(drawn, monkeypatch):
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a) or original(*a, **k))
    score(drawn, InkScorer(), InkScorer(name="again"))
    assert len(opened) == manifests.require(drawn.data.partition("images", KEY)).rows


def test_pixels_are_rgb_uint8(drawn):
    table = manifests.read(drawn.data.partition("images", KEY), "images")
    rows = from_table(RenderedImage, table)
    pixels = decode(rows).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == (len(rows), 16, 16, 3)
    again = drawn.generator.render([rows[0].prompt], [rows[0].seed])[0]
    assert np.array_equal(pixels[0], again)


class Dies(InkScorer):
    def score(self, images, prompts):
        raise KeyboardInterrupt


def test_a_killed_run_repeats_no_finished_scorer(drawn):
    first = InkScorer()
    with pytest.raises(KeyboardInterrupt):
        score(drawn, first, Dies(name="late"))
    resumed_first, late = InkScorer(), InkScorer(name="late")
    resumed = score(drawn, resumed_first, late)
    assert (first.calls, resumed_first.calls, late.calls) == (1, 0, 1)
    other = TinyRooms(root=drawn.root / "other").fill("images")
    assert score(other, InkScorer(), InkScorer(name="late")).content_id == resumed.content_id


def test_chunks_change_nothing(drawn, monkeypatch):
    whole = score(drawn)
    other = TinyRooms(root=drawn.root / "other").fill("images")
    monkeypatch.setattr(room, "IMAGES_PER_CHUNK", 3)
    in_parts = score(other)
    assert in_parts.counts == whole.counts
    key = lambda s: (s.subject, s.pair_id, s.side)  # noqa: E731
    assert sorted(scores_of(other), key=key) == sorted(scores_of(drawn), key=key)


class Partial(InkScorer):
    keys = ("share", "more")


class NotFinite(InkScorer):
    def score(self, images, prompts):
        return [{"share": float("nan")} for _ in images]


class TooFew(InkScorer):
    def score(self, images, prompts):
        return super().score(images, prompts)[:-1]


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (Partial(keys=("share", "more")), "gave the keys"),
        (NotFinite(), "gave nan for share"),
        (TooFew(), r"gave \d+ scores for \d+ subjects"),
    ],
)
def test_a_scorer_that_breaks_its_promise_is_an_error(drawn, scorer, message):
    with pytest.raises(EngineError, match=f"scorer ink {message}"):
        score(drawn, scorer)


def test_two_scorers_of_one_name_are_an_error(drawn):
    with pytest.raises(ConfigError, match="two scorers share the name 'ink'"):
        score(drawn, InkScorer(), InkScorer())


def test_a_new_scorer_version_makes_the_scores_stale(drawn):
    score(drawn)
    newer = InkScorer(version="2")
    assert spec(drawn.data, KEY, [InkScorer()], [WordScorer()]).state() == "done"
    assert spec(drawn.data, KEY, [newer], [WordScorer()]).state() == "stale"


def test_without_images_there_is_nothing_to_score(rooms):
    rooms.fill("prompts")
    with pytest.raises(InputMissing, match="images"):
        score(rooms)


@dataclasses.dataclass
class BrightScorer:
    """Mean brightness; counts how often it is called."""

    name: str = "bright"
    version: str = "1"
    keys: tuple[str, ...] = ("mean",)
    calls: int = 0

    def score(self, images, prompts) -> list[dict[str, float]]:
        self.calls += 1
        return [{"mean": float(image.mean())} for image in images]


def test_a_new_scorer_is_all_that_is_scored(drawn, tmp_path):
    """The rest is taken over, and the content is that of scoring everything at once."""
    score(drawn)
    ink, bright = InkScorer(), BrightScorer()
    added = score(drawn, ink, bright)
    assert (ink.calls, bright.calls) == (0, 1)
    assert added.counts["reused_scorers"] == "ink, twins"
    at_once = TinyRooms(tmp_path / "other").fill("images")
    assert score(at_once, InkScorer(), BrightScorer()).content_id == added.content_id


def test_a_new_version_is_scored_again_and_the_others_are_not(drawn):
    score(drawn, InkScorer(), BrightScorer())
    ink, bright = InkScorer(version="2"), BrightScorer()
    score(drawn, ink, bright)
    assert (ink.calls, bright.calls) == (1, 0)
    assert {row.scorer_version for row in scores_of(drawn) if row.scorer == "ink"} == {"2"}


def test_a_scorer_that_is_taken_out_leaves_no_rows(drawn):
    score(drawn, InkScorer(), BrightScorer())
    ink = InkScorer()
    score(drawn, ink)
    assert ink.calls == 0
    assert {row.scorer for row in scores_of(drawn)} == {"ink", "twins"}


def test_other_images_are_scored_by_everybody_again(drawn):
    score(drawn)
    rewrite_images(drawn, lambda i, row: with_bytes(row, encode_png(255 - pixels_of(row))))
    ink = InkScorer()
    score(drawn, ink)
    assert ink.calls == 1


def pixels_of(row: RenderedImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row.image)))


def test_damaged_scores_are_not_taken_over(drawn):
    made = score(drawn)
    shard = drawn.data.partition("scores", KEY) / made.file("scores").name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    ink = InkScorer()
    score(drawn, ink, BrightScorer())
    assert ink.calls == 1


@pytest.mark.parametrize(
    ("width", "height", "rows"), [(64, 64, 256), (512, 512, 256), (1024, 1024, 64), (9000, 9000, 1)]
)
def test_the_larger_the_images_the_fewer_are_decoded_at_once(tmp_path, width, height, rows):
    made = PartitionSpec(
        folder=tmp_path,
        room="images",
        key="a",
        config={"width": width, "height": height},
        inputs={},
    )
    with open_partition(made) as work:
        work.finish(tables={})
    assert room.chunk_rows(tmp_path) == rows
