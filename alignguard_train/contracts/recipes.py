"""Named recipes: every hyperparameter of expert training and merging, documented.

Imports no torch, so profiles and fingerprints are read without loading it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

Method = Literal["dpo", "sft"]
Layers = Literal["attention", "self-attention"]
Optimizer = Literal["adamw", "adafactor"]
PreservedPrompt = Literal["safe", "empty"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertRecipe:
    """How one LoRA expert is trained (Diffusion-DPO and its remedies; docs/method.md).

    Attributes:
        method: the loss, ``dpo``, or ``sft`` (chosen side only).
        rank: rank of every layer; alpha is equal to it.
        steps: optimizer steps.
        batch_size: pairs of one forward pass.
        accumulation: forward passes of one step.
        beta: strength of the preference. The error is a mean per element, so values are not
            comparable with those of implementations that sum.
        focusing: exponent gamma with which pairs that the model does not separate yet count more,
            within one forward pass; 0 turns it off.
        cost_margin: median, over the expert's pairs, of the margin in logits that a costlier
            rejected image asks for; needs the costs of a cost model; 0 turns it off.
        margin_max: largest margin of a pair, in logits, of either sign.
        clean_pairs: share of the batch that has the safe prompt, its safe image as chosen one, and
            another pair's safe image as rejected one.
        safeguard: mu of Diffusion-SDPO, which limits the rejected side's gradient; None turns it
            off.
        preservation: weight of the mean squared distance to the reference on (safe image, safe
            prompt).
        preservation_at: ``same``, at the pair's timestep, or ``last``, on pure noise at t = T as in
            DUO.
        preservation_prompt: prompt of the preserved rows: ``safe``, the pair's, or ``empty``.
        t_max: largest noise at which pairs are compared: share of the timesteps, or of a flow
            model, share of noise after the shift. 1 is all; DUO's 0.75 leaves out those that decide
            the layout.
        preserve_others: share of the preserved rows taken from other categories, either side of
            their pairs, so an expert learns to leave them unchanged.
        min_snr: gamma of the timestep weights; None turns them off.
        layers: every attention projection, or only those of self-attention.
        optimizer: ``adamw``, or ``adafactor``, which needs less memory.
        lr: the first learning rate after the warm-up.
        warmup_steps: steps in which the learning rate rises to ``lr``.
        lr_floor: the last learning rate over the first, reached linearly.
        weight_decay: of the optimizer.
        clip: largest norm of a step's gradient.
        caption_dropout: share of the prompts that are replaced by the empty one.
        flip: mirror both images of a pair together, half of the time.
        gradient_checkpointing: compute activations twice to save memory.
        checkpoint_every: steps between saved states, from which a killed training resumes.
        max_winner_ratio: training stops as diverged when the chosen side's error exceeds this
            multiple of the reference's, over 20 steps.
        watch_ip_every: steps between measurements of IP on held-out prompts, for TensorBoard only;
            0 turns them off.
    """

    method: Method = "dpo"
    rank: int = 8
    steps: int = 120
    batch_size: int = 8
    accumulation: int = 1
    beta: float = 5.0
    focusing: float = 0.0
    cost_margin: float = 0.0
    margin_max: float = 5.0
    clean_pairs: float = 0.0
    safeguard: float | None = None
    preservation: float = 3.0
    preservation_at: Literal["same", "last"] = "same"
    preservation_prompt: PreservedPrompt = "safe"
    t_max: float = 1.0
    preserve_others: float = 0.0
    min_snr: float | None = None
    layers: Layers = "attention"
    optimizer: Optimizer = "adamw"
    lr: float = 3e-3
    warmup_steps: int = 10
    lr_floor: float = 0.1
    weight_decay: float = 1e-2
    clip: float = 1.0
    caption_dropout: float = 0.0
    flip: bool = False
    gradient_checkpointing: bool = False
    checkpoint_every: int = 1
    max_winner_ratio: float = 10.0
    watch_ip_every: int = 0

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise ValueError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        for name in ("rank", "steps", "batch_size", "accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1, got {getattr(self, name)}"
        for name in ("beta", "lr", "clip", "max_winner_ratio", "margin_max"):
            if getattr(self, name) <= 0:
                yield f"{name} must be positive, got {getattr(self, name)}"
        for name in (
            "preservation", "focusing", "cost_margin", "weight_decay", "warmup_steps",
            "watch_ip_every",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                yield f"{name} must not be negative, got {getattr(self, name)}"
        for name in ("lr_floor", "caption_dropout", "preserve_others"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name} must lie in [0, 1], got {getattr(self, name)}"
        if not 0 < self.t_max <= 1:
            yield f"t_max must lie in (0, 1], got {self.t_max}"
        if self.preservation_prompt == "empty" and self.preserve_others:
            yield (
                f"preserve_others must be 0 with preservation_prompt empty, got "
                f"{self.preserve_others}: every preserved row has the same prompt"
            )
        yield from self._faults_of_costs()
        if self.safeguard is not None and not 0 <= self.safeguard <= 1:
            yield f"safeguard must lie in [0, 1], got {self.safeguard}"
        if self.min_snr is not None and self.min_snr <= 0:
            yield f"min_snr must be positive, got {self.min_snr}"
        choices: dict[str, object] = {
            "method": Method,
            "layers": Layers,
            "optimizer": Optimizer,
            "preservation_at": Literal["same", "last"],
            "preservation_prompt": PreservedPrompt,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                one_of = ", ".join(get_args(allowed))
                yield f"{name} must be one of {one_of}, got {getattr(self, name)!r}"

    def _faults_of_costs(self) -> Iterator[str]:
        if not 0 <= self.clean_pairs < 1:
            yield f"clean_pairs must lie in [0, 1), got {self.clean_pairs}"
        if self.cost_margin > self.margin_max:
            yield (
                f"cost_margin must be at most margin_max ({self.margin_max}), got "
                f"{self.cost_margin}: half of the pairs would be cut off"
            )
        if self.clean_pairs and self.caption_dropout == 1:
            yield (
                f"clean_pairs must be 0 with caption_dropout 1, got {self.clean_pairs}: their "
                "safe prompts would be empty too"
            )
        if self.focusing and self.batch_size == 1:
            yield (
                f"focusing compares the pairs of one forward pass, so with it batch_size must be "
                f"at least 2, got {self.batch_size}"
            )
        for name in ("focusing", "cost_margin", "clean_pairs"):
            if self.method != "dpo" and getattr(self, name):
                yield f"{name} is for method dpo, got {getattr(self, name)} with {self.method}"

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """The fields that decide the weights, for fingerprints.

        Later fields are left out at their defaults, so what was trained before they existed stays
        up to date.
        """
        found = {"focal": 0.0} | asdict(self)  # of an earlier form of focusing
        for name in _CHANGE_NO_WEIGHT:
            del found[name]
        for field in fields(self):
            if field.name in _LATER and found[field.name] == field.default:
                del found[field.name]
        return found


_CHANGE_NO_WEIGHT = ("checkpoint_every", "watch_ip_every")
_LATER = frozenset(
    {
        "preservation_prompt", "t_max", "focusing", "cost_margin", "margin_max", "clean_pairs",
    }
)  # fmt: skip


def standin_expert() -> ExpertRecipe:
    """The stand-in's recipe.

    docs/explanation/training.md has the curves that chose it, and what 60 steps keep of 120.

    Returns:
        The recipe.
    """
    return ExpertRecipe(steps=60)


def standin_flow_expert() -> ExpertRecipe:
    """The numbers of the stand-in's UNet, for its flow model.

    Two concepts of one category, 30 steps, on prompts that no figure is of: IP 0.00 with these, and
    0.50 with a learning rate of 1e-3 or beta 30; beta 1 is like 5. Every scene was right.

    Returns:
        The recipe.
    """
    return standin_expert()


def sd15_expert() -> ExpertRecipe:
    """Stable Diffusion 1.5 as the authors' code trains it (arXiv 2412.10493).

    Their learning rate 1e-5 is scaled by batch and accumulation. Flips are made to both images of a
    pair.

    Returns:
        The recipe.
    """
    return ExpertRecipe(
        rank=4, steps=2000, batch_size=4, accumulation=4, beta=5000.0, preservation=0.0,
        lr=1.6e-4, warmup_steps=500, lr_floor=1.0, caption_dropout=0.2, flip=True,
        checkpoint_every=50,
    )  # fmt: skip


def sd21_expert() -> ExpertRecipe:
    """Stable Diffusion 2.1: the numbers of 1.5; v-prediction is read from the checkpoint."""
    return sd15_expert()


def sdxl_expert() -> ExpertRecipe:
    """Stable Diffusion XL as the authors' code trains it (arXiv 2412.10493)."""
    return replace(
        sd15_expert(), optimizer="adafactor", lr=1e-5, warmup_steps=0, gradient_checkpointing=True
    )


def sd35_expert() -> ExpertRecipe:
    """Stable Diffusion 3.5: rank, beta and learning rate of Flow-GRPO's DPO script for Medium.

    github.com/yifan123/flow_grpo, scripts/train_sd3_dpo.py, whose alpha is twice the rank; ours is
    the rank. The safeguard (arXiv 2511.03317) and the rest are ours, not measured at this size.

    Returns:
        The recipe.
    """
    return ExpertRecipe(
        rank=32, steps=2000, batch_size=4, accumulation=4, beta=100.0, safeguard=0.6,
        preservation=0.0, lr=3e-4, warmup_steps=100, lr_floor=1.0, caption_dropout=0.0, flip=True,
        gradient_checkpointing=True, checkpoint_every=50,
    )  # fmt: skip


def flux_expert() -> ExpertRecipe:
    """FLUX.1: the numbers of 3.5 with beta 2000 and a lower learning rate.

    Flow-GRPO's author suggests that beta for FLUX where 500 was unstable; not measured at this
    size.

    Returns:
        The recipe.
    """
    return replace(sd35_expert(), rank=16, batch_size=1, accumulation=16, beta=2000.0, lr=1e-4)


def as_sft(recipe: ExpertRecipe) -> ExpertRecipe:
    """Train on chosen images only, the obvious alternative to a preference loss.

    Args:
        recipe: the recipe to change.

    Returns:
        A copy with method ``sft``.
    """
    return replace(
        recipe, method="sft", preservation=0.0, focusing=0.0, cost_margin=0.0, clean_pairs=0.0
    )


def as_duo(recipe: ExpertRecipe, *, weight: float = 1.0, beta: float | None = None) -> ExpertRecipe:
    """Train in the manner of DUO (arXiv 2407.21035).

    Every prompt is empty, so the images decide what is removed; only self-attention is trained, at
    the least noisy three quarters of the timesteps; on pure noise at t = T the prediction stays
    that of the reference. Both images of a pair share their timestep, unlike in the authors' code,
    whose two errors are of different noise. DUO's pairs are edits of the unsafe image
    (docs/how-to/edited-pairs.md). A transformer has no self-attention of the image only; set
    ``layers`` to ``attention`` for it.

    Args:
        recipe: the recipe to change.
        weight: weight of the preservation; the authors' is :func:`duo_prior`, in float32.
        beta: in DUO's convention, without the factor 1/2 of ours; None keeps the recipe's own.

    Returns:
        A copy with those settings, and without ``preserve_others``.
    """
    return replace(
        recipe, layers="self-attention", preservation=weight, preservation_at="last",
        preservation_prompt="empty", preserve_others=0.0, caption_dropout=1.0, t_max=0.75,
        beta=recipe.beta if beta is None else 2 * beta,
    )  # fmt: skip


def duo_prior(beta: float) -> float:
    """The authors' weight of the preservation.

    Their code (github.com/naver-ai/DUO, train/unlearn-sd.py) multiplies its ``ourloss_lambda`` of
    1e6 by beta / 100. What it weighs is the squared distance to the reference on the pair's noise
    at the last timestep under the empty prompt, a mean over rows and elements; the errors within
    the preference loss are means over the elements too. Both are so here, so the number is used as
    it is.

    Args:
        beta: in DUO's convention, half of a recipe's.

    Returns:
        The weight for :func:`as_duo`.
    """
    return 1e6 * beta / 100


def sd15_duo() -> ExpertRecipe:
    """DUO on Stable Diffusion 1.4 or 1.5, as its code removes nudity (github.com/naver-ai/DUO).

    Their learning rate and prior after the scaling by beta; the prior needs float32. Not measured
    at this size.

    Returns:
        The recipe.
    """
    small = replace(
        sd15_expert(), rank=32, steps=1000, batch_size=4, accumulation=1, lr=6e-5, warmup_steps=0,
        flip=False,
    )  # fmt: skip
    return as_duo(small, weight=duo_prior(500.0), beta=500.0)


def as_sc_dpo(
    recipe: ExpertRecipe, *, margin: float = 1.0, gamma: float = 1.0, clean: float = 0.25
) -> ExpertRecipe:
    """Train in the manner of SC-DPO (arXiv 2504.14290), as this project reconstructs it.

    No code and no equation of theirs was available; docs/method.md has ours.

    Args:
        recipe: the recipe to change.
        margin: median of the cost margin, in logits; needs a cost model.
        gamma: how much more the pairs count that are not separated yet.
        clean: share of clean pairs in the batch.

    Returns:
        A copy with those settings.
    """
    return replace(recipe, cost_margin=margin, focusing=gamma, clean_pairs=clean)
