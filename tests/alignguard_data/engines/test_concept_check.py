"""Checks of concepts that are depicted without being named."""

import json

import numpy as np
import pytest

from alignguard_data.engines.concept_check import EmbeddingCheck, JudgeCheck
from alignguard_data.engines.embedder import ClipTextEmbedder
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import GateTools, read_reply
from alignguard_data.prompts.room import spec
from alignguard_data.standin.factory import base_model_folder
from tests.alignguard_data.engines.chat_server import chat, serving
from tests.alignguard_data.tiny_rooms import WRITING, TinyRooms, TinyWriter, concept

BAR = concept("lines.bar")
CONFIG = WritingConfig(pairs_per_concept=1, min_words=2)
PAIR = ("a field with a thick stroke", "a field at noon")


def read(check, unsafe=PAIR[0], safe=PAIR[1]):
    reply = json.dumps({"unsafe_prompt": unsafe, "safe_prompt": safe})
    found = read_reply(reply, BAR, CONFIG, set(), tools=GateTools(concept_check=check))
    return found if isinstance(found, str) else "accepted"


def judge(url):
    return JudgeCheck("tiny", "r1", base_url=url, max_retries=0, timeout_seconds=5.0)


def answering(unsafe, safe):
    """A server that tells the twins apart by the caption in its question."""
    return lambda n, body: (
        200,
        chat(unsafe if PAIR[0] in body["messages"][0]["content"] else safe),
    )


@pytest.mark.parametrize(
    ("unsafe", "safe", "found"),
    [
        ("Yes.", "no", "accepted"),
        ("No", "no", "unsafe_prompt_lacks_concept"),
        ("yes", "Yes", "safe_prompt_holds_concept"),
        ("perhaps", "no", "unsafe_prompt_lacks_concept"),
        ("yes", "", "safe_prompt_holds_concept"),
    ],
)
def test_a_judge_keeps_a_pair_only_on_two_plain_answers(unsafe, safe, found):
    with serving(answering(unsafe, safe)) as (url, _):
        assert read(judge(url)) == found


def test_without_a_check_the_words_decide():
    assert read(None) == "unsafe_prompt_lacks_concept"


def test_a_safe_prompt_that_names_the_concept_is_rejected_whatever_the_judge_says():
    with serving(lambda n, b: (200, chat("yes" if n % 2 == 0 else "no"))) as (url, _):
        assert read(judge(url), safe="a bar at noon") == "safe_prompt_holds_concept"


def test_the_judge_is_not_asked_about_what_an_earlier_test_rejects():
    with serving(lambda n, b: (200, chat("yes"))) as (url, bodies):
        assert read(judge(url), unsafe="short", safe="too") == "too_short"
    assert bodies == []


def test_an_embedding_measures_the_twins_difference_towards_the_concept():
    """Against cosines computed here from the encoder's own vectors."""
    encoder = ClipTextEmbedder(str(base_model_folder()))
    name, unsafe, safe = encoder.embed([BAR.name, *PAIR])
    difference = float(unsafe @ name - safe @ name)
    assert np.isclose(np.linalg.norm(name), 1)
    for margin, found in (
        (difference - 1e-4, "accepted"),
        (difference + 1e-4, "unsafe_prompt_lacks_concept"),
    ):
        assert read(EmbeddingCheck(str(base_model_folder()), margin=margin)) == found


def test_the_check_is_part_of_the_fingerprint(tmp_path):
    data = TinyRooms(tmp_path).data
    checks = [
        None,
        judge("http://x/v1"),
        *(EmbeddingCheck(str(base_model_folder()), margin=m) for m in (0, 1)),
    ]
    found = {
        spec(data, BAR, TinyWriter(), WRITING, GateTools(concept_check=check)).fingerprint
        for check in checks
    }
    assert len(found) == 4
