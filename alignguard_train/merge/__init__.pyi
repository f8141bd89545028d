from .calibration import measure_activity
from .config import MergeConfig
from .expert_gate import ExpertGate
from .gate_file import ExpertGateHeader
from .linear_gate import LinearGate
from .room import make_merges, merge_by, merged_file, merged_weights, spec
from .strategies import (
    Merged,
    co_merge,
    dare,
    magnitude,
    merge,
    random_winners,
    svd,
    ties,
    weighted_sum,
)

__all__ = [
    "ExpertGate",
    "ExpertGateHeader",
    "LinearGate",
    "MergeConfig",
    "Merged",
    "co_merge",
    "dare",
    "magnitude",
    "make_merges",
    "measure_activity",
    "merge",
    "merge_by",
    "merged_file",
    "merged_weights",
    "random_winners",
    "spec",
    "svd",
    "ties",
    "weighted_sum",
]
