"""The cost_model section of a profile: off by default, its room where it is on, its faults."""

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError, InputMissing
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import ALL_ROOMS, rooms_of
from tests.pipelines.test_personal import SECTION as PERSONAL

SECTION = {"features": {"use": "alignguard_data.standin:random_features"}}
RECIPE = "alignguard_train:standin_expert"


def written(folder, **fields):
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump({"extends": "standin", "cost_model": SECTION, **fields}))
    return str(path)


def test_the_room_is_there_only_if_the_profile_has_its_section(tmp_path):
    plain = Engines(load_profile("standin"), data_root())
    asked = Engines(load_profile(written(tmp_path)), data_root())
    assert rooms_of(plain) == ALL_ROOMS
    names = [room.name for room in rooms_of(asked)]
    assert names[names.index("release") :][:4] == ["release", "cost_model", "guards", "experts"]
    for engines, there in ((plain, False), (asked, True)):
        graph = build_definitions(engines).resolve_asset_graph()
        keys = {key.path[-1]: key for key in graph.get_all_asset_keys()}
        assert ("cost_model" in keys) == there
        if there:
            before = {key.path[-1] for key in graph.get(keys["experts"]).parent_keys}
            assert before == {"release", "cost_model"}


def test_experts_with_a_cost_margin_wait_for_the_cost_model(tmp_path):
    training = {"recipe": RECIPE, "overrides": {"cost_margin": 1.0}}
    engines = Engines(load_profile(written(tmp_path, training=training)), data_root())
    experts = next(room for room in rooms_of(engines) if room.name == "experts")
    with pytest.raises(InputMissing):
        experts.spec(engines, "angular")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"cost_model": None, "training": {"recipe": RECIPE, "overrides": {"cost_margin": 1.5}}},
            r"training: cost_margin \(1.5\) needs a cost_model section",
        ),
        (
            {"training": {"recipe": RECIPE, "processes": 2, "overrides": {"focusing": 2.0}}},
            r"training.processes \(2\): focusing \(2\) compares",
        ),
        (
            {"personal": {**PERSONAL, "overrides": {"cost_margin": 1.0}}},
            r"personal: cost_margin \(1\) is not for pairs that a user turns around",
        ),
        (
            {"cost_model": {**SECTION, "settings": {"min_auc": 0.6}}},
            r"min_auc must lie in \[0.9, 1\], got 0.6",
        ),
        (
            {"cost_model": {"features": {"use": "alignguard_data.standin:scene_features"}}},
            r"cost_model.features \(.*scene_features\): evaluation_features measures",
        ),
        ({"cost_model": {"features": {"use": "no.such:thing"}}}, "cannot be imported"),
        ({"cost_model": {}}, "cost_model.features"),
        (
            {
                "cost_model": {
                    "features": {
                        "use": "alignguard_data.scores:ClipFeatures",
                        "params": {"model": "org/clip", "revision": "1" * 40},
                    }
                },
                "evaluation_scorers": [
                    {
                        "use": "alignguard_data.scores:ClipScorer",
                        "params": {"model": "org/clip", "revision": "1" * 40},
                    }
                ],
            },
            r"cost_model.features.params.model \(org/clip\): evaluation_scorers.0 judges",
        ),
    ],
)
def test_faults_name_the_field(tmp_path, fields, said):
    with pytest.raises(ConfigError, match=said):
        load_profile(written(tmp_path, **fields))
