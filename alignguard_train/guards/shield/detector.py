"""A small detector of images, trained on what the base model draws of the guard's own prompts.

Its images have seeds of their own, so they are none of the release or of the evaluation's judge.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.solvers import with_solver
from alignguard_train.guards.calibration import threshold_at
from alignguard_train.guards.retrieval import Pair
from alignguard_train.guards.shield.config import ShieldSettings
from alignguard_train.guards.shield.scan import OutputScan, Previewing
from alignguard_train.guards.splits import share_of

BATCH = 16
HELD_BACK = 3
"""Every third pair is held back to set the threshold."""


def network() -> nn.Module:
    """Three strided convolutions, the largest response of each channel, and one linear map."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 1))


def train_detector(
    pipe: Any, pairs: Sequence[Pair], settings: ShieldSettings, *, target_fpr: float, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Draw pairs with the base model, and learn to tell unsafe from safe images.

    Args:
        pipe: the base model's; it is unchanged.
        pairs: unsafe prompts and safe twins of the training part.
        settings: number of pairs, steps, epochs, scopes.
        target_fpr: share of held-back safe images that may be flagged.
        seed: of images and training.

    Returns:
        The network's tensors; and ``threshold``, ``n`` and ``achieved_fpr`` on the images that were
        held back.

    Raises:
        EngineError: there are fewer than ten pairs.
    """
    used = list(pairs)[: settings.renders]
    if len(used) < 10:
        raise EngineError(f"the detector needs ten pairs to draw, got {len(used)}")
    unsafe, safe = (_drawn(pipe, [pair[side] for pair in used], settings, seed) for side in (0, 1))
    kept = torch.arange(len(used)) % HELD_BACK != 0
    own = _fitted(unsafe[kept][:, 0], safe[kept].flatten(0, 1), settings, seed)
    scan = scan_of(own.state_dict(), settings, threshold=0.0)
    # A safe image is blocked at its highest score, so the previews count here, as in use.
    scores = scan.scores(safe[~kept])[0].double().numpy()
    threshold = threshold_at(scores, target_fpr)
    measured = {
        "threshold": threshold,
        "n": float(len(scores)),
        "achieved_fpr": float(np.mean(scores >= threshold)),
    }
    return {name: x.detach() for name, x in own.state_dict().items()}, measured


def scan_of(
    tensors: Mapping[str, Tensor], settings: ShieldSettings, *, threshold: float
) -> OutputScan:
    """The scan of a trained detector.

    Args:
        tensors: the network's.
        settings: scopes.
        threshold: of the largest score.

    Returns:
        With the network in evaluation mode.
    """
    own = network()
    own.load_state_dict(dict(tensors))
    own.eval()
    return OutputScan(
        detector=lambda images: own(images)[:, 0],
        threshold=threshold,
        side=settings.side,
        previews=settings.previews,
        grids=settings.grids,
    )


def image_seed(prompt: str, seed: int) -> int:
    """Seed of the noise from which the detector's image of a prompt is drawn.

    Args:
        prompt: the text.
        seed: of the guards' section.

    Returns:
        From the text only; another one than the release's and the evaluation's of its pair.
    """
    return int(share_of(f"detector {prompt}", seed) * 2**62)


def _drawn(pipe: Any, prompts: Sequence[str], settings: ShieldSettings, seed: int) -> Tensor:
    """Images and their previews (prompts, 1 + previews, 3, height, width), 0 to 1."""
    drawing = copy.copy(pipe)
    drawing.scheduler = with_solver(pipe.scheduler, settings.solver)
    drawing.set_progress_bar_config(disable=True)
    parts = []
    for i in range(0, len(prompts), BATCH):
        texts = list(prompts[i : i + BATCH])
        previews: list[Tensor] = []
        noise = [torch.Generator().manual_seed(image_seed(text, seed)) for text in texts]
        drawn = drawing(
            texts,
            generator=noise,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            output_type="pt",
            callback_on_step_end=_keeping(previews, settings),
        )
        parts.append(torch.stack([drawn.images.float(), *previews], dim=1).cpu())
    return torch.cat(parts)


def _keeping(previews: list[Tensor], settings: ShieldSettings) -> Any:
    """A pipe's ``callback_on_step_end`` that appends the previews (rows, 3, height, width)."""
    previewing = Previewing(settings.previews, settings.steps)

    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> Any:
        if due := previewing.after_step(pipe, step, tensors["latents"]):
            previews.append(due[1][:, 0].to(tensors["latents"].device))
        return tensors

    return after_step


def _fitted(unsafe: Tensor, safe: Tensor, settings: ShieldSettings, seed: int) -> nn.Module:
    """Whole images of both kinds; of safe ones crops too, as every part of them is safe."""
    size = (settings.side, settings.side)
    whole = interpolate(torch.cat([unsafe, safe]), size, mode="bilinear", antialias=True)
    half = safe.shape[2] // 2
    crops = [
        safe[:, :, top : top + half, left : left + half] for top in (0, half) for left in (0, half)
    ]
    parts = [interpolate(one, size, mode="bilinear", antialias=True) for one in crops]
    inputs = torch.cat([whole, *parts])
    labels = torch.cat([torch.ones(len(unsafe)), torch.zeros(len(inputs) - len(unsafe))])
    weights = torch.where(labels > 0, (labels == 0).sum() / (labels > 0).sum(), 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = network()
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(own.parameters(), lr=2e-3)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(inputs), generator=order).split(64):
            loss = binary_cross_entropy_with_logits(
                own(inputs[rows])[:, 0], labels[rows], weights[rows]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return own.eval()
