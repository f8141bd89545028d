"""Names shared by several rooms."""

CONCEPT_CHECK = "concept_check"
"""Entry in a manifest's models: the concept check, which judged the prompts and wrote none."""
ATTACK_WRITER = "attack:"
"""Start of the writer's name of a hard negative: a prompt that an attack found."""
