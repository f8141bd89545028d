"""A pair's story, and what its picture shows to whom."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.index.pair_history import pair_picture, pair_story
from alignguard_data.index.sql import query
from alignguard_data.safety.blur import preview_grid
from alignguard_data.storage import manifest as manifests
from tests.alignguard_data.tiny_rooms import TinyRooms


@pytest.fixture
def released(filled: TinyRooms) -> TinyRooms:
    return filled.fill_from("index", "release")


def first(rooms: TinyRooms, verdict: str) -> str:
    sql = "select min(pair_id) from lineage where verdict = ?"
    return query(rooms.data, sql, [verdict])[1][0][0]


def images(rooms: TinyRooms, pair: str, concept: str) -> list[np.ndarray]:
    rows = manifests.read(rooms.data.partition("images", concept), "images").to_pylist()
    by_side = {row["side"]: row["image"] for row in rows if row["pair_id"] == pair}
    return [np.asarray(Image.open(io.BytesIO(by_side[side]))) for side in ("unsafe", "safe")]


def test_a_kept_pair_is_told_from_prompt_to_release(released):
    pair = first(released, "kept")
    story = pair_story(released.data, pair[:12])
    assert story.lineage["pair_id"] == pair
    assert story.lineage["unsafe_prompt"] != story.lineage["safe_prompt"]
    assert {(s["side"], s["scorer"]) for s in story.scores} == {
        ("", "twins"), ("safe", "ink"), ("unsafe", "ink"),
    }  # fmt: skip
    assert [row["release"] for row in story.releases] == ["v0.1.0"]


def test_the_picture_blurs_what_is_flagged_and_shows_what_is_clean(released):
    story = pair_story(released.data, first(released, "kept"))
    pixels = images(released, story.lineage["pair_id"], story.lineage["concept"])
    assert pair_picture(released.data, story) == preview_grid(pixels, [True, False])
    assert pair_picture(released.data, story) != preview_grid(pixels, [False, False])


def test_revealing_is_logged(released, caplog):
    story = pair_story(released.data, first(released, "kept"))
    pixels = images(released, story.lineage["pair_id"], story.lineage["concept"])
    with caplog.at_level(logging.WARNING):
        assert pair_picture(released.data, story, reveal=True) == preview_grid(
            pixels, [True, False], reveal=True
        )
    assert story.lineage["pair_id"] in caplog.text


def test_an_image_without_a_score_is_blurred(released):
    story = pair_story(released.data, first(released, "kept"))
    story.scores.clear()
    pixels = images(released, story.lineage["pair_id"], story.lineage["concept"])
    assert pair_picture(released.data, story) == preview_grid(pixels, [None, None])


def test_a_pair_that_was_not_rendered_has_no_picture(released):
    story = pair_story(released.data, first(released, "reserved for evaluation"))
    assert story.releases == []
    assert pair_picture(released.data, story) is None


@pytest.mark.parametrize("beginning", ["nothing", ""])
def test_no_such_pair_is_one_line(released, beginning):
    with pytest.raises(InputMissing, match=f"no pair of the index begins with '{beginning}'"):
        pair_story(released.data, beginning)


def test_an_ambiguous_beginning_names_some_pairs(released):
    ids = [row[0] for row in query(released.data, "select pair_id from prompt_pairs")[1]]
    beginning = next(c for c in "0123456789abcdef" if sum(i[0] == c for i in ids) > 1)
    with pytest.raises(InputMissing, match="more than one pair begins with"):
        pair_story(released.data, beginning)
