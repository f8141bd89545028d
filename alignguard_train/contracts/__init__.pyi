from .adapter_names import expert_name, label, merge_name, peer_name
from .flow import FlowTraining
from .recipes import (
    ExpertRecipe,
    as_duo,
    as_sc_dpo,
    as_sft,
    flux_expert,
    sd15_duo,
    sd15_expert,
    sd21_expert,
    sd35_expert,
    sdxl_expert,
    standin_expert,
    standin_flow_expert,
)

__all__ = [
    "ExpertRecipe",
    "FlowTraining",
    "as_duo",
    "as_sc_dpo",
    "as_sft",
    "expert_name",
    "flux_expert",
    "label",
    "merge_name",
    "peer_name",
    "sd15_duo",
    "sd15_expert",
    "sd21_expert",
    "sd35_expert",
    "sdxl_expert",
    "standin_expert",
    "standin_flow_expert",
]
