"""The grammar of the stand-in world as a prompt writer, with optional faults.

A reply depends only on the concept's key, the request's index and the writer's parameters, not on
order or batch.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.contracts.records import Concept
from alignguard_data.standin.glyphs import GLYPHS
from alignguard_data.standin.grammar import TEMPLATES, safe_caption, unsafe_caption
from alignguard_data.standin.world import Scene, neutral_scenes

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot write prompts about this concept.",
    "As a grammar of a small world, I must decline.",
)
GARBAGE = (
    "unsafe_prompt: a red ball; safe_prompt:",
    '{"unsafe_prompt": "a red ball on the',
    "[[[ ]]] ~ ~ ~",
    '{"prompt": "a ball"}',
)

_SCENES = tuple(neutral_scenes())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """Shares of requests with a faulty reply, each from 0 to 1, with a sum of at most 1.

    Attributes:
        garbage: text that holds no prompt pair.
        refusal: a refusal sentence.
        duplicate: the concept's reply to request 0 again.
        unsafe_twin: a pair whose safe prompt still holds the glyph.
    """

    garbage: float = 0.0
    refusal: float = 0.0
    duplicate: float = 0.0
    unsafe_twin: float = 0.0

    def __post_init__(self) -> None:
        rates = dataclasses.asdict(self)
        if any(not 0 <= rate <= 1 for rate in rates.values()) or sum(rates.values()) > 1:
            raise ValueError(f"fault rates must be from 0 to 1, in sum at most 1: {rates}")


class StandinWriter:
    """A :class:`~alignguard_data.contracts.protocols.TextGenerator` over the stand-in's grammar.

    A concept has 3,200 different pairs (320 scenes x 10 templates); request 3,200 repeats request
    0. Request 0 never has a fault.

    Args:
        seed: shuffles a concept's pairs and draws the faults.
        garbage: share of replies that hold no prompt pair.
        refusal: share of refusals.
        duplicate: share of replies that repeat the reply to request 0.
        unsafe_twin: share of pairs whose safe prompt still holds the glyph.

    Raises:
        ValueError: a fault rate is out of range.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        garbage: float = 0.0,
        refusal: float = 0.0,
        duplicate: float = 0.0,
        unsafe_twin: float = 0.0,
    ) -> None:
        self._seed = seed
        self._faults = Faults(
            garbage=garbage, refusal=refusal, duplicate=duplicate, unsafe_twin=unsafe_twin
        )

    @property
    def model_id(self) -> str:
        """See :class:`TextGenerator`."""
        return "standin-grammar"

    @property
    def revision(self) -> str:
        """Changes with the grammar, the world's words, the seed and the fault rates."""
        parts = (TEMPLATES, _SCENES, REFUSALS, GARBAGE, self._seed, self._faults)
        return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """Write one pair per request.

        Args:
            requests: concepts and indices; a reply depends on its own request only.

        Returns:
            One reply a request, in order.

        Raises:
            EngineError: a concept's slug is not a glyph of this world.
        """
        return [Reply(text=self._reply(request.concept, request.index)) for request in requests]

    def _reply(self, concept: Concept, index: int) -> str:
        if concept.slug not in GLYPHS:
            raise EngineError(f"the stand-in's writer knows no glyph {concept.slug!r}")
        fault = self.fault_of(concept, index)
        drawn = _number(self._seed, concept.key, index, "wording")
        if fault == "garbage":
            return GARBAGE[drawn % len(GARBAGE)]
        if fault == "refusal":
            return REFUSALS[drawn % len(REFUSALS)]
        deck = _deck(self._seed, concept.key)
        scene, template = deck[0 if fault == "duplicate" else index % len(deck)]
        scene = dataclasses.replace(scene, glyph=concept.slug)
        unsafe = unsafe_caption(scene, template)
        if fault == "unsafe_twin":  # other words for the same scene with its glyph
            safe = unsafe_caption(scene, (template + 1) % len(TEMPLATES))
        else:
            safe = safe_caption(scene, template)
        return json.dumps({"unsafe_prompt": unsafe, "safe_prompt": safe})

    def fault_of(self, concept: Concept, index: int) -> str | None:
        """The fault of a request.

        Args:
            concept: the request's concept.
            index: the request's index.

        Returns:
            A field name of :class:`Faults`, or None.
        """
        if index == 0:
            return None
        drawn = _number(self._seed, concept.key, index, "fault") / 2**64
        for name, rate in dataclasses.asdict(self._faults).items():
            if drawn < rate:
                return name
            drawn -= rate
        return None


@lru_cache(maxsize=256)
def _deck(seed: int, key: str) -> tuple[tuple[Scene, int], ...]:
    # A shuffled deck instead of independent draws, so no pair repeats by chance.
    deck = [(scene, template) for scene in _SCENES for template in range(len(TEMPLATES))]
    Random(_number(seed, key, 0, "deck")).shuffle(deck)
    return tuple(deck)


def _number(seed: int, key: str, index: int, purpose: str) -> int:
    raw = f"{seed}|{key}|{index}|{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())
