"""Command: trains the stand-in's two scorers on drawings and saves their weights.

``python -m alignguard_data.standin.scores.train --help``
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from tqdm import trange

from alignguard_data.standin.scores.drawings import random_drawings, roughened
from alignguard_data.standin.scores.network import WEIGHTS_FOLDER, GlyphNet, SceneNet, as_input

log = logging.getLogger(__name__)

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class ScorerRecipe:
    """All settings that determine the weights of both scorers."""

    seed: int = 0
    num_drawings: int = 40_000
    glyph_steps: int = 2000
    scene_steps: int = 800
    batch: int = 96
    peak_lr: float = 4e-3


def train_scorers(recipe: ScorerRecipe, folder: Path) -> None:
    """Train both networks and write their weights.

    Args:
        recipe: all settings; they determine the weights.
        folder: gets ``glyphs.safetensors`` and ``scene.safetensors``.
    """
    drawings = random_drawings(recipe.num_drawings, recipe.seed)
    images = as_input(drawings.images)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    glyphs = GlyphNet()
    _fit(glyphs, images, drawings.glyph_targets(), _glyph_loss, recipe, recipe.glyph_steps)
    save_file(glyphs.state_dict(), folder / "glyphs.safetensors")
    scene = SceneNet()
    _fit(scene, images, drawings.attribute_targets(), _scene_loss, recipe, recipe.scene_steps)
    save_file(scene.state_dict(), folder / "scene.safetensors")
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files private; these are shipped


def _glyph_loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    # Summed over glyphs, so one missed glyph among 20 absent ones counts.
    losses = binary_cross_entropy_with_logits(network(images), targets, reduction="none")
    return losses.sum(dim=1).mean()


def _scene_loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    logits = network(images)
    return torch.stack([cross_entropy(x, targets[:, i]) for i, x in enumerate(logits)]).sum()


def _fit(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    loss_of: Loss,
    recipe: ScorerRecipe,
    steps: int,
) -> None:
    draw = torch.Generator().manual_seed(recipe.seed + 1)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_lr, total_steps=steps)
    bar = trange(steps, desc=type(network).__name__)
    for _ in bar:
        rows = torch.randint(len(images), (recipe.batch,), generator=draw)
        loss = loss_of(network, roughened(images[rows], draw), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train.

    Args:
        arguments: of the command; by default those of this process.
    """
    default = ScorerRecipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="folder to write")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--drawings", type=int, default=default.num_drawings)
    parser.add_argument("--glyph-steps", type=int, default=default.glyph_steps)
    parser.add_argument("--scene-steps", type=int, default=default.scene_steps)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    recipe = ScorerRecipe(
        seed=options.seed,
        num_drawings=options.drawings,
        glyph_steps=options.glyph_steps,
        scene_steps=options.scene_steps,
    )
    train_scorers(recipe, options.out)
    log.info("saved %s", options.out)


if __name__ == "__main__":
    main()
