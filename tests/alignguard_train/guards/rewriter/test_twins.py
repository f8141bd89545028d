"""A rewriter's file writes the dataset's safe prompts, or says at once why it cannot."""

import dataclasses
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from alignguard_data.contracts.errors import ConfigError, EngineError, NothingMade
from alignguard_data.contracts.records import PromptPair, RejectedReply, from_table
from alignguard_data.contracts.terms import names_concept
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import REASONS
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.prompts.twin_stage import TwinStage
from alignguard_data.standin.factory import base_model_folder
from alignguard_data.standin.writer import StandinWriter
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import sha256_file
from alignguard_train.guards.reader import guard_file
from alignguard_train.guards.rewriter.twins import RewriterTwins, Selection, chosen_twin
from tests.alignguard_train.guards.composed import made, release
from tests.alignguard_train.guards.release import CONCEPTS, RELEASE

MODEL = str(base_model_folder())
BAD = "a red ball on the left of a meadow, opposite a dark zigzag"
SAFE = "a red ball on the left of a meadow"
TERMS = {"a.zigzag": ["zigzag"], "a.hook": ["hook"]}
WRITING = WritingConfig(pairs_per_concept=4, max_requests_per_pair=6, min_pairs=0)


class Guard:
    """Flags what holds `dark`; with a score that is no number where it holds `odd`."""

    threshold = 0.5

    def score(self, prompts):
        return np.array([np.nan if "odd" in one else float("dark" in one) for one in prompts])


@pytest.mark.parametrize(
    ("attempts", "text", "reason"),
    [
        (["a red ball on a meadow", SAFE], SAFE, ""),
        ([SAFE, f"  {SAFE} "], SAFE, ""),
        ([], "", "twin_unanswered"),
        (["", "  "], "", "twin_unanswered"),
        (["", "a picture of a child"], "a picture of a child", "minors"),
        ([BAD, BAD.upper()], BAD, "twins_identical"),
        ([BAD, f"{SAFE} and zigzags"], f"{SAFE} and zigzags", "safe_prompt_holds_concept"),
        ([f"{SAFE} and a hook"], f"{SAFE} and a hook", "safe_prompt_holds_concept"),
        ([f"{SAFE} and a thing"], f"{SAFE} and a thing", "safe_prompt_holds_concept"),
        ([BAD, f"{SAFE} and a dark line"], f"{SAFE} and a dark line", "twin_flagged"),
        ([f"an odd {SAFE}"], f"an odd {SAFE}", "twin_flagged"),
        (["a quiet blue sky", f"dark {SAFE}"], "a quiet blue sky", "twin_keeps_too_little"),
        (["a quiet blue sky", SAFE], SAFE, ""),
    ],
)
def test_the_twin_that_keeps_most_is_taken_of_those_that_pass_every_test(attempts, text, reason):
    """A refused twin has the reason of the last test that any attempt reached."""
    terms = {**TERMS, "a.own": ["thing"]}
    twin = chosen_twin(BAD, attempts, terms, Guard(), Selection(least_jaccard=0.3))  # pyright: ignore[reportArgumentType]
    assert (twin.text, twin.reason) == (text, reason)
    assert reason in ("", *REASONS)


@pytest.fixture(scope="module")
def file():
    """Trained until its twins are worth accepting, which takes seconds."""
    chosen = {"layers": 2, "width": 96, "heads": 4, "start_steps": 60, "steps": 120}
    made("rewriter", **chosen, candidates=2)
    return guard_file(release()[0], "rewriter")


def test_two_concepts_of_the_standin_get_pairs_whose_twins_the_rewriter_wrote(file, tmp_path):
    data = DataRoot(root=tmp_path, profile="tiny")
    twins = RewriterTwins(str(file), MODEL)
    stage = TwinStage(StandinWriter(), twins)
    for concept in CONCEPTS[:2]:
        manifest = write_prompt_pairs(data, concept, stage, WRITING)
        folder = data.partition("prompts", concept.key)
        pairs = from_table(PromptPair, manifests.read(folder, "pairs"))
        rejected = from_table(RejectedReply, manifests.read(folder, "rejected"))
        assert pairs
        assert len(pairs) + len(rejected) == manifest.counts["requests"]
        scores = twins._guard.score([pair.safe_prompt for pair in pairs])  # pyright: ignore[reportOptionalMemberAccess]
        assert (scores < twins._guard.threshold).all()  # pyright: ignore[reportOptionalMemberAccess]
        for pair in pairs:
            assert names_concept(pair.unsafe_prompt, concept.terms)
            assert not names_concept(pair.safe_prompt, concept.terms)
            assert f"rewriter of {RELEASE}" in pair.writer
        (revision,) = manifest.models.values()
        assert sha256_file(file)[:16] in revision


def test_the_same_prompt_has_the_same_twin_whatever_the_batch(file):
    one, two = RewriterTwins(str(file), MODEL), RewriterTwins(str(file), MODEL)
    zigzag, bolt = CONCEPTS[:2]
    prompts = [BAD, BAD.replace("zigzag", "bolt").replace("meadow", "heath")]
    together = one.twins(prompts, [zigzag, bolt])
    assert two.twins(prompts[1:], [bolt]) == together[1:]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("", "twin_unanswered"), (None, "twins_identical"), ("sky", "twin_keeps_too_little")],
)
def test_a_rewriter_without_a_usable_answer_makes_no_pair_and_every_row_has_the_reason(
    file, tmp_path, monkeypatch, answer, reason
):
    """It answers nothing, repeats the unsafe prompt, or says one thing whatever it is asked."""
    twins = RewriterTwins(str(file), MODEL)
    twins.load()
    guard = twins._guard
    assert guard is not None
    monkeypatch.setattr(
        guard.rewriter,
        "candidates",
        lambda prompts, count, **_: [
            [text if answer is None else answer] * count for text in prompts
        ],
    )
    monkeypatch.setattr(guard, "score", lambda texts: np.full(len(texts), -np.inf))
    data = DataRoot(root=tmp_path, profile="tiny")
    config = dataclasses.replace(WRITING, min_pairs=1)
    with pytest.raises(NothingMade, match=reason):
        write_prompt_pairs(data, CONCEPTS[0], TwinStage(StandinWriter(), twins), config)
    found = write_prompt_pairs(data, CONCEPTS[0], TwinStage(StandinWriter(), twins), WRITING)
    assert found.rejected == {reason: WRITING.pairs_per_concept * WRITING.max_requests_per_pair}


def test_a_missing_file_and_every_bad_value_are_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as raised:
        RewriterTwins(
            str(tmp_path / "none.safetensors"), MODEL, tries=0, temperature=0.0, least_jaccard=2
        )
    text = str(raised.value)
    for named in ("none.safetensors", "tries", "temperature", "least_jaccard"):
        assert named in text
    assert "there is no file" in text


def test_a_file_of_another_kind_is_refused_before_anything_is_loaded(tmp_path):
    made("eos-logistic")
    with pytest.raises(ConfigError, match=r"guard of kind eos-logistic, which writes no twins"):
        RewriterTwins(str(guard_file(release()[0], "eos-logistic")), MODEL)
    plain = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(1)}, plain)
    with pytest.raises(ConfigError, match="is not a guard"):
        RewriterTwins(str(plain), MODEL)
    plain.write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        RewriterTwins(str(plain), MODEL)


def test_another_base_model_is_refused_before_the_writer_is_asked(file, tmp_path):
    from transformers import CLIPTextModel

    from tests.alignguard_train.guards.small import standin_encoder

    encoder = standin_encoder()
    model = CLIPTextModel(encoder._encoder.config)
    model.save_pretrained(tmp_path / "text_encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    twins = RewriterTwins(str(file), str(tmp_path))
    with pytest.raises(EngineError, match="guard rewriter reads another text encoder"):
        twins.load()
    shutil.rmtree(tmp_path / "text_encoder")
    with pytest.raises(EngineError, match="has no text encoder CLIPTextModel"):
        RewriterTwins(str(file), str(tmp_path)).load()
