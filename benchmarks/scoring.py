"""Gain of the scorers' batches over calling each library image by image, and decoding cost.

Images are scenes of the stand-in world, drawn once; NudeNet is compared with its package's
``detect``. CLIP and Q16 use a tiny CLIP of random weights, so their ratios show savings around the
model, not CLIP's speed.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nudenet import NudeDetector
from safetensors.numpy import save_file
from transformers import CLIPTokenizer

from alignguard_data.contracts.pixels import encode_png
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.contracts.records import RenderedImage, image_id
from alignguard_data.scores.room import decode
from alignguard_data.scores.scorers.clip import ClipScorer
from alignguard_data.scores.scorers.nudenet import NudeNetScorer
from alignguard_data.scores.scorers.q16 import VECTORS, Q16Scorer
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.standin.scores.glyph_scorer import GlyphScorer
from alignguard_data.standin.scores.scene_scorer import SceneScorer
from alignguard_data.standin.world import draw_many, neutral_scenes
from benchmarks.tiny.clip import WIDTH, save_clip

IMAGES = 128


def measure(runs: int) -> dict[str, float]:
    """Images per second of each scorer, its ratio to the loop, and decoding's share."""
    rows = _rows()
    pixels = decode(rows).pixels
    nudenet = NudeNetScorer()
    detector = NudeDetector()
    scorers: dict[str, tuple[Any, Callable[[Pixels], object]]] = {
        "glyphs": (loop := GlyphScorer(), lambda image: loop.score(image[None], [""])),
        "scene": (scene := SceneScorer(), lambda image: scene.score(image[None], [""])),
        # The package takes BGR arrays, as in OpenCV.
        "nudenet": (nudenet, lambda image: detector.detect(np.ascontiguousarray(image[..., ::-1]))),
    }
    folder = tempfile.TemporaryDirectory()
    words = CLIPTokenizer.from_pretrained(base_model_folder() / "tokenizer")
    model = str(save_clip(Path(folder.name) / "clip", words))
    clip = ClipScorer(model, device="cpu")
    scorers["clip"] = (clip, lambda image: clip.score(image[None], [""]))
    vectors = Path(folder.name) / "q16.safetensors"
    save_file({VECTORS: np.random.default_rng(1).normal(size=(2, WIDTH)).astype("f4")}, vectors)
    q16 = Q16Scorer(str(vectors), model, device="cpu")
    scorers["q16"] = (q16, lambda image: q16.score(image[None], [""]))
    figures: dict[str, float] = {}
    together = 0.0
    for name, (scorer, one) in scorers.items():
        batched = _median(runs, lambda s=scorer: s.score(pixels, [""] * len(pixels)))
        single = _median(runs, lambda o=one: [o(image) for image in pixels])
        together += batched
        figures[f"{name}_images_a_second"] = len(pixels) / batched
        figures[f"{name}_over_image_by_image"] = single / batched
    decoding = _median(runs, lambda: decode(rows))
    folder.cleanup()
    figures["decoding_share"] = decoding / (decoding + together)
    return figures


def _median(runs: int, work: Callable[[], object]) -> float:
    work()  # warm-up
    return statistics.median(_seconds(work) for _ in range(runs))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _rows() -> Sequence[RenderedImage]:
    scenes = list(itertools.islice(itertools.cycle(neutral_scenes()), IMAGES))
    return [_row(image) for image in draw_many(scenes, first_seed=0)]


def _row(image: Pixels) -> RenderedImage:
    encoded = encode_png(image)
    return RenderedImage(
        image_id=image_id(encoded), image=encoded, width=image.shape[1], height=image.shape[0],
        pair_id="", concept="", side="safe", prompt="", seed=0, base_model="", base_revision="",
        num_inference_steps=0, guidance_scale=0.0, phash="",
    )  # fmt: skip
