"""A family of flow models is one class: a tiny SD3 of the real class goes through every room."""

import copy
import dataclasses

import numpy as np
import pytest
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection

from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.engines.families import registry
from alignguard_data.engines.families.conditions import Conditions
from alignguard_train.adapters.lora import load_lora, save_lora
from alignguard_train.base import BaseModel
from alignguard_train.contracts.flow import FlowTraining
from alignguard_train.encodings.encoder import encode
from alignguard_train.experts.trainer import train_expert
from benchmarks.tiny.diffusion import tiny_xl
from tests.alignguard_train.experts.test_objective import RECIPE, preferences

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj")
ABSENT = ("text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor")
SHIFT = 0.06


class WithoutT5:
    """SD3 with its two CLIP encoders: what a file of a family holds."""

    name, pipe_class, denoiser = "sd3", "StableDiffusion3Pipeline", "transformer"
    loading = dict.fromkeys(ABSENT)
    blocks = ("transformer_blocks",)
    text_encoders = ("text_encoder", "text_encoder_2")
    lora_targets = tuple(f"attn.{name}" for name in PROJECTIONS)
    self_attention_targets = lora_targets[:4]
    flow, latent_multiple, distilled = True, 2, False

    def recognises(self, pipe):
        return type(pipe).__name__ == self.pipe_class

    def check(self, pipe):
        pass

    def dynamic_shift(self, scheduler, latent):
        return None

    def native_size(self, pipe):
        return pipe.transformer.config.sample_size * pipe.vae_scale_factor

    def latent_channels(self, denoiser):
        return denoiser.config.in_channels

    def latents(self, vae, encoded):
        return (encoded - vae.config.shift_factor) * vae.config.scaling_factor

    def encoded(self, vae, latents):
        return latents / vae.config.scaling_factor + vae.config.shift_factor

    def encode(self, pipe, prompts):
        states, _, pooled, _ = pipe.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False
        )
        return Conditions(states=states, pooled=pooled)

    def encode_unconditional(self, pipe, negative_prompt):
        return self.encode(pipe, [negative_prompt])

    def arguments(self, denoiser, conditions, *, height, width):
        return {
            "encoder_hidden_states": conditions.states,
            "pooled_projections": conditions.pooled,
        }

    def guidance(self, pipe, scale, rows):
        return None

    def predict(self, denoiser, latents, t, arguments):
        return denoiser(latents, timestep=t.expand(len(latents)), **arguments, return_dict=False)[0]

    def set_timesteps(self, scheduler, steps, *, latent, on):
        scheduler.set_timesteps(steps, device=on)


@pytest.fixture(scope="module")
def pipe() -> StableDiffusion3Pipeline:
    xl = tiny_xl()
    vae = copy.deepcopy(xl.vae)
    vae.register_to_config(shift_factor=SHIFT)
    config = xl.text_encoder_2.config
    width = config.projection_dim
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=2 * width, caption_projection_dim=16,
        pooled_projection_dim=2 * width, out_channels=4, pos_embed_max_size=8,
    )  # fmt: skip
    found = StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=CLIPTextModelWithProjection(config).eval(),
        tokenizer=xl.tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(config).eval(),
        tokenizer_2=copy.deepcopy(xl.tokenizer),
        text_encoder_3=None,
        tokenizer_3=None,
    )
    found.set_progress_bar_config(disable=True)
    return found


def test_it_is_drawn_encoded_trained_and_stored_without_a_change_elsewhere(
    pipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(registry, "FAMILIES", (WithoutT5(), *registry.FAMILIES))
    pipe.save_pretrained(tmp_path / "sd3")
    model, file = str(tmp_path / "sd3"), tmp_path / "lora.safetensors"
    flow = FlowTraining(times="uniform", shift="static")
    base = BaseModel(model=model, device="cpu", flow=flow)
    encoded = encode(preferences(), base)
    assert encoded.empty.pooled is not None
    recipe = dataclasses.replace(RECIPE, preservation=0.5)
    trained = train_expert(base, encoded, recipe, seed=0, checkpoint=tmp_path / "checkpoint")
    assert float(trained.history[0, 0]) == pytest.approx(np.log(2), abs=1e-5), "a no-op at start"
    assert all(name.startswith("transformer_blocks.") for name in trained.lora)
    save_lora(trained.lora, file)
    assert load_lora(file).keys() == trained.lora.keys()

    sampling = Sampling(num_inference_steps=2, width=16, height=16, batch_size=2)
    generator = DiffusersImageGenerator(model=model, sampling=sampling, device="cpu")
    before = generator.render(["a", "b"], [1, 2])
    with generator.adapted(file):
        assert not np.array_equal(generator.render(["a", "b"], [1, 2]), before)
    assert np.array_equal(generator.render(["a", "b"], [1, 2]), before)
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name)  # vanilla diffusers reads it
    assert pipe.get_list_adapters().keys() == {"transformer"}
