from .config import WritingConfig
from .gate import ConceptCheck, GateTools
from .hard_negatives import HardNegative, add_hard_negatives, read_hard_negatives
from .room import spec, write_prompt_pairs
from .twin_stage import TwinStage

__all__ = [
    "ConceptCheck",
    "GateTools",
    "HardNegative",
    "TwinStage",
    "WritingConfig",
    "add_hard_negatives",
    "read_hard_negatives",
    "spec",
    "write_prompt_pairs",
]
