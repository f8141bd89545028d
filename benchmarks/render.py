"""Images per second of the images room, against the obvious loop and the bare networks.

The obvious loop calls the diffusers pipe one prompt at a time. The bare time is of the UNet and VAE
forwards only, for the same images, batches and threads: the limit.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from alignguard_data.contracts import records
from alignguard_data.contracts.protocols import Pixels, Progress
from alignguard_data.contracts.records import PromptPair, from_table
from alignguard_data.contracts.sampling import Sampling
from alignguard_data.engines.diffusion.generator import DiffusersImageGenerator
from alignguard_data.images import room as images
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.storage import manifest
from alignguard_data.storage.paths import DataRoot
from benchmarks.tiny.diffusion import tiny_pipe
from pipelines.profile import load_profile
from pipelines.profile_paths import resolve_model
from pipelines.resources import Engines

PAIRS = 20
"""Pairs of one concept; four fifths are rendered, both sides."""
LOOP_IMAGES = 4
"""The loop is slow, so it renders fewer images."""
BATCHES = (1, 4, 16)


def measure(runs: int) -> dict[str, float]:
    """The stand-in's base model and a tiny Stable Diffusion 1.5 of random weights at 64x64."""
    profile = load_profile("standin")
    standin = resolve_model(profile.base_model.model)
    with tempfile.TemporaryDirectory() as folder:
        words = CLIPTokenizer.from_pretrained(Path(standin) / "tokenizer")
        tiny = str(Path(folder) / "tiny-sd15")
        tiny_pipe("epsilon", words).save_pretrained(tiny)
        small = dataclasses.replace(profile.sampling, batch_size=8)
        larger = dataclasses.replace(small, width=64, height=64, num_inference_steps=5)
        return {
            **_sides(standin, small, runs),
            **{f"tiny_sd15_{k}": v for k, v in _sides(tiny, larger, runs).items()},
            **_growth(standin, profile.sampling, runs),
            "encode_hash_write_cpu_milliseconds_an_image": 1e3 * _beside_the_model(runs),
        }


def _sides(model: str, sampling: Sampling, runs: int) -> dict[str, float]:
    """Medians over ``runs``; the three sides alternate."""
    profile = load_profile("standin")
    threads = profile.base_model.threads
    generator = DiffusersImageGenerator(
        model=model, sampling=sampling, device="cpu", threads=threads
    )
    pipe = StableDiffusionPipeline.from_pretrained(model, use_safetensors=True, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as folder:
        engines = Engines(profile, Path(folder))
        concepts = [engines.taxonomy.concepts[0].key]
        prompts = _written_prompts(engines)
        generator.render(prompts[:2], [0, 1])  # loads the weights
        taken: dict[str, list[float]] = {"room": [], "loop": [], "bare": []}
        for run in range(runs):
            fresh = DataRoot(root=Path(folder) / str(run), profile=profile.name)
            (fresh.base).mkdir(parents=True)
            (fresh.base / "prompts").symlink_to(str(engines.data.base / "prompts"))
            sides: dict[str, tuple[Callable[[], object], int]] = {
                "room": (_room(fresh, concepts, generator, sampling), len(prompts)),
                "loop": (_loop(pipe, prompts[:LOOP_IMAGES], sampling), LOOP_IMAGES),
                "bare": (_bare(pipe, len(prompts), sampling, threads), len(prompts)),
            }
            for name, (work, drawn) in sides.items():
                started = time.perf_counter()
                work()
                taken[name].append(drawn / (time.perf_counter() - started))
    room, loop, bare = (statistics.median(taken[name]) for name in ("room", "loop", "bare"))
    return {
        "images": float(len(prompts)),
        "room_images_per_second": room,
        "loop_images_per_second": loop,
        "bare_images_per_second": bare,
        # Each run against its neighbours, as load changes.
        "times_the_loop": _median_ratio(taken["room"], taken["loop"]),
        "of_bare_time": _median_ratio(taken["bare"], taken["room"]),
    }


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _growth(model: str, sampling: Sampling, runs: int) -> dict[str, float]:
    """Images per second of one worker by batch size, relative to batches of one."""
    rates: dict[int, list[float]] = {size: [] for size in BATCHES}
    generators = {
        size: DiffusersImageGenerator(
            model=model,
            sampling=dataclasses.replace(sampling, batch_size=size),
            device="cpu",
            threads=1,
        )
        for size in BATCHES
    }
    for run in range(runs + 1):  # the first one loads the weights
        for size, generator in generators.items():
            count = max(size, 4)
            started = time.perf_counter()
            generator.render(["a red circle on blue"] * count, list(range(count)))
            if run:
                rates[size].append(count / (time.perf_counter() - started))
    one, *more = (statistics.median(rates[size]) for size in BATCHES)
    return {
        f"batch_{size}_over_1": rate / one for size, rate in zip(BATCHES[1:], more, strict=True)
    }


class _Drawn:
    """An ``ImageGenerator`` of precomputed 512x512 noise, the hardest to compress."""

    model_id, revision, images_per_call = "drawn", "1", 16

    def __init__(self) -> None:
        self._images = np.random.default_rng(0).integers(0, 256, (16, 512, 512, 3), np.uint8)

    def render(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress | None = None
    ) -> Pixels:
        return self._images[: len(prompts)]


def _beside_the_model(runs: int) -> float:
    """CPU seconds per image outside the model.

    Encoding, hashing, and writing batches and shards.
    """
    profile = load_profile("standin")
    sampling = dataclasses.replace(profile.sampling, width=512, height=512, batch_size=16)
    taken = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            engines = Engines(profile, Path(folder))
            count, drawn = len(_written_prompts(engines)), _Drawn()
            started = time.process_time()
            images.render_pairs(engines.data, [engines.taxonomy.concepts[0].key], drawn, sampling)
            taken.append((time.process_time() - started) / count)
    return statistics.median(taken)


def _written_prompts(engines: Engines) -> list[str]:
    """Write pairs of the first concept; returns both prompts of each rendered pair."""
    concept = engines.taxonomy.concepts[0]
    writing = dataclasses.replace(engines.profile.writing, pairs_per_concept=PAIRS)
    write_prompt_pairs(engines.data, concept, engines.writer, writing)
    table = manifest.read(engines.data.partition("prompts", concept.key), "pairs")
    train = [pair for pair in from_table(PromptPair, table) if pair.role == "train"]
    return [prompt for pair in train for prompt in (pair.unsafe_prompt, pair.safe_prompt)]


def _room(
    data: DataRoot, concepts: list[str], generator: DiffusersImageGenerator, sampling: Sampling
) -> Callable[[], object]:
    return lambda: images.render_pairs(data, concepts, generator, sampling)


def _loop(
    pipe: StableDiffusionPipeline, prompts: list[str], sampling: Sampling
) -> Callable[[], object]:
    def render() -> None:
        for prompt in prompts:
            pipe(
                prompt,
                num_inference_steps=sampling.num_inference_steps,
                guidance_scale=sampling.guidance_scale,
                width=sampling.width,
                height=sampling.height,
                generator=torch.Generator().manual_seed(records.pair_seed(prompt, "loop")),
            )

    return render


def _bare(
    pipe: StableDiffusionPipeline, count: int, sampling: Sampling, threads: int
) -> Callable[[], object]:
    rows, factor = sampling.batch_size, pipe.vae_scale_factor
    sides = 2 if sampling.guidance_scale > 1 else 1
    noise = torch.randn(rows, 4, sampling.height // factor, sampling.width // factor)
    states = torch.randn(
        sides * rows, pipe.tokenizer.model_max_length, pipe.unet.config.cross_attention_dim
    )

    @torch.inference_mode()
    def batch(_: int) -> None:
        latents = noise.contiguous(memory_format=torch.channels_last)
        doubled = torch.cat([latents] * sides)
        for step in range(sampling.num_inference_steps):
            pipe.unet(doubled, step, encoder_hidden_states=states, return_dict=False)
        pipe.vae.decode(latents, return_dict=False)

    def render() -> None:
        before = torch.get_num_threads()
        for network in (pipe.unet, pipe.vae):
            network.to(memory_format=torch.channels_last)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(batch, range(-(-count // rows))))
        for network in (pipe.unet, pipe.vae):
            network.to(memory_format=torch.contiguous_format)
        torch.set_num_threads(before)

    return render
