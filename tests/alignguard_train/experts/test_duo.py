"""DUO's objective: empty prompts, one bounded timestep a pair, a prior on the pair's own noise."""

import dataclasses
import math

import pytest
import torch

from alignguard_data.engines.diffusion.conditions import encode_unconditional
from alignguard_train.adapters.live import live_adapter
from alignguard_train.base import BaseModel
from alignguard_train.contracts.flow import FlowTraining
from alignguard_train.contracts.noise import drawn_timesteps, flow_sigma, timesteps_up_to
from alignguard_train.contracts.recipes import ExpertRecipe, as_duo, sd15_duo, sd15_expert
from alignguard_train.encodings.encoder import encode
from alignguard_train.experts.batches import draw
from alignguard_train.experts.objective import objective
from alignguard_train.experts.trainer import train_expert
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl
from benchmarks.tiny.flow import tiny_sd35
from tests.alignguard_train.experts.test_objective import RECIPE, preferences, rows_of

KINDS = {
    "sd15": (tiny_pipe, None),
    "sd21": (lambda: tiny_pipe("v_prediction"), None),
    "sdxl": (tiny_xl, None),
    "sd35": (tiny_sd35, FlowTraining(times="logit-normal", shift="static")),
}
DUO = as_duo(dataclasses.replace(RECIPE, batch_size=4), weight=2.0)


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory) -> BaseModel:
    make, flow = KINDS[request.param]
    folder = tmp_path_factory.mktemp("models") / request.param
    make().save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu", flow=flow)


@pytest.fixture(scope="module")
def duo(base) -> ExpertRecipe:
    """A transformer has no self-attention of the image only; the rest of DUO is the same."""
    return dataclasses.replace(DUO, layers="attention") if base.is_flow else DUO


@pytest.fixture(scope="module")
def encoded(base):
    return encode(preferences(), base)


class Recorded:
    """What the denoiser was asked, with predictions that the test chooses."""

    def __init__(self, base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.latents = self.t = torch.empty(0)
        self.states = torch.empty(0)

        def predict(latents, t, arguments):
            self.latents, self.t = latents, t
            self.states = arguments["encoder_hidden_states"]
            return own(latents, t, arguments)

        own = base.predict
        monkeypatch.setattr(base, "predict", predict)


def asked(base, rows, recipe, monkeypatch) -> Recorded:
    with live_adapter(base, recipe, seed=0) as adapter:
        recorded = Recorded(base, monkeypatch)
        objective(base, rows, recipe, adapter)
    return recorded


def test_both_images_of_a_pair_have_one_timestep_and_one_noise(base, encoded, duo, monkeypatch):
    """In the authors' code the two halves draw their own timesteps."""
    (rows,) = draw(base, encoded, duo, 0, 0)
    found = asked(base, rows, duo, monkeypatch)
    t, latents = found.t.split(len(rows))[:2], found.latents.split(len(rows))[:2]
    assert torch.equal(t[0], t[1])
    assert len(t[0].unique()) > 1
    # The noise cancels: what is left of the difference is the images' own, in every row alike.
    for i in range(len(rows)):
        left = latents[0][i] - latents[1][i]
        apart = rows.chosen[i] - rows.rejected[i]
        share = (left * apart).sum() / (apart * apart).sum()
        assert torch.allclose(left, share * apart, atol=1e-4)


def test_every_prompt_is_the_empty_one(base, encoded, duo, monkeypatch):
    (rows,) = draw(base, encoded, duo, 0, 0)
    found = asked(base, rows, duo, monkeypatch)
    empty = encode_unconditional(base.pipe).states
    assert len(found.states) == 3 * len(rows)
    assert torch.equal(found.states, empty.expand(len(found.states), -1, -1))


def test_the_prior_reads_the_pairs_own_noise_at_the_largest_noise(base, encoded, duo, monkeypatch):
    (rows,) = draw(base, encoded, duo, 0, 0)
    found = asked(base, rows, duo, monkeypatch)
    last = 1000.0 if base.is_flow else 999
    assert torch.equal(found.latents[2 * len(rows) :], rows.noise)
    assert found.t[2 * len(rows) :].unique().tolist() == [last]


def test_the_prior_is_the_mean_squared_distance_to_the_reference_there(base, encoded, duo):
    """By hand: two forward passes on pure noise, with the adapter and without."""
    (rows,) = draw(base, encoded, duo, 0, 0)
    with live_adapter(base, duo, seed=0) as adapter:
        for number, parameter in enumerate(adapter.parameters.values()):
            generator = torch.Generator().manual_seed(number)
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        total, measured = objective(base, rows, duo, adapter)
        conditions = encode_unconditional(base.pipe).repeat(len(rows))
        t = torch.full((len(rows),), 1000.0 if base.is_flow else 999)
        arguments = base.arguments(conditions, rows.noise)
        with torch.no_grad():
            with adapter.off():
                reference = base.predict(rows.noise, t, arguments)
            adapted = base.predict(rows.noise, t, arguments)
    wanted = (adapted - reference).pow(2).mean().item()
    assert wanted > 0
    assert measured["preservation"].item() == pytest.approx(wanted, rel=1e-3)
    assert total.item() == pytest.approx(measured["dpo"].item() + 2.0 * wanted, rel=1e-4)


def test_the_loss_starts_at_ln_2(base, encoded, duo):
    with live_adapter(base, duo, seed=0) as adapter:
        loss, _ = objective(base, rows_of(encoded), duo, adapter)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_it_trains_and_never_at_the_noisiest_quarter(base, encoded, duo, tmp_path):
    noisiest = 0.0
    for step in range(30):
        for rows in draw(base, encoded, duo, 0, step):
            noise = rows.t / 1000
            if base.is_flow:
                noise = flow_sigma(rows.t, steps=1000, shift=base.pipe.scheduler.config.shift)
            noisiest = max(noisiest, noise.max().item())
    assert 0.65 < noisiest <= 0.75
    trained = train_expert(base, encoded, duo, seed=0, checkpoint=tmp_path / "c")
    assert trained.history.isfinite().all()
    if not base.is_flow:
        assert all(".attn1." in layer for layer in trained.lora)


@pytest.mark.parametrize(
    ("share", "shift", "number"),
    [
        (1.0, None, 1000),
        (0.75, None, 750),
        (0.29, None, 290),  # 0.29 * 1000 is just below 290
        (0.0001, None, 1),
        (1.0, 3.0, 1000),
        (0.75, 1.0, 750),
        (0.75, 3.0, 500),  # 3 s / (1 + 2 s) = 0.75 at s = 0.5
    ],
)
def test_number_of_timesteps_by_hand(share, shift, number):
    assert timesteps_up_to(share, 1000, shift=shift) == number


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.0, 0.5)])
def test_a_cut_off_logit_normal_has_the_quantiles_of_what_is_left(mean, deviation):
    """Against drawing all and leaving out what lies beyond."""
    flow = FlowTraining(times="logit-normal", shift="none", mean=mean, deviation=deviation)
    cut = drawn_timesteps(40000, 1000, flow, torch.Generator().manual_seed(0), below=500)
    whole = drawn_timesteps(400000, 1000, flow, torch.Generator().manual_seed(1))
    left = whole[whole < 500]
    assert cut.max() < 500
    for q in (0.1, 0.5, 0.9):
        wanted = left.float().quantile(q).item()
        assert cut.float().quantile(q).item() == pytest.approx(wanted, abs=6)


def test_without_a_bound_nothing_is_drawn_differently():
    for flow in (None, FlowTraining(times="logit-normal", shift="none")):
        free, bound = (
            drawn_timesteps(64, 1000, flow, torch.Generator().manual_seed(0), below=below)
            for below in (None, 1000)
        )
        assert torch.equal(free, bound)


def test_beta_is_in_the_papers_convention_if_it_is_given():
    """DUO's beta 500 multiplies the whole margin, ours half of it."""
    assert as_duo(RECIPE, beta=500).beta == 1000
    assert as_duo(RECIPE).beta == RECIPE.beta


def test_the_named_recipe_has_the_authors_numbers():
    """Those of their script for nudity on SD1.4."""
    recipe = sd15_duo()
    assert (recipe.rank, recipe.steps, recipe.lr, recipe.beta) == (32, 1000, 6e-5, 1000)
    assert recipe.batch_size * recipe.accumulation == 4
    assert recipe.preservation == 5e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t_max": 0.0}, r"t_max must lie in \(0, 1\], got 0.0"),
        ({"t_max": 1.5}, r"t_max must lie in \(0, 1\], got 1.5"),
        ({"t_max": -0.75}, r"t_max must lie in \(0, 1\], got -0.75"),
        ({"t_max": math.nan}, r"t_max must lie in \(0, 1\], got nan"),
        (
            {"preservation_prompt": "none"},
            "preservation_prompt must be one of safe, empty, got 'none'",
        ),
        (
            {"preservation_prompt": "empty", "preserve_others": 0.5},
            "preserve_others must be 0 with preservation_prompt empty, got 0.5",
        ),
    ],
)
def test_a_wrong_recipe_names_field_and_value(change, message):
    with pytest.raises(ValueError, match=message):
        ExpertRecipe(**change)


def test_later_fields_make_no_earlier_expert_stale():
    before = sd15_expert().fingerprint_fields
    assert not {"t_max", "preservation_prompt"} & before.keys()
    assert {"beta", "preserve_others", "caption_dropout"} <= before.keys()
    assert as_duo(sd15_expert()).fingerprint_fields["t_max"] == 0.75
