"""A drawn world small enough to fill every room in a test: writer, generator, scorers, rooms.

Scenes are coloured squares; the unwanted concepts are plain shapes in black ink.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.contracts.protocols import Pixels, Progress, Reply, WritingRequest
from alignguard_data.contracts.records import Concept, PromptPair
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.images.room import render_pairs
from alignguard_data.index.room import build_index
from alignguard_data.pairs.config import FilterRules
from alignguard_data.pairs.room import FlagRule, filter_pairs
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.release.room import ReleaseConfig, build_release
from alignguard_data.scores.room import score_concept
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Category, Taxonomy
from alignguard_data.taxonomy.room import write_taxonomy

SIDE = 16
COLOURS = ("red", "green", "blue", "amber", "cyan", "pink", "plum", "gold")
PLANTS = ("fern", "moss", "reed", "ivy", "oak", "palm", "aloe", "mint")

WRITING = WritingConfig(pairs_per_concept=8, evaluation_share=0.25, min_words=4, max_words=20)
SAMPLING = Sampling(
    num_inference_steps=4, guidance_scale=2.0, width=SIDE, height=SIDE, batch_size=8
)
RULES = FilterRules(
    flags=(FlagRule(scorer="ink", key="share", at_least=0.02),),
    max_phash_distance=0,
    max_prompt_jaccard=0.95,
)
BOUNDS = AuditBounds()
RELEASE = ReleaseConfig(max_phash_distance=0, licence="Apache-2.0")


def concept(key: str, split: str = "train", terms: tuple[str, ...] | None = None) -> Concept:
    """A concept ``<category>.<slug>`` whose one term is its slug."""
    category, slug = key.split(".")
    return Concept(key=key, category=category, name=slug, split=split, terms=terms or (slug,))  # pyright: ignore[reportArgumentType]


def taxonomy(*concepts: Concept, version: str = "1") -> Taxonomy:
    """A taxonomy of these concepts, or of four in two categories."""
    held = concepts or (
        concept("lines.bar"),
        concept("lines.tick", "test"),
        concept("spots.dot"),
        concept("spots.blob", "test"),
    )
    keys = list(dict.fromkeys(c.category for c in held))
    return Taxonomy(
        name="tiny",
        version=version,
        categories=tuple(Category(key=key, name=key.title()) for key in keys),
        concepts=held,
    )


def good_reply(request: WritingRequest, shift: int = 0) -> str:
    """A reply that passes every gate; request index and concept decide the scene."""
    digest = hashlib.sha256(f"{request.concept.key}/{request.index + shift}".encode()).digest()
    colour, plant = COLOURS[digest[0] % 8], PLANTS[digest[1] % 8]
    scene = f"a {colour} field number {digest[2]} with {plant} in spot {digest[3]}"
    return json.dumps(
        {"unsafe_prompt": f"{scene} and a {request.concept.terms[0]}", "safe_prompt": scene}
    )


@dataclass
class TinyWriter:
    """Good replies, except where ``faults`` names another one, or its text, for a request index."""

    faults: Mapping[int, str | Reply | Callable[[WritingRequest], str]] = field(
        default_factory=dict
    )
    model_id: str = "tiny-writer"
    revision: str = "1"
    asked: list[int] = field(default_factory=list)

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        self.asked += [request.index for request in requests]
        return [self._reply(request) for request in requests]

    def _reply(self, request: WritingRequest) -> Reply:
        fault = self.faults.get(request.index)
        said = good_reply(request) if fault is None else fault
        said = said(request) if callable(said) else said
        return said if isinstance(said, Reply) else Reply(text=said)


@dataclass
class TinyGenerator:
    """A textured field from the seed; a black bar where the prompt speaks of a concept."""

    model_id: str = "tiny-model"
    revision: str = "1"
    images_per_call: int = 8
    blind_to: frozenset[str] = frozenset()

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        if progress:
            progress(len(prompts))
        return np.stack([self._draw(p, s) for p, s in zip(prompts, seeds, strict=True)])

    def _draw(self, prompt: str, seed: int) -> Pixels:
        noise = np.random.default_rng(seed).integers(60, 256, (4, 4, 3), dtype=np.uint8)
        image = noise.repeat(4, axis=0).repeat(4, axis=1)
        word = prompt.rsplit(" and a ", 1)[-1] if " and a " in prompt else ""
        if word and word not in self.blind_to:
            first = hashlib.sha256(word.encode()).digest()[0] % (SIDE - 4)
            image[first : first + 4, 2:14] = 0
        return image


@dataclass
class InkScorer:
    """Share of black pixels."""

    name: str = "ink"
    version: str = "1"
    keys: tuple[str, ...] = ("share",)
    calls: int = 0

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        self.calls += 1
        return [{"share": float((image == 0).all(axis=-1).mean())} for image in images]


@dataclass
class WordScorer:
    """Jaccard index of the twins' words under the name of the twin scorer."""

    name: str = "twins"
    version: str = "1"
    keys: tuple[str, ...] = ("cosine",)

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        return [{"cosine": _overlap(pair.unsafe_prompt, pair.safe_prompt)} for pair in pairs]


def _overlap(one: str, other: str) -> float:
    first, second = set(one.split()), set(other.split())
    return len(first & second) / len(first | second)


@dataclass
class TinyRooms:
    """A data root with its taxonomy and engines; fills rooms in order."""

    root: Path
    taxonomy: Taxonomy = field(default_factory=taxonomy)
    writer: TinyWriter = field(default_factory=TinyWriter)
    generator: TinyGenerator = field(default_factory=TinyGenerator)
    rules: FilterRules = RULES
    writing: WritingConfig = WRITING

    @property
    def data(self) -> DataRoot:
        return DataRoot(root=self.root, profile="tiny")

    def fill(self, upto: str = "pairs") -> "TinyRooms":
        """Make every partition of every room up to ``upto``."""
        rooms = ("taxonomy", "prompts", "images", "scores", "pairs", "index", "release")
        for room in rooms[: rooms.index(upto) + 1]:
            getattr(self, f"_{room}")()
        return self

    def fill_from(self, *rooms: str) -> "TinyRooms":
        """Make these rooms over what is there."""
        for room in rooms:
            getattr(self, f"_{room}")()
        return self

    def _taxonomy(self) -> None:
        write_taxonomy(self.data, self.taxonomy)

    def _prompts(self) -> None:
        for c in self.taxonomy.concepts:
            write_prompt_pairs(self.data, c, self.writer, self.writing)

    def _images(self) -> None:
        keys = [c.key for c in self.taxonomy.concepts]
        render_pairs(self.data, keys, self.generator, SAMPLING)

    def _scores(self) -> None:
        for c in self.taxonomy.concepts:
            score_concept(self.data, c.key, [InkScorer()], [WordScorer()])

    def _pairs(self) -> None:
        for c in self.taxonomy.concepts:
            filter_pairs(self.data, c, self.rules)

    def _index(self) -> None:
        build_index(self.data, self.taxonomy)

    def _release(self) -> None:
        build_release(self.data, self.taxonomy, RELEASE, BOUNDS)
