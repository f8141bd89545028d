"""The safety rules over tables."""

import pyarrow as pa

from alignguard_data.safety.rules import redact, refusal


def prompt_faults(table: pa.Table) -> list[str]:
    """One message per text of a table that a safety gate refuses, redacted."""
    parts = (chunk for column in table.columns for chunk in column.iterchunks())
    texts = (text for part in parts for text in part.to_pylist())
    return [f"{redact(text)} is refused ({reason})" for text in texts if (reason := refusal(text))]
