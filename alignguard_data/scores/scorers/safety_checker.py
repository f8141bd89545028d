"""Scorer ``safety_checker``: raw margins of diffusers' Stable Diffusion safety checker."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.device import device_of
from alignguard_data.engines.weights import folder_revision

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
        self._folder = Path(model) if Path(model).is_dir() else None
        if self._folder is None and revision is None:
            raise EngineError(f"{model} is not a local folder: a hub id needs a revision")
        self._model, self._revision = model, revision
        self._device, self._batch_size = device, batch_size

    @cached_property
    def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Identity of the checker."""
        if self._folder:
            return f"{self._folder.resolve().name}@{folder_revision(self._folder)}"
        return f"{self._model}@{self._revision}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessorPil

        where: dict[str, Any] = {} if self._folder else {"revision": self._revision}
        try:
            checker = StableDiffusionSafetyChecker.from_pretrained(
                self._model, use_safetensors=True, **where
            )
            processor = CLIPImageProcessorPil.from_pretrained(self._model, **where)
        except (OSError, ValueError) as error:
            raise EngineError(f"{self._model} is not a readable safety checker: {error}") from error
        network: Any = checker.eval()
        return network.to(device_of(self._device)), processor

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """One dict per image; the captions are not used."""
        import torch

        del prompts
        checker, processor = self._loaded
        rows: list[dict[str, float]] = []
        for first in range(0, len(images), self._batch_size):
            part = list(images[first : first + self._batch_size])
            pixels = processor(images=part, return_tensors="pt")["pixel_values"]
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
