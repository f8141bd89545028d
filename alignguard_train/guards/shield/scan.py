"""Looks at what is drawn at several scopes: the whole, crops, frames, and previews on the way.

A preview is the estimate of the finished image from the latents before and after a step: both are
a x + s e of one x and one e, as in DDIM, so x follows from the two. Where every row of a batch is
flagged, the rest of its steps is not computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from alignguard_data.contracts.errors import EngineError
from alignguard_train.guards.shield.consistency import Consistency

Detector = Callable[[Tensor], Tensor]
"""Images (n, 3, side, side), 0 to 1, to scores (n,); higher is more unsafe."""
FLAGGED_IMAGE = "flagged_image"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputScan:
    """A detector with its scopes and threshold.

    Attributes:
        detector: scores scaled scopes; it must not be the judge that measures.
        threshold: a largest score of this or more is unsafe.
        side: pixels of a scaled scope.
        previews: shares of the steps after which the image so far is scanned.
        grids: crops a side.
        consistency: compares the finished image of a rewritten prompt with the text that was drawn;
            None: they are not compared.
    """

    detector: Detector
    threshold: float
    side: int = 64
    previews: tuple[float, ...] = (0.25, 0.5, 0.75)
    grids: tuple[int, ...] = (2, 3)
    consistency: Consistency | None = None

    def scores(self, videos: Tensor) -> tuple[Tensor, list[str]]:
        """The largest score over frames and scopes, and where it is.

        Args:
            videos: (rows, frames, 3, height, width), 0 to 1; an image is a video of one frame.

        Returns:
            Scores (rows,), and frame and scope of each.
        """
        rows, frames = videos.shape[:2]
        names, parts = self._scopes(videos.flatten(0, 1).float())
        with torch.no_grad():
            found = torch.stack([self.detector(part) for part in parts], dim=1)
        by_row = found.view(rows, frames * len(parts))
        best, where = by_row.max(dim=1)
        at = [divmod(int(i), len(parts)) for i in where]
        return best, [f"frame {frame}, {names[scope]}" for frame, scope in at]

    def _scopes(self, images: Tensor) -> tuple[list[str], list[Tensor]]:
        names, parts = ["whole"], [images]
        height, width = images.shape[2:]
        for grid in self.grids:
            h, w = -(-height // grid), -(-width // grid)
            for i in range(grid * grid):
                top = min(i // grid * h, height - h)
                left = min(i % grid * w, width - w)
                names.append(f"crop {i + 1} of {grid}x{grid}")
                parts.append(images[:, :, top : top + h, left : left + w])
        return names, [
            interpolate(part, (self.side, self.side), mode="bilinear", antialias=True)
            for part in parts
        ]


class Previewing:
    """The previews of one call: images so far, after the given shares of its steps.

    Args:
        shares: of the steps.
        steps: of the call.
    """

    def __init__(self, shares: Sequence[float], steps: int) -> None:
        self._before: Tensor | None = None
        self._at = {max(1, round(share * steps) - 1): share for share in shares if steps > 2}

    def after_step(self, pipe: Any, step: int, latents: Tensor) -> tuple[float, Tensor] | None:
        """The preview that is due after this step: its share, and (rows, frames, 3, h, w)."""
        before, self._before = self._before, latents
        times = pipe.scheduler.timesteps
        if before is None or step not in self._at or step + 1 >= len(times):
            return None
        estimate = finished(pipe.scheduler, before, latents, times[step], times[step + 1])
        return None if estimate is None else (self._at[step], decoded(pipe, estimate))


class Watch:
    """One call's scan, as the pipe's ``callback_on_step_end`` and of its output.

    Args:
        scan: detector, scopes and threshold.
        pipe: that draws.
        rows: images or videos of the call.
        steps: of the call.
        texts: for each row the text that is drawn instead of its prompt, or an empty one.
    """

    def __init__(
        self, scan: OutputScan, pipe: Any, rows: int, steps: int, texts: Sequence[str] = ()
    ) -> None:
        self._scan, self._texts = scan, texts
        self._previews = Previewing(scan.previews, steps)
        self.found: list[str] = [""] * rows
        """Reason of each row; empty while nothing is found."""
        self.stopped_at: int | None = None
        """Steps that were computed, if the rest was not."""

    def after_step(
        self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Scan a preview after some steps; stop where every row is flagged."""
        if due := self._previews.after_step(pipe, step, tensors["latents"]):
            self._look(due[1], f"preview at {due[0]:.0%}")
        if all(self.found) and self.stopped_at is None:
            pipe._interrupt = True  # diffusers' own way to skip the rest of the loop
            self.stopped_at = step + 1
        return tensors

    def look_at(self, output: Any) -> list[str]:
        """Scan the finished images or frames too; the reason of each row, empty where it passes.

        Args:
            output: of the pipe.

        Returns:
            Reasons (rows,).

        Raises:
            EngineError: the output holds latents, which no detector reads.
        """
        videos = pixels(output)
        self._look(videos, "image")
        if self._scan.consistency is not None and self._texts:
            reasons = self._scan.consistency.reasons(videos, self._texts)
            self.found = [one or other for one, other in zip(self.found, reasons, strict=True)]
        return self.found

    def _look(self, videos: Tensor, when: str) -> None:
        scores, where = self._scan.scores(videos)
        for i, score in enumerate(scores.tolist()):
            # A score that is no number is taken for unsafe.
            if not self.found[i] and not score < self._scan.threshold:
                self.found[i] = f"{FLAGGED_IMAGE}: {when}, {where[i]}"


def finished(
    scheduler: Any, before: Tensor, after: Tensor, t: Tensor, next_t: Tensor
) -> Tensor | None:
    """Estimate the finished latents from those before and after one step.

    Args:
        scheduler: of the pipe.
        before: latents at timestep ``t``.
        after: latents at timestep ``next_t``.
        t: of the step.
        next_t: of the following one.

    Returns:
        Latents of ``before``'s shape; None for a scheduler without a noise schedule (a flow).
    """
    schedule = getattr(scheduler, "alphas_cumprod", None)
    if schedule is None:
        return None
    one, two = (float(schedule[round(float(x))]) for x in (t, next_t))
    (a, s), (b, r) = ((x**0.5, (1 - x) ** 0.5) for x in (one, two))
    if float(getattr(scheduler, "init_noise_sigma", 1.0)) > 1.5:  # latents are x + sigma e
        a, s, b, r = 1.0, s / a, 1.0, r / b
    return (s * after - r * before) / (s * b - r * a)


def decoded(pipe: Any, latents: Tensor) -> Tensor:
    """Latents (rows, channels, [frames,] h, w) to videos (rows, frames, 3, height, width)."""
    rows = len(latents)
    if latents.dim() == 5:
        latents = latents.transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        shown = pipe.vae.decode(
            (latents / pipe.vae.config.scaling_factor).to(pipe.vae.dtype), return_dict=False
        )[0]
    return (shown / 2 + 0.5).clamp(0, 1).float().unflatten(0, (rows, -1))


def pixels(output: Any) -> Tensor:
    """Images or frames of a pipe's output as (rows, frames, 3, height, width), 0 to 1.

    Args:
        output: with ``images`` or ``frames``: PIL images, arrays or tensors.

    Returns:
        Float32.

    Raises:
        EngineError: they are neither, as with ``output_type="latent"``.
    """
    frames = getattr(output, "frames", None)
    found = output.images if frames is None else frames
    # (rows, [frames,] 3, height, width)
    whole = found.float() if isinstance(found, Tensor) else _stacked(found)
    whole = whole if whole.dim() == 5 else whole[:, None]
    if whole.dim() != 5 or whole.shape[2] != 3:
        raise EngineError("the output scan reads images: output_type must not be latent")
    return whole


def _stacked(rows: Sequence[Any]) -> Tensor:
    """PIL images or arrays, or lists of them, as a channels-first tensor."""
    arrays = [
        np.stack([np.asarray(one) for one in row]) if isinstance(row, list) else np.asarray(row)
        for row in rows
    ]
    whole = np.stack(arrays)
    scale = 255 if whole.dtype == np.uint8 else 1
    return torch.from_numpy(whole.astype(np.float32) / scale).movedim(-1, -3)
