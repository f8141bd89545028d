"""Names that several rooms share."""

CONCEPT_CHECK = "concept_check"
"""Among a manifest's models: what judged the prompts, and wrote none."""
