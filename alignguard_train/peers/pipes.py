"""Helpers of the peers: pipes that share weights, joined texts, predictions as epsilon."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.diffusion.conditions import Pipe
from alignguard_train.contracts.noise import prediction_type_of
from alignguard_train.peers.concept import Concept, check

log = logging.getLogger(__name__)


def with_unet(pipe: Pipe, unet: UNet2DConditionModel) -> Pipe:
    """The same pipe with another UNet; everything else is shared."""
    changed: Any = copy.copy(pipe)
    changed.unet = unet
    return changed


def with_forward(unet: UNet2DConditionModel, forward: Callable[..., Any]) -> UNet2DConditionModel:
    """A UNet with shared weights that computes by ``forward``; the input UNet is unchanged."""
    changed = copy.copy(unet)
    changed.forward = forward
    return changed


def joined_text(pipe: Pipe, concepts: Sequence[Concept], template: str) -> str:
    """Put all names into one text within the tokenizer's limit.

    Joined by commas if they fit, else by spaces, else as many as fit with a warning.

    Args:
        pipe: the pipe whose tokenizer counts.
        concepts: the concepts to name.
        template: text with one ``{}`` for the names.

    Returns:
        The text.

    Raises:
        EngineError: not even one name fits.
    """
    check(concepts, template)
    names = [concept.name for concept in concepts]
    for kept in range(len(names), 0, -1):
        for between in (", ", " "):
            text = template.format(between.join(names[:kept]))
            if fits(pipe, text):
                if kept < len(names):
                    log.warning(
                        "%d of %d concepts do not fit into one text", len(names) - kept, len(names)
                    )
                return text
    raise EngineError(f"not even one concept fits into a text of this model: {names[0]!r}")


def fits(pipe: Pipe, text: str) -> bool:
    """Whether a text fits into the pipe's text encoder."""
    tokenizer: Any = pipe.tokenizer
    return len(tokenizer(text, verbose=False).input_ids) <= tokenizer.model_max_length


def epsilon_scale(scheduler: Any, t: Tensor | float) -> float:
    """Scale from the network's prediction to epsilon at timestep ``t``.

    With x_t fixed, epsilon = k * prediction + an offset that depends on x_t only: k is 1 for
    epsilon itself, and sqrt(a_t) for v, as epsilon = sqrt(a_t) v + sqrt(1 - a_t) x_t (arXiv
    2202.00512, appendix D). Differences of two predictions are differences of epsilon once scaled.

    Args:
        scheduler: of the pipe.
        t: timestep of the training schedule.

    Returns:
        k, positive.

    Raises:
        EngineError: the scheduler has another prediction type.
    """
    kind = prediction_type_of(scheduler)
    if kind == "epsilon":
        return 1.0
    if kind == "v_prediction":
        # Zero terminal SNR makes it 0, where epsilon is known and every difference is 0.
        return max(float(scheduler.alphas_cumprod[round(float(t))]) ** 0.5, 1e-8)
    raise EngineError(f"this method supports epsilon and v-prediction, not {kind}")


def share_done(scheduler: Any, t: Tensor | float) -> float:
    """Share of the denoising completed at timestep ``t``: 0 at the first, towards 1."""
    return 1 - float(t) / scheduler.config.num_train_timesteps
