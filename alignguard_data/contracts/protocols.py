"""Protocols of the engines: text generator, image generator, scorers, embedders.

The rooms use only these protocols, so a fake, a tiny checkpoint or a GPU cluster fits behind them.
``revision`` and ``version`` enter the fingerprints: change them when the output changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alignguard_data.contracts.records import Concept, PromptPair

Pixels = npt.NDArray[np.uint8]
"""RGB images, shape (batch, height, width, 3), values 0 to 255."""

Progress = Callable[[int], object]
"""Callback with the number of units just finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WritingRequest:
    """One prompt pair to write.

    Attributes:
        concept: the concept that the unsafe prompt shows.
        index: number of the request for this concept, from 0.
    """

    concept: Concept
    index: int


STOP = "stop"
"""``finish_reason`` of a reply that the model ended itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A writer's raw reply, and why it ended. An engine error is never a reply.

    Attributes:
        text: what the model wrote.
        finish_reason: ``stop``, ``length`` (out of tokens), ``content_filter`` (cut by the server's
            filter), or another word of the engine.
    """

    text: str
    finish_reason: str = STOP


class TextGenerator(Protocol):
    """Writes prompt pairs."""

    @property
    def model_id(self) -> str:
        """Name of the model, as manifests and cards give it."""
        ...

    @property
    def revision(self) -> str:
        """Identifies the model's weights: a commit, or a hash of its files."""
        ...

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """Write one reply per request.

        A good reply is a JSON object with the string fields ``unsafe_prompt`` and ``safe_prompt``.
        The same request gives the same reply.

        Args:
            requests: the pairs to write.

        Returns:
            The raw replies, in the order of the requests.

        Raises:
            EngineError: the engine failed; the text is its own.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Twin:
    """A safe counterpart of an unsafe prompt, or why there is none.

    Attributes:
        text: the safe prompt; of a refused one the best attempt, which may be empty.
        reason: slug of what refused it; empty: it is accepted.
    """

    text: str
    reason: str = ""


class TwinWriter(Protocol):
    """Writes the safe side of prompt pairs whose unsafe side is another writer's."""

    @property
    def model_id(self) -> str:
        """Name of the model and of what it was trained on, as manifests and cards give it."""
        ...

    @property
    def revision(self) -> str:
        """Identifies the model's weights and all settings that change a twin."""
        ...

    def load(self) -> None:
        """Load what it writes with; called before the first unsafe prompt is asked for.

        Raises:
            EngineError: it cannot write for this base model.
        """
        ...

    def twins(self, unsafe: Sequence[str], concepts: Sequence[Concept]) -> list[Twin]:
        """Write one twin per prompt. The same prompt and concept give the same twin.

        Args:
            unsafe: the unsafe prompts.
            concepts: the concept of each.

        Returns:
            One twin a prompt, in order.
        """
        ...


class ImageGenerator(Protocol):
    """Renders prompts with the base model, and with an adapter if one is loaded."""

    @property
    def model_id(self) -> str:
        """Name of the model, as manifests and cards give it."""
        ...

    @property
    def revision(self) -> str:
        """Identifies the model's weights: a commit, or a hash of its files."""
        ...

    @property
    def images_per_call(self) -> int:
        """Images per call that fill every batch: batch size times devices or threads."""
        ...

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        """Render each prompt from the noise of its seed, independent of the rest of the batch.

        Args:
            prompts: one per image.
            seeds: seed of the initial noise, one per prompt.
            progress: called with the number of images just finished.

        Returns:
            The images, (len(prompts), height, width, 3).
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """How one image is edited.

    Attributes:
        prompt: what the edited image shows.
        negative_prompt: what guidance moves away from.
        seed: seed of the noise that is added.
    """

    prompt: str
    negative_prompt: str
    seed: int


class ImageEditor(ImageGenerator, Protocol):
    """Also edits images: adds noise to them, and denoises it with another prompt (SDEdit)."""

    def edit(self, images: Pixels, edits: Sequence[Edit], strength: float) -> Pixels:
        """Edit each image, independent of the rest of the batch.

        Args:
            images: RGB images, (rows, height, width, 3).
            edits: one per image.
            strength: share of the noise that is added, in (0, 1]; 1 keeps nothing of the image.

        Returns:
            The edited images, of the same shape.
        """
        ...


class Versioned(Protocol):
    """What has a name, and a version that says when its results change."""

    @property
    def name(self) -> str:
        """Name, as manifests and the columns of scores give it."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same input could give another result."""
        ...


class Scorer(Versioned, Protocol):
    """What gives scores by their keys."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of every score that is given, in order."""
        ...


class ImageScorer(Scorer, Protocol):
    """Scores images with raw numbers, never only a label."""

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """Score each image.

        Args:
            images: RGB images, (batch, height, width, 3).
            prompts: their captions, for scorers that compare an image with its text.

        Returns:
            One dict per image with every key of ``keys``.
        """
        ...


class FeatureExtractor(Versioned, Protocol):
    """Embeds images in vectors whose distance measures how different they look."""

    def features(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Embed each image.

        Args:
            images: RGB images, (batch, height, width, 3).

        Returns:
            Vectors, (batch, width).
        """
        ...


class PairScorer(Scorer, Protocol):
    """Scores prompt pairs with raw numbers, for example how close the twins are in meaning."""

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """Score each pair.

        Args:
            pairs: prompt pairs.

        Returns:
            One dict per pair with every key of ``keys``.
        """
        ...


class TextEmbedder(Versioned, Protocol):
    """Embeds prompts in vectors whose cosine measures how close they are in meaning."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed each text, independent of the rest of the batch.

        Args:
            texts: the texts.

        Returns:
            Unit vectors, (len(texts), width).
        """
        ...
