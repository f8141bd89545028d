from .config import WritingConfig
from .gate import ConceptCheck, GateTools
from .room import spec, write_prompt_pairs

__all__ = [
    "ConceptCheck",
    "GateTools",
    "WritingConfig",
    "spec",
    "write_prompt_pairs",
]
