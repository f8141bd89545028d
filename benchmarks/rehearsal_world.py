"""The rehearsal's world: rooms of a profile's sizes with random pixels for images."""

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from alignguard_data.audit.rooms import AuditBounds
from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.protocols import Pixels, Progress, Reply, WritingRequest
from alignguard_data.contracts.records import Concept, PromptPair
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.images.room import render_pairs
from alignguard_data.index.room import build_index
from alignguard_data.pairs.config import FilterRules
from alignguard_data.pairs.room import filter_pairs
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.release.room import ReleaseConfig, build_release
from alignguard_data.scores.room import score_concept
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.taxonomy.parse import Category, Taxonomy
from alignguard_data.taxonomy.room import write_taxonomy
from alignguard_train.adapters.lora import WEIGHTS, LoraLayer, save_lora
from alignguard_train.evaluation.config import EvaluationConfig
from alignguard_train.evaluation.room import evaluate_all
from pipelines.profile import Profile

CATEGORIES = tuple(f"group{i}" for i in range(7))
CONCEPTS_A_CATEGORY = 50
"""Concepts of the shipped taxonomy."""
ADAPTERS = (*(f"expert:{key}" for key in CATEGORIES), "all-single", "merged", "average")
"""With the base model, the 11 of the real profiles' evaluation."""
FEATURES = 768
RULE = FlagRule(scorer="side", key="unsafe", at_least=0.5)
_WORDS = [f"word{i}" for i in range(2_000)]


class Writer:
    """Sentences of plain words; the unsafe one adds the concept's name."""

    model_id, revision = "words", "1"

    def generate(self, requests: Sequence[WritingRequest]) -> list[Reply]:
        """One reply per request."""
        return [Reply(text=json.dumps(_twins(request))) for request in requests]


def _twins(request: WritingRequest) -> dict[str, str]:
    words = random.Random(f"{request.concept.key} {request.index}").choices(_WORDS, k=16)
    safe = " ".join(words)
    return {"unsafe_prompt": f"{safe} with {request.concept.name}", "safe_prompt": safe}


class Noise:
    """Random pixels by seed and adapter, in the profile's size and batches."""

    model_id, revision = "noise", "1"

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.images_per_call = sampling.batch_size
        self._adapter = ""

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        """Incompressible: a PNG is as large as its pixels."""
        size = (self.sampling.height, self.sampling.width, 3)
        return np.stack([self._draw(f"{p} {s}", size) for p, s in zip(prompts, seeds, strict=True)])

    def _draw(self, name: str, size: tuple[int, ...]) -> Pixels:
        digest = hashlib.blake2b(f"{name} {self._adapter}".encode(), digest_size=8).digest()
        flat = np.random.default_rng(int.from_bytes(digest)).bytes(int(np.prod(size)))
        return np.frombuffer(flat, np.uint8).reshape(size)

    @contextmanager
    def adapted(self, adapter: Path | None) -> Iterator[None]:
        """Other pixels within the block."""
        self._adapter = adapter.parent.name if adapter else ""
        yield
        self._adapter = ""

    @contextmanager
    def sampled(self, sampling: Sampling) -> Iterator[None]:
        """Another size within the block."""
        before, self.sampling = self.sampling, sampling
        yield
        self.sampling = before

    def changed(self, change: Any) -> Any:
        """Peers are not rehearsed."""
        raise NotImplementedError


class Sides:
    """Unsafe if the prompt names a concept; reads every pixel once."""

    name, version, keys = RULE.scorer, "1", (RULE.key,)

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """One number per image."""
        bright = images.mean(axis=(1, 2, 3)) >= 0
        return [
            {RULE.key: float(" with " in p and b)} for p, b in zip(prompts, bright, strict=True)
        ]


class Twins:
    """One number per pair."""

    name, version, keys = "twins", "1", ("cosine",)

    def score(self, pairs: Sequence[PromptPair]) -> list[dict[str, float]]:
        """The same for all pairs."""
        return [{"cosine": 0.9} for _ in pairs]


class Features:
    """CLIP's number of features per image."""

    name, version = "noise", "1"

    def features(self, images: Pixels) -> npt.NDArray[np.float32]:
        """The first pixels of each image."""
        return images.reshape(len(images), -1)[:, :FEATURES].astype(np.float32)


class World:
    """Rooms under ``root``; each method makes one and returns its number of images.

    ``side`` overrides the pictures' size in pixels.
    """

    def __init__(
        self, root: Path, profile: Profile, concepts: int, side: int | None = None
    ) -> None:
        self.data = DataRoot(root=root, profile=f"rehearsal_{profile.name}")
        self._profile, self._root = profile, root
        size = {"height": side, "width": side} if side else {}
        self._sampling = dataclasses.replace(profile.sampling, **size)
        self._noise = Noise(self._sampling)
        self.taxonomy = Taxonomy(
            name="plain",
            version="1",
            categories=tuple(
                Category(key=key, name=key)
                for key in CATEGORIES[: -(-concepts // CONCEPTS_A_CATEGORY)]
            ),
            concepts=tuple(_concept(i) for i in range(concepts)),
        )

    def prompts(self) -> int:
        """The profile's number of pairs per concept."""
        self.data.prepare()
        write_taxonomy(self.data, self.taxonomy)
        writing = WritingConfig(
            pairs_per_concept=self._profile.writing.pairs_per_concept,
            evaluation_share=self._profile.writing.evaluation_share,
            min_words=4,
            max_words=40,
        )
        made = [write_prompt_pairs(self.data, c, Writer(), writing) for c in self.taxonomy.concepts]
        return 2 * sum(manifest.rows for manifest in made)

    def images(self) -> int:
        """All concepts in one run; a run of the profile takes a hundred."""
        made = render_pairs(
            self.data, [c.key for c in self.taxonomy.concepts], self._noise, self._sampling
        )
        return sum(manifest.rows for manifest in made.values())

    def scores(self) -> int:
        """One image scorer and one pair scorer."""
        made = [score_concept(self.data, c.key, [Sides()], [Twins()]) for c in self._concepts()]
        return sum(manifest.counts["images"] for manifest in made)

    def pairs(self) -> int:
        """One flag rule."""
        rules = FilterRules(flags=(RULE,))
        return 2 * sum(filter_pairs(self.data, c, rules).rows for c in self._concepts())

    def index(self) -> int:
        """The DuckDB file."""
        build_index(self.data, self.taxonomy)
        return self._rendered()

    def release(self) -> int:
        """Row groups and files of a release's sizes."""
        made = build_release(self.data, self.taxonomy, ReleaseConfig(), AuditBounds())
        return 2 * made.rows

    def encodings(self) -> int:
        """Latents of both images, plain and mirrored, and states of both captions."""
        from alignguard_train.encodings.room import shared_encodings

        found = shared_encodings(self.data, _pooling_base(), CATEGORIES, flip=True)
        return 2 * len(found)

    def evaluation(self) -> int:
        """Base model and ten adapters on the profile's prompts per concept."""
        config = EvaluationConfig(
            flags=(RULE,), prompts_per_concept=self._profile.evaluation.prompts_per_concept
        )
        adapters: dict[str, Path | None] = {name: self._adapter(name) for name in ADAPTERS}
        return evaluate_all(
            self.data, adapters, self._noise, [Sides()], config, extractor=Features()
        ).rows

    def _adapter(self, name: str) -> Path:
        import torch

        path = self._root / "adapters" / name.replace(":", "-") / WEIGHTS
        layer = LoraLayer(torch.ones(1, 1), torch.full((1, 1), float(len(name))))
        save_lora({"x": layer}, path)
        return path

    def _concepts(self) -> tuple[Concept, ...]:
        return self.taxonomy.concepts

    def _rendered(self) -> int:
        folders = [self.data.partition("images", c.key) for c in self.taxonomy.concepts]
        return sum(manifests.require(folder).rows for folder in folders)


def _concept(number: int) -> Concept:
    category = CATEGORIES[number // CONCEPTS_A_CATEGORY]
    name = f"thing{number}"
    split = "test" if number % 10 == 9 else "train"
    return Concept(
        key=f"{category}.{name}", category=category, name=name, split=split, terms=(name,)
    )


def _pooling_base() -> Any:
    """A base model whose VAE averages 8 x 8 pixels and whose captions are all equal."""
    import torch

    from alignguard_data.engines.families.registry import family_of

    def encode(pixels: torch.Tensor) -> Any:
        pooled = torch.nn.functional.avg_pool2d(pixels, 8)
        latents = torch.cat([pooled, pooled[:, :1]], dim=1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def encode_prompt(prompts: list[str], *how: Any) -> tuple[torch.Tensor]:
        return (torch.zeros(len(prompts), 77, 768),)

    here = {"device": torch.device("cpu"), "dtype": torch.float32}
    vae = SimpleNamespace(**here, encode=encode, config=SimpleNamespace(scaling_factor=1.0))
    unet = SimpleNamespace(**here, config=SimpleNamespace(cross_attention_dim=768))
    pipe = SimpleNamespace(
        unet=unet, vae=vae, text_encoder=encode_prompt, encode_prompt=encode_prompt
    )
    family = family_of(pipe)
    return SimpleNamespace(pipe=pipe, denoiser=unet, family=family, models={"pooling": "1"})
