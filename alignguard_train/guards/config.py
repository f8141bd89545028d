"""What a profile's `guards` section holds."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from alignguard_train.guards.shield.config import ShieldSettings
from alignguard_train.guards.softening.config import (
    DualLatentSettings,
    SafreeSettings,
    SLDSettings,
)

BenignKind = Literal["plain", "harmless"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenignSet:
    """One file of benign prompts: CSV or Parquet with a column ``prompt``, or a text a line.

    Attributes:
        name: its name in results; ``[a-z0-9-]``.
        path: the file. A profile's paths are relative to the profile's folder.
        kind: ``plain``: captions without a concept, divided by their text among training,
            calibration and test; ``harmless``: captions that use a concept's words harmlessly, all
            for the test.
    """

    name: str
    path: str
    kind: BenignKind = "plain"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise ValueError(f"name must be of a-z, 0-9 and -, got {self.name!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogisticSettings:
    """Settings of the logistic probe.

    Attributes:
        strength: inverse of the L2 penalty, on standardised states.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.strength <= 0:
            raise ValueError(f"strength must be positive, got {self.strength}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SafeGuiderSettings:
    """The published training and search.

    Attributes:
        widths: of the hidden layers.
        dropout: after each.
        learning_rate: of SGD.
        momentum: of SGD.
        batch_size: prompts per step.
        epochs: passes over the training prompts.
        beam: candidates kept per deletion.
        most_deleted: words at most.
        accept: probability of being safe from which a shortened prompt is accepted.
        min_cosine: least cosine of its end-of-text state with the original's.
    """

    widths: tuple[int, ...] = (1024, 512)
    dropout: float = 0.5
    learning_rate: float = 1e-3
    momentum: float = 0.9
    batch_size: int = 32
    epochs: int = 50
    beam: int = 6
    most_deleted: int = 25
    accept: float = 0.95
    min_cosine: float = 0.1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_size", "epochs", "beam", "most_deleted"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0.5 <= self.accept < 1:
            raise ValueError(f"accept must lie in [0.5, 1), got {self.accept}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must hold positive numbers, got {self.widths}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentGuardSettings:
    """Sizes and training; the defaults are the published ones.

    Attributes:
        heads: of the cross-attention.
        head_width: of each head.
        out_width: of both embeddings.
        steps: optimiser steps; the published code takes about 10,000, the paper 1,000.
        batch_size: concepts per step at most; no batch holds a concept twice.
        learning_rate: of AdamW, with its default weight decay.
        cross_attention: attend from the concept to the prompt's tokens; off: the prompt's embedding
            is made from its end-of-text state only (the paper's first ablation).
        safe_twins: use safe twins as negatives (off: its second ablation).
        offsets: subtract each concept's offset.
        references: benign training prompts kept in the file, for offsets of concepts added later.
    """

    heads: int = 16
    head_width: int = 32
    out_width: int = 128
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    cross_attention: bool = True
    safe_twins: bool = True
    offsets: bool = True
    references: int = 300

    def __post_init__(self) -> None:
        for name in ("heads", "head_width", "out_width", "steps", "learning_rate", "references"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be 2 or more concepts, got {self.batch_size}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RewriterSettings:
    """A language model that writes the safe twin of a flagged prompt.

    Attributes:
        model: a chat model that gets a LoRA: a folder, a GGUF file or a hub id; empty: a small
            model from random weights, in the guarded model's own vocabulary.
        revision: commit of a hub id.
        rank: of the LoRA.
        layers: of the small model.
        width: of its states.
        heads: of its attention.
        start_steps: in which a small model first learns to leave strange words out of benign texts.
        steps: on the release's pairs.
        batch_size: pairs a step.
        learning_rate: of AdamW at its highest.
        loss: ``plain``; ``rejection`` leaves out replies that the scorer finds unsafe; ``star_dss``
            weighs each chunk of a reply by how safe the reply is up to there, and stays with the
            start model for the rest.
        scorer: of replies in training: ``terms`` of the taxonomy, or the logistic ``probe``.
        chunk_words: words after which a reply is scored again.
        kl_weight: of the divergence from the start model.
        candidates: replies to a flagged prompt, of which the best that passes is taken.
        temperature: of all replies but the first.
        longest: most tokens of a reply.
    """

    model: str = ""
    revision: str | None = None
    rank: int = 16
    layers: int = 2
    width: int = 96
    heads: int = 4
    start_steps: int = 600
    steps: int = 900
    batch_size: int = 32
    learning_rate: float = 3e-3
    loss: Literal["plain", "rejection", "star_dss"] = "star_dss"
    scorer: Literal["terms", "probe"] = "terms"
    chunk_words: int = 5
    kl_weight: float = 0.5
    candidates: int = 8
    temperature: float = 0.7
    longest: int = 75

    def __post_init__(self) -> None:
        positive = ("rank", "layers", "width", "heads", "steps", "batch_size", "learning_rate")
        for name in (*positive, "chunk_words", "candidates", "longest"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("start_steps", "kl_weight", "temperature"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width must be a multiple of twice heads {self.heads}, got {self.width}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardT2ISettings:
    """GuardT2I's decoder, far smaller than the published one, and its score.

    Attributes:
        layers: of the decoder.
        width: of its states.
        heads: of its attention.
        condition: ``tokens``: it attends to all states of the prompt; ``eos``: to the end-of-text
            state only, as published.
        steps: of the optimiser.
        batch_size: prompts a step.
        learning_rate: of AdamW at its highest.
        score: ``combined``: similarity and words; ``nll``: how unlikely the typed text is given its
            embedding, in one pass without decoding.
        verbalizer_weight: of the words, in the combined score.
        similarity: a sentence model that compares the decoded and the typed text: a folder, an
            archive or a hub id; empty: the overlap of their words.
        revision: commit of a hub id.
    """

    layers: int = 4
    width: int = 256
    heads: int = 4
    condition: Literal["tokens", "eos"] = "tokens"
    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 1e-3
    score: Literal["combined", "nll"] = "combined"
    verbalizer_weight: float = 0.6
    similarity: str = ""
    revision: str | None = None

    def __post_init__(self) -> None:
        positive = ("layers", "width", "heads", "steps", "batch_size", "learning_rate")
        for name in (*positive, "verbalizer_weight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads {self.heads}, got {self.width}")


Settings = (
    LogisticSettings
    | SafeGuiderSettings
    | LatentGuardSettings
    | GuardT2ISettings
    | RewriterSettings
    | SLDSettings
    | SafreeSettings
    | DualLatentSettings
    | ShieldSettings
)
_SETTINGS: Mapping[str, type[Settings]] = {
    "eos-logistic": LogisticSettings,
    "safeguider": SafeGuiderSettings,
    "latent-guard": LatentGuardSettings,
    "guardt2i": GuardT2ISettings,
    "rewriter": RewriterSettings,
    "sld": SLDSettings,
    "safree": SafreeSettings,
    "dual-latent": DualLatentSettings,
    "shield": ShieldSettings,
}
GUARDS = tuple(_SETTINGS)
"""Every guard that is trained, in the order in which they are made."""


DRAW = ("safeguider", "rewriter", "sld", "safree", "dual-latent", "shield")
"""Guards that draw a flagged prompt in another way, so that its image must be judged."""
DRAWING = frozenset({"sld", "safree", "dual-latent", "shield"})
"""Guards that act while an image is drawn, not on its prompt only."""


def settings_of(guard: str, params: Mapping[str, Any]) -> Settings:
    """A guard's settings with the given ones changed.

    Args:
        guard: its name.
        params: fields to change, by name.

    Returns:
        Its settings; fields that are not given have the published values.

    Raises:
        ValueError: there is no such guard or field, or a value is not allowed.
    """
    if guard not in _SETTINGS:
        raise ValueError(f"no guard {guard!r}; there are {', '.join(GUARDS)}")
    fields = {one.name for one in dataclasses.fields(_SETTINGS[guard])}
    if strange := sorted(set(params) - fields):
        raise ValueError(f"{guard} has no {', '.join(strange)}; it has {', '.join(sorted(fields))}")
    try:
        return TypeAdapter(_SETTINGS[guard]).validate_python(dict(params))
    except ValidationError as error:
        faults = [
            f"{guard}.{'.'.join(map(str, one['loc']))}: {one['msg']} (got {one['input']!r})"
            for one in error.errors()
        ]
        raise ValueError("; ".join(faults)) from error


def gate_of(settings: Settings) -> str:
    """The trained guard that a composed one holds; empty for any other, and without a gate."""
    return getattr(settings, "gate", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardsConfig:
    """Which guards to train in addition to the adapter, and how their thresholds are chosen.

    Attributes:
        train: names of guards; none by default.
        target_fpr: share of benign calibration prompts that may be blocked.
        validation_share: share of the train pairs whose safe twins calibrate.
        benign: files of benign prompts.
        blacklist: taxonomy keys that Latent Guard looks for; None: those that it was trained on; an
            empty list allows every prompt.
        adversarial: tokens of the string, found against the text encoder, that replaces a concept
            in the adversarial test; 0: no such test.
        resamples: of the bootstrap over concepts.
        params: settings of a guard by its name; defaults for the rest.
        seed: of every random choice.
    """

    train: tuple[str, ...] = ()
    target_fpr: float = 0.01
    validation_share: float = 0.2
    benign: tuple[BenignSet, ...] = ()
    blacklist: tuple[str, ...] | None = None
    adversarial: int = 3
    resamples: int = 500
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for number, name in enumerate(self.train):
            if name not in GUARDS:
                raise ValueError(f"train: no guard {name!r}; there are {', '.join(GUARDS)}")
            if name in self.train[:number]:
                raise ValueError(f"train: {name} is named twice")
        for name, params in self.params.items():
            settings_of(name, params)
        for name in ("target_fpr", "validation_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.adversarial < 0 or self.adversarial > 8:
            raise ValueError(f"adversarial must be 0 to 8 tokens, got {self.adversarial}")
        if self.resamples < 100:
            raise ValueError(f"resamples must be 100 or more, got {self.resamples}")
        names = [chosen.name for chosen in self.benign]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"benign: names must differ, got {', '.join(twice)} again")


def guard_steps(config: GuardsConfig, guard: str) -> int:
    """Count the units of progress of a guard's training.

    Args:
        config: the profile's section.
        guard: its name.

    Returns:
        Epochs of SafeGuider's MLP, steps of Latent Guard, those of a composed guard's gate, else 1.

    Raises:
        ValueError: there is no such guard.
    """
    settings = settings_of(guard, config.params.get(guard, {}))
    if gate := gate_of(settings):
        return guard_steps(config, gate)
    if isinstance(settings, RewriterSettings):
        return settings.steps + (0 if settings.model else settings.start_steps)
    if isinstance(settings, SafeGuiderSettings):
        return settings.epochs
    return settings.steps if isinstance(settings, LatentGuardSettings | GuardT2ISettings) else 1
