"""All definitions load; keys are frozen; one partition materializes through Dagster alone."""

import dagster as dg
import pytest

from alignguard_data.storage import manifest as manifests
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines
from tests.conftest import reduced_profile

ASSETS = {
    "taxonomy", "prompt_pairs", "image_pairs", "scores", "preference_pairs",
    "index", "release", "guards", "experts", "merged_adapter", "hardened_adapter", "evaluation",
    "robustness", "reemergence",
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")


@pytest.fixture
def engines(reduced, tmp_path) -> Engines:
    return Engines(load_profile(str(reduced)), tmp_path / "data")


def test_asset_keys_carry_the_profiles_name_and_stay_as_they_are(engines):
    definitions = build_definitions(engines)
    keys = {key.to_user_string() for key in definitions.resolve_all_asset_keys()}
    assert keys == {f"reduced/{name}" for name in ASSETS}
    dg.Definitions.validate_loadable(definitions)


@pytest.mark.parametrize(
    ("targets", "parents"),
    [(["merged"], {"merged_adapter"}),
     (["merged", "guard:safeguider+merged"], {"merged_adapter", "guards"})],
)  # fmt: skip
def test_a_matrix_with_a_guard_follows_the_guards(tmp_path, targets, parents):
    profile = reduced_profile(tmp_path, robustness__targets=targets)
    definitions = build_definitions(Engines(load_profile(str(profile)), tmp_path / "data"))
    graph = definitions.resolve_asset_graph()
    found = graph.get(dg.AssetKey(["reduced", "robustness"])).parent_keys
    assert {key.path[-1] for key in found} == parents


def test_two_profiles_share_no_asset_key_and_no_partitions(reduced, tmp_path):
    first = build_definitions(Engines(load_profile(str(reduced)), tmp_path))
    second = build_definitions(Engines(load_profile("standin"), tmp_path))
    assert not set(first.resolve_all_asset_keys()) & set(second.resolve_all_asset_keys())
    dg.Definitions.validate_loadable(dg.Definitions.merge(*_without_engines(first, second)))


def _without_engines(*definitions: dg.Definitions) -> list[dg.Definitions]:
    """Both code locations name their resource `engines`; merging needs the assets alone."""
    return [dg.Definitions(assets=d.assets, resources={"engines": None}) for d in definitions]


def test_the_release_is_guarded_by_blocking_checks(engines):
    checks = build_definitions(engines).resolve_asset_graph().asset_check_keys
    names = {(key.asset_key.path[-1], key.name) for key in checks}
    assert {("index", "funnel_sums"), ("index", "flag_rates"), ("release", "split_leaks")} <= names


def test_a_release_that_is_not_there_fails_the_freshness_check_as_a_warning(engines):
    """The check runs by itself, without a run of the release, and blocks nothing."""
    definitions = build_definitions(engines)
    key = dg.AssetCheckKey(dg.AssetKey(["reduced", "release"]), "freshness")
    spec = definitions.resolve_asset_graph().get_check_spec(key)
    assert not spec.blocking
    assert spec.automation_condition
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.define_asset_job("look", selection=dg.AssetSelection.checks(key))
        looked = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
        done = looked.resolve_job_def("look").execute_in_process(instance=instance)
        (result,) = done.get_asset_check_evaluations()
    assert done.success
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "there is no release" in (result.description or "")


def test_one_partition_materializes_through_dagster_materialize(engines):
    definitions = build_definitions(engines)
    concept = engines.taxonomy.concepts[0].key
    with dg.DagsterInstance.ephemeral() as instance:
        assets = [
            definitions.resolve_assets_def(dg.AssetKey(["reduced", name]))
            for name in ("taxonomy", "prompt_pairs")
        ]
        assert dg.materialize(assets[:1], instance=instance).success
        done = dg.materialize(
            assets,
            selection=[dg.AssetKey(["reduced", "prompt_pairs"])],
            partition_key=concept,
            instance=instance,
        )
        assert done.success
        event = done.get_asset_materialization_events()[0]
        assert event.partition == concept
        rows = event.materialization.metadata["dagster/row_count"].value
    assert rows == engines.profile.writing.pairs_per_concept
    assert manifests.require(engines.data.partition("prompts", concept)).rows == rows
