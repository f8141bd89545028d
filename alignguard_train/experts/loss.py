"""Diffusion-DPO and its remedies as free functions over tensors (docs/method.md).

Names follow the paper: ``_w`` is the chosen (winner) side, ``_l`` the rejected (loser) side,
``_ref`` the same UNet with the adapter off. Errors are per row: shape (batch,).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from alignguard_train.contracts.noise import per_row


def per_row_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each row: (batch, ...) and (batch, ...) to (batch,).

    Args:
        predicted: (batch, ...).
        target: the same shape.

    Returns:
        Error of each row, (batch,).
    """
    return (predicted - target).pow(2).flatten(1).mean(dim=1)


def dpo_margin(e_w: Tensor, e_l: Tensor, e_w_ref: Tensor, e_l_ref: Tensor) -> Tensor:
    """Margin of the policy over the reference in preferring the chosen side: (batch,).

    The negative of the loss's bracket: positive is good.

    Args:
        e_w: error of the adapted UNet on the chosen image, (batch,).
        e_l: its error on the rejected image, (batch,).
        e_w_ref: error of the UNet without the adapter on the chosen image, (batch,).
        e_l_ref: its error on the rejected image, (batch,).

    Returns:
        Margin of each pair, (batch,), in units of squared error.
    """
    return (e_w_ref - e_w) - (e_l_ref - e_l)


def dpo_loss(e_w: Tensor, e_l: Tensor, e_w_ref: Tensor, e_l_ref: Tensor, *, beta: float) -> Tensor:
    """-log sigmoid(-(beta/2) [(e_w - e_l) - (e_w_ref - e_l_ref)]), mean over the batch.

    Source: Diffusion-DPO (arXiv 2311.12908, equation 14).

    Args:
        e_w: error of the adapted UNet on the chosen image, (batch,).
        e_l: its error on the rejected image, (batch,).
        e_w_ref: error of the UNet without the adapter on the chosen image, (batch,).
        e_l_ref: its error on the rejected image, (batch,).
        beta: strength of the preference, positive.

    Returns:
        A scalar.
    """
    return -logsigmoid(beta / 2 * dpo_margin(e_w, e_l, e_w_ref, e_l_ref)).mean()


def sft_loss(e_w: Tensor) -> Tensor:
    """Mean error of the chosen side over the batch: fine-tuning on safe images.

    Args:
        e_w: error on the chosen image, (batch,).

    Returns:
        A scalar.
    """
    return e_w.mean()


def implicit_accuracy(e_w: Tensor, e_l: Tensor, e_w_ref: Tensor, e_l_ref: Tensor) -> Tensor:
    """Share of pairs with a positive margin; a tie counts half.

    Args:
        e_w: error of the adapted UNet on the chosen image, (batch,).
        e_l: its error on the rejected image, (batch,).
        e_w_ref: error of the UNet without the adapter on the chosen image, (batch,).
        e_l_ref: its error on the rejected image, (batch,).

    Returns:
        A scalar in [0, 1].
    """
    margin = dpo_margin(e_w, e_l, e_w_ref, e_l_ref)
    return ((margin > 0).double() + 0.5 * (margin == 0).double()).mean()


def preservation_loss(predicted: Tensor, reference: Tensor) -> Tensor:
    """Mean squared distance to the reference's prediction on (safe image, safe prompt).

    Args:
        predicted: prediction with the adapter, (batch, channels, h, w).
        reference: prediction without it, the same shape.

    Returns:
        A scalar.
    """
    return (predicted - reference).pow(2).mean()


def cost_margin(gap: Tensor, *, most: float) -> Tensor:
    """The margin that a pair's costs ask for, cut off at ``most``.

    From a reward r - lambda C: the preference's logit becomes z - lambda (C_l - C_w). Our
    reconstruction of SC-DPO (arXiv 2504.14290).

    Args:
        gap: lambda (C_l - C_w) of each pair, (batch,), in logits.
        most: largest absolute value, in logits.

    Returns:
        Margin of each pair, (batch,), without gradient.
    """
    return gap.detach().clamp(-most, most)


def focusing_weight(logits: Tensor, *, gamma: float) -> Tensor:
    """(1 - sigmoid(logits))^gamma over its mean in the batch: (batch,), with mean 1.

    Computed from logarithms, as every power underflows where all pairs are well separated.

    Args:
        logits: of the preference, margin subtracted, (batch,).
        gamma: how much less separated pairs count, 0 or more.

    Returns:
        Weight of each pair, (batch,), without gradient; exactly 1 where gamma is 0.
    """
    logs = gamma * logsigmoid(-logits.detach())
    powers = (logs - logs.max()).exp()
    return powers / powers.mean()


def cost_dpo_loss(
    e_w: Tensor,
    e_l: Tensor,
    e_w_ref: Tensor,
    e_l_ref: Tensor,
    *,
    beta: float,
    margin: Tensor,
    gamma: float,
) -> Tensor:
    """-w log sigmoid(z - m), mean over the batch: :func:`dpo_loss` where m and gamma are 0.

    z is the logit of :func:`dpo_loss`, m the cost margin and w the focusing weight. Our
    reconstruction of SC-DPO (arXiv 2504.14290), whose equations we did not have.

    Args:
        e_w: error of the adapted UNet on the chosen image, (batch,).
        e_l: its error on the rejected image, (batch,).
        e_w_ref: error of the UNet without the adapter on the chosen image, (batch,).
        e_l_ref: its error on the rejected image, (batch,).
        beta: strength of the preference, positive.
        margin: m of each pair, (batch,), in logits.
        gamma: exponent of the focusing, 0 or more.

    Returns:
        A scalar.
    """
    logits = beta / 2 * dpo_margin(e_w, e_l, e_w_ref, e_l_ref) - margin
    return -(focusing_weight(logits, gamma=gamma) * logsigmoid(logits)).mean()


def min_snr_weight(t: Tensor, alphas_cumprod: Tensor, *, gamma: float, v: bool) -> Tensor:
    """Weight of each row's error: min(SNR, gamma) / SNR, over SNR + 1 for v-prediction: (batch,).

    Source: Min-SNR-gamma (arXiv 2303.09556), SNR = a_t / (1 - a_t).

    Args:
        t: timesteps, int64 (batch,).
        alphas_cumprod: a_t of the noise schedule, (timesteps,), in (0, 1).
        gamma: bound of the SNR, positive.
        v: whether the network predicts v rather than the noise.

    Returns:
        Weight of each row, (batch,).
    """
    a = alphas_cumprod[t]
    snr = a / (1 - a)
    return snr.clamp(max=gamma) / (snr + 1 if v else snr)


def safeguard_scale(grad_w: Tensor, grad_l: Tensor, *, mu: float) -> Tensor:
    """Factor of the loser's gradient in Diffusion-SDPO (arXiv 2511.03317).

    clip((1 - mu) |g_w|^2 / (g_w . g_l), 0, 1) where g_w . g_l > 0, else 1. Gradients are with
    respect to the prediction: (batch, ...); the result is (batch,).

    Args:
        grad_w: gradient of the chosen side, (batch, ...).
        grad_l: gradient of the rejected side, the same shape.
        mu: share of the chosen side's descent that is kept, in [0, 1].

    Returns:
        Factor of each row, (batch,), in [0, 1].
    """
    dot = (grad_w * grad_l).flatten(1).sum(dim=1)
    square = grad_w.pow(2).flatten(1).sum(dim=1)
    scale = ((1 - mu) * square / dot).clamp(0, 1)
    return torch.where(dot > 0, scale, torch.ones_like(scale))


def scaled_gradient(value: Tensor, scale: Tensor) -> Tensor:
    """``value`` (batch, ...) with its gradient scaled by ``scale`` (batch,).

    Args:
        value: (batch, ...).
        scale: factor of each row, (batch,).

    Returns:
        ``value``, unchanged, (batch, ...).
    """
    factor = per_row(scale, value)
    return value.detach() + factor * (value - value.detach())
