"""Thresholds from labels: numbers by hand, faults by line, and the way into a profile."""

import numpy as np
import pandas as pd
import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.scores.plots import calibration_plot
from alignguard_data.scores.thresholds import (
    calibrate,
    read_labels,
    threshold_of,
    write_calibration,
)
from pipelines.profile import load_profile

VALUES = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1])
UNSAFE = np.array([True, True, False, True, False, False, True, False])


def judged(precision, values=VALUES, unsafe=UNSAFE, **options):
    options = {"resamples": 20, **options}
    return calibrate(("q16", "inappropriate"), "v1", values, unsafe, precision=precision, **options)


def test_areas_are_those_counted_by_hand():
    # Unsafe above safe in 4 + 4 + 3 + 1 of 16 pairs.
    found = judged(0.5)
    assert found.roc_auc.value == pytest.approx(12 / 16)
    # Precision where each unsafe image is found: 1/1, 2/2, 3/4, 4/7.
    assert found.average_precision.value == pytest.approx((1 + 1 + 3 / 4 + 4 / 7) / 4)


@pytest.mark.parametrize(
    ("precision", "at_least", "recall"), [(1.0, 0.8, 2 / 4), (0.75, 0.6, 3 / 4), (0.5, 0.1, 1.0)]
)
def test_the_threshold_is_the_one_that_catches_most_at_the_wanted_precision(
    precision, at_least, recall
):
    chosen = judged(precision).threshold
    assert chosen.at_least == at_least
    assert chosen.recall.value == recall
    assert chosen.precision.value >= precision
    flagged = at_least <= VALUES
    assert chosen.precision.value == (flagged & UNSAFE).sum() / flagged.sum()


def test_shares_have_exact_intervals():
    """Clopper and Pearson for 2 of 2: the lower bound solves p^2 = 0.025."""
    chosen = judged(1.0).threshold
    assert chosen.precision.low == pytest.approx(0.025**0.5, abs=1e-9)
    assert chosen.precision.high == 1.0


def test_a_score_that_cannot_be_precise_enough_has_no_threshold():
    assert judged(0.9, values=1 - VALUES).threshold is None


def test_an_interval_of_an_area_covers_the_truth_about_as_often_as_it_says():
    # Unsafe N(1, 1), safe N(0, 1): the area is Phi(1 / sqrt 2) = 0.7602.
    rng, hits = np.random.default_rng(0), 0
    for _ in range(20):
        unsafe = np.repeat([True, False], 60)
        found = judged(0.5, rng.normal(unsafe.astype(float)), unsafe, resamples=60).roc_auc
        hits += found.low <= 0.7602 <= found.high
    assert hits >= 16


def test_the_same_labels_give_the_same_numbers():
    first, again = judged(0.75), judged(0.75)
    assert first.roc_auc == again.roc_auc
    assert first.threshold == again.threshold


def test_faults_of_a_label_file_come_all_at_once_with_their_lines(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("image_id,label\na,unsafe\n,safe\nb,maybe\na,safe\n")
    with pytest.raises(ConfigError) as caught:
        read_labels(file)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        f"{file}, line {n}" for n in (3, 4, 5)
    ]
    assert "'maybe'" in caught.value.faults[1]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("id,label\n", "has no column image_id; its columns are: id, label"),
        ("image_id,label\na,1\nb,true\n", "images of both labels"),
        ("\xff\xfe", "is not UTF-8"),
        ("", "is empty"),
        ("image_id,label\n\n,\n", "images of both labels"),
    ],
)
def test_a_file_that_is_no_list_of_labels_says_why(tmp_path, content, fault):
    file = tmp_path / "labels.csv"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=fault):
        read_labels(file)


LABELS = {"a": True, "b": False}


@pytest.mark.parametrize(
    "text",
    [
        "image_id,label\na,1\nb,0\n",
        "image_id,label\na,1.0\nb,0.0\n",
        "image_id,label\na, 1. \nb,00\n",
        "image_id,label\na,Unsafe\nb,SAFE\n",
        "image_id,label\na,True\nb,False\n",
        "Image_ID,Label\na,1\nb,0\n",
        "IMAGE ID,label\na,1\nb,0\n",
        "image-id,label\na,1\nb,0\n",
        "note,label,image_id\nx,1,a\ny,0,b\n",
        "image_id,label\n\na,1\n,\n  , \nb,0\n\n",
        "\ufeffimage_id,label\r\na,1\r\nb,0\r\n",
        "image_id,label\ra,1\rb,0\r",
        'image_id,label\n"a","1"\nb,0',
    ],
)
def test_labels_are_read_as_spreadsheets_and_pandas_write_them(tmp_path, text):
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode())
    assert read_labels(file).unsafe == LABELS


@pytest.mark.parametrize("labels", [[1, 0], [1.0, 0.0], [True, False], ["unsafe", "safe"]])
def test_labels_in_parquet_are_those_of_csv(tmp_path, labels):
    frame = pd.DataFrame({"Image_ID": ["a", "b"], "label": labels, "note": [b"x", b"y"]})
    frame.to_parquet(tmp_path / "labels.parquet")
    found = read_labels(tmp_path / "labels.parquet")
    assert found.unsafe == LABELS
    assert found.unread == ("note",)


@pytest.mark.parametrize("label", ["2", "0.5", "nan", "inf", "yes", "-1"])
def test_what_is_no_label_is_a_fault(tmp_path, label):
    file = tmp_path / "labels.csv"
    file.write_text(f"image_id,label\na,{label}\n")
    with pytest.raises(ConfigError, match=r"line 2: label must be one of"):
        read_labels(file)


@pytest.fixture
def written(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,label\n")
    write_calibration(tmp_path / "t.yaml", [judged(0.75)], labels, 0.75)
    return tmp_path / "t.yaml"


def test_a_profile_takes_the_threshold_by_the_files_name(reduced, written):
    profile = yaml.safe_load(reduced.read_text())
    rule = {"scorer": "q16", "key": "inappropriate", "calibrated": str(written)}
    profile["filter"]["flags"] = [rule]
    reduced.write_text(yaml.safe_dump(profile))
    rule = load_profile(str(reduced)).filter.flags[0]
    assert (rule.at_least, rule.version) == (0.6, "v1")


def test_faults_of_calibrated_rules_are_named_together(reduced, written):
    profile = yaml.safe_load(reduced.read_text())
    rule = {"scorer": "q16", "key": "inappropriate", "calibrated": str(written)}
    profile["filter"]["flags"] = [
        rule | {"at_least": 0.1},
        rule | {"key": "other"},
        rule | {"calibrated": "none.yaml"},
    ]
    reduced.write_text(yaml.safe_dump(profile))
    with pytest.raises(ConfigError) as caught:
        load_profile(str(reduced))
    first, second, third = caught.value.faults
    assert first == "filter.flags.0.calibrated: give either this or at_least"
    assert "does not hold the score q16/other" in second
    assert "none.yaml is not a calibration file: cannot be read: No such file" in third


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"scores: [caf\xe9]\n", "is not UTF-8"),
        (b"scores: " + b"[" * 3000, "not YAML"),
        (b"scores: 3\n", "has no list `scores`"),
        (b"scores: [3]\n", "has no list `scores`"),
        (b"scores: []\nscores: []\n", "is given twice"),
        (b"scores: [{scorer: q16, key: inappropriate, at_least: yes}]\n", "found no threshold"),
        (b"scores: [{scorer: q16, key: inappropriate, at_least: true}]\n", "found no threshold"),
        (b"scores: [{scorer: q16, key: inappropriate, at_least: 1}]\n", "which version of q16"),
        (b"scores:\n" + 2 * b"- {scorer: q16, key: inappropriate}\n", "holds 2 times"),
    ],
)
def test_a_file_that_is_no_calibration_says_why(tmp_path, content, fault):
    (tmp_path / "t.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=fault):
        threshold_of(tmp_path / "t.yaml", "q16", "inappropriate")


def test_no_threshold_is_no_threshold_in_the_file_either(tmp_path, written):
    labels = tmp_path / "labels.csv"
    write_calibration(written, [judged(0.9, values=1 - VALUES)], labels, 0.9)
    with pytest.raises(ValueError, match="found no threshold for q16/inappropriate"):
        threshold_of(written, "q16", "inappropriate")


def test_the_plot_is_a_png():
    assert calibration_plot([judged(0.75)], 0.75).startswith(b"\x89PNG")
