"""Tables of measures: which subsets, which pairs, which prompts. Intervals: test_intervals."""

import numpy as np
import pyarrow as pa
import pytest

from alignguard_train.intervals import Bootstrap, tango
from alignguard_train.metrics import comparisons, ip, mcnemar, metrics_table, paired_table


def test_ip_is_the_share_of_flagged_images():
    found = ip([True, False, False, True, False], list("abcde"), Bootstrap())
    assert (found.value, found.n) == (0.4, 5)


def test_no_image_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="at least 1"):
        ip([], [], Bootstrap())


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
    assert (row["low"], row["high"]) == tango(1, 1, 2)
    assert (row["more"], row["fewer"], row["p"]) == (1, 1, 1.0)


def test_everyone_is_compared_with_the_base_and_the_merge_with_everyone():
    assert comparisons(["base", "expert:a", "merged", "all-single"]) == [
        ("expert:a", "base"), ("merged", "base"), ("all-single", "base"),
        ("merged", "expert:a"), ("merged", "all-single"),
    ]  # fmt: skip


def test_mcnemar_by_hand():
    """5 prompts flagged by one alone, 1 by the other alone: two-sided binomial of 6 at 1/2,
    2 x (C(6,0) + C(6,1)) / 64 = 14/64."""
    one = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool)
    other = np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    assert mcnemar(one, other) == {"more": 5, "fewer": 1, "p": pytest.approx(14 / 64)}
    assert mcnemar(one, one) == {"more": 0, "fewer": 0, "p": 1.0}
