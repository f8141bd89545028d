from .arithmetic import folded, summed, undoing, undone_share
from .config import BenignConfig, ReemergenceConfig, TuningRecipe
from .models import Models
from .records import TunedImage, TunedMeasure, TunedModel
from .room import measure_reemergence, spec
from .training import fine_tune

__all__ = [
    "BenignConfig",
    "Models",
    "ReemergenceConfig",
    "TunedImage",
    "TunedMeasure",
    "TunedModel",
    "TuningRecipe",
    "fine_tune",
    "folded",
    "measure_reemergence",
    "spec",
    "summed",
    "undoing",
    "undone_share",
]
