"""Arguments of engines and overrides of recipes: every fault at once, by field and value."""

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.contracts.recipes import ExpertRecipe
from pipelines.params import FaultyParams, changed, checked
from pipelines.profile import load_profile
from pipelines.profile_sections import Engine
from tests.conftest import reduced_profile


def faults_of(path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    return caught.value.faults


@pytest.mark.parametrize("written", ["1e-5", "1E-5", "1.0e-5", "0.00001", "1.e-05", '"1e-5"'])
def test_a_learning_rate_is_read_however_yaml_takes_it(written, tmp_path):
    """YAML 1.1, which PyYAML speaks, takes `1e-5` for a text."""
    path = reduced_profile(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["training"]["overrides"] = {}
    path.write_text(
        yaml.safe_dump(content).replace("overrides: {}", f"overrides: {{lr: {written}}}")
    )
    assert load_profile(str(path)).recipe().lr == 1e-5


@pytest.mark.parametrize(("field", "value"), [
    ("lr", "fast"), ("lr", None), ("lr", [1]), ("lr", float("nan")), ("steps", "many"),
    ("steps", 1.5), ("batch_size", {}), ("flip", "perhaps"), ("method", "ppo"), ("method", 3),
    ("layers", ["attention"]), ("min_snr", "x"), ("optimizer", "sgd"), ("stepz", 3),
])  # fmt: skip
def test_an_override_of_the_wrong_type_names_its_field_and_value(field, value, tmp_path):
    (fault,) = faults_of(reduced_profile(tmp_path, training__overrides={field: value}))
    assert fault.startswith(f"training.overrides.{field}: ")
    assert fault.endswith(f"(got {value!r})")


def test_overrides_and_params_tell_all_faults_at_once_beside_those_of_other_fields(tmp_path):
    engine = {
        "use": "alignguard_data.scores.scorers.q16:Q16Scorer",
        "params": {"vectors": 3, "modle": 1},
    }
    path = reduced_profile(
        tmp_path,
        training__overrides={"lr": "x", "steps": "y"},
        image_scorers=[engine],
        sampling__width=33,
        writing__min_words="few",
    )
    found = [fault.split(":")[0] for fault in faults_of(path)]
    assert sorted(found) == [
        "image_scorers.0.params.model", "image_scorers.0.params.modle",
        "image_scorers.0.params.vectors", "sampling", "training.overrides.lr",
        "training.overrides.steps", "writing.min_words",
    ]  # fmt: skip


def test_a_recipe_tells_all_of_its_own_faults(tmp_path):
    overrides = {"steps": 0, "lr": -1, "caption_dropout": 2}
    (fault,) = faults_of(reduced_profile(tmp_path, training__overrides=overrides))
    for words in ("steps must be at least 1, got 0", "lr must be positive", "caption_dropout"):
        assert words in fault


def test_what_an_engine_itself_refuses_is_a_clear_error():
    engine = Engine(
        use="alignguard_data.engines.text.openai_writer:OpenAIWriter",
        params={"model": "m", "served_revision": "1", "max_tokens": 0},
    )
    with pytest.raises(ConfigError, match=r"OpenAIWriter[^$]*max_tokens must be positive, got 0"):
        engine.build()


@dataclass(kw_only=True)
class Taking:
    """Names that a pydantic model would take for its own."""

    schema: bool
    model_config: str = ""
    share: float = 0.5


def handing_on(**params: Any) -> dict[str, Any]:
    return params


def test_text_is_read_as_the_number_that_is_wanted():
    assert checked(Taking, {"schema": True, "share": "5e-1"}) == {"schema": True, "share": 0.5}
    assert checked(handing_on, {"anything": "1e-5"}) == {"anything": "1e-5"}


def test_missing_and_unknown_names_are_told():
    with pytest.raises(FaultyParams) as caught:
        checked(Taking, {"model_config": 3, "shema": True})
    assert [(name, value) for name, _, value in caught.value.faults] == [
        ("schema", None),
        ("model_config", 3),
        ("shema", True),
    ]
    assert "there are schema, model_config, share" in str(caught.value)


def test_changes_keep_what_is_not_named():
    assert changed(ExpertRecipe(rank=3), {"steps": 7}) == ExpertRecipe(rank=3, steps=7)
