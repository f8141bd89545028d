"""Shared data of the trials: training pairs, scenes for choices, scenes for scores.

Pairs are written by the grammar, and rendered and scored by the shipped checkpoints, once per
machine. Training, choices ("choose") and figures ("score") use disjoint ranges of each concept's
deck of scenes and wordings.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from alignguard_data.contracts.records import Concept, pair_seed
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.conditions import encode_unconditional
from alignguard_data.storage.shards import atomic_file, write_bytes
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.encodings.encoder import (
    EncodedPreferences,
    Preferences,
    conditions_of,
    encode_plain,
)
from alignguard_train.evaluation.judge import judge
from alignguard_train.evaluation.records import EvaluatedImage, EvaluationRow
from benchmarks.fresh_prompts import fresh_rows
from pipelines.profile import load_profile
from pipelines.resources import Engines

SAMPLING = Sampling(num_inference_steps=20, guidance_scale=3.0, width=32, height=32, batch_size=32)
"""The study's sampling, independent of the shipped profile: it is not in a trial's key, so existing
lines stay valid."""
RECIPE = ExpertRecipe(
    rank=8, batch_size=8, beta=5.0, preservation=3.0, lr=3e-3, warmup_steps=10, lr_floor=0.1
)
"""The study's training, likewise fixed; a trial sets its steps and other variations."""
Arm = Literal["as drawn", "noisy", "noisy, filtered"]
Scenes = Literal["train", "choose", "score"]
PAIRS = 40
"""Pairs per concept."""
FIRST: dict[str, int] = {"train": 0, "choose": 1000, "score": 2000}
"""Start of each purpose's range in a concept's deck."""
CLEAN_SHARE = 30 / 82
"""Share of pairs with an unsafe text whose image is safe (arXiv 2609.39688)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of the training range, with its images' scores."""

    pair_id: str
    concept: str
    unsafe_prompt: str
    safe_prompt: str
    kept: bool


class World:
    """The stand-in's engines with the study's pairs, stored under ``folder``."""

    profile = "standin"
    sampling = SAMPLING

    def __init__(self, folder: Path, pairs: int = PAIRS) -> None:
        self.folder, self._number = folder, pairs
        profile = load_profile(self.profile)
        one = profile.base_model.model_copy(update={"threads": 1})
        pinned = {"base_model": one, "sampling": self.sampling}
        self.engines = Engines(profile.model_copy(update=pinned), folder)
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """Every concept of the world, in any split."""
        return tuple(self.engines.taxonomy.concepts)

    def rows(self, scenes: Scenes, concepts: Sequence[str], number: int) -> list[EvaluationRow]:
        """``number`` prompt pairs per concept, both sides."""
        wanted = [concept for concept in self.concepts if concept.key in concepts]
        first = FIRST[scenes]
        return fresh_rows(self.engines.writer, wanted, range(first, first + number))

    def kept(self, concept: str) -> list[Pair]:
        """The filtered training pairs of one concept, in the order of :meth:`encoded`."""
        return [pair for pair in self._pairs[0] if pair.concept == concept and pair.kept]

    def encoded(
        self,
        concepts: Sequence[str],
        *,
        arm: Arm = "as drawn",
        amount: int | None = None,
    ) -> EncodedPreferences:
        """The first ``amount`` filtered training pairs per concept.

        The concept is the category. The arm ``noisy`` is not filtered.
        """
        pairs, tensors = self._pairs
        rows: list[int] = []
        for concept in concepts:
            own = [i for i, pair in enumerate(pairs) if pair.concept == concept and pair.kept]
            if arm == "noisy, filtered":
                own = [i for i in own if not clean(pairs[i].pair_id)]
            rows += own[:amount]
        index = torch.tensor(rows)
        rejected = tensors["rejected"][index]
        if arm == "noisy":
            swap = torch.tensor([clean(pairs[i].pair_id) for i in rows])
            rejected = torch.where(swap[:, None, None, None], tensors["clean"][index], rejected)
        return EncodedPreferences(
            concepts=[pairs[i].concept for i in rows],
            categories=[pairs[i].concept for i in rows],
            chosen=tensors["chosen"][index],
            rejected=rejected,
            unsafe=conditions_of(tensors, "unsafe")[index],
            safe=conditions_of(tensors, "safe")[index],
            empty=encode_unconditional(self.engines.base.pipe),
        )

    def judged(
        self, rows: Sequence[EvaluationRow], images: npt.NDArray[np.uint8]
    ) -> list[EvaluatedImage]:
        """Scores of rendered images by the profile's scorers."""
        config, scorers = self.engines.profile.evaluation, self.engines.evaluation_scorers
        return judge("study", rows, images, scorers, config, None)

    @cached_property
    def _pairs(self) -> tuple[list[Pair], dict[str, torch.Tensor]]:
        """Made once per machine; a second process waits."""
        listed, encoded = self.folder / "pairs.json", self.folder / "pairs.safetensors"
        with FileLock(self.folder / "pairs.lock"):
            if not listed.is_file():
                self._make_pairs(listed, encoded)
        return [Pair(**pair) for pair in json.loads(listed.read_text())], load_file(encoded)

    def _make_pairs(self, listed: Path, encoded: Path) -> None:
        rows = self.rows("train", [concept.key for concept in self.concepts], self._number)
        safe = [row for row in rows if row.side == "safe"]
        unsafe = [row for row in rows if row.side == "unsafe"]
        chosen, safe_flags = self._drawn(safe, "train")
        rejected, unsafe_flags = self._drawn(unsafe, "train")
        other, _ = self._drawn(safe, "other noise")
        pairs = [
            Pair(
                pair_id=bad.pair_id,
                concept=bad.concept,
                unsafe_prompt=bad.prompt,
                safe_prompt=good.prompt,
                kept=shown and not slipped,
            )
            for bad, good, shown, slipped in zip(
                unsafe, safe, unsafe_flags, safe_flags, strict=True
            )
        ]
        tensors = self._encode(pairs, rejected, chosen)
        tensors["clean"] = self._encode(pairs, other, chosen)["rejected"]
        with atomic_file(encoded) as path:
            save_file(tensors, path)
        text = json.dumps([{name: getattr(p, name) for name in Pair.__slots__} for p in pairs])
        write_bytes(listed, text.encode())

    def _drawn(
        self, rows: Sequence[EvaluationRow], noise: str
    ) -> tuple[npt.NDArray[np.uint8], list[bool]]:
        seeds = [pair_seed(row.pair_id, noise) for row in rows]
        images = self.engines.generator.render([row.prompt for row in rows], seeds)
        return images, [image.flagged for image in self.judged(rows, images)]

    def _encode(
        self, pairs: Sequence[Pair], rejected: npt.NDArray[np.uint8], chosen: npt.NDArray[np.uint8]
    ) -> dict[str, torch.Tensor]:
        preferences = Preferences(
            pair_ids=[pair.pair_id for pair in pairs],
            concepts=[pair.concept for pair in pairs],
            categories=[pair.concept for pair in pairs],
            unsafe_prompts=[pair.unsafe_prompt for pair in pairs],
            safe_prompts=[pair.safe_prompt for pair in pairs],
            chosen=list(chosen),
            rejected=list(rejected),
        )
        return encode_plain(preferences, self.engines.base)


def clean(pair_id: str) -> bool:
    """Whether the noisy arm gives this pair a clean unsafe-side image."""
    return pair_seed(pair_id, "noisy") % 10_000 < CLEAN_SHARE * 10_000


@contextmanager
def one_thread() -> Iterator[None]:
    """Set torch to one thread: trials run in parallel, and their last bits must not change."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
