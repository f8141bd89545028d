"""The first run's benchmark compares two profiles that differ in what changed and nothing else."""

import dataclasses

import pytest

from benchmarks.first_run import BEFORE, settings
from pipelines.profile import Profile


@pytest.fixture
def before() -> Profile:
    return Profile.model_validate(settings(BEFORE))


def test_before_is_how_the_standin_was_drawn_and_trained(before: Profile):
    assert (before.sampling.solver, before.sampling.num_inference_steps) == ("checkpoint", 20)
    assert before.recipe().steps == 120


def test_before_and_after_differ_in_sampling_and_training_steps_alone(before: Profile):
    after = Profile.model_validate(settings({}))
    assert before.recipe() == dataclasses.replace(after.recipe(), steps=120)
    fields = Profile.model_fields
    changed = {name for name in fields if getattr(before, name) != getattr(after, name)}
    assert changed == {"sampling", "training"}
    assert before.evaluation == after.evaluation, "the same prompts are measured"
