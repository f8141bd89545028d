"""Intervals against numbers derived by hand or by another method; IP's honest bounds."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from alignguard_train.metrics import (
    Bootstrap,
    comparisons,
    ip,
    mcnemar,
    mean_interval,
    metrics_table,
    paired_difference,
    paired_table,
    two_way_interval,
)

HOW = Bootstrap(resamples=4000, seed="test")


def prompts(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def test_ip_is_the_share_of_flagged_images():
    found = ip([True, False, False, True, False], prompts(5), HOW)
    assert (found.value, found.n) == (0.4, 5)


def test_no_flag_in_168_has_the_upper_bound_of_clopper_and_pearson():
    """The upper bound p solves (1 - p)^168 = 0.025, so p = 1 - 0.025^(1/168) = 0.02172."""
    found = ip([False] * 168, prompts(168), HOW)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 168), abs=1e-9)
    assert found.high == pytest.approx(0.02172, abs=1e-5)


def test_all_flagged_is_its_mirror_image():
    found = ip([True] * 168, prompts(168), HOW)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 168), abs=1e-9)


def test_bounds_are_the_quantiles_of_the_binomial_that_resampling_a_share_draws_from():
    """Resampling 30 of 100 flags with replacement is Binomial(100, 0.3) / 100."""
    flags = np.arange(100) < 30
    found = ip(flags, prompts(100), HOW)
    assert found.low == pytest.approx(stats.binom.ppf(0.025, 100, 0.3) / 100, abs=0.011)
    assert found.high == pytest.approx(stats.binom.ppf(0.975, 100, 0.3) / 100, abs=0.011)


def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    held = 0
    for i in range(200):
        flags = rng.random(150) < 0.2
        found = ip(flags, prompts(150), Bootstrap(resamples=500, seed=str(i)))
        held += found.low <= 0.2 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_images_of_one_prompt_are_resampled_together():
    """Four images each of two prompts, all flagged or none: two independent facts, not eight, so
    the interval must reach from 0 to 1."""
    found = ip([True] * 4 + [False] * 4, ["a"] * 4 + ["b"] * 4, HOW)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)


def test_equal_seeds_give_equal_intervals_and_others_differ():
    values = np.random.default_rng(0).random(40)
    one, same = (mean_interval(values, prompts(40), HOW, share=False) for _ in range(2))
    other = mean_interval(values, prompts(40), Bootstrap(resamples=4000, seed="other"), share=False)
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)


def test_equal_distances_have_no_width():
    found = mean_interval(np.full(5, 0.25), prompts(5), HOW, share=True)
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)


def test_several_trainings_vary_as_their_seeds_and_their_prompts_together():
    """A value that is the training's plus the prompt's own: both variances of the mean add up."""
    rng = np.random.default_rng(1)
    of_training, of_prompt = rng.normal(size=(30, 1)), rng.normal(size=(1, 60))
    table = of_training + of_prompt
    found = two_way_interval(table, Bootstrap(resamples=20_000), share=False)
    half = 1.96 * np.sqrt(of_training.var() / 30 + of_prompt.var() / 60)
    assert found.value == pytest.approx(table.mean())
    assert found.low == pytest.approx(table.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(table.mean() + half, abs=0.05 * half)
    assert found.n == 60


def test_two_trainings_that_disagree_are_no_evidence_however_many_prompts():
    table = np.array([[1.0] * 500, [-1.0] * 500])
    found = two_way_interval(table, Bootstrap(), share=False)
    assert (found.low, found.value, found.high) == (-1, 0, 1)


@pytest.mark.parametrize("rows", [1, 4])
def test_trainings_that_say_all_the_same_leave_prompts_alone(rows):
    """None of 168 flagged, in each training: the bound is that of 168 prompts, not of 4 x 168."""
    found = two_way_interval(np.zeros((rows, 168)), Bootstrap(), share=True)
    assert found == ip(np.zeros(168, dtype=bool), [str(i) for i in range(168)], Bootstrap())


def test_no_image_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="at least 1"):
        ip([], [], HOW)


def images() -> pa.Table:
    rows = [
        {
            "adapter": "base",
            "pair_id": f"{concept}{i}",
            "prompt_set": "release",
            "side": side,
            "concept": concept,
            "category": concept.split(".")[0],
            "seen": concept != "b.two",
            "flagged": side == "unsafe" and concept == "a.one",
            "fidelity": float("nan") if side == "unsafe" else 1.0,
        }
        for concept in ("a.one", "b.two")
        for i in range(3)
        for side in ("unsafe", "safe")
    ]
    return pa.Table.from_pylist(rows)


def test_subsets_are_all_seen_unseen_categories_and_concepts():
    table = metrics_table(
        images(), resamples=100, confidence=0.95, columns={"ip": "flagged", "fidelity": "fidelity"}
    )
    found = {
        row["subset"]: (row["value"], row["n"])
        for row in table.to_pylist()
        if row["metric"] == "ip" and row["side"] == "unsafe"
    }
    assert found == {
        "all": (0.5, 6),
        "seen": (1.0, 3),
        "unseen": (0.0, 3),
        "category:a": (1.0, 3),
        "category:b": (0.0, 3),
        "concept:a.one": (1.0, 3),
        "concept:b.two": (0.0, 3),
    }


def test_a_prompt_set_has_subsets_of_its_own_and_leaves_the_releases_alone():
    """Three prompts, one in both categories: 2 of 3 flagged, 1 of 2 in x, 2 of 2 in y."""
    rows = [
        images().slice(0, 1).to_pylist()[0]
        | {"prompt_set": "i2p", "pair_id": str(i), "side": "unsafe", "concept": "", "seen": False}
        | {"category": category, "flagged": flagged}
        for i, (category, flagged) in enumerate([("x", False), ("x,y", True), ("y", True)])
    ]
    both = pa.concat_tables([images(), pa.Table.from_pylist(rows, schema=images().schema)])
    table = metrics_table(both, resamples=100, confidence=0.95, columns={"ip": "flagged"})
    found = {
        row["subset"]: (round(row["value"], 3), row["n"])
        for row in table.to_pylist()
        if row["side"] == "unsafe"
    }
    assert found["all"] == (0.5, 6)
    assert {name: found[name] for name in found if name.startswith("set:")} == {
        "set:i2p": (0.667, 3),
        "set:i2p/category:x": (0.5, 2),
        "set:i2p/category:y": (1.0, 2),
    }


def test_a_measure_that_was_not_asked_for_has_no_row():
    table = metrics_table(images(), resamples=100, confidence=0.95, columns={"f": "fidelity"})
    assert set(table["side"].to_pylist()) == {"safe"}


def test_a_paired_difference_by_hand():
    """Flags 1, 1, 0, 0 against 1, 0, 0, 0: differences 0, 1, 0, 0, mean 1/4."""
    one, other = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0])
    found = paired_difference(one, other, prompts(4), HOW, share=True)
    assert (found.value, found.n) == (0.25, 4)
    back = paired_difference(other, one, prompts(4), HOW, share=True)
    assert back.value == -0.25


def test_pairing_takes_out_what_makes_some_prompts_hard():
    """Two adapters that fail on the same 50 of 100 prompts, one on 5 more: each alone has an
    interval about 0.2 wide, their difference one of less than half of that."""
    hard = np.arange(100) < 50
    one, other = (np.arange(100) < 55).astype(float), hard.astype(float)
    alone = mean_interval(one, prompts(100), HOW, share=True)
    found = paired_difference(one, other, prompts(100), HOW, share=True)
    assert found.value == pytest.approx(0.05)
    assert found.low > 0
    assert found.high - found.low < 0.5 * (alone.high - alone.low)


def test_adapters_that_never_differ_still_have_an_honest_interval():
    """0 of 168 differ: they may differ in up to 1 - 0.025^(1/168) of prompts, either way."""
    same = np.zeros(168)
    found = paired_difference(same, same, prompts(168), HOW, share=True)
    bound = 1 - 0.025 ** (1 / 168)
    assert (found.value, found.low, found.high) == (
        0.0,
        pytest.approx(-bound),
        pytest.approx(bound),
    )


def test_pairs_are_matched_by_prompt_and_not_by_place():
    """Adapter x flags p1, the merge flags p0; the rows stand in different orders."""
    rows = [
        ("x", "p1", True), ("x", "p0", False), ("merged", "p0", True), ("merged", "p1", False),
    ]  # fmt: skip
    images = pa.table(
        {
            "adapter": [a for a, _, _ in rows],
            "pair_id": [p for _, p, _ in rows],
            "side": ["unsafe"] * 4,
            "prompt_set": ["release"] * 4,
            "concept": ["a.one"] * 4,
            "seen": [True] * 4,
            "flagged": [f for _, _, f in rows],
        }
    )
    table = paired_table(images, resamples=200, confidence=0.95, columns={"ip": "flagged"})
    (row,) = [r for r in table.to_pylist() if r["subset"] == "all"]
    assert (row["adapter"], row["against"], row["value"]) == ("merged", "x", 0.0)
    assert (row["low"], row["high"]) == (-1.0, 1.0)
    assert (row["more"], row["fewer"], row["p"]) == (1, 1, 1.0)


def test_everyone_is_compared_with_the_base_and_the_merge_with_everyone():
    assert comparisons(["base", "expert:a", "merged", "all-single"]) == [
        ("expert:a", "base"), ("merged", "base"), ("all-single", "base"),
        ("merged", "expert:a"), ("merged", "all-single"),
    ]  # fmt: skip


def test_a_paired_interval_is_that_of_scipys_paired_resampling():
    """Resampling prompts and taking the difference of means is resampling the differences."""
    rng = np.random.default_rng(3)
    one, other = (rng.random((2, 120)) < [[0.3], [0.2]]).astype(float)
    ours = paired_difference(one, other, prompts(120), HOW, share=True)
    scipys = stats.bootstrap(
        (one, other), lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True,
        n_resamples=4000, method="percentile", rng=np.random.default_rng(9),
    ).confidence_interval  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.012)


def test_mcnemar_by_hand():
    """5 prompts flagged by one alone, 1 by the other alone: two-sided binomial of 6 at 1/2,
    2 x (C(6,0) + C(6,1)) / 64 = 14/64."""
    one = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool)
    other = np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    assert mcnemar(one, other) == {"more": 5, "fewer": 1, "p": pytest.approx(14 / 64)}
    assert mcnemar(one, one) == {"more": 0, "fewer": 0, "p": 1.0}
