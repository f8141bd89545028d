"""What is written of a training, and what stops it: each fault put in for real."""

import dataclasses

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences, encode
from alignguard_train.experts.monitor import refuse_nonsense
from alignguard_train.experts.trainer import HISTORY, train_expert
from tests.alignguard_train.experts.test_objective import preferences

RECIPE = ExpertRecipe(rank=2, steps=6, batch_size=2, warmup_steps=0, lr=1e-2, lr_floor=1.0)


@pytest.fixture(scope="module")
def encoded(base) -> EncodedPreferences:
    return encode(preferences(), base)


def read(folder) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_every_step_is_in_tensorboard_with_the_historys_values(base, encoded, tmp_path):
    recipe = dataclasses.replace(RECIPE, watch_ip_every=3)
    seen = []

    def ip_of(lora) -> float:
        seen.append(next(iter(lora.values())).up.abs().sum().item())
        return 0.25

    trained = train_expert(
        base, encoded, recipe, seed=0, checkpoint=tmp_path / "c",
        tensorboard=tmp_path / "board", held_out_ip=ip_of,
    )  # fmt: skip
    board = read(tmp_path / "board")
    for i, name in enumerate(HISTORY):
        values = [event.value for event in board.Scalars(f"train/{name}")]
        assert values == pytest.approx(trained.history[:, i].tolist(), rel=1e-6)
    gap = trained.history[:, HISTORY.index("e_w")] - trained.history[:, HISTORY.index("e_w_ref")]
    written = [event.value for event in board.Scalars("against_reference/chosen")]
    assert written == pytest.approx(gap.tolist(), abs=1e-6)
    assert [(e.step, e.value) for e in board.Scalars("held_out/ip")] == [(2, 0.25), (5, 0.25)]
    assert len(seen) == 2
    assert seen[0] != seen[1]


def test_watching_changes_no_weight(base, encoded, tmp_path):
    watched = dataclasses.replace(RECIPE, watch_ip_every=1)
    plain = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "a").lora
    other = train_expert(
        base, encoded, watched, seed=0, checkpoint=tmp_path / "b",
        tensorboard=tmp_path / "board", held_out_ip=lambda lora: float(torch.rand(1)),
    ).lora  # fmt: skip
    assert all(torch.equal(plain[n].up, other[n].up) for n in plain)


class Killed(BaseException):
    """As sudden as a kill, in this process."""


def stop_after(steps: int):
    def progress(_: int) -> None:
        stop_after.left -= 1
        if stop_after.left < 0:
            raise Killed

    stop_after.left = steps - 1
    return progress


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("steps", range(1, 6))
def test_stopped_after_any_step_the_rest_is_that_of_a_calm_run(
    base, encoded, tmp_path, steps, every
):
    """Weights, history and TensorBoard alike, wherever the last checkpoint was."""
    recipe = dataclasses.replace(RECIPE, checkpoint_every=every)
    calm = train_expert(base, encoded, recipe, seed=3, checkpoint=tmp_path / "calm")
    board = tmp_path / "board"
    arguments = {"seed": 3, "checkpoint": tmp_path / "c", "tensorboard": board}
    with pytest.raises(Killed):
        train_expert(base, encoded, recipe, progress=stop_after(steps), **arguments)
    resumed = train_expert(base, encoded, recipe, **arguments)
    assert resumed.resumed_at == steps // every * every
    assert torch.equal(calm.history, resumed.history)
    assert all(torch.equal(calm.lora[n].up, resumed.lora[n].up) for n in calm.lora)
    assert [event.step for event in read(board).Scalars("train/loss")] == list(range(6))


def test_nan_names_step_and_value_and_the_checkpoint_before_it_stands(
    base, encoded, tmp_path, monkeypatch
):
    """The UNet answers NaN from the third step on; healed, training goes on from the second."""
    unet, answers = base.pipe.unet, []
    forward = unet.forward

    def poisoned(*inputs, **named):
        answers.append(1)
        found = forward(*inputs, **named)
        return (found[0] * float("nan"),) if len(answers) > 4 else found

    with monkeypatch.context() as patch:
        patch.setattr(unet, "forward", poisoned)
        with pytest.raises(EngineError, match=r"at step 2 \(loss nan.*checkpoint holds 2 steps"):
            train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c")
    healed = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c")
    calm = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "d")
    assert healed.resumed_at == 2
    assert torch.equal(healed.history, calm.history)


def test_a_runaway_error_stops_the_run_and_the_last_good_checkpoint_stays(
    base, encoded, tmp_path, monkeypatch
):
    """From the fourth step on the policy's answers, not the reference's, are off by 9.

    An error near 80 against one near 1, so 20 steps suffice, and nothing after three steps is kept.
    """
    unet, answers = base.pipe.unet, []
    forward = unet.forward

    def astray(*inputs, **named):
        found = forward(*inputs, **named)[0]
        if torch.is_grad_enabled():
            answers.append(1)
            found = found + 9.0 * (len(answers) > 3)
        return (found,)

    recipe = dataclasses.replace(RECIPE, steps=60, lr=1e-6)
    with monkeypatch.context() as patch:
        patch.setattr(unet, "forward", astray)
        with pytest.raises(EngineError, match=r"diverged by step 19: .* holds 3 steps"):
            train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / "c")
    healed = dataclasses.replace(recipe, steps=4)
    assert train_expert(base, encoded, healed, seed=0, checkpoint=tmp_path / "c").resumed_at == 3


def values(e_w: float) -> dict[str, float]:
    return {"loss": 0.5, "e_w": e_w, "e_w_ref": 1.0}


def test_one_bad_step_stops_nothing():
    """19 steps at 1 and one at 100: the mean is 5.95, within 10 times."""
    refuse_nonsense([values(1.0)] * 19 + [values(100.0)], RECIPE, step=19, kept=19)
    with pytest.raises(EngineError, match=r"10\.9 against the reference's 1"):
        refuse_nonsense([values(1.0)] * 18 + [values(100.0)] * 2, RECIPE, step=19, kept=18)
