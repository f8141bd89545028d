"""What an attack searches with and what it returns. No torch at import.

An attack looks for a prompt (or a text embedding) with which a defended model still draws a
concept that it should not draw. It sees the model only through a :class:`Target`, whose
capabilities differ: an API gives images only, open weights give gradients too. Every call is
counted by :class:`alignguard_train.robustness.counting.Counted`, so an attack cannot under-report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, Protocol

from alignguard_data.contracts.protocols import Pixels

if TYPE_CHECKING:
    from torch import Tensor

    from alignguard_data.engines.diffusion.conditions import Conditions

Capability = Literal[
    "text_encoder", "token_gradients", "unet", "base_unet", "images", "judge", "guard"
]
"""What a target gives: text states; gradients to tokens; the denoiser's predictions, with
gradients; predictions and images of the undefended model; images; the judge's verdict on them; a
guard's verdict on prompts."""
StopReason = Literal[
    "success", "budget", "plateau", "finished", "already_unsafe", "empty", "no_answer",
    "judge_failed",
]  # fmt: skip
"""Why a search ended. ``already_unsafe``: the unchanged prompt succeeds on the target, so there is
nothing to attack; ``empty``: the prompt has no token to work with; ``no_answer``: the model that
writes prompts wrote none that may be drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One prompt to attack with.

    Attributes:
        case_id: id of the release's pair, or of a prompt of a set.
        prompt: the unsafe prompt.
        safe_prompt: its safe twin; empty if there is none.
        concept: taxonomy key, ``category.concept``.
        category: the concept's category.
        seed: seed of the images that the search renders.
    """

    case_id: str
    prompt: str
    safe_prompt: str
    concept: str
    category: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Rows (not batches) that a search sent through each part of its target.

    Attributes:
        text_forwards: texts through the text encoder.
        text_backwards: gradients to tokens, one a row.
        unet_forwards: latents through the denoiser.
        unet_backwards: gradients through the denoiser, one a row.
        images: images rendered.
        judge_calls: images judged.
        guard_calls: prompts that a guard judged.
    """

    text_forwards: int = 0
    text_backwards: int = 0
    unet_forwards: int = 0
    unet_backwards: int = 0
    images: int = 0
    judge_calls: int = 0
    guard_calls: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The most that a search may use of each counter; None is no limit.

    Attributes:
        text_forwards: texts through the text encoder.
        text_backwards: gradients to tokens, one a row.
        unet_forwards: latents through the denoiser.
        unet_backwards: gradients through the denoiser, one a row.
        images: images rendered.
        judge_calls: images judged.
        guard_calls: prompts that a guard judged.

    Raises:
        ValueError: a limit is below 1.
    """

    text_forwards: int | None = None
    text_backwards: int | None = None
    unet_forwards: int | None = None
    unet_backwards: int | None = None
    images: int | None = None
    judge_calls: int | None = None
    guard_calls: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and value < 1:
                raise ValueError(f"budget.{one.name} must be 1 or more, got {value}")


class BudgetSpent(Exception):
    """A call would exceed the budget; the search returns its best so far."""


class JudgeFailed(Exception):
    """The judge raised an error: a search returns its best so far, a preparation has no result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One adversarial prompt.

    Attributes:
        text: the prompt. Evaluation encodes this text, so an attack that needs exact ids must check
            that they survive (``round_trip``).
        score: the search's own objective; higher is better for the attacker.
        round_trip: the text tokenizes to the ids that were searched.
        conditions: text states instead of a text, for attacks on embeddings (an upper bound: no
            prompt gives them); None for prompts.
    """

    text: str
    score: float
    round_trip: bool = True
    conditions: "Conditions | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A search's result on one case.

    Attributes:
        candidates: best first; empty if nothing was found.
        counters: what it used.
        history: the best score so far, after each step.
        stop_reason: why it ended.
        notes: further numbers of the attack, by name.
    """

    candidates: tuple[Candidate, ...]
    counters: Counters
    history: tuple[float, ...]
    stop_reason: StopReason
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The judge on one image.

    Attributes:
        unsafe: the image shows what it must not.
        score: the judge's score in [0, 1]; higher is more unsafe.
        coherent: the image shows anything at all: a broken image is no safe image.
    """

    unsafe: bool
    score: float
    coherent: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardVerdict:
    """A guard on one prompt.

    Attributes:
        blocked: nothing is drawn.
        score: higher is more unsafe; NaN if the guard failed.
        threshold: a score of this or more is unsafe.
        drawn: the text that is drawn instead, of a guard that rewrites.
        failed: the guard could not score the prompt, so it blocks: no detection.
    """

    blocked: bool
    score: float
    threshold: float = 0.0
    drawn: str | None = None
    failed: bool = False


class Vocabulary(Protocol):
    """The token space that attacks search in, valid in every text encoder of the target."""

    @property
    def ordinary(self) -> tuple[int, ...]:
        """Ids that a search may use: no special tokens."""
        ...

    @property
    def length(self) -> int:
        """The most tokens of a prompt, without begin and end."""
        ...

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Ids without special tokens, not truncated."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...


class Target(Protocol):
    """A model under attack, with or without a defence.

    A method outside ``capabilities`` raises :class:`alignguard_data.contracts.errors.EngineError`.
    Tokens are ordinary ids without begin, end and padding, which each text encoder adds in its own
    way. Gradients flow to the inputs, never to weights.
    """

    name: str
    capabilities: frozenset[Capability]

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens valid in every text encoder."""
        ...

    def encode(self, tokens: Sequence[Sequence[int]]) -> "Conditions":
        """Text conditions of token sequences, without gradients (``text_encoder``)."""
        ...

    def encode_soft(self, weights: "Tensor") -> "Conditions":
        """Conditions of weighted tokens, with gradients (``token_gradients``).

        Args:
            weights: shape (rows, tokens, len(vocabulary.ordinary)); a one-hot row is a token, any
                other row the weighted sum of token embeddings, in every encoder alike.

        Returns:
            States (rows, length, width); of SDXL the pooled state too.
        """
        ...

    def latents(self, images: Pixels) -> "Tensor":
        """Scaled latents (rows, channels, h, w) of images (``unet``)."""
        ...

    def noised(
        self, latents: "Tensor", noise: "Tensor", timesteps: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """Latents with noise at timesteps of the training schedule, and what to predict for them.

        The second is the noise, or the velocity of a model that predicts it (``unet``).
        """
        ...

    def predict(
        self, noised: "Tensor", timesteps: "Tensor", conditions: "Conditions", *, base: bool = False
    ) -> "Tensor":
        """The denoiser's prediction, with gradients to conditions (``unet``).

        Args:
            noised: latents, shape (rows, channels, h, w).
            timesteps: shape (rows,).
            conditions: as many rows.
            base: predict with the undefended model (``base_unet``).

        Returns:
            The predicted noise or velocity, shaped as ``noised``.
        """
        ...

    def render(self, texts: Sequence[str], seeds: Sequence[int], *, base: bool = False) -> Pixels:
        """One image per text (``images``).

        Args:
            texts: the prompts.
            seeds: as many, of the initial noise.
            base: render with the undefended model (``base_unet``).

        Returns:
            Images (len(texts), height, width, 3), uint8.
        """
        ...

    def render_conditions(self, conditions: "Conditions", seeds: Sequence[int]) -> Pixels:
        """One image per row of text states (``images`` and ``text_encoder``)."""
        ...

    def judge(self, images: Pixels, case: Case) -> list[Verdict]:
        """The judge's verdicts on images made for a case (``judge``)."""
        ...

    def guard(self, texts: Sequence[str]) -> list[GuardVerdict]:
        """The guard's verdicts on prompts (``guard``)."""
        ...


class Attack(Protocol):
    """One method with its parameters; equal attacks find equal prompts."""

    @property
    def name(self) -> str:
        """In results and on the command line."""
        ...

    @property
    def needs(self) -> frozenset[Capability]:
        """Capabilities without which it refuses a target."""
        ...

    @property
    def text_only(self) -> bool:
        """It sees nothing but the text encoder, which a UNet adapter leaves unchanged.

        So its prompts are searched once and replayed on every target.
        """
        ...

    def prepare(self, target: Target, cases: Sequence[Case], seed: int) -> object:
        """What the attack learns from other cases before it attacks: a concept vector, a policy.

        Args:
            target: counted, as in :meth:`search`.
            cases: cases of the training split with their safe twins; never those under attack.
            seed: of every random choice.

        Returns:
            Anything that :meth:`search` takes as ``prepared``; None for most attacks.

        Raises:
            JudgeFailed: the judge failed, so there is nothing to search with.
        """
        ...

    def search(self, target: Target, case: Case, prepared: object, seed: int) -> Found:
        """Attack one case.

        Args:
            target: counted; a call over the budget raises :class:`BudgetSpent`, on which the search
                returns its best so far with ``stop_reason`` "budget".
            case: the prompt.
            prepared: what :meth:`prepare` returned.
            seed: of every random choice; equal seeds give equal candidates and counters.

        Returns:
            Candidates, best first, with what was used and why the search ended.

        Raises:
            EngineError: the target lacks a capability.
        """
        ...
