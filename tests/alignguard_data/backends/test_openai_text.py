"""The served-model writer against a real HTTP server on this machine: good, broken, hanging."""

import time

import pytest

from alignguard_data.backends.openai_text import OpenAIWriter
from alignguard_data.errors import EngineError
from alignguard_data.prompts import write_prompt_pairs
from alignguard_data.protocols import WritingRequest
from tests.alignguard_data.backends.chat_server import Answer, chat, serving
from tests.alignguard_data.tiny_rooms import WRITING, TinyRooms, concept, good_reply

CONCEPT = concept("lines.bar")
REQUESTS = [WritingRequest(concept=CONCEPT, index=i) for i in range(5)]


def writer(url: str, **changes: object) -> OpenAIWriter:
    return OpenAIWriter(
        model="tiny", served_revision="r1", base_url=url,
        **{"max_retries": 0, "timeout_seconds": 5.0, **changes},
    )  # fmt: skip


def echo(number: int, body: dict) -> tuple[int, bytes]:
    """The seed that was sent, so that replies tell whose they are."""
    return 200, chat(str(body["seed"]))


def test_replies_stand_in_the_order_of_requests_and_repeat():
    with serving(echo) as (url, bodies):
        one = writer(url, concurrency=4).generate(REQUESTS)
        two = writer(url, concurrency=1).generate(REQUESTS[::-1])[::-1]
    assert one == two
    assert len(set(one)) == 5
    assert bodies[0]["response_format"]["json_schema"]["schema"]["required"]
    assert bodies[0]["model"] == "tiny"


def test_tokens_are_counted_and_give_rate_and_cost(tmp_path):
    rooms = TinyRooms(tmp_path).fill("taxonomy")

    def good(number: int, body: dict) -> tuple[int, bytes]:
        request = WritingRequest(concept=CONCEPT, index=body["seed"])
        return 200, chat(good_reply(request))

    with serving(good) as (url, _):
        config = WRITING.__class__(**{**as_dict(WRITING), "price_per_million_tokens": 2.0})
        counts = write_prompt_pairs(rooms.data, CONCEPT, writer(url), config).counts
    assert counts["output_tokens"] == 3 * counts["requests"]
    assert counts["tokens_per_second"] > 0
    # 3 tokens a reply at 2 a million, every reply accepted
    assert counts["cost_per_pair"] == pytest.approx(6e-6)
    assert counts["accepted_share"] == 1.0


def as_dict(config: object) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__}  # type: ignore[attr-defined]


def test_a_refusal_field_is_read_as_the_reply():
    with serving(lambda n, b: (200, chat(None, "I'm sorry, I can't."))) as (url, _):
        assert writer(url).generate(REQUESTS[:1]) == ["I'm sorry, I can't."]


def test_a_passing_500_is_retried():
    def once(number: int, body: dict) -> tuple[int, bytes]:
        return (500, b"{}") if number == 0 else (200, chat("fine"))

    with serving(once) as (url, bodies):
        assert writer(url, max_retries=2).generate(REQUESTS[:1]) == ["fine"]
    assert len(bodies) == 2


NO_MODEL = b'{"error": {"message": "there is no tiny"}}'
FAULTS: dict[str, tuple[Answer, str]] = {
    "always 500": (lambda n, b: (500, b'{"error": {"message": "boom"}}'), "answered 500"),
    "unknown model": (lambda n, b: (404, NO_MODEL), "answered 404.*tiny"),
    "not JSON": (lambda n, b: (200, b"<html>"), "what is no chat"),
    "no choices": (lambda n, b: (200, b'{"choices": []}'), "what is no chat"),
    "an array": (lambda n, b: (200, b"[]"), "what is no chat"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_misbehaves_is_one_clear_error(fault):
    answer, message = FAULTS[fault]
    with serving(answer) as (url, _), pytest.raises(EngineError, match=message) as caught:
        writer(url).generate(REQUESTS[:2])
    assert url in str(caught.value)


def test_a_server_that_hangs_is_an_error_in_time():
    def hang(number: int, body: dict) -> tuple[int, bytes]:
        time.sleep(1.5)
        return 200, chat("late")

    with serving(hang) as (url, _), pytest.raises(EngineError, match="did not answer within"):
        writer(url, timeout_seconds=0.3).generate(REQUESTS[:1])


def test_a_server_that_is_not_there_says_how_to_start_one():
    with pytest.raises(EngineError, match=r"cannot be reached: start the server.*api_server"):
        writer("http://127.0.0.1:9/v1").generate(REQUESTS[:1])


def test_identity_needs_no_server_and_follows_what_changes_a_reply():
    one = writer("http://127.0.0.1:9/v1")
    assert one.model_id == "tiny"
    assert one.revision.startswith("r1+caption_pair_v1-")
    assert one.revision == writer("http://127.0.0.1:10/v1", concurrency=3).revision
    changes = ({"temperature": 0.1}, {"seed": 4}, {"schema": False}, {"max_words": 9})
    assert len({writer("x", **change).revision for change in changes} | {one.revision}) == 5


def test_wrong_settings_name_field_and_value():
    with pytest.raises(ValueError, match="concurrency must be positive, got 0; timeout_seconds"):
        writer("x", concurrency=0, timeout_seconds=-1.0)


def test_the_key_is_named_by_its_variable_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-value")
    with serving(echo) as (url, _):
        one = writer(url, api_key_variable="MY_KEY")
        one.generate(REQUESTS[:1])
    assert "secret-value" not in repr(one) + one.revision
