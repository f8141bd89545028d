"""Scorer ``cost``: a trained cost model over images, for the pair filter's rules."""

import pkgutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import FeatureExtractor, Pixels
from alignguard_data.engines.weights import file_revision


class CostScorer:
    """An ``ImageScorer``: ``cost`` is above 0 for an unsafe image, and not a probability.

    Args:
        model: the file of a cost model, of this or another release.
        features: the extractor that it was trained with: ``use``, as in a profile, and ``params``.

    Raises:
        ConfigError: ``features`` names no function.
        IntegrityError: the file is not a cost model's.
        EngineError: the cost model is under its gate, or was trained with another extractor.
    """

    name = "cost"
    keys = ("cost",)

    def __init__(self, model: str, features: Mapping[str, Any]) -> None:
        from alignguard_train.cost_model.files import check_features, load_cost_model

        self._file = Path(model)
        self._extractor = _extractor(features)
        header, self._head = load_cost_model(self._file)
        check_features(header, name=self._extractor.name, version=self._extractor.version, of=model)

    @cached_property
    def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Changes with the cost model's file and with the extractor."""
        return f"{file_revision(self._file)[:12]}-{self._extractor.version}"

    def score(self, images: Pixels, prompts: Sequence[str]) -> list[dict[str, float]]:
        """The cost of each image.

        Args:
            images: uint8 RGB (images, height, width, 3).
            prompts: not used.

        Returns:
            ``cost`` of each image.
        """
        import torch

        from alignguard_train.cost_model.source import features_of

        del prompts
        if not len(images):
            return []
        found = self._head(torch.from_numpy(features_of(self._extractor, list(images))))
        return [{"cost": round(cost, 6)} for cost in found.tolist()]


def _extractor(features: Mapping[str, Any]) -> FeatureExtractor:
    unknown = sorted(set(features) - {"use", "params"})
    if unknown or "use" not in features:
        raise ConfigError("CostScorer", [f"features: needs use and params, got {dict(features)}"])
    try:
        builder = pkgutil.resolve_name(str(features["use"]))
        return builder(**features.get("params", {}))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError("CostScorer", [f"features.use: {features['use']}: {error}"]) from error
