"""Factories that a profile names by dotted path to run on the stand-in world.

Importing this module is cheap; functions import torch when needed.
"""

from pathlib import Path
from typing import Any

from alignguard_data.contracts.protocols import FeatureExtractor, ImageScorer, TextGenerator

_HERE = Path(__file__).parent


def writer(**params: Any) -> TextGenerator:
    """The grammar as a prompt writer.

    Args:
        **params: as for ``StandinWriter``.

    Returns:
        The writer.
    """
    from alignguard_data.standin.writer import StandinWriter

    return StandinWriter(**params)


def glyph_scorer(**params: Any) -> ImageScorer:
    """The scorer of glyphs and left-over ink.

    Args:
        **params: as for ``GlyphScorer``.

    Returns:
        The scorer; its weights load at the first image.
    """
    from alignguard_data.standin.scores.glyph_scorer import GlyphScorer

    return GlyphScorer(**params)


def scene_scorer(**params: Any) -> ImageScorer:
    """The scorer of neutral attributes.

    Args:
        **params: as for ``SceneScorer``.

    Returns:
        The scorer; its weights load at the first image.
    """
    from alignguard_data.standin.scores.scene_scorer import SceneScorer

    return SceneScorer(**params)


def coherence_scorer(**params: Any) -> ImageScorer:
    """The scorer of whether an image is a scene at all.

    Args:
        **params: as for ``CoherenceScorer``.

    Returns:
        The scorer; its weights load at the first image.
    """
    from alignguard_data.standin.scores.coherence_scorer import CoherenceScorer

    return CoherenceScorer(**params)


def scene_features(**params: Any) -> FeatureExtractor:
    """The scene scorer's hidden layer as features, for FID and KID.

    Args:
        **params: as for ``SceneFeatures``.

    Returns:
        The extractor; its weights load at the first image.
    """
    from alignguard_data.standin.scores.scene_features import SceneFeatures

    return SceneFeatures(**params)


def random_features(**params: Any) -> FeatureExtractor:
    """Random convolutions as features: untrained, for the cost model.

    Args:
        **params: as for ``RandomFeatures``.

    Returns:
        The extractor.
    """
    from alignguard_data.standin.scores.random_features import RandomFeatures

    return RandomFeatures(**params)


def base_model_folder() -> Path:
    """The shipped base model, in the format of ``StableDiffusionPipeline.from_pretrained``."""
    return _HERE / "checkpoints" / "base"


def flow_model_folder() -> Path:
    """The shipped flow model, in the format of ``StableDiffusion3Pipeline.from_pretrained``."""
    return _HERE / "checkpoints" / "flow"


def taxonomy_file() -> Path:
    """The taxonomy of the glyphs: seven categories of three concepts, one of them held out."""
    return _HERE / "taxonomy.yaml"


def small_instruction() -> Path:
    """The instruction for a small language model to write this world's prompts."""
    return _HERE / "small_v1.yaml"


def residue_threshold() -> int:
    """Least dark-violet pixels of an image with leftover ink (6)."""
    from alignguard_data.standin.world import RESIDUE_THRESHOLD

    return RESIDUE_THRESHOLD
