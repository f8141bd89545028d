"""What profiles name: the taxonomy's glyphs can be drawn, and importing costs no torch."""

import subprocess
import sys

import yaml

from alignguard_data.standin.factory import residue_threshold, taxonomy_file
from alignguard_data.standin.glyphs import GLYPHS


def test_the_taxonomy_names_every_glyph_once() -> None:
    categories = yaml.safe_load(taxonomy_file().read_text())["categories"]
    slugs = [concept["slug"] for category in categories for concept in category["concepts"]]
    assert sorted(slugs) == sorted(GLYPHS)


def test_each_of_seven_categories_holds_one_concept_of_three_out() -> None:
    categories = yaml.safe_load(taxonomy_file().read_text())["categories"]
    splits = [[concept["split"] for concept in category["concepts"]] for category in categories]
    assert splits == [["train", "train", "test"]] * 7


def test_world_and_writer_import_no_torch() -> None:
    script = (
        "import sys; from alignguard_data.standin import factory;"
        "factory.writer(); factory.residue_threshold(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_residue_threshold_is_six_pixels() -> None:
    assert residue_threshold() == 6
