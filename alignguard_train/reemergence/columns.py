"""Meanings of the columns of the reemergence room's tables."""

from collections.abc import Mapping

from alignguard_data.contracts.column_meanings import meanings
from alignguard_train.reemergence.records import (
    HeldOutLoss,
    LeftOut,
    TunedImage,
    TunedLayer,
    TunedMeasure,
    TunedModel,
)

RECORDS = {
    "images": TunedImage,
    "measures": TunedMeasure,
    "losses": HeldOutLoss,
    "models": TunedModel,
    "layers": TunedLayer,
    "left_out": LeftOut,
}
"""Record by table."""
MEANINGS: Mapping[str, Mapping[str, str]] = {
    table: meanings(record) for table, record in RECORDS.items()
}
"""Meaning by table and column."""
