"""What a profile's section may hold; every fault names its field and value, all at once."""

import pytest

from alignguard_train.reemergence.config import (
    BenignConfig,
    ReemergenceConfig,
    TuningRecipe,
    units,
)

REFUSED = {
    "an unknown variant": (
        ReemergenceConfig, {"variants": ("sideways",)}, "variants: no 'sideways'; there are full",
    ),
    "no variant": (ReemergenceConfig, {"variants": ()}, "variants must name at least one"),
    "a variant twice": (
        ReemergenceConfig, {"variants": ("full", "full")}, "variants: full is named twice",
    ),
    "step 0": (ReemergenceConfig, {"steps": (0, 5)}, r"steps must be 1 or more .*, got 0"),
    "no steps": (ReemergenceConfig, {"steps": ()}, "steps must name at least one"),
    "steps that fall": (ReemergenceConfig, {"steps": (5, 2)}, "steps must rise, got 5, 2"),
    "steps twice": (ReemergenceConfig, {"steps": (5, 5)}, "steps: 5 is named twice"),
    "a negative seed": (ReemergenceConfig, {"seeds": (-1,)}, "seeds must not be negative, got -1"),
    "no seed": (ReemergenceConfig, {"seeds": ()}, "seeds must name at least one"),
    "the base model as adapter": (
        ReemergenceConfig, {"adapters": ("base",)}, "adapters: 'base' is no safety adapter",
    ),
    "a peer as adapter": (
        ReemergenceConfig, {"adapters": ("peer:sld",)}, "adapters: 'peer:sld' is no safety",
    ),
    "no prompt": (
        ReemergenceConfig, {"prompts_per_concept": 0}, "prompts_per_concept .* got 0",
    ),
    "few resamples": (
        ReemergenceConfig, {"bootstrap_resamples": 9}, "bootstrap_resamples .* got 9",
    ),
    "a confidence": (ReemergenceConfig, {"confidence": 1.0}, "confidence .* got 1.0"),
    "no benign row": (BenignConfig, {"rows": 0}, "rows must be 1 or more, got 0"),
    "nothing held out": (BenignConfig, {"held_out": 0}, "held_out must be 1 or more, got 0"),
    "a style": (BenignConfig, {"style": "cubist"}, "style must be one of none.* got 'cubist'"),
    "rank 0": (TuningRecipe, {"rank": 0}, "rank must be 1 or more, got 0"),
    "batch 0": (TuningRecipe, {"batch_size": 0}, "batch_size must be 1 or more, got 0"),
    "a rate of 0": (TuningRecipe, {"lr": 0.0}, "lr must be a positive number, got 0.0"),
    "a rate of nan": (TuningRecipe, {"full_lr": float("nan")}, "full_lr .* got nan"),
    "a negative warm-up": (TuningRecipe, {"warmup_steps": -1}, "warmup_steps .* got -1"),
    "all captions dropped": (TuningRecipe, {"caption_dropout": 1.0}, "caption_dropout .* got 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_measured_is_refused_by_field_and_value(fault):
    kind, fields, message = REFUSED[fault]
    with pytest.raises(ValueError, match=message):
        kind(**fields)


def test_all_faults_are_named_at_once():
    with pytest.raises(ValueError, match=r"variants.*steps.*prompts_per_concept"):
        ReemergenceConfig(**{"variants": ("x",), "steps": (0,), "prompts_per_concept": 0})


def test_units_count_steps_and_images_of_every_model():
    """One seed, two adapters, ten images a model.

    Trainings: A and B for each adapter, C once: 5 of 4 steps. Models: the base model; for each
    adapter step 0, W0 - s, W0 + s - f, and three variants at two step counts: 1 + 2 * 9.
    """
    assert units(ReemergenceConfig(steps=(2, 4)), 2, 10) == 5 * 4 + 19 * 10
