"""The safety rules over tables."""

import pyarrow as pa

from alignguard_data.safety.rules import redact, refusal


def prompt_faults(table: pa.Table) -> list[str]:
    """Check the texts of a table.

    Args:
        table: rows with prompts.

    Returns:
        One message per text that a safety gate refuses, redacted.
    """
    parts = (chunk for column in table.columns for chunk in column.iterchunks())
    texts = (text for part in parts for text in part.to_pylist())
    return [f"{redact(text)} is refused ({reason})" for text in texts if (reason := refusal(text))]
