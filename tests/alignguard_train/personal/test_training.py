"""Rows of pairs and users for the trainer: what is swapped, and what is not."""

import dataclasses

import pytest
import torch

from alignguard_data.contracts.errors import IntegrityError
from alignguard_data.engines.diffusion.conditions import Conditions
from alignguard_train.encodings.encoder import EncodedPreferences
from alignguard_train.personal.records import SageRow
from alignguard_train.personal.training import personal_preferences


def encoded() -> EncodedPreferences:
    """Two pairs: safe latents are 1 and 2, unsafe ones -1 and -2; mirrored ones ten times that."""
    safe = torch.tensor([1.0, 2.0])[:, None, None, None].expand(2, 4, 2, 2)
    states = torch.arange(2.0)[:, None, None].expand(2, 3, 4)
    return EncodedPreferences(
        concepts=["a.x", "b.y"], categories=["a", "b"], chosen=safe, rejected=-safe,
        unsafe=Conditions(states=states + 10), safe=Conditions(states=states),
        empty=Conditions(states=states[:1]), chosen_flipped=10 * safe, rejected_flipped=-10 * safe,
    )  # fmt: skip


def row(pair: str, user: str, *, banned: bool) -> SageRow:
    return SageRow(
        split="train", pair_id=pair, user_id=user, concept="a.x", category="a", banned=banned,
        caption="", chosen="", rejected="",
    )  # fmt: skip


ROWS = [
    row("p1", "u0", banned=False), row("p0", "u1", banned=True), row("p1", "u1", banned=True),
]  # fmt: skip
VECTORS = {"u0": torch.tensor([5.0]), "u1": torch.tensor([6.0])}


def test_sides_are_swapped_where_the_user_may_see_the_category_and_captions_never():
    made = personal_preferences(encoded(), ["p0", "p1"], ROWS, VECTORS)
    every = torch.arange(3)
    assert len(made) == 3
    assert made.chosen.shape == (3, 4, 2, 2)
    assert made.chosen[every][:, 0, 0, 0].tolist() == [-2, 1, 2]
    assert made.rejected[every][:, 0, 0, 0].tolist() == [2, -1, -2]
    assert made.chosen_flipped[every][:, 0, 0, 0].tolist() == [-20, 10, 20]
    assert made.unsafe[every].states[:, 0, 0].tolist() == [11, 10, 11]
    assert made.safe[every].states[:, 0, 0].tolist() == [1, 0, 1]
    assert made.about[:, 0].tolist() == [5, 6, 6]


def test_rows_are_read_in_any_order_and_mirrors_may_be_missing():
    plain = dataclasses.replace(encoded(), chosen_flipped=None, rejected_flipped=None)
    made = personal_preferences(plain, ["p0", "p1"], ROWS, VECTORS)
    assert made.chosen_flipped is None
    assert made.chosen[torch.tensor([2, 0])][:, 0, 0, 0].tolist() == [2, -2]


def test_a_pair_that_is_not_encoded_is_refused():
    with pytest.raises(IntegrityError, match=r"lack pair p9 .1 in all"):
        personal_preferences(
            encoded(), ["p0", "p1"], [*ROWS, row("p9", "u0", banned=True)], VECTORS
        )
