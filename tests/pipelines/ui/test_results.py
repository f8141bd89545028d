"""The evaluation's numbers are floats under fixed names, before everything else."""

import dagster as dg
import pytest

from alignguard_data.storage import manifest as manifests
from pipelines.ui.results import MEASURED, evaluation_metadata, results
from tests.alignguard_train.evaluation.test_room import evaluate, world
from tests.pipelines.test_columns_page import unexplained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data, adapters = world(tmp_path_factory.mktemp("evaluated"))
    evaluate(data, adapters)
    return data.partition("evaluation")


def test_ip_and_fidelity_of_the_merged_adapter_are_the_tables_own_numbers(folder):
    shown = results(folder)
    rows = {
        (row["side"], row["subset"], row["metric"]): row["value"]
        for row in manifests.read(folder, "metrics").to_pylist()
        if row["adapter"] == "merged"
    }
    for key in ("ip", "ip_seen", "ip_unseen", "ip_safe_prompts", "fidelity"):
        assert isinstance(shown[key], dg.FloatMetadataValue)
        assert shown[key].value == rows[MEASURED[key]]


def test_the_base_models_numbers_are_beside_them(folder):
    shown = results(folder)
    assert shown["base_ip"].value != shown["ip"].value


def test_the_distance_of_distributions_is_a_number_too(folder):
    assert isinstance(results(folder)["fid"], dg.FloatMetadataValue)


def test_a_measure_that_nobody_asked_for_has_no_key(folder):
    asked = {row["metric"] for row in manifests.read(folder, "metrics").to_pylist()}
    assert "clip_score" not in asked
    assert "clip_score" not in results(folder)


def test_results_come_before_ids_and_the_columns_have_descriptions(folder):
    shown = evaluation_metadata(manifests.require(folder), folder)
    order = list(shown)
    assert order[: len(results(folder))] == list(results(folder))
    assert order.index("fidelity") < order.index("report") < order.index("content_id")
    tables = [name for name in shown if name.startswith("columns of ")]
    assert {"columns of metrics", "columns of paired", "columns of pictures"} <= set(tables)
    for name in ("dagster/column_schema", *tables):
        assert all(column.description for column in shown[name].value.columns)
    gaps = unexplained(folder.parent.parent)
    assert not [gap for gap in gaps if gap.startswith("evaluation/")]
