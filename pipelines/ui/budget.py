"""Cost of a full run of a profile on a GPU: counts, operations, hours and bytes by room.

Computed from the profile, the taxonomy and the models' shapes only, before any download. Time is
operations over a stated share of the GPU's peak.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.costs.flops import (
    ModelFlops,
    count_clip_image,
    count_model,
    shapes_of,
)
from alignguard_data.costs.gpus import Gpu
from alignguard_data.engines.text.chat import Instruction
from alignguard_data.taxonomy.parse import Taxonomy
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.evaluation.prompt_sets import read_prompt_sets
from pipelines.profile import Profile
from pipelines.profile_paths import resolve_model
from pipelines.profile_sections import Engine

CHARACTERS_A_TOKEN = 4
REPLY_TOKENS = 80
"""A JSON object with two captions."""
PNG_BYTES_A_PIXEL = 1.6
"""Compressed photographs; a release holds a second copy."""
TERA, HOUR, GIB = 1e12, 3600, 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomBudget:
    """One room: ``units`` of ``unit``; None if shapes do not determine it."""

    room: str
    units: int
    unit: str
    tflop: float | None
    hours: float | None
    gib: float
    """Bytes in the data root; the evaluation keeps numbers, and images only while it runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sizes:
    pairs: int
    trained: int
    evaluated: int
    adapters: int


def budget(profile: Profile, taxonomy: Taxonomy, gpu: Gpu, peak_share: float) -> list[RoomBudget]:
    """Every room that uses GPU time, in order.

    Args:
        profile: sizes, steps and models.
        taxonomy: the concepts, for the numbers of pairs.
        gpu: its peak rate and memory.
        peak_share: reached share of the GPU's peak, in (0, 1].

    Raises:
        EngineError: the base model's shapes are unknown.
        ValueError: ``peak_share`` is out of bounds.
    """
    if not 0 < peak_share <= 1:
        raise ValueError(f"peak_share must lie in (0, 1], got {peak_share}")
    image, recipe = profile.sampling, profile.recipe()
    model = resolve_model(profile.base_model.model)
    flops = _counted(model, image.height, image.width)
    sizes = _sizes(profile, taxonomy)
    drawn = flops.image(image.num_inference_steps, image.guidance_scale)
    picture = image.width * image.height * PNG_BYTES_A_PIXEL / GIB
    encoded = flops.encoded_numbers(mirrored=recipe.flip) * _training_bytes(profile) / GIB
    clip = _clip_looks(profile.image_scorers)
    trained = gpu.peak(profile.base_model.trained_in)

    def room(
        name: str,
        units: int,
        unit: str,
        each: float | None,
        gib: float = 0.0,
        peak: float = gpu.tflops,
    ) -> RoomBudget:
        tflop = None if each is None else units * each / TERA
        hours = None if tflop is None else tflop / (peak * peak_share) / HOUR
        return RoomBudget(room=name, units=units, unit=unit, tflop=tflop, hours=hours, gib=gib)

    return [
        room("prompts", sizes.pairs, "pairs", _writing(profile, taxonomy)),
        room("images", 2 * sizes.trained, "images", drawn, 2 * sizes.trained * picture),
        room("scores", 2 * sizes.trained, "images", clip),
        room("release", sizes.trained, "pairs", 0.0, 2 * sizes.trained * picture),
        room(
            "encodings", sizes.trained, "pairs", flops.encoded_pair(mirrored=recipe.flip),
            sizes.trained * encoded, peak=trained,
        ),
        room(
            "experts", *_training(profile, taxonomy, recipe, flops),
            peak=trained,
        ),
        room("evaluation", *_evaluation(profile, sizes, model, drawn)),
    ]  # fmt: skip


@lru_cache
def _counted(model: str, height: int, width: int) -> ModelFlops:
    """Building networks takes seconds, and several callers need them."""
    return count_model(shapes_of(model), height, width)


def _sizes(profile: Profile, taxonomy: Taxonomy) -> _Sizes:
    concepts, wanted = len(taxonomy.concepts), profile.writing.pairs_per_concept
    trained = round(concepts * wanted * (1 - profile.writing.evaluation_share))
    reserved = wanted - round(wanted * (1 - profile.writing.evaluation_share))
    evaluated = concepts * min(profile.evaluation.prompts_per_concept, reserved)
    adapters = 1 + len(taxonomy.categories) + len(profile.merge.strategies)
    adapters += len(profile.evaluation.peers)
    return _Sizes(
        pairs=concepts * wanted,
        trained=trained,
        evaluated=evaluated,
        adapters=adapters + profile.training.all_single,
    )


def _evaluation(profile: Profile, sizes: _Sizes, model: str, drawn: int) -> tuple[int, str, float]:
    """The images of the evaluation, and their operations.

    Every release and prompt set prompt with every adapter, at the set's own size and guidance, and
    the further seeds of SSR-N; operations are the mean per image.
    """
    image = profile.sampling
    sets = read_prompt_sets(profile.evaluation.prompt_sets)
    found = [p for one in sets for p in one.prompts]
    asked = [(p.height or image.height, p.width or image.width, p.guidance_scale) for p in found]
    counted = {size: _counted(model, *size) for size in {(h, w) for h, w, _ in asked}}
    own = 2 * sizes.evaluated
    together = own * drawn + sum(
        counted[h, w].image(image.num_inference_steps, guidance or image.guidance_scale)
        for h, w, guidance in asked
    )
    prompts = own + len(asked)
    scored = _clip_looks(profile.evaluation_scorers)
    unsafe = sizes.evaluated + sum(len(s.prompts) for s in sets if s.config.kind != "benign")
    defences = 2 + profile.training.all_single + len(profile.evaluation.peers)
    images = sizes.adapters * prompts + defences * (profile.evaluation.seeds - 1) * unsafe
    return images, "images", together / max(prompts, 1) + scored


def _training_bytes(profile: Profile) -> int:
    """Bytes per training weight."""
    return 2 if profile.base_model.trained_in == "bfloat16" else 4


def _training(
    profile: Profile, taxonomy: Taxonomy, recipe: ExpertRecipe, flops: ModelFlops
) -> tuple[int, str, float]:
    # All-single takes as many steps as all experts together.
    runs = len(taxonomy.categories) * (2 if profile.training.all_single else 1)
    pairs = runs * recipe.steps * recipe.batch_size * recipe.accumulation
    each = flops.training_pair(
        preservation=recipe.preservation > 0, checkpointing=recipe.gradient_checkpointing
    )
    return pairs, "pairs seen", each


def _writing(profile: Profile, taxonomy: Taxonomy) -> float | None:
    """One reply: two operations per parameter and token, read or written (without attention)."""
    billions = re.search(r"(\d+(?:\.\d+)?)B\b", str(profile.writer.params.get("model", "")))
    if not billions:
        return None
    instruction = Instruction(
        name=str(profile.writer.params.get("instruction", "caption_pair_v1")),
        min_words=profile.writing.min_words,
        max_words=profile.writing.max_words,
    )
    asked = instruction.messages(WritingRequest(concept=taxonomy.concepts[0], index=0), 0)
    read = sum(len(message["content"]) for message in asked) / CHARACTERS_A_TOKEN
    return 2 * float(billions[1]) * 1e9 * (read + REPLY_TOKENS)


def _clip_looks(engines: Sequence[Engine]) -> int:
    """Operations of one image in the scorers that use CLIP."""
    looking = sum("clip" in str(engine.params.get("model", "")) for engine in engines)
    return looking * count_clip_image() if looking else 0
