"""The base model's text encoder as an embedder."""

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.scores.scorers.twins import TwinSimilarity
from alignguard_data.standin.factory import base_model_folder

BASE = str(base_model_folder())
TEXTS = ["a red ball on the left of a meadow", "a glacier with a blue tree at the top"]


def test_vectors_are_float32_of_length_one_and_depend_only_on_their_text():
    embedder = ClipTextEmbedder(BASE)
    together = embedder.embed(TEXTS)
    assert (together.dtype, together.shape[0]) == (np.float32, 2)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-6)
    alone = np.concatenate([embedder.embed([text]) for text in reversed(TEXTS)])[::-1]
    assert together == pytest.approx(alone, abs=1e-5)
    assert abs(float(together[0] @ together[1])) < 0.999


def test_it_is_the_encoder_that_scores_twins():
    assert ClipTextEmbedder(BASE).version == TwinSimilarity(BASE).version


def test_a_hub_id_needs_a_revision():
    with pytest.raises(EngineError, match="needs a revision"):
        ClipTextEmbedder("some/model")
    assert ClipTextEmbedder("some/model", "abc").version == "some/model@abc"
