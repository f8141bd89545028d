"""Merging against toy layers worked out by hand; storage exact; DARE's randomness its own."""

import pytest
import torch

from alignguard_train.adapters.lora import (
    LoraLayer,
    layer_errors,
    load_lora,
    relative_error,
    save_lora,
    scaled,
    truncate,
)
from alignguard_train.merge.calibration import ActivityMeter
from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.strategies import magnitude, merge, ties, weighted_sum, winner

LAYER = "block.to_q"


def expert(delta: list[list[float]]) -> dict[str, LoraLayer]:
    """A LoRA whose delta is exactly the given matrix: down = identity."""
    up = torch.tensor(delta)
    return {LAYER: LoraLayer(torch.eye(up.shape[1]), up)}


A = expert([[1.0, 0.0], [0.0, 1.0]])
B = expert([[0.0, 3.0], [0.5, 0.0]])


def meter(experts, inputs, stat):
    found = ActivityMeter([lora[LAYER] for lora in experts], stat)
    found.add(torch.tensor(inputs))
    return found.result()


def test_mean_activity_by_hand():
    """Inputs (1, 1) and (1, -1).

    Expert A: rows |1|, |1| and |1|, |-1|: means 1, 1. Expert B: |3|, |0.5| and |-3|, |0.5|: means
    3, 0.5.
    """
    found = meter([A, B], [[1.0, 1.0], [1.0, -1.0]], "mean")
    assert found.tolist() == [[1.0, 1.0], [3.0, 0.5]]


def test_wins_count_how_often_an_expert_is_the_largest():
    """Inputs (4, 1), (0, 1): row 0: A 4 against B 3, then 0 against 3.

    Row 1: 1 against 2, then 1 against 0. So each wins half of both rows.
    """
    found = meter([A, B], [[4.0, 1.0], [0.0, 1.0]], "wins")
    assert found.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_co_merge_takes_each_row_from_its_most_active_expert():
    """Row 0 from B (3 > 1), row 1 from A (1 > 0.5)."""
    activity = {LAYER: torch.tensor([[1.0, 1.0], [3.0, 0.5]])}
    merged = merge("co-merge", [A, B], activity, MergeConfig())
    assert merged.winners[LAYER].tolist() == [1, 0]
    assert merged.lora[LAYER].delta.tolist() == [[0.0, 3.0], [0.0, 1.0]]


def test_unit_layer_takes_the_whole_layer_from_one_expert():
    """Means over three rows: A 1, B 4 / 3: B wins all rows, though A is the larger in two."""
    activity = torch.tensor([[1.0, 1.0, 1.0], [3.0, 0.5, 0.5]])
    assert winner(activity, "layer").tolist() == [1, 1, 1]
    assert winner(activity, "row").tolist() == [1, 0, 0]


def test_average_and_sum_by_hand():
    activity = {}
    average = merge("average", [A, B], activity, MergeConfig()).lora[LAYER].delta
    assert average.tolist() == [[0.5, 1.5], [0.25, 0.5]]
    total = merge("sum", [A, B], activity, MergeConfig(sum_scale=0.1)).lora[LAYER].delta
    assert torch.allclose(total, torch.tensor([[0.1, 0.3], [0.05, 0.1]]))


def test_ties_elects_a_sign_and_averages_those_that_agree():
    """Density 1. Weight (0, 0): 2 and -1, sum positive, so 2 alone. (0, 1): 1 and 3: mean 2."""
    merged = ties([expert([[2.0, 1.0]]), expert([[-1.0, 3.0]])], density=1.0)
    assert torch.allclose(merged[LAYER].delta, torch.tensor([[2.0, 2.0]]), atol=1e-5)


def test_ties_forgets_small_weights_before_it_votes():
    """Half of the weights: 4 of the first, -3 of the second, each without a rival.

    What is dropped has no vote and does not count in the mean.
    """
    merged = ties([expert([[4.0, 1.0]]), expert([[-1.0, -3.0]])], density=0.5)
    assert torch.allclose(merged[LAYER].delta, torch.tensor([[4.0, -3.0]]), atol=1e-5)


def test_ties_without_a_majority_is_zero():
    merged = ties([expert([[2.0, 1.0]]), expert([[-2.0, 1.0]])], density=1.0)
    assert torch.allclose(merged[LAYER].delta, torch.tensor([[0.0, 1.0]]), atol=1e-5)


@pytest.mark.parametrize(
    ("density", "kept"),
    [
        (0.1, [[0.0, 0.0], [0.0, 4.0]]),  # 0.4 of a weight: one at least
        (0.25, [[0.0, 0.0], [0.0, 4.0]]),
        (0.5, [[0.0, 0.0], [-3.0, 4.0]]),
        (0.6, [[0.0, 0.0], [-3.0, 4.0]]),  # 2.4 weights are two, 2.6 are three
        (0.65, [[0.0, 2.0], [-3.0, 4.0]]),
        (1.0, [[1.0, 2.0], [-3.0, 4.0]]),
    ],
)
def test_magnitude_keeps_the_largest_by_size_whatever_their_sign(density, kept):
    found = magnitude([expert([[1.0, 2.0], [-3.0, 4.0]])], density, 1.0)[LAYER].delta
    assert torch.allclose(found, torch.tensor(kept), atol=1e-5)


def test_weights_as_large_as_the_smallest_kept_are_kept_too():
    found = magnitude([expert([[2.0, -2.0], [2.0, 1.0]])], 0.25, 1.0)[LAYER].delta
    assert torch.allclose(found, torch.tensor([[2.0, -2.0], [2.0, 0.0]]), atol=1e-5)


def test_dare_draws_from_its_own_generator_and_keeps_the_mean():
    experts = [expert(torch.ones(40, 40).tolist())]
    config = MergeConfig(strategy="dare", density=0.5, seed=3, sum_scale=1.0)
    torch.manual_seed(0)
    first = merge("dare", experts, {}, config).lora[LAYER].delta
    torch.manual_seed(99)
    again = merge("dare", experts, {}, config).lora[LAYER].delta
    assert torch.equal(first, again)
    # 1,600 weights of value 0 or 2: the mean is 1 with a standard error of 0.025
    assert first.mean().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("strategy", ["sum", "svd", "magnitude", "dare"])
def test_what_adds_experts_up_is_scaled(strategy):
    """Half the scale, half the delta, bit for bit but for the decomposition's rounding."""
    experts = random_experts(2, 3)
    whole, half = (
        merge(strategy, experts, {}, MergeConfig(seed=3, sum_scale=scale)).lora[LAYER].delta
        for scale in (1.0, 0.5)
    )
    assert whole.norm() > 0.1
    assert torch.allclose(half, whole / 2, atol=1e-5)


def random_experts(count: int, rank: int) -> list[dict[str, LoraLayer]]:
    draw = torch.Generator().manual_seed(7)
    return [
        {
            LAYER: LoraLayer(
                torch.randn(rank, 16, generator=draw), torch.randn(12, rank, generator=draw)
            )
        }
        for _ in range(count)
    ]


def test_co_merge_is_stored_exactly_and_survives_the_file(tmp_path):
    experts = random_experts(3, 4)
    won = torch.randint(3, (12,), generator=torch.Generator().manual_seed(1))
    activity = {LAYER: torch.nn.functional.one_hot(won, 3).T.float()}
    merged = merge("co-merge", experts, activity, MergeConfig()).lora
    assert merged[LAYER].down.shape == (12, 16)
    wanted = torch.stack([experts[int(k)][LAYER].delta[i] for i, k in enumerate(won)])
    save_lora(merged, tmp_path / "lora.safetensors")
    assert torch.allclose(load_lora(tmp_path / "lora.safetensors")[LAYER].delta, wanted, atol=1e-6)


def test_truncation_is_the_best_of_its_rank_and_its_error_is_that_of_the_dropped_values():
    """Eckart-Young: the squared error is the sum of the dropped singular values' squares."""
    lora = weighted_sum(random_experts(2, 4), [1.0, 1.0])
    values = torch.linalg.svdvals(lora[LAYER].delta)
    expected = (values[3:].pow(2).sum() / values.pow(2).sum()).sqrt().item()
    assert relative_error(truncate(lora, 3), lora) == pytest.approx(expected, rel=1e-4)
    assert relative_error(truncate(lora, 8), lora) < 1e-5


OTHER_LAYERS = {
    "inputs": expert([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
    "outputs": expert([[1.0, 0.0]]),
    "name": {"block.to_k": A[LAYER]},
    "more": {**A, "block.to_k": A[LAYER]},
}


@pytest.mark.parametrize("other", OTHER_LAYERS)
def test_an_expert_of_other_layers_is_refused_by_its_place(other):
    with pytest.raises(ValueError, match=r"^expert 2 was trained on other layers than expert 0$"):
        merge("average", [A, B, OTHER_LAYERS[other]], {}, MergeConfig())


@pytest.mark.parametrize(
    ("strategy", "experts", "message"),
    [
        ("sum", [], "there is no expert to merge"),
        (
            "regmean",
            [A],
            "regmean needs the base model's inputs: call alignguard_train.merge.regmean",
        ),
    ],
)
def test_what_cannot_be_merged_says_why(strategy, experts, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        merge(strategy, experts, {}, MergeConfig())


def test_a_sum_needs_a_weight_for_each_expert():
    with pytest.raises(ValueError, match="zip"):
        weighted_sum([A, B], [1.0])


def test_truncation_to_the_full_rank_changes_nothing():
    lora = weighted_sum(random_experts(3, 2), [0.5, 1.0, 2.0])
    assert relative_error(truncate(lora, 6), lora) < 1e-6


def test_errors_by_layer_are_those_of_each_layer_alone():
    """Layer a is halved (error 1/2), layer b is kept (error 0)."""
    wanted = {"a": A[LAYER], "b": B[LAYER]}
    found = {"a": scaled({"a": A[LAYER]}, 0.5)["a"], "b": B[LAYER]}
    assert layer_errors(found, wanted) == {"a": pytest.approx(0.5), "b": 0.0}


def test_svd_is_the_best_approximation_of_the_sum_at_one_experts_rank():
    experts = random_experts(3, 4)
    merged = merge("svd", experts, {}, MergeConfig(sum_scale=0.3)).lora[LAYER]
    total = 0.3 * sum(lora[LAYER].delta for lora in experts)
    u, s, v = torch.linalg.svd(total)
    best = u[:, :4] @ torch.diag(s[:4]) @ v[:4]
    assert merged.down.shape[0] == 4
    assert torch.allclose(merged.delta, best, atol=1e-5)


def test_svd_has_the_rank_of_the_largest_expert():
    """Ranks 3 and 1: rank 3, whichever comes first."""
    large, small = random_experts(1, 3) + random_experts(1, 1)
    for experts in ([large, small], [small, large]):
        assert merge("svd", experts, {}, MergeConfig()).lora[LAYER].down.shape == (3, 16)


@pytest.mark.parametrize("rows_first", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pruned_sum_is_stored_by_its_best_approximation(rows_first, dtype):
    """Two experts of rank 1 and 2, pruned to a delta of full rank.

    Stored at rank 3, in the experts' type, wide and tall alike.
    """
    experts = random_experts(1, 1) + random_experts(1, 2)
    if rows_first:
        experts = [{LAYER: LoraLayer(x[LAYER].up.T, x[LAYER].down.T)} for x in experts]
    experts = [{LAYER: LoraLayer(x[LAYER].down.to(dtype), x[LAYER].up.to(dtype))} for x in experts]
    layer = magnitude(experts, 0.5, 1.0)[LAYER]
    assert (layer.down.shape[0], layer.up.shape[1]) == (3, 3)
    assert layer.up.dtype == layer.down.dtype == dtype
    assert layer.up.is_contiguous()
    assert layer.down.is_contiguous()
    assert layer.delta.shape == experts[0][LAYER].delta.shape
    deltas = [x[LAYER].delta for x in experts]
    kept = [torch.where(d.abs() >= d.abs().flatten().topk(96).values.min(), d, 0) for d in deltas]
    u, s, v = torch.linalg.svd(sum(kept).double())
    best = u[:, :3] @ torch.diag(s[:3]) @ v[:3]
    assert torch.allclose(layer.delta.double(), best, atol=1e-5 if dtype == torch.float32 else 0.2)


def test_a_delta_of_nothing_stays_nothing():
    """No singular value to divide by."""
    found = magnitude([expert([[0.0, 0.0], [0.0, 0.0]])], 1.0, 1.0)[LAYER]
    assert found.delta.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_more_ranks_than_the_layer_has_are_not_stored():
    """Two experts of rank 2 on a layer of 2 x 2."""
    merged = merge("ties", [A, B], {}, MergeConfig(density=1.0)).lora[LAYER]
    assert (merged.down.shape, merged.up.shape) == ((2, 2), (2, 2))


def two_layers(experts, names=("a", "b")):
    return [{name: lora[LAYER] for name in names} for lora in experts]


def test_dare_drops_by_the_seed_in_order_of_layers_and_experts():
    """Each weight whose draw is under the density is kept, and divided by it."""
    experts = random_experts(2, 3)
    draw = torch.Generator().manual_seed(3)
    wanted = {}
    for name in ("a", "b"):
        kept = [lora[LAYER].delta * (torch.rand(12, 16, generator=draw) < 0.3) for lora in experts]
        wanted[name] = sum(kept) / 0.3 * 0.7
    config = MergeConfig(density=0.3, seed=3, sum_scale=0.7)
    found = merge("dare", two_layers(experts, ("b", "a")), {}, config).lora
    for name, delta in wanted.items():
        u, s, v = torch.linalg.svd(delta)
        best = u[:, :6] @ torch.diag(s[:6]) @ v[:6]
        assert torch.allclose(found[name].delta, best, atol=1e-4), name


def test_random_rows_do_not_depend_on_the_order_of_layers():
    experts = random_experts(3, 4)
    draw = torch.Generator().manual_seed(5)
    wanted = {name: torch.randint(3, (12,), generator=draw).tolist() for name in ("a", "b")}
    found = merge("random", two_layers(experts, ("b", "a")), {}, MergeConfig(seed=5)).winners
    assert {name: won.tolist() for name, won in found.items()} == wanted


@pytest.mark.parametrize("strategy", ["average", "sum", "svd", "ties", "dare", "magnitude"])
def test_what_takes_from_all_experts_names_no_winner(strategy):
    assert merge(strategy, [A, B], {}, MergeConfig()).winners == {}


def test_co_merge_keeps_the_experts_type():
    experts = [{LAYER: LoraLayer(x[LAYER].down.half(), x[LAYER].up.half())} for x in (A, B)]
    merged = merge("co-merge", experts, {LAYER: torch.eye(2)}, MergeConfig()).lora[LAYER]
    assert merged.up.dtype == merged.down.dtype == torch.float16


def test_magnitude_equals_pefts_pruning_and_sum():
    """Stored at rank K r, which here is the full rank of the 12 x 16 layer."""
    from peft.utils.merge_utils import magnitude_prune

    experts = random_experts(3, 4)
    deltas = [lora[LAYER].delta for lora in experts]
    theirs = magnitude_prune(deltas, torch.full((3,), 0.5), density=0.25)
    merged = merge("magnitude", experts, {}, MergeConfig(density=0.25, sum_scale=0.5)).lora
    assert torch.allclose(merged[LAYER].delta, theirs, atol=1e-5)


def test_random_rows_are_each_one_experts_own_and_repeat_with_the_seed():
    experts = random_experts(3, 4)
    first = merge("random", experts, {}, MergeConfig(seed=5))
    again = merge("random", experts, {}, MergeConfig(seed=5))
    won = first.winners[LAYER]
    wanted = torch.stack([experts[int(k)][LAYER].delta[i] for i, k in enumerate(won)])
    assert torch.allclose(first.lora[LAYER].delta, wanted, atol=1e-6)
    assert torch.equal(won, again.winners[LAYER])
    assert len(set(won.tolist())) == 3


def test_memory_of_the_meter_does_not_grow_with_tokens(monkeypatch):
    """Ten inputs in pieces of three give what all at once give."""
    inputs = torch.randn(10, 2, generator=torch.Generator().manual_seed(2)).tolist()
    whole = meter([A, B], inputs, "mean")
    monkeypatch.setattr("alignguard_train.merge.calibration.TOKENS", 3)
    assert torch.allclose(meter([A, B], inputs, "mean"), whole)
