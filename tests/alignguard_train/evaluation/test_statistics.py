"""Tables of measures: which subsets, which pairs, which prompts. Intervals: test_intervals."""

import numpy as np
import pyarrow as pa
import pytest

from alignguard_train.contracts.intervals import (
    Bootstrap,
    mean_interval,
    paired_difference,
    tango,
    wilson,
)
from alignguard_train.evaluation.statistics import (
    METRICS_SCHEMA,
    PAIRED_SCHEMA,
    comparisons,
    ip,
    mcnemar,
    metrics_table,
    paired_table,
    subsets,
)


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
        ("x", "p1", True),
        ("x", "p0", False),
        ("merged", "p0", True),
        ("merged", "p1", False),
    ]
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
        ("expert:a", "base"),
        ("merged", "base"),
        ("all-single", "base"),
        ("merged", "expert:a"),
        ("merged", "all-single"),
    ]


def test_mcnemar_by_hand():
    """5 prompts flagged by one alone, 1 by the other alone.

    Two-sided binomial of 6 at 1/2, 2 x (C(6,0) + C(6,1)) / 64 = 14/64.
    """
    one = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool)
    other = np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    assert mcnemar(one, other) == {"more": 5, "fewer": 1, "p": pytest.approx(14 / 64)}
    assert mcnemar(one, one) == {"more": 0, "fewer": 0, "p": 1.0}


def drawn(adapter: str, values: dict[str, float], **changes: object) -> list[dict[str, object]]:
    """A safe image a prompt with the measures that are asked for; ``closeness`` is no share."""
    return [
        {
            "adapter": adapter,
            "pair_id": prompt,
            "prompt_set": "release",
            "side": "safe",
            "concept": "a.one",
            "category": "a",
            "seen": True,
            "flagged": value > 0.5,
            "fidelity": value,
            "closeness": 10 * value,
            **changes,
        }
        for prompt, value in values.items()
    ]


ONE = {"p0": 0.5, "p1": 0.25, "p2": 1.0, "p3": 0.0}
OTHER = {"p3": 0.75, "p1": 0.125, "p0": 0.25, "p2": 0.0}


def measures(*rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([row for part in rows for row in part])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_an_interval_is_that_of_its_column_and_its_seed_names_its_place(confidence):
    table = metrics_table(
        measures(drawn("x", ONE)),
        resamples=50,
        confidence=confidence,
        columns={"F": "fidelity", "C": "closeness"},
    )
    assert table.schema == METRICS_SCHEMA
    rows = {(row["subset"], row["metric"]): row for row in table.to_pylist()}
    for metric, scale, share in (("F", 1, True), ("C", 10, False)):
        how = Bootstrap(resamples=50, confidence=confidence, seed=f"x/safe/all/{metric}")
        values = scale * np.array(list(ONE.values()))
        wanted = mean_interval(values, list(ONE), how, share=share).as_dict()
        place = {"adapter": "x", "side": "safe", "subset": "all", "metric": metric}
        assert rows["all", metric] == {**place, **wanted}


def test_ip_of_a_table_is_the_share_that_is_flagged():
    """One of four values is over a half."""
    table = metrics_table(
        measures(drawn("x", ONE)), resamples=50, confidence=0.8, columns={"ip": "flagged"}
    )
    (row,) = [row for row in table.to_pylist() if row["subset"] == "all"]
    assert (row["value"], row["low"], row["high"], row["n"]) == (0.25, *wilson(1, 4, 0.8), 4)


def test_every_adapter_and_side_has_its_rows():
    table = metrics_table(
        measures(drawn("x", ONE), drawn("y", ONE, side="unsafe"), drawn("x", OTHER, side="unsafe")),
        resamples=50,
        confidence=0.95,
        columns={"F": "fidelity"},
    )
    found = [(r["adapter"], r["side"]) for r in table.to_pylist() if r["subset"] == "all"]
    assert found == [("x", "unsafe"), ("x", "safe"), ("y", "unsafe")]


def test_values_that_are_not_known_do_not_count():
    values = {**ONE, "p4": float("nan")}
    table = metrics_table(
        measures(drawn("x", values)), resamples=50, confidence=0.95, columns={"F": "fidelity"}
    )
    (row,) = [row for row in table.to_pylist() if row["subset"] == "all"]
    assert (row["value"], row["n"]) == (0.4375, 4)


def test_the_parts_of_a_table_by_name():
    """A set with concepts has seen and unseen too; keys can be left out; a set follows its name."""
    rows = measures(
        drawn("x", {"p0": 1.0, "p1": 1.0}),
        drawn("x", {"p2": 1.0}, concept="b.two", category="b", seen=False),
        drawn("x", {"p3": 1.0}, prompt_set="own", concept="a.one", category="a,c"),
        drawn("x", {"p4": 1.0}, prompt_set="own", concept="", category="", seen=False),
        drawn("x", {"p5": 1.0}, prompt_set="plain", concept="", category="", seen=False),
    )
    brief = {
        "all": ["p0", "p1", "p2"],
        "seen": ["p0", "p1"],
        "unseen": ["p2"],
        "set:own": ["p3", "p4"],
        "set:own/seen": ["p3"],
        "set:own/unseen": [],
        "set:plain": ["p5"],
    }
    keys = {
        "category:a": ["p0", "p1"],
        "category:b": ["p2"],
        "concept:a.one": ["p0", "p1"],
        "concept:b.two": ["p2"],
        "set:own/category:a": ["p3"],
        "set:own/category:c": ["p3"],
        "set:own/concept:a.one": ["p3"],
    }
    found = {name: part["pair_id"].to_pylist() for name, part in subsets(rows)}
    assert found == brief | keys
    short = {name: part["pair_id"].to_pylist() for name, part in subsets(rows, keys=False)}
    assert short == brief
    assert list(short) == list(brief)


@pytest.mark.parametrize("metric", ["F", "C"])
def test_a_difference_is_by_prompt_and_its_seed_names_its_place(metric):
    """Values between 0 and 1, and numbers without bounds, have no yes and no to count."""
    column, scale, share = {"F": ("fidelity", 1, True), "C": ("closeness", 10, False)}[metric]
    table = paired_table(
        measures(drawn("base", OTHER), drawn("x", ONE)),
        resamples=50,
        confidence=0.8,
        columns={metric: column},
    )
    assert table.schema == PAIRED_SCHEMA
    (row,) = [row for row in table.to_pylist() if row["subset"] == "all"]
    prompts = sorted(ONE)
    one, other = (scale * np.array([of[p] for p in prompts]) for of in (ONE, OTHER))
    how = Bootstrap(resamples=50, confidence=0.8, seed=f"x/base/safe/all/{metric}")
    wanted = paired_difference(one, other, prompts, how, share=share).as_dict()
    place = {"adapter": "x", "against": "base", "side": "safe", "subset": "all", "metric": metric}
    assert row == {**place, **wanted, "more": None, "fewer": None, "p": None}


def test_a_difference_counts_prompts_that_both_know():
    """p0 is not known of x, p1 not of the base: p2 and p3 are left, 1 - 0 and 0 - 0.75."""
    nan = float("nan")
    table = paired_table(
        measures(drawn("base", {**OTHER, "p1": nan}), drawn("x", {**ONE, "p0": nan})),
        resamples=50,
        confidence=0.95,
        columns={"F": "fidelity"},
    )
    (row,) = [row for row in table.to_pylist() if row["subset"] == "all"]
    assert (row["value"], row["n"]) == (0.125, 2)


def test_what_no_prompt_knows_of_both_has_no_difference():
    nan = dict.fromkeys(ONE, float("nan"))
    for base, other in ((nan, ONE), (ONE, nan)):
        table = paired_table(
            measures(drawn("base", base), drawn("x", other)),
            resamples=50,
            confidence=0.95,
            columns={"F": "fidelity"},
        )
        assert table.num_rows == 0
        assert table.schema == PAIRED_SCHEMA


def test_yes_and_no_of_both_are_counted_and_tested():
    """x is flagged on p0 and p1, the base on p2: 2 more, 1 fewer.

    A column of numbers that are all 0 or 1 is no share for that.
    """
    x, base = {"p0": 1.0, "p1": 1.0, "p2": 0.0}, {"p0": 0.0, "p1": 0.0, "p2": 1.0}
    table = paired_table(
        measures(drawn("base", base), drawn("x", x)),
        resamples=50,
        confidence=0.8,
        columns={"ip": "flagged", "F": "fidelity", "C": "closeness"},
    )
    rows = {row["metric"]: row for row in table.to_pylist() if row["subset"] == "all"}
    for metric in ("ip", "F"):
        found = rows[metric]
        assert (found["low"], found["high"]) == tango(2, 1, 3, 0.8)
        assert (found["more"], found["fewer"], found["p"]) == (2, 1, 1.0)
    assert (rows["C"]["more"], rows["C"]["p"]) == (None, None)


def test_both_sides_and_every_subset_but_keys_are_compared():
    rows = measures(
        *(drawn(name, ONE, side=side) for name in ("base", "x") for side in ("safe", "unsafe"))
    )
    table = paired_table(rows, resamples=50, confidence=0.95, columns={"F": "fidelity"})
    found = [(row["side"], row["subset"]) for row in table.to_pylist()]
    assert found == [("unsafe", "all"), ("unsafe", "seen"), ("safe", "all"), ("safe", "seen")]


@pytest.mark.parametrize(
    ("adapters", "pairs"),
    [
        (["x", "y"], []),
        (["base"], []),
        (["merged"], []),
        (["base", "merged"], [("merged", "base")]),
        (["x", "merged"], [("merged", "x")]),
        (["x", "base"], [("x", "base")]),
    ],
)
def test_who_is_not_there_is_not_compared(adapters, pairs):
    assert comparisons(adapters) == pairs
