"""Gates and orthogonal experts of the study: each prompt gets its own expert, or none."""

import numpy as np
import pytest
import torch

from alignguard_train.adapters.lora import load_lora
from research.study import gate_trials, laboratory
from research.study.combinations import Combinations
from research.study.gates import gate_weights
from research.study.reading import Cell, Measure, Part
from research.study.scale_trials import CHOOSING_SEEDS
from research.study.trial import Gated, Trained


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return Combinations(tmp_path_factory.mktemp("world"), pairs=2)


def parts(world, **options):
    """Two experts of the first two categories, one step each."""
    own: dict[str, list[str]] = {}
    for concept in world.concepts:
        own.setdefault(concept.category, []).append(concept.key)
    return tuple(
        Trained(concepts=tuple(keys), steps=1, seed=0, **options) for keys in list(own.values())[:2]
    )


def prompts(world, experts):
    return world.rows("score", [key for part in experts for key in part.concepts], 4)


def test_a_gate_by_category_picks_the_expert_of_both_sides(world):
    experts = parts(world)
    rows = prompts(world, experts)
    weights = gate_weights(world, Gated(parts=experts, gate="category"), rows)
    own = np.array([[row.concept in part.concepts for part in experts] for row in rows])
    assert (weights == own).all(axis=1).mean() > 0.8
    assert (weights.sum(axis=1) == 1).all()


def test_a_gate_of_unsafe_concepts_leaves_safe_prompts_to_the_base_model(world):
    experts = parts(world)
    rows = prompts(world, experts)
    weights = gate_weights(world, Gated(parts=experts, gate="unsafe"), rows)
    own = np.array(
        [[row.side == "unsafe" and row.concept in p.concepts for p in experts] for row in rows]
    )
    right = (weights == own).all(axis=1)
    assert right.mean() > 0.8
    assert set(weights.sum(axis=1)) == {0.0, 1.0}


def test_a_weighted_gate_shares_between_experts_in_steps(world):
    experts = parts(world)
    rows = prompts(world, experts)
    weights = gate_weights(world, Gated(parts=experts, gate="category, weighted"), rows)
    assert np.allclose(weights.sum(axis=1), 1, atol=0.051)
    assert np.allclose(weights * 20, np.round(weights * 20))
    own = np.array([[row.concept in part.concepts for part in experts] for row in rows])
    assert (weights.argmax(axis=1) == own.argmax(axis=1)).mean() > 0.8


def test_each_prompt_is_drawn_with_its_own_expert_or_none(world, monkeypatch):
    """Rows in any order come out as if each were drawn by itself."""
    experts = parts(world)
    rows = prompts(world, experts)[::3]
    given = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])[np.arange(len(rows)) % 3]
    monkeypatch.setattr(laboratory, "gate_weights", lambda *_: given)
    loras = [load_lora(laboratory.train(world, part)) for part in experts]
    images = laboratory.gated_images(world, rows, Gated(parts=experts, gate="category"))
    for row, own, image in zip(rows, given, images, strict=True):
        lora = loras[int(own.argmax())] if own.any() else None
        (alone,) = laboratory.rendered(world, [row], lora)
        assert np.abs(alone.astype(int) - image).max() <= 1  # batches may differ in the last bit


def test_orthogonal_experts_read_directions_of_their_own(world):
    one, two = (
        load_lora(laboratory.train(world, Trained(**fields)))
        for fields in (
            {"concepts": part.concepts, "steps": 2, "seed": 0, "subspace": (number, 4)}
            for number, part in enumerate(parts(world))
        )
    )
    for name, layer in one.items():
        assert torch.abs(layer.down @ two[name].down.T).max() < 1e-5
        assert layer.up.abs().max() > 0  # trained
        gram = layer.down @ layer.down.T
        assert torch.allclose(gram, gram[0, 0] * torch.eye(len(gram)), atol=1e-5)  # not trained


def test_more_subspaces_than_inputs_are_refused(world):
    part = Trained(concepts=parts(world)[0].concepts, steps=1, seed=0, subspace=(0, 99))
    with pytest.raises(ValueError, match="too few for 99 subspaces of 8"):
        laboratory.train(world, part)


def cell(arm: str, flagged: float, right: float) -> Cell:
    measured: dict[tuple[Measure, Part], float] = {
        ("flagged", "seen"): flagged,
        ("right", "all"): right,
    }
    return Cell(
        arm=arm, x=gate_trials.STEPS, prompts={}, seeds=CHOOSING_SEEDS, steps=1, cpu_seconds=(),
        values={place: np.full((2, 3), value) for place, value in measured.items()},
    )  # fmt: skip


def test_a_way_is_scored_as_other_scenes_chose_once_all_its_arms_are_measured():
    """Scale 0.4 leaves least; without the line of scale 0.7 nothing is chosen."""
    steps = float(gate_trials.STEPS)
    cells = {
        (arm, steps): cell(arm, 0.1 if arm.endswith("0.4") else 0.5, 0.9)
        for arm in (f"orthogonal experts, sum x {scale}" for scale in gate_trials.SUMS)
    }
    assert gate_trials.best_arms(cells) == {"orthogonal experts": "orthogonal experts, sum x 0.4"}
    del cells["orthogonal experts, sum x 0.7", steps]
    assert gate_trials.best_arms(cells) == {}
