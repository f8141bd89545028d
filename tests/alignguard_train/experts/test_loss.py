"""The loss against numbers derived by hand and against an independent formula."""

import functools
import math

import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_train.contracts import noise as noise_process
from alignguard_train.experts import loss


def test_dpo_loss_by_hand():
    """One pair, beta 2.

    Bracket = (0.3 - 0.5) - (0.4 - 0.4) = -0.2, so the loss is -log sigmoid(-(2/2)(-0.2)) = -log
    sigmoid(0.2) = log(1 + e^-0.2).
    """
    errors = [torch.tensor([x]) for x in (0.3, 0.5, 0.4, 0.4)]
    expected = math.log(1 + math.exp(-0.2))
    assert loss.dpo_loss(*errors, beta=2.0).item() == pytest.approx(expected, abs=1e-7)


def test_an_adapter_that_changes_nothing_has_loss_log_two():
    """Policy = reference: the bracket is 0 and -log sigmoid(0) = log 2, at every beta."""
    e_w, e_l = torch.rand(5), torch.rand(5)
    found = loss.dpo_loss(e_w, e_l, e_w, e_l, beta=5000.0)
    assert found.item() == pytest.approx(math.log(2), abs=1e-6)


def independent_dpo(predicted, reference, target, beta):
    """Over interleaved rows (w, l, w, l, ...), in double precision, from sums and exponentials.

    The ratio e^{s_w} / (e^{s_w} + e^{s_l}) of the Bradley-Terry model, with the score s = -(beta/2)
    (|target - predicted|^2 - |target - reference|^2) / size of each image.
    """
    total = 0.0
    for w in range(0, len(target), 2):
        scores = []
        for row in (w, w + 1):
            gap = (target[row] - predicted[row]) ** 2 - (target[row] - reference[row]) ** 2
            scores.append(-beta / 2 * gap.double().sum() / gap.numel())
        total -= math.log(math.exp(scores[0]) / (math.exp(scores[0]) + math.exp(scores[1])))
    return total / (len(target) / 2)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_dpo_equals_an_independent_formula_on_random_predictions(kind):
    """Targets of epsilon and v from diffusers' scheduler, of the flow from its definition."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(prediction_type="epsilon" if kind == "flow" else kind)
    draw = torch.Generator().manual_seed(0)
    x0, predicted, reference = (
        torch.randn(12, 4, 8, 8, generator=draw, dtype=torch.float64) for _ in range(3)
    )
    noise = torch.randn(6, 4, 8, 8, generator=draw, dtype=torch.float64).repeat_interleave(2, 0)
    t = torch.randint(1000, (6,), generator=draw).repeat_interleave(2)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    theirs = {
        "epsilon": lambda: noise,
        "v_prediction": lambda: scheduler.get_velocity(x0, noise, t),
        "flow": lambda: noise - x0,
    }[kind]()
    target = noise_process.prediction_target(kind, x0, noise, t, scheduler.alphas_cumprod)
    e, e_ref = loss.per_row_error(predicted, target), loss.per_row_error(reference, target)
    found = loss.dpo_loss(e[::2], e[1::2], e_ref[::2], e_ref[1::2], beta=37.0).item()
    assert found == pytest.approx(independent_dpo(predicted, reference, theirs, 37.0), abs=1e-6)


def test_the_gradient_lowers_the_winners_error_and_raises_the_losers():
    e_w, e_l = torch.tensor([0.5], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    loss.dpo_loss(e_w, e_l, torch.tensor([0.5]), torch.tensor([0.5]), beta=4.0).backward()
    assert e_w.grad is not None
    assert e_l.grad is not None
    # d/de_w of -log sigmoid(-2 (e_w - e_l)) at 0 is 2 (1 - 1/2) = 1
    assert e_w.grad.item() == pytest.approx(1.0)
    assert e_l.grad.item() == pytest.approx(-1.0)


def test_implicit_accuracy_counts_positive_margins_and_half_of_ties():
    """Margins 0.1, -0.1, 0: (1 + 0 + 1/2) / 3 = 0.5."""
    e_w, e_l = torch.tensor([0.1, 0.3, 0.2]), torch.full((3,), 0.2)
    ref = torch.full((3,), 0.2)
    assert loss.implicit_accuracy(e_w, e_l, ref, ref).item() == pytest.approx(0.5)


def test_per_row_error_is_a_mean_over_everything_but_rows():
    """Row 0 differs by 1 everywhere, row 1 by 2 in half of its places: 1 and 4 / 2 = 2."""
    predicted = torch.zeros(2, 1, 2, 2)
    target = torch.tensor([[[[1.0, 1], [1, 1]]], [[[2, 2], [0, 0]]]])
    assert loss.per_row_error(predicted, target).tolist() == [1.0, 2.0]


def test_noise_and_both_targets_by_hand():
    """a = 0.36: x_t = 0.6 x0 + 0.8 n; v = 0.6 n - 0.8 x0, with x0 = 1 and n = 2."""
    x0, n, t = torch.ones(1, 1), torch.full((1, 1), 2.0), torch.tensor([0])
    alphas = torch.tensor([0.36])
    assert noise_process.add_noise(x0, n, t, alphas).item() == pytest.approx(2.2)
    v = noise_process.prediction_target("v_prediction", x0, n, t, alphas)
    assert v.item() == pytest.approx(0.4)
    assert noise_process.prediction_target("epsilon", x0, n, t, alphas) is n
    with pytest.raises(EngineError, match="'sample'"):
        noise_process.prediction_target("sample", x0, n, t, alphas)


def test_flow_by_hand():
    """t = 249 of 1000: s = 1/4, x_t = 0.75 x0 + 0.25 n, and the velocity is n - x0.

    With shift 3 sigma = 3/4 / (1 + 2/4) = 1/2. At the last timestep all is noise, whatever the
    shift.
    """
    x0, n, t = torch.ones(1, 1), torch.full((1, 1), 2.0), torch.tensor([249])
    sigma = noise_process.flow_sigma(t, steps=1000)
    assert noise_process.add_flow_noise(x0, n, sigma).item() == pytest.approx(1.25)
    assert noise_process.prediction_target("flow", x0, n, t, None).item() == pytest.approx(1.0)
    assert noise_process.flow_sigma(t, steps=1000, shift=3.0).item() == pytest.approx(0.5)
    assert noise_process.flow_sigma(torch.tensor([999]), steps=1000, shift=3.0).item() == 1.0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_noises_as_diffusers_does(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    assert noise_process.prediction_type_of(scheduler) == "flow"
    draw = torch.Generator().manual_seed(2)
    x0, n = (torch.randn(5, 4, 8, 8, generator=draw) for _ in range(2))
    t = torch.tensor([0, 17, 249, 700, 999])
    # Its timesteps fall from T to 1, so place T - 1 - t is ours; they are what the network sees.
    theirs = scheduler.timesteps[999 - t]
    sigma = noise_process.flow_sigma(t, steps=1000, shift=shift)
    assert torch.allclose(sigma * 1000, theirs, rtol=1e-5)
    ours = noise_process.add_flow_noise(x0, n, sigma)
    assert torch.allclose(ours, scheduler.scale_noise(x0, theirs, n), atol=1e-5)


def test_sft_is_the_chosen_sides_error_by_hand():
    """Errors 0.2 and 0.6: (0.2 + 0.6) / 2 = 0.4; each row's gradient is 1/2."""
    e_w = torch.tensor([0.2, 0.6], requires_grad=True)
    found = loss.sft_loss(e_w)
    found.backward()
    assert found.item() == pytest.approx(0.4)
    assert e_w.grad is not None
    assert e_w.grad.tolist() == [0.5, 0.5]


def test_preservation_by_hand():
    """Distances 0, 2, 1 and -2: (0 + 4 + 1 + 4) / 4 = 2.25."""
    predicted = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    reference = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert loss.preservation_loss(predicted, reference).item() == pytest.approx(2.25)


def test_the_cost_loss_by_hand():
    """beta 4, bracket 0.5 and -0.25: z = 1 and -0.5; m = 2 (of 3, cut off) and 0.5: z - m = -1, -1.

    Both weights are equal, so each is 1, and the loss is -log sigmoid(-1) = 1.3132617.
    """
    errors = [torch.tensor(x) for x in ([0.5, 0.5], [0.5, 0.25], [0.75, 0.5], [0.25, 0.5])]
    margin = loss.cost_margin(torch.tensor([3.0, 0.5]), most=2.0)
    assert margin.tolist() == [2.0, 0.5]
    found = loss.cost_dpo_loss(*errors, beta=4.0, margin=margin, gamma=2.0)
    assert found.item() == pytest.approx(1.3132617, abs=1e-6)


def test_a_margin_is_cut_off_on_both_sides_and_has_no_gradient():
    gap = torch.tensor([-9.0, -1.0, 0.0, 9.0], requires_grad=True)
    found = loss.cost_margin(gap, most=5.0)
    assert found.tolist() == [-5.0, -1.0, 0.0, 5.0]
    assert not found.requires_grad


def test_focusing_weights_by_hand():
    """sigmoid(-z) of 0 and log 3 is 1/2 and 1/4; squared 1/4 and 1/16, mean 5/32: 8/5, 2/5."""
    logits = torch.tensor([0.0, math.log(3)], requires_grad=True)
    found = loss.focusing_weight(logits, gamma=2.0)
    assert found.tolist() == pytest.approx([1.6, 0.4])
    assert not found.requires_grad


def test_focusing_weights_of_pairs_that_are_all_solved_have_mean_1():
    """exp(-3 * 200) is 0 in float32: the plain quotient is 0/0."""
    found = loss.focusing_weight(torch.tensor([200.0, 201.0, 200.0]), gamma=3.0)
    assert found.mean().item() == pytest.approx(1.0)
    assert found[0] > found[1] > 0


def test_the_gradient_of_the_cost_loss_by_hand():
    """d/de_w = w beta/2 sigmoid(-(z - m)) / n; at e_w = ref, z = 0, m = log 3: 3/4 of beta/2."""
    e_w = torch.tensor([0.3], requires_grad=True)
    rest = [torch.tensor([x]) for x in (0.5, 0.3, 0.5)]
    margin = torch.tensor([math.log(3)])
    loss.cost_dpo_loss(e_w, *rest, beta=4.0, margin=margin, gamma=1.0).backward()
    assert e_w.grad is not None
    assert e_w.grad.item() == pytest.approx(0.75 * 2.0)


@pytest.mark.parametrize("rows", [1, 3, 7, 8, 49])
def test_without_margin_and_focusing_the_cost_loss_is_dpos_bit_for_bit(rows):
    draw = torch.Generator().manual_seed(rows)
    errors = [torch.rand(rows, generator=draw) for _ in range(4)]
    sides = []
    for function in (loss.dpo_loss, functools.partial(
        loss.cost_dpo_loss, margin=torch.zeros(rows), gamma=0.0
    )):  # fmt: skip
        e_w = errors[0].clone().requires_grad_()
        value = function(e_w, *errors[1:], beta=5.0)
        value.backward()
        sides.append((value, e_w.grad))
    assert torch.equal(sides[0][0], sides[1][0])
    assert torch.equal(sides[0][1], sides[1][1])


def test_min_snr_weights_by_hand():
    """a = 0.9: SNR 9; a = 0.5: SNR 1. gamma 5: 5/9 and 1; for v: 5/10 and 1/2."""
    alphas, t = torch.tensor([0.9, 0.5]), torch.tensor([0, 1])
    noise = loss.min_snr_weight(t, alphas, gamma=5.0, v=False)
    assert noise.tolist() == pytest.approx([5 / 9, 1.0])
    v = loss.min_snr_weight(t, alphas, gamma=5.0, v=True)
    assert v.tolist() == pytest.approx([0.5, 0.5])


def test_a_scaled_gradient_leaves_the_value():
    x = torch.tensor([[3.0], [3.0]], requires_grad=True)
    y = loss.scaled_gradient(x, torch.tensor([0.25, 1.0]))
    y.pow(2).sum().backward()  # d/dx x^2 = 6
    assert torch.equal(y, x)
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1.5, 6.0]


def test_noise_and_velocity_equal_those_of_diffusers():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(prediction_type="v_prediction")
    draw = torch.Generator().manual_seed(1)
    x0, n = (torch.randn(6, 4, 8, 8, generator=draw) for _ in range(2))
    t = torch.randint(1000, (6,), generator=draw)
    ours = noise_process.add_noise(x0, n, t, scheduler.alphas_cumprod)
    assert torch.allclose(ours, scheduler.add_noise(x0, n, t), atol=1e-6)
    v = noise_process.prediction_target("v_prediction", x0, n, t, scheduler.alphas_cumprod)
    assert torch.allclose(v, scheduler.get_velocity(x0, n, t), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noised_latents_keep_their_precision(dtype):
    """The schedule is float32; the network wants rows of the type that it was given."""
    x0 = torch.ones(1, 1, dtype=dtype)
    alphas, t = torch.tensor([0.36]), torch.tensor([0])
    assert noise_process.add_noise(x0, x0, t, alphas).dtype == dtype
    assert noise_process.add_flow_noise(x0, x0, alphas).dtype == dtype


@pytest.mark.parametrize(
    ("winner", "loser", "scale"),
    [
        pytest.param((1.0, 0.0), (2.0, 0.0), 0.375, id="same way: 0.75 x 1 / 2"),
        pytest.param((2.0, 0.0), (8.0, 0.0), 0.1875, id="the winner's square: 0.75 x 4 / 16"),
        pytest.param((0.5, 0.0), (1.0, 0.0), 0.375, id="a small product: 0.75 x 0.25 / 0.5"),
        pytest.param((1.0, 1.0), (1.0, 2.0), 0.5, id="sum over places: 0.75 x 2 / 3"),
        pytest.param((1.0, 0.0), (0.1, 0.0), 1.0, id="a weak loser: 7.5, clipped"),
        pytest.param((1.0, 0.0), (-2.0, 0.0), 1.0, id="opposed"),
        pytest.param((1.0, 0.0), (0.0, 2.0), 1.0, id="across"),
        pytest.param((0.0, 0.0), (2.0, 0.0), 1.0, id="no winner's gradient: not 0 / 0"),
    ],
)
def test_safeguard_scales_only_a_loser_that_pulls_the_winner_along(winner, loser, scale):
    """mu 0.25; the same with the rows of another pair in the batch."""
    g_w, g_l = torch.tensor([winner, (1.0, 0.0)]), torch.tensor([loser, (3.0, 0.0)])
    assert loss.safeguard_scale(g_w, g_l, mu=0.25).tolist() == pytest.approx([scale, 0.25])
