"""A pair's history, and the blurring of its picture."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from alignguard_data.contracts.errors import InputMissing
from alignguard_data.index.pair_history import load_pair_history, pair_picture
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


def test_a_kept_pairs_history_goes_from_prompt_to_release(released):
    pair = first(released, "kept")
    history = load_pair_history(released.data, pair[:12])
    assert history.lineage["pair_id"] == pair
    assert history.lineage["unsafe_prompt"] != history.lineage["safe_prompt"]
    assert {(s["side"], s["scorer"]) for s in history.scores} == {
        ("", "twins"),
        ("safe", "ink"),
        ("unsafe", "ink"),
    }
    assert [row["release"] for row in history.releases] == ["v0.1.0"]


def test_the_picture_blurs_what_is_flagged_and_shows_what_is_clean(released):
    history = load_pair_history(released.data, first(released, "kept"))
    pixels = images(released, history.lineage["pair_id"], history.lineage["concept"])
    assert pair_picture(released.data, history) == preview_grid(pixels, [True, False])
    assert pair_picture(released.data, history) != preview_grid(pixels, [False, False])


def test_revealing_is_logged(released, caplog):
    history = load_pair_history(released.data, first(released, "kept"))
    pixels = images(released, history.lineage["pair_id"], history.lineage["concept"])
    with caplog.at_level(logging.WARNING):
        assert pair_picture(released.data, history, reveal=True) == preview_grid(
            pixels, [True, False], reveal=True
        )
    assert history.lineage["pair_id"] in caplog.text


def test_an_image_without_a_score_is_blurred(released):
    history = load_pair_history(released.data, first(released, "kept"))
    history.scores.clear()
    pixels = images(released, history.lineage["pair_id"], history.lineage["concept"])
    assert pair_picture(released.data, history) == preview_grid(pixels, [None, None])


def test_a_pair_that_was_not_rendered_has_no_picture(released):
    history = load_pair_history(released.data, first(released, "reserved for evaluation"))
    assert history.releases == []
    assert pair_picture(released.data, history) is None


@pytest.mark.parametrize("prefix", ["nothing", ""])
def test_no_such_pair_is_one_line(released, prefix):
    with pytest.raises(InputMissing, match=f"no pair of the index begins with '{prefix}'"):
        load_pair_history(released.data, prefix)


def test_an_ambiguous_beginning_names_some_pairs(released):
    ids = [row[0] for row in query(released.data, "select pair_id from prompt_pairs")[1]]
    prefix = next(c for c in "0123456789abcdef" if sum(i[0] == c for i in ids) > 1)
    with pytest.raises(InputMissing, match="more than one pair begins with"):
        load_pair_history(released.data, prefix)
