"""What an engine must offer: text generator, image generator, scorers.

Plain protocols, so that a fake, a tiny checkpoint or a GPU cluster can stand behind the same
rooms. ``revision`` and ``version`` enter the fingerprints: change them when the output changes.
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
"""Called with the number of units just finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WritingRequest:
    """One prompt pair to be written: the ``index``-th request for ``concept``."""

    concept: Concept
    index: int


STOP = "stop"
"""``finish_reason`` of a reply that the model ended by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a writer said, and why it ended.

    ``finish_reason`` is ``stop``, ``length`` where the tokens ran out, ``content_filter`` where a
    server's own filter cut it, or another word of the engine. An engine's error is no reply.
    """

    text: str
    finish_reason: str = STOP


class TextGenerator(Protocol):
    """Writes prompt pairs."""

    @property
    def model_id(self) -> str: ...

    @property
    def revision(self) -> str: ...

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """One raw reply a request, in order.

        A good one is a JSON object with the string fields ``unsafe_prompt`` and ``safe_prompt``.
        The same request gives the same reply.

        Raises:
            EngineError: the engine failed, in its own words.
        """
        ...


class ImageGenerator(Protocol):
    """Renders prompts with the base model (and, when one is loaded, an adapter)."""

    @property
    def model_id(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def images_per_call(self) -> int:
        """How many images one call renders without waste: batch size times devices or threads."""
        ...

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        """One image a prompt from the noise of its seed, independent of its neighbours."""
        ...


class ImageScorer(Protocol):
    """Gives raw numbers to images; never only a label."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]: ...

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """One dict an image with every key of ``keys``.

        ``prompts`` are the captions, for scorers that compare an image with its text.
        """
        ...


class FeatureExtractor(Protocol):
    """Turns images into vectors whose distances say how differently images look."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def features(self, images: Pixels) -> npt.NDArray[np.float32]:
        """One vector an image, shape (batch, width)."""
        ...


class PairScorer(Protocol):
    """Gives raw numbers to prompt pairs, for example how close the twins are in meaning."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]: ...

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """One dict a pair with every key of ``keys``."""
        ...


class TextEmbedder(Protocol):
    """Turns prompts into vectors whose cosine says how close they are in meaning."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors, shape (len(texts), width), each of its own text alone."""
        ...
