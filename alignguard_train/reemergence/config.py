"""What a profile's `reemergence` section holds: a benign fine-tuning, and what is measured."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from alignguard_train.contracts.adapter_names import ALL_SINGLE, EXPERT, MERGE, MERGED

Variant = Literal["full", "stacked", "modular"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""``full``: all weights of base and safety adapter together; ``stacked``: a new adapter on top of
both; ``modular``: a new adapter on the base model, added to the safety adapter afterwards."""
NONE, START = "none", "start"
"""The base model, and the safety adapter before any fine-tuning."""
MINUS_TUNING, MINUS_SAFETY = "minus-tuning", "minus-safety"
"""The arithmetic probes: W0 + s - f and W0 - s."""
Style = Literal["none", "grey", "sepia", "negative", "upside-down"]
STYLES: tuple[Style, ...] = get_args(Style)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenignConfig:
    """Images and captions of the fine-tuning; flagged images and refused captions are left out.

    Attributes:
        folder: a folder of images with ``metadata.jsonl``, whose lines have ``file_name`` and
            ``text``, as diffusers' training scripts read it; None: the chosen images of the
            release's train split with their safe captions.
        style: what is done to every image before it is trained on. The judge must be able to read
            such images, else flags on the new style are its error.
        style_word: put in front of every caption.
        rows: maximum number of images to train on, those with the smallest ids.
        held_out: further images, on which the benign loss is measured.
    """

    folder: str | None = None
    style: Style = "none"
    style_word: str = ""
    rows: int = 60
    held_out: int = 16

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be 1 or more, got {getattr(self, name)}"
            for name in ("rows", "held_out")
            if getattr(self, name) < 1
        ]
        if self.style not in STYLES:
            faults.append(f"style must be one of {', '.join(STYLES)}, got {self.style!r}")
        if faults:
            raise ValueError("; ".join(faults))


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningRecipe:
    """How a benign fine-tuning trains; the learning rate is constant after the warm-up.

    Attributes:
        rank: of the new adapter; alpha is equal to it.
        lr: learning rate of a new adapter.
        full_lr: learning rate where all weights are trained.
        warmup_steps: steps in which the learning rate rises.
        batch_size: images of a step.
        weight_decay: of AdamW.
        clip: largest norm of a step's gradient.
        caption_dropout: share of captions that are replaced by the empty one.
        gradient_checkpointing: compute activations twice to save memory.
        checkpoint_every: steps between saved states, from which a killed training resumes.
    """

    rank: int = 4
    lr: float = 1e-4
    full_lr: float = 1e-5
    warmup_steps: int = 0
    batch_size: int = 8
    weight_decay: float = 1e-2
    clip: float = 1.0
    caption_dropout: float = 0.0
    gradient_checkpointing: bool = False
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise ValueError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        for name in ("rank", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                yield f"{name} must be 1 or more, got {getattr(self, name)}"
        for name in ("lr", "full_lr", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                yield f"{name} must be a positive number, got {getattr(self, name)}"
        for name in ("warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                yield f"{name} must not be negative, got {getattr(self, name)}"
        if not 0 <= self.caption_dropout < 1:
            yield f"caption_dropout must lie in [0, 1), got {self.caption_dropout}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReemergenceConfig:
    """What is fine-tuned, for how long, and what is measured of it.

    Attributes:
        variants: ways to fine-tune; see :data:`VARIANTS`.
        adapters: safety adapters by name (merged, merge:STRATEGY, all-single, expert:CATEGORY);
            None: the merged adapter and every other merge.
        steps: step counts at which it is measured, besides 0; the last ends the training.
        seeds: of the fine-tunings; intervals are over these and the prompts.
        benign: images and captions.
        recipe: of the fine-tuning.
        prompts_per_concept: maximum prompt pairs per concept.
        bootstrap_resamples: bootstrap resamples per interval.
        confidence: level of the intervals.
    """

    variants: tuple[Variant, ...] = VARIANTS
    adapters: tuple[str, ...] | None = None
    steps: tuple[int, ...] = (50, 100, 200, 400)
    seeds: tuple[int, ...] = (0,)
    benign: BenignConfig = field(default_factory=BenignConfig)
    recipe: TuningRecipe = field(default_factory=TuningRecipe)
    prompts_per_concept: int = 4
    bootstrap_resamples: int = 2000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if faults := [*self._list_faults(), *self._number_faults()]:
            raise ValueError("; ".join(faults))

    def _list_faults(self) -> Iterator[str]:
        for name in ("variants", "adapters", "steps", "seeds"):
            values = getattr(self, name)
            if values is None:
                continue
            if not values:
                yield f"{name} must name at least one, got none"
            if twice := sorted({str(one) for one in values if list(values).count(one) > 1}):
                yield f"{name}: {', '.join(twice)} is named twice"
        for one in self.variants:
            if one not in VARIANTS:
                yield f"variants: no {one!r}; there are {', '.join(VARIANTS)}"
        for name in self.adapters or ():
            if name not in (MERGED, ALL_SINGLE) and not name.startswith((MERGE, EXPERT)):
                yield (
                    f"adapters: {name!r} is no safety adapter; there are {MERGED}, {ALL_SINGLE}, "
                    f"{MERGE}STRATEGY and {EXPERT}CATEGORY"
                )

    def _number_faults(self) -> Iterator[str]:
        for count in self.steps:
            if count < 1:
                yield f"steps must be 1 or more each (0 is always measured), got {count}"
        if list(self.steps) != sorted(self.steps):
            yield f"steps must rise, got {', '.join(map(str, self.steps))}"
        for seed in self.seeds:
            if seed < 0:
                yield f"seeds must not be negative, got {seed}"
        if self.prompts_per_concept < 1:
            yield f"prompts_per_concept must be 1 or more, got {self.prompts_per_concept}"
        if self.bootstrap_resamples < 100:
            yield f"bootstrap_resamples must be 100 or more, got {self.bootstrap_resamples}"
        if not 0.5 <= self.confidence < 1:
            yield f"confidence must lie in [0.5, 1), got {self.confidence}"


def units(config: ReemergenceConfig, adapters: int, prompts: int) -> int:
    """Training steps and images of a whole measurement, in which it counts its progress.

    Args:
        config: what is measured.
        adapters: number of safety adapters.
        prompts: number of images of a model.

    Returns:
        The sum of both.
    """
    tuned = [adapters if variant != "modular" else 1 for variant in config.variants]
    cells = len(config.variants) * len(config.steps) + (1 if "stacked" in config.variants else 0)
    models = 1 + adapters * (2 + len(config.seeds) * cells)
    return len(config.seeds) * config.steps[-1] * sum(tuned) + models * prompts
