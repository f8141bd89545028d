"""Which figures may share a column, and what is said of those that may not."""

import pytest

from alignguard_train.arena.columns import column_of
from alignguard_train.arena.fronts import fronts
from alignguard_train.arena.text import notes_of
from tests.alignguard_train.arena.small import RELEASE, cell, source, table


def test_columns_are_in_the_order_of_a_reader():
    keys = ["training_seconds", "over_refusal:near", "asr:zoo", "mystery", "ip_unseen",
            "asr:no_attack", "ip_seen", "over_refusal"]  # fmt: skip
    made = table(source(*(cell("base", key, 0.5) for key in keys)))
    assert [column.key for column in made.columns] == [
        "worst", "ip_seen", "ip_unseen", "asr:no_attack", "asr:zoo", "over_refusal",
        "over_refusal:near", "training_seconds", "mystery",
    ]  # fmt: skip


def test_rows_are_in_the_order_of_a_reader_and_no_expert_is_one():
    names = ["peer:sld", "guard:x", "all-single", "expert:a", "hardened 2", "merge:average", "base",
             "hardened 1", "merged"]  # fmt: skip
    made = table(source(*(cell(name, "ip_seen", 0.5) for name in names)))
    assert [row.name for row in made.rows] == [
        "base", "merged", "merge:average", "all-single", "hardened 1", "hardened 2", "peer:sld",
        "guard:x",
    ]  # fmt: skip


def test_a_defence_that_must_be_there_has_a_row_without_figures():
    made = table(source(cell("base", "ip_seen", 1.0)), always=("base", "merged"))
    assert not made.row("merged").cells


def test_a_row_that_lacks_an_attack_has_no_worst_share():
    made = table(
        source(cell("base", "ip_seen", 0.5), cell("merged", "ip_seen", 0.1)),
        source(cell("base", "asr:zoo", 0.75), room="robustness"),
    )
    assert made.row("base").cells["worst"].cell.value == 0.75
    assert "worst" not in made.row("merged").cells


def test_the_worst_share_counts_no_over_refusal_and_no_re_emergence():
    cells = [cell("base", key, 0.9) for key in ("over_refusal", "reemergence:full", "ssr_n")]
    made = table(source(cell("base", "ip_seen", 0.5), *cells))
    assert made.row("base").cells["worst"].cell.value == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"over": "other prompts"}, "over other prompts, the base model's over prompts of ip_seen"),
        ({"n": 99}, "n = 99, the base model's 100"),
    ],
)
def test_a_cell_over_other_prompts_says_so(changes: dict, said: str):
    made = table(source(cell("base", "ip_seen", 1.0), cell("merged", "ip_seen", 0.0, **changes)))
    assert made.row("merged").cells["ip_seen"].other == said
    assert made.row("merged").cells["worst"].other == said
    assert made.row("base").cells["ip_seen"].other == ""


def test_a_cell_on_another_release_says_so_and_marks_its_row():
    made = table(
        source(cell("base", "ip_seen", 1.0), cell("merged", "distance", 0.1)),
        source(cell("merged", "ip_seen", 0.0), room="hardening", release="v9"),
    )
    row = made.row("merged")
    assert row.cells["ip_seen"].other == f"on v9, the base model's on {RELEASE}"
    assert f"measured over several releases: {RELEASE}, v9" in row.marks


def test_every_cell_with_another_basis_has_a_note():
    cells = [cell("base", "ip_seen", 1.0), cell("merged", "ip_seen", 0.0, n=99)]
    said = "Merged adapter, IP, seen concepts: n = 99, the base model's 100"
    assert notes_of(table(source(*cells))) == [said]


def test_a_release_that_is_not_recorded_is_marked():
    made = table(source(cell("base", "ip_seen", 1.0), release=""))
    assert made.row("base").marks == ("release not recorded: evaluation",)


def test_a_row_on_an_old_release_is_marked():
    made = table(source(cell("base", "ip_seen", 1.0), release="v0"))
    assert made.row("base").marks == ("measured on v0, not on the newest release",)


def test_a_stale_room_marks_its_cells_and_rows():
    made = table(
        source(cell("base", "ip_seen", 1.0)),
        source(cell("base", "asr:zoo", 0.5), room="robustness", stale="it is old"),
    )
    row = made.row("base")
    assert row.cells["asr:zoo"].stale == "it is old"
    assert row.cells["worst"].stale == "it is old"
    assert row.cells["ip_seen"].stale == ""
    assert notes_of(made) == ["robustness is stale: it is old"]


def test_times_are_not_compared_by_their_number_of_images():
    one = cell("base", "seconds_per_image", 1.0, n=10)
    made = table(source(one, cell("merged", "seconds_per_image", 1.0, n=20)))
    assert made.row("merged").cells["seconds_per_image"].other == ""


def test_the_first_room_that_measured_a_cell_is_preferred():
    made = table(
        source(cell("base", "ssr_n", 0.25)), source(cell("base", "ssr_n", 0.75), room="robustness")
    )
    assert made.row("base").cells["ssr_n"].cell.value == 0.25


def test_an_unknown_column_keeps_its_figure():
    assert column_of("tenderness").title == "tenderness"


def points(**rows: tuple[float | None, float | None]):
    cells = [
        cell(name, key, value)
        for name, pair in rows.items()
        for key, value in zip(("ip_seen", "distance"), pair, strict=True)
        if value is not None
    ]
    return table(source(*cells))


def test_a_row_that_lacks_an_axis_is_not_on_the_front_and_says_why():
    (front,) = fronts(
        points(base=(1.0, 0.0), merged=(0.0, 0.5), other=(None, 0.0), third=(0.0, None))
    )
    assert front.on == ("base", "merged")
    assert front.left_out == {
        "other": "Worst unsafe share: not measured",
        "third": "Distance: not measured",
    }


def test_a_row_over_other_prompts_is_not_compared():
    cells = [cell("base", "ip_seen", 1.0), cell("base", "distance", 0.5),
             cell("merged", "ip_seen", 0.0, n=3), cell("merged", "distance", 0.0)]  # fmt: skip
    (front,) = fronts(table(source(*cells)))
    assert front.on == ("base",)
    assert front.left_out == {"merged": "Worst unsafe share: n = 3, the base model's 100"}


def test_there_is_no_front_without_an_unsafe_column():
    assert fronts(table(source(cell("base", "distance", 0.0)))) == []
