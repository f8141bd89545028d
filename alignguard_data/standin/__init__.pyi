from .factory import (
    base_model_folder,
    coherence_scorer,
    flow_model_folder,
    glyph_scorer,
    random_features,
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
    "flow_model_folder",
    "glyph_scorer",
    "random_features",
    "scene_features",
    "scene_scorer",
    "small_instruction",
    "taxonomy_file",
]
