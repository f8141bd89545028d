"""The profile `smol`: captions of any wording are scored, and one command makes pairs of them."""

import math
import subprocess
import sys

import numpy as np
import pytest
import yaml

from alignguard_data.standin.factory import taxonomy_file
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import parse_root
from benchmarks.tiny.chat import INTERPRETER, missing_engine
from pipelines.profile import load_profile
from pipelines.profile_layers import profile_path
from pipelines.resources import Engines, data_root
from tests.alignguard_data.engines.smol_models import MINILM, SMOLLM2, missing_model
from tests.conftest import command_environment

FREE = ["a box near a desert, beside a dark hook of wood"] * 2


def test_every_image_scorer_scores_a_caption_of_any_wording():
    engines = Engines(load_profile("smol"), data_root())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    scorers = [*engines.image_scorers, *engines.evaluation_scorers]
    assert scorers
    for scorer in scorers:
        for row in scorer.score(images, FREE):
            assert row, scorer.name
            assert all(math.isfinite(value) for value in row.values()), scorer.name


@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_one_command_makes_pairs_with_the_real_model(tmp_path):
    """Two concepts; the model writes, the base model draws, MiniLM and the scorers judge."""
    missing = missing_engine() or missing_model(SMOLLM2) or missing_model(MINILM)
    if missing:
        pytest.skip(missing)
    taxonomy = yaml.safe_load(taxonomy_file().read_text())
    taxonomy["categories"] = taxonomy["categories"][:1]
    taxonomy["categories"][0]["concepts"] = taxonomy["categories"][0]["concepts"][:2]
    (tmp_path / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    profile = yaml.safe_load(profile_path("smol").read_text())
    profile["taxonomy"] = str(tmp_path / "taxonomy.yaml")
    profile["writing"] |= {"pairs_per_concept": 4, "evaluation_share": 0.0}
    profile["writer"]["params"]["interpreter"] = str(INTERPRETER)
    path = tmp_path / "smol.yaml"
    path.write_text(yaml.safe_dump(profile))
    root = tmp_path / "root"
    environment = command_environment(root, path) | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "run", "--until", "pairs"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data = DataRoot(root=parse_root(str(root)), profile="smol")
    for concept in ("angular.zigzag", "angular.bolt"):
        written = manifests.load(data.partition("prompts", concept))
        kept = manifests.load(data.partition("pairs", concept))
        assert written
        assert written.rows == 4
        assert kept
        assert kept.rows > 0
