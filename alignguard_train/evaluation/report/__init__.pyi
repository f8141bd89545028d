from .data import ReportData
from .page import write_revealed
from .summary import write_model_card, write_summary

__all__ = [
    "ReportData",
    "write_model_card",
    "write_revealed",
    "write_summary",
]
