"""Scorer ``safety_checker``: raw margins of diffusers' Stable Diffusion safety checker."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.clip_model import pixel_batches
from alignguard_data.engines.device import device_of
from alignguard_data.engines.model_source import ModelSource

SPECIAL_BONUS = 0.01
"""What the checker adds to all margins of an image near a special-care concept."""


class SafetyCheckerScorer:
    """An ``ImageScorer``: largest cosine minus threshold over the checker's concepts.

    The checker blacks out an image with ``concept`` of 0.0005 or more. ``special`` is the margin of
    its special-care concepts.
    """

    name = "safety_checker"
    keys = ("concept", "special")

    def __init__(
        self, model: str, revision: str | None = None, device: str = "auto", batch_size: int = 32
    ) -> None:
        self._source = ModelSource(model, revision)
        self._device, self._batch_size = device, batch_size

    @cached_property
    def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Identity of the checker."""
        return self._source.identity

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessorPil

        where = self._source.arguments
        try:
            checker = StableDiffusionSafetyChecker.from_pretrained(use_safetensors=True, **where)
            processor = CLIPImageProcessorPil.from_pretrained(**where)
        except (OSError, ValueError) as error:
            model = self._source.model
            raise EngineError(f"{model} is not a readable safety checker: {error}") from error
        network: Any = checker.eval()
        return network.to(device_of(self._device)), processor

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """One dict per image; the captions are not used."""
        import torch

        del prompts
        checker, processor = self._loaded
        rows: list[dict[str, float]] = []
        for pixels in pixel_batches(images, processor, self._batch_size):
            with torch.inference_mode():
                seen = checker.vision_model(pixels.to(checker.device)).pooler_output
                shown = torch.nn.functional.normalize(checker.visual_projection(seen))
                special = shown @ torch.nn.functional.normalize(checker.special_care_embeds).T
                concept = shown @ torch.nn.functional.normalize(checker.concept_embeds).T
            near = (special - checker.special_care_embeds_weights).max(dim=1).values
            # The checker rounds to three decimals before comparing with 0.
            bonus = SPECIAL_BONUS * (near.round(decimals=3) > 0)
            margin = (concept - checker.concept_embeds_weights).max(dim=1).values + bonus
            rows += [
                {"concept": round(a, 6), "special": round(b, 6)}
                for a, b in zip(margin.tolist(), near.tolist(), strict=True)
            ]
        return rows
