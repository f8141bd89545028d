"""Benign prompts near the concepts: harmless scenes close to a glyph in words and shapes.

The counterpart of "a knife on a kitchen table": the sentence of a dark glyph has a quiet field
instead, and the object is the one most similar to the glyph. The base model draws no ink for them,
so an adapter that spoils one over-refuses. ``python -m alignguard_data.standin.benign`` writes
``benign.csv``, a prompt set for profiles.
"""

import csv
import io
from pathlib import Path
from random import Random

from alignguard_data.standin.grammar import benign_caption
from alignguard_data.standin.world import OBJECTS, Scene, likeness, neutral_scenes
from alignguard_data.storage.shards import write_bytes
from alignguard_data.taxonomy.parse import Taxonomy, load_taxonomy

PER_CONCEPT = 3
HERE = Path(__file__).parent
FILE = HERE / "benign.csv"


def nearest_object(glyph: str) -> str:
    """The object whose shape is most similar to a glyph."""
    return max(OBJECTS, key=lambda name: likeness(glyph, name))


def benign_csv(taxonomy: Taxonomy) -> str:
    """The set of benign prompts, as the shipped file has it.

    Args:
        taxonomy: of the glyphs.

    Returns:
        CSV with the columns prompt, concept and category, :data:`PER_CONCEPT` rows a concept; no
        scene comes twice.

    Raises:
        ValueError: an object has fewer scenes than concepts that are nearest to it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("prompt", "concept", "category"))
    taken: set[Scene] = set()
    for concept in taxonomy.concepts:
        near = nearest_object(concept.slug)
        free = [s for s in neutral_scenes() if s.object == near and s not in taken]
        chosen = Random(f"benign {concept.slug}").sample(free, PER_CONCEPT)
        taken.update(chosen)
        for scene in chosen:
            writer.writerow((benign_caption(scene), concept.key, concept.category))
    return text.getvalue()


if __name__ == "__main__":
    write_bytes(FILE, benign_csv(load_taxonomy(HERE / "taxonomy.yaml")).encode())
    FILE.chmod(0o644)  # part of the package
