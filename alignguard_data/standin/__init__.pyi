from .factory import (
    base_model_folder,
    coherence_scorer,
    glyph_scorer,
    scene_features,
    scene_scorer,
    small_instruction,
    taxonomy_file,
)
from .world import Scene, draw, draw_many
from .writer import StandinWriter

__all__ = [
    "Scene",
    "StandinWriter",
    "base_model_folder",
    "coherence_scorer",
    "draw",
    "draw_many",
    "glyph_scorer",
    "scene_features",
    "scene_scorer",
    "small_instruction",
    "taxonomy_file",
]
