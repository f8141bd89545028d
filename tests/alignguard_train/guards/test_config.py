"""A faulty `guards` section names the field and the value."""

import pytest

from alignguard_train.guards.config import BenignSet, GuardsConfig, guard_steps, settings_of


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"train": ("nothing",)}, "no guard 'nothing'; there are eos-logistic"),
        ({"train": ("safeguider", "safeguider")}, "safeguider is named twice"),
        ({"target_fpr": 0.0}, "target_fpr must lie between 0 and 1, got 0.0"),
        ({"validation_share": 1.0}, "validation_share must lie between 0 and 1"),
        ({"resamples": 5}, "resamples must be 100 or more, got 5"),
        ({"adversarial": 9}, "adversarial must be 0 to 8 tokens, got 9"),
        ({"params": {"nothing": {}}}, "no guard 'nothing'"),
        ({"params": {"latent-guard": {"head": 1}}}, "latent-guard has no head; it has batch_size"),
        ({"params": {"guardt2i": {"score": "sum"}}}, r"guardt2i.score: .*got 'sum'"),
        ({"params": {"guardt2i": {"width": 30}}}, "width must be a multiple of heads 4, got 30"),
        ({"params": {"rewriter": {"kl_weight": -1}}}, "kl_weight must not be negative, got -1"),
        ({"params": {"rewriter": {"loss": "other"}}}, r"rewriter.loss: .*got 'other'"),
        ({"params": {"rewriter": {"width": 12}}}, "width must be a multiple of twice heads 4, got"),
        ({"params": {"latent-guard": {"steps": 0}}}, "steps must be positive, got 0"),
        ({"params": {"safeguider": {"epochs": "many"}}}, r"safeguider.epochs: .*got 'many'"),
        ({"params": {"safeguider": {"accept": 0.2}}}, r"accept must lie in \[0.5, 1\), got 0.2"),
        ({"benign": (BenignSet(name="a", path="x"), BenignSet(name="a", path="y"))}, "got a again"),
    ],
)
def test_a_faulty_section_names_field_and_value(given, says):
    with pytest.raises(ValueError, match=says):
        GuardsConfig(**given)


def test_a_benign_sets_name_is_a_slug():
    with pytest.raises(ValueError, match="name must be of a-z"):
        BenignSet(name="My set", path="x")


def test_units_of_progress_are_epochs_or_steps():
    config = GuardsConfig(params={"safeguider": {"epochs": 7}, "latent-guard": {"steps": 9}})
    steps = [guard_steps(config, name) for name in ("eos-logistic", "safeguider", "latent-guard")]
    assert steps == [1, 7, 9]
    own = {"start_steps": 3, "steps": 4}
    assert guard_steps(GuardsConfig(params={"rewriter": own}), "rewriter") == 7
    chat = GuardsConfig(params={"rewriter": {**own, "model": "some/chat", "revision": "1"}})
    assert guard_steps(chat, "rewriter") == 4


def test_lists_of_a_profile_become_tuples():
    assert settings_of("safeguider", {"widths": [4, 2]}).widths == (4, 2)
