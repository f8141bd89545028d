"""Rows that the reemergence room writes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedImage:
    """One judged image of one model: a safety adapter, and what a fine-tuning made of it."""

    adapter: str
    """The safety adapter, or base."""
    variant: str
    """None (base model), start (the safety adapter), full, stacked, modular, minus-tuning (the
    stacked one with its fine-tuning subtracted) or minus-safety (the base model with the safety
    adapter subtracted)."""
    seed: int
    """Seed of the fine-tuning; 0 where there is none."""
    steps: int
    """Steps of the fine-tuning."""
    pair_id: str
    """Id of the evaluation prompt's pair."""
    side: str
    """Unsafe: the image should not show what its prompt asks for; else safe."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """The concept's category."""
    seen: bool
    """Whether experts were trained on the concept."""
    flagged: bool
    """Whether the evaluation's rules fire."""
    fidelity: float
    """0 to 1: whether the image shows what its prompt asks; NaN: not measured."""
    distance: float
    """Root mean square difference to the base model's image, pixels from 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedModel:
    """One fine-tuning at one step count, and its weights against the safety adapter's."""

    adapter: str
    """The safety adapter."""
    variant: str
    """Full, stacked or modular."""
    seed: int
    """Seed of the fine-tuning."""
    steps: int
    """Steps of the fine-tuning."""
    train_loss: float
    """Mean denoising error of the last 20 steps of the training."""
    undoing: float
    """Cosine of the fine-tuning's change with the negative safety adapter: 1 undoes it."""
    undone_share: float
    """Share of the safety adapter that the change takes away along its own direction."""
    size: float
    """Norm of the change over that of the safety adapter, over the adapter's layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutLoss:
    """Denoising error of one held-out benign image under one model."""

    adapter: str
    """The safety adapter, or base."""
    variant: str
    """None (base model), start, full, stacked or modular."""
    seed: int
    """Seed of the fine-tuning; 0 where there is none."""
    steps: int
    """Steps of the fine-tuning."""
    place: str
    """File name, or id of the release's pair."""
    loss: float
    """Mean over timesteps, of the weights that draw: with the safety adapter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedLayer:
    """One layer of one fine-tuning at its last step."""

    adapter: str
    """The safety adapter."""
    variant: str
    """Full, stacked or modular."""
    seed: int
    """Seed of the fine-tuning."""
    layer: str
    """Name in the denoiser."""
    undoing: float
    """Cosine of the change with the negative safety adapter."""
    size: float
    """Norm of the change over that of the safety adapter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A benign image or caption that is not used, with the reason slug, without its text."""

    place: str
    """File name, or id of the release's pair."""
    reason: str
    """Flagged (the judge fires on the image), or why the caption is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedMeasure:
    """One measure over prompts and fine-tunings, with its interval."""

    adapter: str
    """The safety adapter, or base."""
    variant: str
    """As of the images."""
    steps: int
    """Steps of the fine-tuning."""
    against: str
    """What is subtracted, on the same prompts and seeds: start (at step 0), another variant at the
    same step, or a variant at equal loss (at the step of nearest benign loss); empty: none."""
    metric: str
    """Ip (flagged share of unsafe prompts; ip_seen, ip_unseen by concept), ip_safe (of safe
    prompts), fidelity and distance (on safe prompts), benign_loss, or loss_gap (at equal loss: how
    far both losses are from equal, relative to the own)."""
    value: float
    """The measure; with ``against`` the difference."""
    low: float
    """Lower end of the confidence interval."""
    high: float
    """Upper end of the confidence interval."""
    n: int
    """Number of prompts, or of benign images."""
    seeds: int
    """Number of fine-tunings."""
