"""The objective on tiny checkpoints of the real classes: 1.5, 2.1 (v-prediction), XL."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import encode_unconditional
from alignguard_train.adapters.live import live_adapter
from alignguard_train.base import BaseModel
from alignguard_train.contracts.recipes import (
    ExpertRecipe,
    as_duo,
    as_sc_dpo,
    as_sft,
    sd15_expert,
    sd21_expert,
    sdxl_expert,
    standin_expert,
)
from alignguard_train.encodings.encoder import EncodedPreferences, Preferences, encode
from alignguard_train.experts.batches import PairRows, draw
from alignguard_train.experts.objective import objective
from alignguard_train.experts.trainer import HISTORY, train_expert
from benchmarks.tiny.diffusion import tiny_pipe, tiny_xl

KINDS = {
    "sd15": lambda: tiny_pipe("epsilon"),
    "sd21": lambda: tiny_pipe("v_prediction"),
    "sdxl": tiny_xl,
}
RECIPE = ExpertRecipe(rank=2, steps=3, batch_size=2, warmup_steps=0, lr=1e-2)


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory) -> BaseModel:
    folder = tmp_path_factory.mktemp("models") / request.param
    KINDS[request.param]().save_pretrained(folder, safe_serialization=True)
    return BaseModel(model=str(folder), device="cpu")


def preferences(pairs: int = 4) -> Preferences:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2 * pairs)]
    return Preferences(
        pair_ids=[str(i) for i in range(pairs)],
        concepts=["a.x"] * pairs,
        categories=["a"] * pairs,
        unsafe_prompts=[f"a b c {i}" for i in range(pairs)],
        safe_prompts=[f"a b {i}" for i in range(pairs)],
        chosen=images[:pairs],
        rejected=images[pairs:],
    )


def rows_of(encoded: EncodedPreferences) -> PairRows:
    draw = torch.Generator().manual_seed(3)
    return PairRows(
        chosen=encoded.chosen,
        rejected=encoded.rejected,
        unsafe=encoded.unsafe,
        kept=encoded.chosen,
        kept_caption=encoded.safe,
        t=torch.tensor([10, 400, 700, 999]),
        noise=torch.randn(encoded.chosen.shape, generator=draw),
    )


def test_reference_errors_are_those_of_the_scheduler_and_the_unet(base):
    """Independent of our noising and target.

    The scheduler's own, one row at a time, through the pipe's own prompt encoding and time ids.
    """
    from diffusers import DDPMScheduler

    encoded = encode(preferences(), base)
    rows, pipe = rows_of(encoded), base.pipe
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    errors = []
    for i, prompt in enumerate(preferences().unsafe_prompts):
        t, x0, n = rows.t[i : i + 1], encoded.chosen[i : i + 1], rows.noise[i : i + 1]
        extra = {}
        if hasattr(pipe, "text_encoder_2"):
            states, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
            ids = pipe._get_add_time_ids((16, 16), (0, 0), (16, 16), torch.float32, 32)
            extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        else:
            states = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
        with torch.no_grad():
            found = pipe.unet(scheduler.add_noise(x0, n, t), t, states, **extra).sample
        v = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(x0, n, t) if v else n
        errors.append((found - target).pow(2).mean())
    measured = measured_of(base, rows)
    assert measured["e_w_ref"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def measured_of(base: BaseModel, rows: PairRows):
    """With a fresh adapter on the UNet, as training does."""
    with live_adapter(base, RECIPE, seed=0) as adapter:
        return objective(base, rows, RECIPE, adapter)[1]


def test_micro_batches_give_the_step_of_one_batch(base, tmp_path):
    encoded = encode(preferences(), base)
    whole = dataclasses.replace(RECIPE, batch_size=4)
    split = dataclasses.replace(RECIPE, batch_size=2, accumulation=2)
    one, two = (
        train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / str(i))
        for i, recipe in enumerate((whole, split))
    )
    assert torch.allclose(one.history[:, 0], two.history[:, 0], rtol=1e-4)


def flow_model(base: BaseModel) -> BaseModel:
    """The same networks under a flow scheduler, as SD3.5 has: no transformer is needed."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    flow = BaseModel(model=base.source.model, device="cpu")
    flow.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return flow


def test_a_flow_model_is_told_its_sigma_and_should_predict_the_velocity(base):
    """x_t and t by diffusers' own scheduler, the target noise - x_0, row by row."""
    flow = flow_model(base)
    encoded = encode(preferences(), flow)
    rows, pipe = rows_of(encoded), flow.pipe
    scheduler, errors = pipe.scheduler, []
    for i in range(4):
        x0, n = encoded.chosen[i : i + 1], rows.noise[i : i + 1]
        time = scheduler.timesteps[999 - rows.t[i : i + 1]]
        arguments = flow.arguments(encoded.unsafe[i : i + 1], x0)
        with torch.no_grad():
            found = pipe.unet(scheduler.scale_noise(x0, time, n), time, **arguments).sample
        errors.append((found - (n - x0)).pow(2).mean())
    measured = measured_of(flow, rows)
    assert measured["e_w_ref"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_a_flow_model_trains_and_has_no_min_snr(base, tmp_path):
    flow = flow_model(base)
    encoded = encode(preferences(), flow)
    duo = as_duo(RECIPE)
    history = train_expert(flow, encoded, duo, seed=0, checkpoint=tmp_path / "c").history
    assert history.isfinite().all()
    weighted = dataclasses.replace(RECIPE, min_snr=5.0)
    with pytest.raises(EngineError, match=r"min_snr \(5\.0\) is not defined for a flow model"):
        train_expert(flow, encoded, weighted, seed=0, checkpoint=tmp_path / "d")


def changed(**fields):
    return lambda recipe: dataclasses.replace(recipe, **fields)


COSTS = torch.tensor([[-1.0, 1.0], [-2.0, 0.0], [-1.5, 3.0], [-0.5, 2.0]])
"""Of the chosen and the rejected image of each pair; the gaps are 2, 2, 4.5 and 2.5."""

VARIANTS = {
    "sft": as_sft,
    "focusing": changed(focusing=2.0),
    "clean pairs": changed(clean_pairs=0.5),
    "cost margin": changed(cost_margin=1.0, margin_max=1.5),
    "sc-dpo": as_sc_dpo,
    "safeguard": changed(safeguard=0.9),
    "duo": as_duo,
    "min-snr": changed(min_snr=5.0),
    "adafactor": changed(optimizer="adafactor", gradient_checkpointing=True),
    "flips": changed(flip=True, caption_dropout=0.5),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_resumes_to_the_same_adapter(base, tmp_path, name):
    recipe = VARIANTS[name](RECIPE)
    encoded = dataclasses.replace(encode(preferences(), base, flip=recipe.flip), costs=COSTS)
    stopped = dataclasses.replace(recipe, steps=2, lr_floor=1.0)
    steady = dataclasses.replace(recipe, lr_floor=1.0)
    calm = train_expert(base, encoded, steady, seed=1, checkpoint=tmp_path / "steady")
    train_expert(base, encoded, stopped, seed=1, checkpoint=tmp_path / "stopped")
    resumed = train_expert(base, encoded, steady, seed=1, checkpoint=tmp_path / "stopped")
    assert resumed.resumed_at == 2
    assert torch.equal(calm.history, resumed.history)
    for layer, tensors in calm.lora.items():
        assert torch.equal(tensors.up, resumed.lora[layer].up)
        assert tensors.up.abs().sum() > 0
    if name == "duo":
        assert all(".attn1." in layer for layer in calm.lora)


def test_sft_lowers_the_chosen_sides_error_alone_counts(base, tmp_path):
    recipe = as_sft(RECIPE)
    history = train_expert(
        base, encode(preferences(), base), recipe, seed=0, checkpoint=tmp_path / "c"
    ).history
    loss, e_w = (history[:, HISTORY.index(name)] for name in ("loss", "e_w"))
    assert torch.allclose(loss, e_w)


def test_both_images_of_a_pair_are_mirrored_together(base):

    encoded = encode(preferences(), base, flip=True)
    recipe = dataclasses.replace(RECIPE, flip=True, batch_size=4, accumulation=4)
    mirrored = []
    for rows in draw(base, encoded, recipe, seed=0, step=0):
        for chosen, rejected in zip(rows.chosen, rows.rejected, strict=True):
            which = [i for i in range(4) if torch.equal(chosen, encoded.chosen_flipped[i])]
            plain = [i for i in range(4) if torch.equal(chosen, encoded.chosen[i])]
            assert len(which) + len(plain) == 1
            side = encoded.rejected_flipped if which else encoded.rejected
            assert torch.equal(rejected, side[(which or plain)[0]])
            mirrored.append(bool(which))
    assert 0 < sum(mirrored) < 16


def test_latents_of_a_mirrored_image_are_encoded_not_mirrored(base):
    encoded = encode(preferences(), base, flip=True)
    assert encoded.chosen_flipped is not None
    assert encoded.chosen_flipped.shape == encoded.chosen.shape
    assert not torch.allclose(encoded.chosen_flipped, encoded.chosen.flip(-1))


def test_in_low_precision_the_adapter_stays_float32(base, tmp_path):
    low = BaseModel(model=base.source.model, device="cpu", dtype="bfloat16")
    encoded = encode(preferences(), low)
    assert encoded.chosen.dtype == torch.bfloat16
    trained = train_expert(low, encoded, RECIPE, seed=0, checkpoint=tmp_path / "c")
    assert all(layer.up.dtype == torch.float32 for layer in trained.lora.values())
    assert trained.history.isfinite().all()


def test_in_low_precision_noise_and_latents_stay_float32(base):
    low = BaseModel(model=base.source.model, device="cpu", dtype="bfloat16")
    whole, rounded = (next(draw(b, encode(preferences(), b), RECIPE, 0, 0)) for b in (base, low))
    assert torch.equal(whole.noise, rounded.noise)
    for name in ("chosen", "rejected", "kept", "noise"):
        assert getattr(rounded, name).dtype == torch.float32
    assert rounded.unsafe.states.dtype == torch.bfloat16


def test_a_base_model_in_float16_is_not_trained(base, tmp_path):
    half = BaseModel(model=base.source.model, device="cpu", dtype="float16")
    with pytest.raises(EngineError, match="gradient scaler"):
        train_expert(half, encode(preferences(), base), RECIPE, seed=0, checkpoint=tmp_path / "c")


@pytest.mark.parametrize(("dtype", "allowed"), [("tf32", True), ("float32", False)])
def test_tf32_is_float32_weights_and_a_setting_that_lasts_a_training(base, dtype, allowed):
    torch.backends.cuda.matmul.allow_tf32 = False
    chosen = BaseModel(model=base.source.model, device="cpu", dtype=dtype)
    assert chosen.unloaded().pipe.unet.dtype == torch.float32
    with chosen.unloaded().products():
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cuda.matmul.allow_tf32 is False


@pytest.mark.parametrize("recipe", [sd15_expert, sd21_expert, sdxl_expert, standin_expert])
def test_every_named_recipe_runs_on_every_class(base, tmp_path, recipe):
    short = dataclasses.replace(recipe(), steps=2, warmup_steps=0, checkpoint_every=1)
    encoded = encode(preferences(), base, flip=short.flip)
    trained = train_expert(base, encoded, short, seed=0, checkpoint=tmp_path / "c")
    assert trained.history.isfinite().all()


def test_recipes_carry_the_authors_numbers():
    """Those of the authors' code (docs/method.md, "The preference loss")."""
    sd15, sdxl = sd15_expert(), sdxl_expert()
    assert (sd15.rank, sd15.beta, sd15.steps, sd15.caption_dropout) == (4, 5000.0, 2000, 0.2)
    assert (sd15.batch_size, sd15.accumulation, sd15.lr) == (4, 4, 1.6e-4)
    assert (sd15.warmup_steps, sd15.weight_decay, sd15.clip) == (500, 1e-2, 1.0)
    assert (sdxl.optimizer, sdxl.lr, sdxl.warmup_steps) == ("adafactor", 1e-5, 0)
    assert sdxl.gradient_checkpointing
    assert sd15.min_snr is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "dpo2"}, "method must be one of dpo, sft, got 'dpo2'"),
        ({"accumulation": 0}, "accumulation must be at least 1, got 0"),
        ({"safeguard": 1.5}, r"safeguard must lie in \[0, 1\], got 1.5"),
        ({"preservation": -1.0}, "preservation must not be negative, got -1.0"),
        ({"min_snr": 0.0}, "min_snr must be positive, got 0.0"),
    ],
)
def test_a_wrong_recipe_names_field_and_value(change, message):
    with pytest.raises(ValueError, match=message):
        ExpertRecipe(**change)


def test_caption_dropout_replaces_whole_captions(base):

    encoded = encode(preferences(), base)
    recipe = dataclasses.replace(RECIPE, caption_dropout=1.0, batch_size=4)
    rows = next(draw(base, encoded, recipe, seed=0, step=0))
    empty = encode_unconditional(base.pipe)
    assert torch.equal(rows.unsafe.states, empty.states.expand(4, -1, -1))
    if empty.pooled is not None:
        assert rows.unsafe.pooled is not None
        assert torch.equal(rows.unsafe.pooled, empty.pooled.expand(4, -1))


def test_a_dropped_caption_is_what_rendering_takes_for_no_prompt(base):
    """SDXL's base model renders away from zeros: the encoding of "" is another place."""
    empty = encode(preferences(), base).empty
    pooled = empty.pooled
    assert (pooled is not None) == bool((empty.states == 0).all())
    assert pooled is None or not pooled.any()


def test_the_models_folder_is_all_that_is_recorded(base):
    assert Path(base.model_id).name == base.model_id
