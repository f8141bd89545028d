"""The judge against a real HTTP server: what it sends, what it reads, what it makes of nonsense."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from alignguard_data.contracts.errors import EngineError
from alignguard_data.scores.scorers.vlm_judge import UNREADABLE, VlmJudge
from tests.alignguard_data.engines.chat_server import chat, serving

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
CAPTIONS = ["a placeholder"] * 4


def judge(url, dialect="policy", **changes):
    chosen = {"max_retries": 0, "timeout_seconds": 5.0, **changes}
    return VlmJudge("tiny-vlm", "r1", dialect, base_url=url, **chosen)


def verdicts(dialect, *answers, **changes):
    with serving(lambda number, body: (200, answers[number])) as (url, _):
        return judge(url, dialect, concurrency=1, **changes).score(
            IMAGES[: len(answers)], CAPTIONS[: len(answers)]
        )


READ = {
    "policy": ('{"verdict": "unsafe", "category": "hate"}', '{"verdict":"safe","category":"none"}'),
    "llavaguard": (
        '{"rating": "Unsafe", "category": "O2: placeholder", "rationale": "it shows ..."}',
        '```json\n{"rating": "Safe", "category": "NA: None applying", "rationale": "..."}\n```',
    ),
    "llama_guard": ("\n\nunsafe\nS1,S2", "safe"),
}


@pytest.mark.parametrize("dialect", READ)
def test_a_verdict_is_read(dialect):
    unsafe, safe = (chat(text) for text in READ[dialect])
    assert verdicts(dialect, unsafe, safe) == [
        {"unsafe": 1.0, "answered": 1.0},
        {"unsafe": 0.0, "answered": 1.0},
    ]


def test_yes_or_no_is_a_probability_over_both_words_in_any_spelling():
    chances = {"Yes": math.log(0.5), " yes": math.log(0.1), "No": math.log(0.2), "So": -0.1}
    (found,) = verdicts("yes_no", chat("Yes", logprobs=chances))
    assert found["unsafe"] == pytest.approx(0.6 / 0.8, abs=1e-6)


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        ("policy", chat("I'm sorry, I can't look at that.")),
        ("policy", chat('{"verdict": "maybe", "category": "hate"}')),
        ("policy", chat('["unsafe"]')),
        ("policy", chat("{" * 5000 + "}" * 5000)),
        ("llavaguard", chat('{"rating": 1}')),
        ("llama_guard", chat("")),
        ("policy", chat(None)),
        ("policy", chat('{"verdict": "uns', finish_reason="length")),
        ("policy", chat("", choices=[{"message": None}])),
        ("yes_no", chat("Yes", choices=[{"message": None, "logprobs": {"content": [None]}}])),
        ("yes_no", chat("So", logprobs={"So": -0.1})),
        ("yes_no", chat("So")),
    ],
)
def test_an_answer_without_a_verdict_costs_only_its_image(dialect, answer):
    fine = chat(READ["policy"][0]) if dialect == "policy" else answer
    found = verdicts(dialect, answer, fine)
    assert found[0] == {"unsafe": UNREADABLE, "answered": 0.0}
    assert len(found) == 2


def test_thoughts_and_parts_hold_a_verdict_too():
    unsafe = READ["policy"][0]
    parts = chat([{"type": "text", "text": unsafe}], usage=None)
    thoughts = {"message": {"content": None, "reasoning_content": unsafe}}
    found = verdicts("policy", parts, chat("", choices=[thoughts]))
    assert [row["unsafe"] for row in found] == [1.0, 1.0]


def test_images_without_a_verdict_are_counted_in_the_log(caplog):
    verdicts("policy", chat(None), chat('{"verdict": "uns', finish_reason="length"),
             chat(READ["policy"][0]))  # fmt: skip
    assert "tiny-vlm gave no verdict on 2 of 3 images (empty 1, length 1)" in caplog.text


def test_an_error_under_status_200_is_no_verdict():
    error = b'{"error": {"message": "overloaded"}}'
    with serving(lambda n, b: (200, error)) as (url, _), pytest.raises(EngineError, match="overl"):
        judge(url).score(IMAGES[:1], CAPTIONS[:1])


def test_fields_of_the_request_are_renamed_for_the_judge_too():
    with serving(lambda n, b: (200, chat(READ["policy"][0]))) as (url, bodies):
        fields = {"seed": None, "max_tokens": "max_completion_tokens"}
        judge(url, request_fields=fields).score(IMAGES[:1], CAPTIONS[:1])
    assert bodies[0]["max_completion_tokens"] == 60
    assert not {"seed", "max_tokens"} & set(bodies[0])
    assert judge("http://x/v1", request_fields=fields).version != judge("http://x/v1").version


def test_the_judge_sees_the_image_bit_by_bit_and_never_its_caption():
    with serving(lambda n, b: (200, chat(READ["policy"][0]))) as (url, bodies):
        judge(url).score(IMAGES[:1], ["a caption that must not be seen"])
    (body,) = bodies
    image, text = body["messages"][0]["content"]
    sent = base64.b64decode(image["image_url"]["url"].partition(",")[2])
    assert np.array_equal(np.array(Image.open(io.BytesIO(sent))), IMAGES[0])
    assert "must not be seen" not in str(body)
    assert "violence" in text["text"]
    assert body["response_format"]["json_schema"]["strict"]
    assert body["temperature"] == 0


def test_verdicts_stand_in_the_order_of_the_images():
    def by_brightness(number, body):
        sent = body["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
        bright = np.array(Image.open(io.BytesIO(base64.b64decode(sent)))).mean() > 128
        return 200, chat("unsafe" if bright else "safe")

    shades = np.array([0, 255, 255, 0], np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (4, 8, 8, 3)).copy()
    with serving(by_brightness) as (url, _):
        found = judge(url, "llama_guard", concurrency=4).score(images, CAPTIONS)
    assert [row["unsafe"] for row in found] == [0.0, 1.0, 1.0, 0.0]


def test_a_server_that_fails_is_an_error_and_no_verdict():
    with serving(lambda n, b: (500, b"{}")) as (url, _), pytest.raises(EngineError, match="500"):
        judge(url).score(IMAGES[:1], CAPTIONS[:1])


def test_the_version_follows_weights_dialect_and_policy():
    versions = {
        judge("http://x/v1").version,
        judge("http://x/v1", "llavaguard").version,
        judge("http://x/v1", categories=["one placeholder"]).version,
        VlmJudge("tiny-vlm", "r2", base_url="http://x/v1").version,
    }
    assert len(versions) == 4
    assert judge("http://x/v1").version == judge("http://y/v1", concurrency=2).version


def test_wrong_settings_name_field_and_value():
    with pytest.raises(ValueError, match=r"dialect must be one of policy.*got 'tea leaves'"):
        judge("http://x/v1", "tea leaves")
    with pytest.raises(ValueError, match="categories must name at least one"):
        judge("http://x/v1", categories=[])
