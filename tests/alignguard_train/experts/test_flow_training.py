"""Flow-matching DPO on tiny SD3.5 and FLUX of the real classes, against diffusers' own parts."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.training_utils import compute_loss_weighting_for_sd3

from alignguard_data.contracts.errors import EngineError
from alignguard_train.adapters.live import live_adapter
from alignguard_train.adapters.lora import load_lora, save_lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.flow import FlowTraining
from alignguard_train.contracts.noise import drawn_timesteps, flow_weight
from alignguard_train.contracts.recipes import flux_expert, sd35_expert
from alignguard_train.encodings.encoder import encode
from alignguard_train.experts.objective import objective
from alignguard_train.experts.trainer import HISTORY, train_expert
from alignguard_train.merge.calibration import measure_activity
from alignguard_train.merge.config import MergeConfig
from alignguard_train.merge.regmean import regmean
from benchmarks.tiny.diffusion import tiny_pipe
from benchmarks.tiny.flow import SCALE, SHIFT, tiny_flux, tiny_sd35
from tests.alignguard_train.experts.test_objective import RECIPE, preferences, rows_of

STATIC = FlowTraining(times="logit-normal", shift="static")
DYNAMIC = FlowTraining(times="uniform", shift="dynamic", guidance=3.5)
KINDS = {
    "sd35": (tiny_sd35, STATIC),
    "sd35-dual": (lambda: tiny_sd35(dual=True), STATIC),
    "flux": (tiny_flux, DYNAMIC),
    "flux-schnell": (
        lambda: tiny_flux(guided=False, dynamic=False),
        FlowTraining(times="uniform", shift="none"),
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory) -> BaseModel:
    make, flow = KINDS[request.param]
    folder = tmp_path_factory.mktemp("models") / request.param
    make().save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu", flow=flow)


@pytest.fixture(scope="module")
def encoded(base):
    return encode(preferences(), base)


def with_flow(base: BaseModel, flow: FlowTraining | None) -> BaseModel:
    found = base.unloaded()
    found.flow = flow
    return found


def velocity(pipe, x0, noise, t, prompt, guidance):
    """Prediction and share of noise by diffusers alone: its scheduler, pipe and transformer."""
    size = x0.shape[2:]
    if isinstance(pipe, FluxPipeline):
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
        shares = np.linspace(1.0, 1 / 1000, 1000)
        if scheduler.config.use_dynamic_shifting:
            mu = 0.5 + (1.15 - 0.5) * (16 - 4) / (64 - 4)  # 16 tokens between 4 and 64
            scheduler.set_timesteps(sigmas=shares, mu=mu)
        else:
            scheduler.set_timesteps(sigmas=shares)
    else:
        scheduler = pipe.scheduler
    place = 999 - int(t)
    sigma, time = scheduler.sigmas[place], scheduler.timesteps[place]
    noisy = ((1 - sigma) * x0 + sigma * noise).float()
    if isinstance(pipe, FluxPipeline):
        limit = 512 if guidance is not None else 256
        states, pooled, text_ids = pipe.encode_prompt(prompt, max_sequence_length=limit)
        found = pipe.transformer(
            FluxPipeline._pack_latents(noisy, 1, 4, *size),
            timestep=time[None] / 1000, pooled_projections=pooled, encoder_hidden_states=states,
            guidance=None if guidance is None else torch.tensor([guidance]), txt_ids=text_ids,
            img_ids=FluxPipeline._prepare_latent_image_ids(
                1, size[0] // 2, size[1] // 2, "cpu", torch.float32
            ),
        ).sample  # fmt: skip
        found = FluxPipeline._unpack_latents(found, size[0] * 2, size[1] * 2, 2)
    else:
        states, _, pooled, _ = pipe.encode_prompt(
            prompt, None, None, do_classifier_free_guidance=False
        )
        found = pipe.transformer(noisy, states, pooled, time[None]).sample
    return found, sigma


def test_reference_errors_are_those_of_diffusers_own_scheduler_and_transformer(base, encoded):
    """One row at a time: share of noise with its shift, time, packing, text and target."""
    rows, errors = rows_of(encoded), []
    for i, prompt in enumerate(preferences().unsafe_prompts):
        x0, n = encoded.chosen[i : i + 1], rows.noise[i : i + 1]
        with torch.no_grad():
            found, _ = velocity(base.pipe, x0, n, rows.t[i], prompt, base.flow.guidance)
        errors.append((found - (n - x0)).pow(2).mean())
    with live_adapter(base, RECIPE, seed=0) as adapter:
        measured = objective(base, rows, RECIPE, adapter)[1]
    assert measured["e_w_ref"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


@pytest.mark.parametrize("weighting", ["sigma-squared", "cosmap"])
def test_a_weight_multiplies_every_rows_error_by_its_share_of_noise(base, encoded, weighting):
    weighed = with_flow(base, dataclasses.replace(base.flow, weighting=weighting))
    rows, errors = rows_of(encoded), []
    for i, prompt in enumerate(preferences().unsafe_prompts):
        x0, n = encoded.chosen[i : i + 1], rows.noise[i : i + 1]
        with torch.no_grad():
            found, s = velocity(base.pipe, x0, n, rows.t[i], prompt, base.flow.guidance)
        if weighting == "cosmap":
            error = (found - (n - x0)).pow(2).mean() * compute_loss_weighting_for_sd3("cosmap", s)
        else:  # the error of the image that the velocity implies
            noisy = (1 - s) * x0 + s * n
            error = ((noisy - s * found) - x0).pow(2).mean()
        errors.append(error)
    with live_adapter(weighed, RECIPE, seed=0) as adapter:
        measured = objective(weighed, rows, RECIPE, adapter)[1]
    assert measured["e_w_ref"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-3)


def test_latents_are_shifted_then_scaled(base):
    pixels = torch.from_numpy(np.stack(preferences().chosen)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        plain = base.pipe.vae.encode(pixels).latent_dist.mode()
    found = encode(preferences(), base).chosen
    assert torch.allclose(found, (plain - SHIFT) * SCALE, atol=1e-5)


VARIANTS = {
    "plain": {},
    "safeguard and preservation": {"safeguard": 0.6, "preservation": 0.5},
    "preservation at pure noise": {"preservation": 0.5, "preservation_at": "last"},
    "checkpointing": {"gradient_checkpointing": True, "caption_dropout": 0.5},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_training_starts_at_ln_2_changes_the_adapter_only_and_vanilla_diffusers_loads_it(
    base, encoded, tmp_path, name
):
    recipe = dataclasses.replace(RECIPE, **VARIANTS[name])
    frozen = {n: w.clone() for n, w in base.denoiser.named_parameters()}
    trained = train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / "c")
    assert float(trained.history[0, HISTORY.index("dpo")]) == pytest.approx(math.log(2), abs=1e-5)
    assert trained.history.isfinite().all()
    assert all(torch.equal(w, frozen[n]) for n, w in base.denoiser.named_parameters())
    moved = {n for n, layer in trained.lora.items() if layer.up.abs().sum() > 0}
    assert {n.split(".", 2)[2] for n in moved} >= {"attn.to_q", "attn.to_out.0"}

    file = tmp_path / "lora.safetensors"
    save_lora(trained.lora, file)
    assert load_lora(file).keys() == trained.lora.keys()
    pipe = type(base.pipe).from_pretrained(base.source.model)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
    for layer, tensors in trained.lora.items():
        module = pipe.transformer.get_submodule(layer)
        (adapter,) = module.lora_A
        assert torch.equal(module.lora_A[adapter].weight, tensors.down)
        assert torch.equal(module.lora_B[adapter].weight, tensors.up)
        assert module.scaling[adapter] == 1.0


def test_both_layers_of_a_dual_attention_are_trained(tmp_path):
    tiny_sd35(dual=True).save_pretrained(tmp_path / "base")
    base = BaseModel(model=str(tmp_path / "base"), device="cpu", flow=STATIC)
    encoded = encode(preferences(), base)
    lora = train_expert(base, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c").lora
    second = [n for n in lora if ".attn2." in n]
    assert len(second) == 4
    assert all(lora[n].up.abs().sum() > 0 for n in second)


@pytest.mark.parametrize("recipe", [sd35_expert, flux_expert])
def test_the_named_recipes_run(base, tmp_path, recipe):
    short = dataclasses.replace(recipe(), steps=2, accumulation=2, warmup_steps=0)
    encoded = encode(preferences(), base, flip=short.flip)
    trained = train_expert(base, encoded, short, seed=0, checkpoint=tmp_path / "c")
    assert trained.history.isfinite().all()


def test_overfitting_one_pair_prefers_the_chosen_side_and_its_error_does_not_rise(base, tmp_path):
    ramp = np.tile(np.linspace(0, 255, 16, dtype=np.uint8)[:, None, None], (1, 16, 3))
    pair = dataclasses.replace(preferences(1), chosen=[ramp], rejected=[ramp[::-1].copy()])
    recipe = dataclasses.replace(
        RECIPE, steps=40, batch_size=4, beta=20.0, safeguard=0.2, preservation=0.0
    )
    encoded = encode(pair, base)
    history = train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / "c").history
    last = dict(zip(HISTORY, history[-10:].mean(dim=0).tolist(), strict=True))
    assert last["implicit_accuracy"] == 1
    assert last["e_w"] < last["e_w_ref"]


def test_merging_measures_every_layer_of_the_transformer(base, encoded, tmp_path):
    experts = [
        train_expert(base, encoded, RECIPE, seed=s, checkpoint=tmp_path / str(s)).lora
        for s in (0, 1)
    ]
    config = MergeConfig(calibration_pairs=2, calibration_timesteps=2)
    activity = measure_activity(base, experts, encoded, config)
    assert activity.keys() == experts[0].keys()
    merged = regmean(base, experts, ["a", "a"], encoded, config)
    for name, layer in merged.items():
        assert layer.delta.shape == base.denoiser.get_submodule(name).weight.shape
        assert layer.delta.isfinite().all()
    assert all(a.isfinite().all() for a in activity.values())
    silent = {name for name, a in activity.items() if not a.any()}
    assert len(silent) < len(activity) / 2


MISFITS = {
    "none at all": (None, r"base_model\.flow is missing"),
    "static where dynamic": ("static", r"base_model\.flow\.shift: static"),
    "dynamic where static": ("dynamic", r"base_model\.flow\.shift: dynamic"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_settings_that_do_not_fit_are_refused_before_training(base, encoded, tmp_path, name):
    shift, fault = MISFITS[name]
    dynamic = base.pipe.scheduler.config.use_dynamic_shifting
    if shift and (shift == "dynamic") == dynamic:
        pytest.skip("that shift is this checkpoint's own")
    wrong = with_flow(base, dataclasses.replace(base.flow, shift=shift) if shift else None)
    with pytest.raises(EngineError, match=fault):
        train_expert(wrong, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_guidance_is_for_a_model_that_embeds_it(base, encoded, tmp_path):
    embedded = base.denoiser.config.get("guidance_embeds", False)
    wrong = with_flow(base, dataclasses.replace(base.flow, guidance=None if embedded else 2.5))
    fault = "flow.guidance: none" if embedded else "flow.guidance: 2.5"
    with pytest.raises(EngineError, match=fault):
        train_expert(wrong, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c")


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [("min_snr", 5.0, r"min_snr \(5\.0\)"), ("layers", "self-attention", r"layers \(self-att")],
)
def test_what_only_a_unet_has_is_refused_before_training(
    base, encoded, tmp_path, field, value, fault
):
    recipe = dataclasses.replace(RECIPE, **{field: value})
    with pytest.raises(EngineError, match=fault):
        train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / "c")


def test_a_diffusion_model_has_no_flow(tmp_path):
    tiny_pipe().save_pretrained(tmp_path / "base")
    base = BaseModel(model=str(tmp_path / "base"), device="cpu", flow=STATIC)
    with pytest.raises(EngineError, match=r"base_model\.flow: base is not a flow model but sd15"):
        train_expert(base, encode(preferences(), base), RECIPE, seed=0, checkpoint=tmp_path / "c")


def test_uniform_times_are_drawn_as_for_a_diffusion_model():
    flow = FlowTraining(times="uniform", shift="none")
    drawn = [
        drawn_timesteps(64, 1000, one, torch.Generator().manual_seed(2)) for one in (flow, None)
    ]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.5, 1.0), (-1.0, 0.5)])
def test_logit_normal_times_have_its_quantiles(mean, deviation):
    """Share at quantile q is sigmoid(mean + deviation z_q); higher timesteps have more noise."""
    flow = FlowTraining(times="logit-normal", shift="none", mean=mean, deviation=deviation)
    t = drawn_timesteps(20000, 1000, flow, torch.Generator().manual_seed(0))
    for q, z in ((0.16, -0.9945), (0.5, 0.0), (0.84, 0.9945)):
        wanted = 1 / (1 + math.exp(-(mean + deviation * z)))
        assert float(t.float().quantile(q)) / 1000 == pytest.approx(wanted, abs=0.015)
    assert t.min() >= 0
    assert t.max() < 1000


def test_weights_by_hand():
    sigma = torch.tensor([0.5, 1.0])
    flow = FlowTraining(times="uniform", shift="none", weighting="sigma-squared")
    assert flow_weight(sigma, flow).tolist() == [0.25, 1.0]
    cosmap = flow_weight(sigma, dataclasses.replace(flow, weighting="cosmap"))
    assert cosmap.tolist() == pytest.approx([2 / (math.pi * 0.5), 2 / math.pi])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"times": "mode"}, "times must be one of uniform, logit-normal, got 'mode'"),
        ({"shift": "3"}, "shift must be one of none, static, dynamic, got '3'"),
        ({"weighting": "min-snr"}, "weighting must be one of .*, got 'min-snr'"),
        ({"deviation": 0.0}, "deviation must be positive, got 0.0"),
        ({"mean": math.inf}, "mean must be a finite number, got inf"),
        ({"guidance": -1.0}, r"guidance must be in \[0, 100\), got -1.0"),
    ],
)
def test_faulty_settings_are_named_with_their_value(changes, fault):
    with pytest.raises(ValueError, match=fault):
        FlowTraining(**{"times": "uniform", "shift": "none", **changes})
