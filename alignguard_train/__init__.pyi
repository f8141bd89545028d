from . import adapters, contracts, encodings, evaluation, experts, guards, merge, peers
from .adapters import load_lora, save_lora
from .base import BaseModel
from .contracts import (
    ExpertRecipe,
    FlowTraining,
    flux_expert,
    sd15_duo,
    sd15_expert,
    sd21_expert,
    sd35_expert,
    sdxl_expert,
    standin_expert,
    standin_flow_expert,
)
from .encodings import encode, load_preferences
from .evaluation import evaluate_all
from .experts import make_expert, train_expert
from .merge import MergeConfig, co_merge, make_merges

__version__: str

__all__ = [
    "BaseModel",
    "ExpertRecipe",
    "FlowTraining",
    "MergeConfig",
    "adapters",
    "co_merge",
    "contracts",
    "encode",
    "encodings",
    "evaluate_all",
    "evaluation",
    "experts",
    "flux_expert",
    "guards",
    "load_lora",
    "load_preferences",
    "make_expert",
    "make_merges",
    "merge",
    "peers",
    "save_lora",
    "sd15_duo",
    "sd15_expert",
    "sd21_expert",
    "sd35_expert",
    "sdxl_expert",
    "standin_expert",
    "standin_flow_expert",
    "train_expert",
]
