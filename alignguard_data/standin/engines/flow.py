"""The stand-in's flow-matching model: a small Stable Diffusion 3.5 on the UNet's own latents.

Autoencoder, tokenizer and text encoder are those of the trained base model, frozen; only the
transformer is trained. Rectified flow (arXiv 2209.03003) with logit-normal shares of noise, as SD3
(arXiv 2403.03206).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from alignguard_data.engines.families.sd35 import StableDiffusion35
from alignguard_data.standin.engines.base_model import as_tensor, random_scenes
from alignguard_data.standin.engines.diffusion import TEXT_WIDTH, MovingAverage, random_captions
from alignguard_data.standin.engines.parallel import average_gradients, num_workers, rank
from alignguard_data.standin.engines.vae import LATENT_CHANNELS, encode_means
from alignguard_data.standin.world import Scene, draw_many

WIDTH = 96
SHARD = "4MB"
"""Largest file of weights."""


@dataclass(frozen=True, kw_only=True)
class FlowRecipe:
    """All settings that determine the transformer's weights; ``batch`` is per worker."""

    seed: int = 0
    num_workers: int = 2
    num_drawings: int = 16_000
    glyph_share: float = 0.6
    steps: int = 5500
    batch: int = 24
    peak_lr: float = 2e-3
    caption_dropout: float = 0.1
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    save_every: int = 500


def build_transformer() -> SD3Transformer2DModel:
    """An untrained transformer of about 1.3 M parameters: a token a latent, four joint blocks.

    Modulation and output start at zero, so that every block starts as the identity.
    """
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=4,
        attention_head_dim=24,
        num_attention_heads=WIDTH // 24,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and (
            name == "proj_out" or name.endswith(("norm1.linear", "norm1_context.linear"))
        ):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return transformer


def with_projection(trained: CLIPTextModel, *, deeper: bool) -> CLIPTextModelWithProjection:
    """A trained encoder in the class that Stable Diffusion 3 takes.

    That pipe reads the last layer but one. A further layer that changes nothing makes it the last
    trained one.

    Args:
        trained: the base model's.
        deeper: with the further layer.

    Returns:
        The encoder; its projection is the identity, so pooled states are those of the end mark.
    """
    config = CLIPTextConfig(**trained.config.to_dict())
    config.num_hidden_layers += deeper
    made = CLIPTextModelWithProjection(config)
    weights = {name.removeprefix("text_model."): w for name, w in trained.state_dict().items()}
    unknown = made.load_state_dict({f"text_model.{n}": w for n, w in weights.items()}, strict=False)
    assert not unknown.unexpected_keys, unknown
    with torch.no_grad():
        made.text_projection.weight.copy_(torch.eye(TEXT_WIDTH))
        if deeper:
            last = f"text_model.encoder.layers.{config.num_hidden_layers - 1}"
            for name in ("self_attn.out_proj", "mlp.fc2"):
                for parameter in made.get_submodule(f"{last}.{name}").parameters():
                    parameter.zero_()
    return made.requires_grad_(False).eval()


def build_pipe(base: Path) -> StableDiffusion3Pipeline:
    """An untrained flow model around the parts of a trained base model.

    Args:
        base: the base model's folder.

    Returns:
        The pipe without T5; its transformer is as wide as both CLIP encoders.
    """
    vae = AutoencoderKL.from_pretrained(base / "vae")
    # Its latents are standardized. The path that it came from is no part of the checkpoint.
    vae.register_to_config(shift_factor=0.0, _name_or_path="")
    trained = CLIPTextModel.from_pretrained(base / "text_encoder")
    tokenizers = [CLIPTokenizer.from_pretrained(base / "tokenizer") for _ in range(2)]
    return StableDiffusion3Pipeline(
        transformer=build_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae.requires_grad_(False).eval(),
        text_encoder=with_projection(trained, deeper=True),
        tokenizer=tokenizers[0],
        text_encoder_2=with_projection(trained, deeper=False),
        tokenizer_2=tokenizers[1],
        text_encoder_3=None,  # pyright: ignore[reportArgumentType]
        tokenizer_3=None,  # pyright: ignore[reportArgumentType]
    )


class FlowTraining:
    """A training that resumes at any step: every draw follows from seed, step and worker."""

    def __init__(self, pipe: StableDiffusion3Pipeline, recipe: FlowRecipe) -> None:
        self.pipe, self.recipe, self.step = pipe, recipe, 0
        self.transformer = pipe.transformer
        self.parameters = list(self.transformer.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, weight_decay=1e-4, betas=(0.9, 0.99), fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.peak_lr, total_steps=recipe.steps, pct_start=0.06
        )
        self.average = MovingAverage([self.transformer], recipe.ema_decay)

    def loss(self, latents: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Squared error of the velocity on a batch drawn for this step.

        Args:
            latents: standardized, float (drawings, 4, 8, 8).
            scenes: of the drawings, in order.

        Returns:
            A scalar.
        """
        recipe = self.recipe
        number = (recipe.seed * recipe.steps + self.step) * num_workers() + rank()
        draw = torch.Generator().manual_seed(number)
        rows = torch.randint(len(latents), (recipe.batch,), generator=draw)
        prompts = random_captions([scenes[i] for i in rows.tolist()], recipe.caption_dropout, draw)
        latent = latents[rows]
        noise = torch.randn(latent.shape, generator=draw)
        sigma = torch.randn(recipe.batch, generator=draw).sigmoid()
        share = sigma[:, None, None, None]
        with torch.no_grad():
            family = StableDiffusion35()
            conditions = family.encode(self.pipe, prompts)
        arguments = family.arguments(self.transformer, conditions, height=32, width=32)
        noisy = (1 - share) * latent + share * noise
        predicted = family.predict(self.transformer, noisy, sigma * 1000, arguments)
        return mse_loss(predicted, noise - latent)

    def advance(self, latents: Tensor, scenes: Sequence[Scene]) -> float:
        """Train one step.

        Args:
            latents: standardized, float (drawings, 4, 8, 8).
            scenes: of the drawings, in order.

        Returns:
            The loss on this worker's batch.
        """
        loss = self.loss(latents, scenes)
        self.optimizer.zero_grad()
        loss.backward()
        average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm, foreach=True)
        self.optimizer.step()
        self.schedule.step()
        self.average.update()
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write everything that a resumed training needs."""
        state = {
            "step": self.step,
            "transformer": self.transformer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self, path: Path) -> None:
        """Continue from what :meth:`save` wrote."""
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.transformer.load_state_dict(state["transformer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(state["average"])


def train_flow(recipe: FlowRecipe, base: str, folder: str, state: str) -> None:
    """Train as one of the workers of :func:`run_workers`; worker 0 saves the pipe.

    Args:
        recipe: all settings; they, the base model and the number of workers determine the weights.
        base: folder of the trained base model.
        folder: where to save, in diffusers' format.
        state: file of the training's state; an existing one is resumed.
    """
    torch.manual_seed(recipe.seed)
    pipe = build_pipe(Path(base))
    pipe.set_progress_bar_config(disable=True)
    scenes = random_scenes(recipe.num_drawings, recipe.glyph_share, recipe.seed)
    images = as_tensor(draw_many(scenes, recipe.seed * recipe.num_drawings))
    latents = encode_means(pipe.vae, images)
    training = FlowTraining(pipe, recipe)
    if Path(state).is_file():
        training.resume(Path(state))
    running = 1.0
    bar = tqdm(total=recipe.steps, initial=training.step, desc="flow", disable=rank() > 0)
    while training.step < recipe.steps:
        running += 0.01 * (training.advance(latents, scenes) - running)
        bar.update()
        bar.set_postfix(loss=f"{running:.4f}", refresh=False)
        if rank() == 0 and training.step % recipe.save_every == 0:
            training.save(Path(state))
    training.average.apply()
    if rank() == 0:
        pipe.transformer.eval()
        pipe.save_pretrained(Path(folder), safe_serialization=True, max_shard_size=SHARD)
