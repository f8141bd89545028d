from .blur import blurred, preview_grid, preview_sheet
from .rules import concept_refusal, redact, refusal

__all__ = [
    "blurred",
    "concept_refusal",
    "preview_grid",
    "preview_sheet",
    "redact",
    "refusal",
]
