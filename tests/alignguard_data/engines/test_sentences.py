"""The sentence embedder with a real model, MiniLM."""

import numpy as np
import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.records import PromptPair
from alignguard_data.engines.sentences import SentenceEmbedder
from alignguard_data.scores.scorers.twins import SentenceTwins
from pipelines.profile_paths import resolve_model
from tests.alignguard_data.engines.smol_models import MINILM, missing_model


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    if missing := missing_model(MINILM):
        pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield resolve_model(MINILM)


def test_cosines_are_those_of_the_models_card(minilm):
    """The card of all-MiniLM-L6-v2 shows 0.943, 0.695 and 0.257 for the same sentences."""
    first, *others = SentenceEmbedder(minilm, device="cpu").embed(
        [
            "That is a happy person",
            "That is a very happy person",
            "That is a happy dog",
            "Today is a sunny day",
        ]
    )
    found = [float(first @ other) for other in others]
    assert found == pytest.approx([0.943, 0.695, 0.257], abs=2e-3)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)


def test_a_text_does_not_depend_on_its_neighbours(minilm):
    """Padding moves the last bits of a float32 sum, and no more."""
    embedder = SentenceEmbedder(minilm, device="cpu")
    short, long = "a tree", "a yellow tree on the left of a wide and quiet heath"
    alone = embedder.unit_vectors([short])[0]
    assert np.abs(embedder.unit_vectors([short, long])[0] - alone).max() < 1e-5


def test_twins_are_closer_than_strangers(minilm):
    def pair(unsafe, safe):
        return PromptPair(
            pair_id="p", concept="c.s", category="c", role="train", unsafe_prompt=unsafe,
            safe_prompt=safe, request_index=0, writer="w",
        )  # fmt: skip

    twins, strangers = SentenceTwins(minilm, device="cpu").score(
        [
            pair("a red box in a desert, opposite a dark star", "a red box in a desert"),
            pair("a red box in a desert, opposite a dark star", "taxes are due in April"),
        ]
    )
    assert twins["cosine"] > 0.6 > 0.2 > strangers["cosine"]
    assert set(twins) == set(SentenceTwins.keys)


def test_the_version_is_known_without_loading_and_a_hub_id_needs_a_revision(minilm):
    assert SentenceTwins(minilm).version == SentenceEmbedder(minilm).version
    assert SentenceEmbedder("someone/model", "abc").version == "someone/model@abc"
    with pytest.raises(EngineError, match="needs a revision"):
        SentenceEmbedder("someone/model")
