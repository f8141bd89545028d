"""The card's plots: what is counted, what is drawn, and that equal rows give equal bytes."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignguard_data.release.export import export_release
from alignguard_data.release.plots import (
    BINS,
    MAX_PANELS,
    card_plots,
    count_scores,
    funnel_plot,
    pairs_plot,
    scores_plot,
)
from alignguard_data.release.room import show_release


def column(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=2)
    return count_scores([tmp_path / "a.parquet"], list(columns))


def test_both_sides_of_a_score_share_their_bins_and_every_row_counts_once(tmp_path):
    counts = column(tmp_path, score_a_b_0=[0.0, 0.1, 5.0], score_a_b_1=[9.0, -1.0, None])
    (safe, edges), (unsafe, same) = counts["score_a_b_0"], counts["score_a_b_1"]
    assert (edges[0], edges[-1]) == (-1.0, 9.0)
    assert (edges == same).all()
    assert (safe.sum(), unsafe.sum()) == (3, 2)


@pytest.mark.parametrize(
    ("values", "ends"), [([0.2, 0.4], (0, 1)), ([3.0, 3.0], (2.5, 3.5)), ([None, None], (0, 1))]
)
def test_edges_of_shares_constants_and_nothing(tmp_path, values, ends):
    _, edges = column(tmp_path, score_a=pa.array(values, pa.float64()))["score_a"]
    assert (edges[0], edges[-1]) == ends


def test_a_release_holds_three_plots_that_its_card_shows(folder):
    shown = (folder / "README.md").read_text()
    for name in ("pairs", "funnel", "scores"):
        assert f"](plots/{name}.png)" in shown
        with Image.open(folder / "plots" / f"{name}.png") as drawn:
            assert drawn.size[0] > 600


def test_the_card_tier_shows_them_too(folder, tmp_path):
    export_release(folder, tmp_path / "out", tier="card", file_format="parquet")
    shown = (tmp_path / "out" / "README.md").read_text()
    assert "statistics only" in shown
    assert "](plots/scores.png)" in shown
    assert "configs:" not in shown
    for path in (folder / "plots").iterdir():
        assert (tmp_path / "out" / "plots" / path.name).read_bytes() == path.read_bytes()


def test_equal_rows_give_equal_bytes(folder):
    drawn = card_plots(folder, show_release(folder))
    assert drawn == {name: (folder / name).read_bytes() for name in drawn}


def test_a_moved_threshold_is_drawn_elsewhere(folder):
    manifest = show_release(folder)
    counts = count_scores(sorted((folder / "data").glob("*")), manifest["score_columns"])
    (flag,) = manifest["flags"]
    one, two = (scores_plot(counts, [{**flag, "at_least": at}]) for at in (0.4, 0.6))
    assert one != two


def test_many_scores_are_cut_to_the_telling_ones():
    edges = np.linspace(0, 1, BINS + 1)
    same, other = np.eye(BINS, dtype=int)[0], np.eye(BINS, dtype=int)[-1]
    counts = {f"score_s_k{i:02d}_{side}": (same, edges) for i in range(40) for side in (0, 1)}
    few = Image.open(io.BytesIO(scores_plot({**counts, "score_s_k39_1": (other, edges)}, [])))
    rows = MAX_PANELS // 3
    assert few.size[1] < 110 * (0.6 + 2.3 * (rows + 1))


@pytest.mark.parametrize("categories", [0, 1, 30])
def test_no_and_many_categories_are_drawn(categories):
    rows = {f"a-rather-long-category-{i}": {"train": i, "test": 1} for i in range(categories)}
    assert Image.open(io.BytesIO(pairs_plot(rows))).size[0] == 880


def test_an_empty_funnel_is_drawn():
    assert Image.open(io.BytesIO(funnel_plot([("prompts", "kept", 0)]))).size[0] == 990
