"""The stand-in's UNet, text encoder and noise schedule, and their joint training.

v-prediction (Salimans & Ho, arXiv 2202.00512) on precomputed latents; the text encoder is trained
with the UNet, since there is no pretrained one for this world.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm import trange
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from alignguard_data.standin.engines.parallel import average_gradients, rank
from alignguard_data.standin.engines.tokenizer import BEGIN, END, MAX_LENGTH
from alignguard_data.standin.grammar import TEMPLATES, caption
from alignguard_data.standin.world import Scene

TEXT_WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe:
    """How UNet and text encoder are trained; ``batch`` is per worker."""

    steps: int = 4500
    batch: int = 20
    peak_lr: float = 2e-3
    caption_dropout: float = 0.12
    ema_decay: float = 0.998
    clip_norm: float = 1.0


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet of about 0.8 M parameters with 32 attention projections."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text encoder of two layers, 0.11 M parameters.

    Args:
        tokenizer: its vocabulary and marks size the embedding.

    Returns:
        An encoder of hidden states (rows, 24, 64).
    """
    begin, end = (tokenizer.get_vocab()[mark] for mark in (BEGIN, END))
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=begin,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """DDIM with trailing steps. Epsilon prediction with linear betas gave colour casts here."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


def encode_prompts(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]
) -> Tensor:
    """Hidden states as the diffusers pipeline computes them.

    Args:
        tokenizer: pads and cuts to 24 tokens.
        text_encoder: of this tokenizer.
        prompts: texts.

    Returns:
        Float (len(prompts), 24, 64), with gradient.
    """
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=MAX_LENGTH,
        truncation=True,
        return_tensors="pt",
    )
    return text_encoder(tokens.input_ids).last_hidden_state


class MovingAverage:
    """Exponential moving average of the parameters of some networks, warmed up from step 1."""

    def __init__(self, networks: Sequence[nn.Module], decay: float) -> None:
        self._live = [p for network in networks for p in network.parameters()]
        self._mean = copy.deepcopy([p.detach() for p in self._live])
        self._decay, self._step = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average on by one step."""
        self._step += 1
        decay = min(self._decay, (1 + self._step) / (10 + self._step))
        torch._foreach_lerp_(self._mean, [p.detach() for p in self._live], 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the averages into the networks."""
        for live, mean in zip(self._live, self._mean, strict=True):
            live.copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        """The averages and the number of steps, for a file."""
        return {"mean": self._mean, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        self._step = state["step"]
        for mine, saved in zip(self._mean, state["mean"], strict=True):
            mine.copy_(saved)


def train_diffusion(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    latents: Tensor,
    scenes: Sequence[Scene],
    recipe: DiffusionRecipe,
    seed: int,
) -> None:
    """Train both networks in place; they end at their moving average.

    Args:
        unet: trained.
        text_encoder: trained.
        tokenizer: of the encoder.
        latents: standardized, float (drawings, 4, 8, 8).
        scenes: of the drawings, in order; each draw gets a random caption template.
        recipe: steps, batch per worker, learning rate and more.
        seed: of the draws; each worker draws its own.
    """
    draw = torch.Generator().manual_seed(seed * 1000 + 500 + rank())
    scheduler = build_scheduler()
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_lr, total_steps=recipe.steps, pct_start=0.1
    )
    average = MovingAverage([unet, text_encoder], recipe.ema_decay)
    running = 1.0
    bar = trange(recipe.steps, desc="diffusion", disable=rank() > 0)
    for _ in bar:
        rows = torch.randint(len(latents), (recipe.batch,), generator=draw)
        prompts = random_captions([scenes[i] for i in rows.tolist()], recipe.caption_dropout, draw)
        latent = latents[rows]
        noise = torch.randn(latent.shape, generator=draw)
        steps = torch.randint(1000, (recipe.batch,), generator=draw)
        noisy = scheduler.add_noise(latent, noise, steps)  # pyright: ignore[reportArgumentType]
        target = scheduler.get_velocity(latent, noise, steps)  # pyright: ignore[reportArgumentType]
        states = encode_prompts(tokenizer, text_encoder, prompts)
        loss = mse_loss(unet(noisy, steps, states).sample, target)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm, foreach=True)
        optimizer.step()
        schedule.step()
        average.update()
        running += 0.01 * (loss.item() - running)
        bar.set_postfix(loss=f"{running:.4f}", refresh=False)
    average.apply()


def random_captions(scenes: Sequence[Scene], dropout: float, draw: torch.Generator) -> list[str]:
    """Captions of random templates.

    Args:
        scenes: one caption each.
        dropout: share of captions left empty.
        draw: of the templates and of the empty ones.

    Returns:
        Texts, in the order of ``scenes``.
    """
    templates = torch.randint(len(TEMPLATES), (len(scenes),), generator=draw).tolist()
    kept = (torch.rand(len(scenes), generator=draw) >= dropout).tolist()
    return [
        caption(scene, template) if keep else ""
        for scene, template, keep in zip(scenes, templates, kept, strict=True)
    ]
