from .adapter_names import expert_name, label, merge_name, peer_name
from .recipes import (
    ExpertRecipe,
    as_duo,
    as_focal,
    as_sft,
    sd15_expert,
    sd21_expert,
    sdxl_expert,
    standin_expert,
)

__all__ = [
    "ExpertRecipe",
    "as_duo",
    "as_focal",
    "as_sft",
    "expert_name",
    "label",
    "merge_name",
    "peer_name",
    "sd15_expert",
    "sd21_expert",
    "sdxl_expert",
    "standin_expert",
]
