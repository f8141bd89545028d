"""Instruction, variety and seeds depend only on concept and request index."""

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.engines.text.chat import SCHEMA, Instruction, request_seed, variety
from alignguard_data.engines.tokens import TokenCounter
from alignguard_data.safety.rules import refusal
from benchmarks.tiny.diffusion import TOKENS
from tests.alignguard_data.tiny_rooms import concept

CONCEPT = concept("lines.bar", terms=("bar", "thick bar"))


def request(index: int) -> WritingRequest:
    return WritingRequest(concept=CONCEPT, index=index)


def test_the_message_names_the_concept_its_terms_and_the_limits():
    (message,) = Instruction(min_words=6, max_words=9).messages(request(0))
    assert message["role"] == "user"
    for words in ("Concept: bar", "bar, thick bar", "6 to 9 words"):
        assert words in message["content"]


def test_scenes_vary_with_the_index_and_repeat_with_it():
    scenes = [variety(request(i)) for i in range(64)]
    assert len(set(scenes)) > 55
    assert scenes == [variety(request(i)) for i in range(64)]
    assert variety(request(0)) != variety(request(0), seed=1)


def test_seeds_are_31_bit_and_differ():
    seeds = {request_seed(request(i)) for i in range(1000)}
    assert len(seeds) == 1000
    assert max(seeds) < 2**31


def test_the_version_follows_the_text_and_the_limits():
    assert Instruction().version.startswith("caption_pair_v1-")
    assert Instruction().version != Instruction(max_words=12).version
    assert Instruction().version == Instruction().version


def test_an_unknown_instruction_lists_those_that_there_are():
    with pytest.raises(EngineError, match="no instruction 'x'; there are caption_pair_v1"):
        _ = Instruction(name="x").text


def test_no_part_of_an_instruction_is_refused_by_the_safety_rules():
    for i in range(200):
        assert refusal(Instruction().messages(request(i))[0]["content"]) is None


def test_the_schema_bounds_lengths_and_has_no_pattern():
    """A pattern with bounds does not compile in xgrammar; see test_smollm2.py."""
    for text in SCHEMA["properties"].values():
        assert text == {"type": "string", "minLength": 8, "maxLength": 300}


def test_tokens_are_those_of_the_base_models_tokenizer(tiny_folder):
    """The tiny tokenizer has a token a letter: "ab c" is 3, and start and end."""
    count = TokenCounter(str(tiny_folder))
    assert count("ab c") == 5
    assert count("a" * 40) == 42 > TOKENS


def test_a_model_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(EngineError, match="no readable tokenizer"):
        TokenCounter(str(tmp_path))("a")
