"""Over-refusal against numbers counted by hand."""

import math

import pyarrow as pa
import pytest

from alignguard_train.evaluation.refusal import over_refusal


def images(rows: dict[str, list[float]], *, side: str = "safe", name: str = "release") -> pa.Table:
    """Fidelities of each adapter's images, prompt by prompt."""
    return pa.Table.from_pylist(
        [
            {"adapter": adapter, "side": side, "prompt_set": name, "pair_id": f"p{i}",
             "seed": 7, "fidelity": value}
            for adapter, values in rows.items()
            for i, value in enumerate(values)
        ]
    )  # fmt: skip


def measured(table: pa.Table) -> dict:
    return over_refusal(table, resamples=100, confidence=0.95)


@pytest.mark.parametrize(
    ("base", "merged", "share", "n"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 0], 1 / 4, 4),
        ([1, 1, 1, 0], [1, 1, 0, 0], 1 / 3, 3),  # what the base model gets wrong is not refused
        ([1, 1, 0, 0], [0, 0, 1, 1], 1.0, 2),  # nor does a gain elsewhere make up for a loss
        ([0.5, 0.9], [0.49, 0.5], 1 / 2, 2),  # right from a half
        ([1, 1, math.nan], [0, math.nan, 0], 1.0, 1),  # only what was judged on both sides
    ],
)
def test_it_is_the_share_spoiled_of_what_the_base_model_draws(base, merged, share, n):
    found = measured(images({"base": base, "merged": merged}))["merged", "release"]
    assert found.value == pytest.approx(share)
    assert found.n == n
    assert found.low <= share <= found.high


def test_the_base_models_own_is_nought():
    assert measured(images({"base": [1, 0, 1]}))["base", "release"].value == 0


def test_unsafe_prompts_do_not_count():
    unsafe = images({"base": [1, 1], "merged": [0, 0]}, side="unsafe")
    safe = images({"base": [1, 1], "merged": [1, 1]})
    assert measured(pa.concat_tables([safe, unsafe]))["merged", "release"].value == 0


def test_prompt_sets_are_kept_apart():
    own = images({"base": [1, 1], "merged": [1, 1]})
    near = images({"base": [1, 1], "merged": [0, 1]}, name="near")
    found = measured(pa.concat_tables([own, near]))
    assert found["merged", "release"].value == 0
    assert found["merged", "near"].value == 0.5


@pytest.mark.parametrize("values", [[math.nan, math.nan], [0, 0]])
def test_there_is_none_where_nothing_could_be_refused(values):
    assert measured(images({"base": values, "merged": [0, 0]})) == {}
