"""CLIP image embeddings as features, for FID, KID and image distances."""

from alignguard_data.contracts.protocols import Pixels
from alignguard_data.engines.clip_model import ClipModel, Vectors


class ClipFeatures:
    """A ``FeatureExtractor``: CLIP's image embedding, of unit length.

    Results of different extractors are not comparable, so the version names the model.
    """

    name = "clip"

    def __init__(
        self, model: str, revision: str | None = None, device: str = "auto", batch_size: int = 32
    ) -> None:
        self._clip = ClipModel(model, revision, device, batch_size)

    @property
    def version(self) -> str:
        """Identity of the CLIP model."""
        return self._clip.identity

    def features(self, images: Pixels) -> Vectors:
        """CLIP's image embeddings.

        Args:
            images: uint8 RGB (images, height, width, 3), at least one.

        Returns:
            Unit vectors, float32 (images, width).

        Raises:
            EngineError: the model cannot be loaded.
        """
        return self._clip.images(images)
