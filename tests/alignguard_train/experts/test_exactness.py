"""What a step is made of, to the last detail: pairs, noise, reference, accumulation, processes."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.adapters.live import live_adapter
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import EncodedPreferences, encode
from alignguard_train.experts.batches import draw
from alignguard_train.experts.objective import objective
from alignguard_train.experts.processes import Group, ProcessTraceback, run_together
from alignguard_train.experts.trainer import HISTORY, train_expert
from tests.alignguard_train.experts.test_objective import preferences, rows_of

RECIPE = ExpertRecipe(rank=2, steps=3, batch_size=2, warmup_steps=0, lr=1e-2, lr_floor=1.0)


@pytest.fixture(scope="module")
def encoded(base) -> EncodedPreferences:
    return encode(preferences(5), base)


@pytest.fixture
def trained(base):
    """An adapter that is on and changes what the UNet says."""
    with live_adapter(base, RECIPE, seed=0) as adapter:
        draw = torch.Generator().manual_seed(1)
        for parameter in adapter.parameters.values():
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
        yield adapter


def test_both_images_of_a_pair_share_noise_and_timestep(base, trained):
    """The same image on both sides: equal errors, row by row, though the adapter is at work."""
    rows = rows_of(encode(preferences(), base))
    twins = dataclasses.replace(rows, rejected=rows.chosen)
    measured = objective(base, twins, RECIPE, trained)[1]
    assert measured["e_w"] == measured["e_l"] != measured["e_w_ref"]
    assert measured["margin"] == 0


def test_the_reference_is_the_unet_without_its_adapter(base, trained):
    rows = rows_of(encode(preferences(), base))
    with_adapter = objective(base, rows, RECIPE, trained)[1]
    for parameter in trained.parameters.values():
        parameter.data.zero_()
    without = objective(base, rows, RECIPE, trained)[1]
    for side in ("w", "l"):
        assert with_adapter[f"e_{side}_ref"] == without[f"e_{side}_ref"] == without[f"e_{side}"]
        assert with_adapter[f"e_{side}"] != without[f"e_{side}"]


def gradients(base, trained, recipe) -> list[torch.Tensor]:
    rows = rows_of(encode(preferences(), base))
    for parameter in trained.parameters.values():
        parameter.grad = None
    objective(base, rows, recipe, trained)[0].backward()
    return [parameter.grad.clone() for parameter in trained.parameters.values()]


def test_gradient_checkpointing_gives_the_same_gradients(base, trained):
    plain = gradients(base, trained, RECIPE)
    base.pipe.unet.enable_gradient_checkpointing()
    again = gradients(base, trained, RECIPE)
    assert all(g.abs().sum() > 0 for g in plain)
    assert all(torch.equal(one, two) for one, two in zip(plain, again, strict=True))


def test_every_pair_is_taken_once_an_epoch_across_steps(base, encoded):
    """5 pairs, 4 a step: steps 0 to 4 are exactly four epochs, each with a shuffle of its own."""
    recipe = dataclasses.replace(RECIPE, accumulation=2)
    chosen = [
        row
        for step in range(5)
        for rows in draw(base, encoded, recipe, 0, step)
        for row in rows.chosen
    ]
    places = [next(i for i in range(5) if torch.equal(row, encoded.chosen[i])) for row in chosen]
    epochs = [places[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 3), (1, 6), (3, 2)])
def test_accumulation_is_one_large_batch_also_across_an_epochs_end(
    base, encoded, tmp_path, batch, accumulation
):
    """5 pairs, 6 a step: every step crosses an epoch's end."""
    whole = dataclasses.replace(RECIPE, batch_size=6)
    parts = dataclasses.replace(RECIPE, batch_size=batch, accumulation=accumulation)
    one, two = (
        train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / str(i))
        for i, recipe in enumerate((whole, parts))
    )
    assert torch.allclose(one.history, two.history, rtol=1e-4, atol=1e-5)


def test_caption_dropout_drops_its_share(base, encoded):
    recipe = dataclasses.replace(RECIPE, caption_dropout=0.25, batch_size=400)
    rows = next(draw(base, encoded, recipe, seed=0, step=0))
    dropped = sum(torch.equal(states, encoded.empty.states[0]) for states in rows.unsafe.states)
    assert 70 <= dropped <= 130


def test_processes_take_every_row_once(base, encoded):
    recipe = dataclasses.replace(RECIPE, batch_size=2, accumulation=3)
    whole = torch.cat([rows.noise for rows in draw(base, encoded, recipe, 0, 0)])
    for size in (2, 4, 6):
        parts = [
            rows.noise
            for rank in range(size)
            for rows in draw(base, encoded, recipe, 0, 0, Group(rank=rank, size=size))
        ]
        assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(EngineError, match="a step of 6 pairs cannot be shared by 7 processes"):
        next(draw(base, encoded, recipe, 0, 0, Group(rank=0, size=7)))


TOGETHER = dataclasses.replace(RECIPE, steps=4, batch_size=3, accumulation=2)


def share(group, report, folder, out):
    base = BaseModel(model=folder, device="cpu")
    torch.set_num_threads(1)
    found = train_expert(
        base, encode(preferences(5), base), TOGETHER, seed=0,
        checkpoint=out / "c.safetensors", progress=report, group=group,
    )  # fmt: skip
    torch.save({n: layer.up for n, layer in found.lora.items()}, out / f"{group.rank}.pt")
    torch.save(found.history, out / f"history{group.rank}.pt")


def test_two_processes_make_the_weights_of_one(base, encoded, tmp_path):
    """To 1e-4 of the weights' size: sums in another order, which AdamW's division carries on."""
    one = train_expert(base, encoded, TOGETHER, seed=0, checkpoint=tmp_path / "one")
    steps: list[int] = []
    run_together(
        share, (base.source.model, tmp_path), number=2, on_gpus=False, progress=steps.append
    )
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert sum(steps) == TOGETHER.steps
    for name, layer in one.lora.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - layer.up).norm() <= 1e-4 * layer.up.norm()
    history = torch.load(tmp_path / "history0.pt", weights_only=True)
    assert torch.allclose(history, one.history, rtol=1e-3, atol=1e-5)
    assert history.shape == (TOGETHER.steps, len(HISTORY))


def fail(group, report, error):
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EngineError("weights: not finite\n  - step: 3"), "weights: not finite\n  - step: 3"),
        (KeyError("a: b"), "a training process failed with KeyError: 'a: b'"),
    ],
)
def test_a_failing_process_ends_all_with_its_own_words(error, said):
    with pytest.raises(EngineError) as caught:
        run_together(fail, (error,), number=2, on_gpus=False)
    assert str(caught.value) == said
    assert isinstance(caught.value.__cause__, ProcessTraceback)
    assert f"{type(error).__name__}: " in str(caught.value.__cause__), "its traceback is kept"


class Lingers(Exception):
    """Its third text, which torch asks for after our own two, takes until the other has ended."""

    asked = 0

    def __str__(self):
        self.asked += 1
        if self.asked > 2:
            Path(self.args[0]).touch()
            time.sleep(3)
        return "the first fault"


def fail_after_the_first(group, report, file):
    if group.rank == 0:
        raise Lingers(file)
    while not Path(file).exists():
        time.sleep(0.01)
    raise ConnectionError("the other process is gone")


def test_the_process_that_failed_first_is_reported_though_another_ends_sooner(tmp_path):
    with pytest.raises(EngineError, match="failed with Lingers: the first fault") as caught:
        run_together(fail_after_the_first, (str(tmp_path / "put"),), number=2, on_gpus=False)
    assert "Lingers: the first fault" in str(caught.value.__cause__)


def die(group, report):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_an_engine_error_too():
    with pytest.raises(EngineError, match=r"a training process ended: .*SIGKILL"):
        run_together(die, (), number=2, on_gpus=False)


def test_preserved_rows_of_other_categories_are_either_side_of_their_pairs(base, encoded):
    """All of them with a share of 1, none with 0; what is learned stays the expert's own."""
    others = dataclasses.replace(
        encoded, chosen=encoded.chosen + 100, rejected=encoded.rejected + 200
    )
    recipe = dataclasses.replace(RECIPE, batch_size=16, preserve_others=1.0)
    (rows,) = draw(base, encoded, recipe, 0, 0, others=others)
    means = rows.kept.mean(dim=(1, 2, 3))
    assert ((means > 90) & (means < 110)).any()
    assert (means > 190).any()
    assert means.min() > 90
    bad = means > 190
    own = {tuple(row.flatten().tolist()) for row in encoded.unsafe.states}
    assert [
        tuple(row.flatten().tolist()) in own for row in rows.kept_caption.states
    ] == bad.tolist()
    (plain,) = draw(base, encoded, dataclasses.replace(recipe, preserve_others=0.0), 0, 0)
    for name in ("chosen", "rejected", "t", "noise"):
        assert torch.equal(getattr(rows, name), getattr(plain, name))
    assert torch.equal(plain.kept, plain.chosen)


def test_an_expert_that_preserves_others_moves_their_predictions_less(base, encoded, tmp_path):
    """Trained on two pairs: how far each adapter is from the base model on the other three."""
    mine, others = _only(encoded, slice(0, 2)), _only(encoded, slice(2, 5))
    moved = []
    for share in (0.0, 1.0):
        recipe = dataclasses.replace(
            RECIPE, steps=40, preservation=30.0, lr_floor=0.0, preserve_others=share
        )
        found = train_expert(
            base, mine, recipe, seed=0, checkpoint=tmp_path / f"{share}", others=others
        )
        still = dataclasses.replace(recipe, steps=1, lr=1e-12, preserve_others=0.0)
        again = train_expert(
            base, others, still, seed=0, checkpoint=tmp_path / f"still {share}", start=found.lora
        )
        moved.append(float(again.history[0, HISTORY.index("preservation")]))
    assert moved[1] < 0.9 * moved[0]


def _only(encoded, rows):
    return dataclasses.replace(
        encoded,
        categories=encoded.categories[rows],
        **{name: getattr(encoded, name)[rows] for name in ("chosen", "rejected", "unsafe", "safe")},
    )
