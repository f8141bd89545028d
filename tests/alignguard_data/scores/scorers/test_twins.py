"""The twin scorer on the shipped base model's text encoder."""

import shutil
import subprocess
import sys

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.records import PromptPair
from alignguard_data.contracts.text import word_jaccard
from alignguard_data.scores.scorers.twins import TwinSimilarity
from alignguard_data.standin.factory import base_model_folder

BASE = str(base_model_folder())


def pair(unsafe: str, safe: str) -> PromptPair:
    return PromptPair(
        pair_id=unsafe + safe,
        concept="a.b",
        category="a",
        role="train",
        unsafe_prompt=unsafe,
        safe_prompt=safe,
        request_index=0,
        writer="w",
    )


SCENE = "a red ball on the left of a meadow"
PAIRS = [
    pair(SCENE, SCENE),
    pair(f"{SCENE}, opposite a dark zigzag", SCENE),
    pair(f"{SCENE}, opposite a dark zigzag", "a glacier with a blue tree at the top"),
]


def test_the_same_prompt_has_cosine_one_and_any_other_less():
    same, twin, stranger = (scores["cosine"] for scores in TwinSimilarity(BASE).score(PAIRS))
    assert same == pytest.approx(1.0, abs=1e-5)
    assert min(twin, stranger) >= -1
    assert max(twin, stranger) < same


def test_a_pairs_score_does_not_depend_on_its_neighbours():
    scorer = TwinSimilarity(BASE)
    together = [scores["cosine"] for scores in scorer.score(PAIRS)]
    alone = [scorer.score([one])[0]["cosine"] for one in PAIRS]
    assert together == pytest.approx(alone, abs=1e-5)


def test_word_jaccard_by_hand():
    """{a, b, c} and {b, c, d}: 2 of 4 words are shared; order and case do not count."""
    assert word_jaccard("a b c", "D c b") == 0.5
    assert word_jaccard("a", "b") == 0.0
    assert word_jaccard("", "") == 1.0
    assert word_jaccard("a b\u200b t‑shirt", "Ａ b t-shirt") == 1.0
    assert word_jaccard("一把刀", "一把伞") == pytest.approx(1 / 3)


def test_the_version_follows_the_encoders_files(tmp_path):
    copy = tmp_path / "base"
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(f"{BASE}/{part}", copy / part)
    before = TwinSimilarity(str(copy)).version
    assert before == TwinSimilarity(BASE).version
    config = copy / "text_encoder" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert TwinSimilarity(str(copy)).version != before


def test_a_hub_id_needs_a_revision():
    with pytest.raises(EngineError, match="needs a revision"):
        TwinSimilarity("some/model")
    assert TwinSimilarity("some/model", "abc").version == "some/model@abc"


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EngineError, match=r"has no model\.safetensors"):
        _ = TwinSimilarity(str(tmp_path)).version


def test_identity_loads_no_heavy_library():
    code = (
        "import sys; from alignguard_data.scores.scorers.twins import TwinSimilarity as T\n"
        f"t = T({BASE!r}); t.name, t.version, t.keys\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
