from .config import CostModelConfig
from .files import CostModelHeader, load_cost_model, save_cost_model
from .gate import Figures
from .head import CostHead, cost_loss, train_head
from .reader import cost_model_file, costs_of
from .room import make_cost_model, spec
from .scorer import CostScorer

__all__ = [
    "CostHead",
    "CostModelConfig",
    "CostModelHeader",
    "CostScorer",
    "Figures",
    "cost_loss",
    "cost_model_file",
    "costs_of",
    "load_cost_model",
    "make_cost_model",
    "save_cost_model",
    "spec",
    "train_head",
]
