"""The served-model writer against a real HTTP server on this machine: good, broken, hanging."""

import json
import time

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.engines.text.openai_writer import OpenAIWriter
from alignguard_data.prompts.room import write_prompt_pairs
from tests.alignguard_data.engines.chat_server import Answer, chat, serving
from tests.alignguard_data.tiny_rooms import WRITING, TinyRooms, concept, good_reply

CONCEPT = concept("lines.bar")
REQUESTS = [WritingRequest(concept=CONCEPT, index=i) for i in range(5)]


def writer(url: str, **changes: object) -> OpenAIWriter:
    return OpenAIWriter(
        model="tiny",
        served_revision="r1",
        base_url=url,
        **{"max_retries": 0, "timeout_seconds": 5.0, **changes},
    )


def echo(number: int, body: dict) -> tuple[int, bytes]:
    """The seed that was sent, so that replies tell whose they are."""
    return 200, chat(str(body["seed"]))


def test_replies_stand_in_the_order_of_requests_and_repeat():
    with serving(echo) as (url, bodies):
        one = writer(url, concurrency=4).generate(REQUESTS)
        two = writer(url, concurrency=1).generate(REQUESTS[::-1])[::-1]
    assert one == two
    assert len({reply.text for reply in one}) == 5
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
        assert writer(url).generate(REQUESTS[:1]) == [Reply(text="I'm sorry, I can't.")]


def test_a_passing_500_is_retried():
    def once(number: int, body: dict) -> tuple[int, bytes]:
        return (500, b"{}") if number == 0 else (200, chat("fine"))

    with serving(once) as (url, bodies):
        assert writer(url, max_retries=2).generate(REQUESTS[:1]) == [Reply(text="fine")]
    assert len(bodies) == 2


def message(**fields: object) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **fields}}
    return chat("", choices=[choice])


def choice(**fields: object) -> bytes:
    return chat("", choices=[{"index": 0, **fields}])


FOREIGN = {
    "usage null": (chat("fine", usage=None), Reply(text="fine")),
    "usage left out": (message(content="fine"), Reply(text="fine")),
    "counts null": (chat("fine", usage={"prompt_tokens": None}), Reply(text="fine")),
    "usage a list": (chat("fine", usage=[]), Reply(text="fine")),
    "content in parts": (
        chat([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]),
        Reply(text="fine"),
    ),
    "a thinking part": (
        chat([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "fine"]),
        Reply(text="fine"),
    ),
    "a part of text null": (
        chat([{"type": "text", "text": None}, None, "fine"]),
        Reply(text="fine"),
    ),
    "content an object": (chat({"type": "text", "text": "fine"}), Reply(text="fine")),
    "content a number": (chat(7), Reply(text="")),
    "half a character": (chat("fine \ud83d"), Reply(text="fine ?")),
    "message null": (choice(message=None), Reply(text="")),
    "message left out": (choice(finish_reason="stop"), Reply(text="")),
    "message a text": (choice(message="fine"), Reply(text="")),
    "choice null": (chat("", choices=[None]), Reply(text="")),
    "content null": (chat(None), Reply(text="")),
    "thoughts alone": (message(content=None, reasoning_content="fine"), Reply(text="fine")),
    "thoughts by another name": (message(content="", reasoning="fine"), Reply(text="fine")),
    "thoughts and text": (message(content="fine", reasoning_content="hm"), Reply(text="fine")),
    "refusal in parts": (chat([{"type": "refusal", "refusal": "no"}]), Reply(text="no")),
    "end null": (chat("fine", finish_reason=None), Reply(text="fine")),
    "cut off": (chat("fi", finish_reason="length"), Reply(text="fi", finish_reason="length")),
    "cut off by another name": (
        chat("fi", finish_reason="model_length"),
        Reply(text="fi", finish_reason="length"),
    ),
    "filtered": (
        chat(None, finish_reason="content_filter"),
        Reply(text="", finish_reason="content_filter"),
    ),
    "error null": (chat("fine", error=None), Reply(text="fine")),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_answer_is_read_or_is_an_empty_reply(kind):
    content, read = FOREIGN[kind]
    with serving(lambda n, b: (200, content)) as (url, _):
        assert writer(url).generate(REQUESTS[:1]) == [read]


ERRORS = {
    "an object": {"error": {"message": "overloaded", "code": 503}},
    "a text": {"error": "overloaded"},
    "an object without a message": {"error": {"reason": "overloaded"}},
    "beside choices": {"error": {"message": "overloaded"}, "choices": []},
    "named by its kind": {"object": "error", "message": "overloaded", "code": 50301},
    "in the choice": {"choices": [{"error": {"message": "overloaded"}, "finish_reason": "error"}]},
    "as the end": {"choices": [{"finish_reason": "error", "message": {"content": "overloaded"}}]},
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_under_status_200_is_asked_again(kind):
    def once(number: int, body: dict) -> tuple[int, bytes]:
        return 200, json.dumps(ERRORS[kind]).encode() if number == 0 else chat("fine")

    with serving(once) as (url, bodies):
        assert writer(url, max_retries=1).generate(REQUESTS[:1]) == [Reply(text="fine")]
    assert len(bodies) == 2


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_under_status_200_that_stays_keeps_its_text(kind):
    content = json.dumps(ERRORS[kind]).encode()
    with (
        serving(lambda n, b: (200, content)) as (url, bodies),
        pytest.raises(EngineError, match=r"answered an error: .*overloaded.*model tiny") as caught,
    ):
        writer(url, max_retries=1).generate(REQUESTS[:1])
    assert len(bodies) == 2
    assert url in str(caught.value)


def test_every_ending_has_its_reason_in_the_room(tmp_path):
    rooms = TinyRooms(tmp_path).fill("taxonomy")
    answers = [chat("x" * 90, finish_reason="length"), chat(None, finish_reason="content_filter"),
               chat(""), chat("   "), choice(message=None)]  # fmt: skip

    def answer(number: int, body: dict) -> tuple[int, bytes]:
        request = WritingRequest(concept=CONCEPT, index=number)
        return 200, answers[number] if number < len(answers) else chat(good_reply(request))

    with serving(answer) as (url, _):
        made = write_prompt_pairs(rooms.data, CONCEPT, writer(url, concurrency=1), WRITING)
    assert made.rejected == {"cut_off": 1, "refusal": 1, "empty": 3}


@pytest.mark.parametrize(
    ("fields", "sent", "left_out"),
    [
        ({}, {"temperature", "max_tokens", "seed", "response_format"}, set()),
        ({"seed": None}, {"temperature", "max_tokens", "response_format"}, {"seed"}),
        ({"seed": "random_seed"}, {"random_seed"}, {"seed"}),
        ({"max_tokens": "max_completion_tokens"}, {"max_completion_tokens"}, {"max_tokens"}),
        (
            {"temperature": None, "response_format": None},
            {"seed"},
            {"temperature", "response_format"},
        ),
    ],
)
def test_a_profile_renames_and_leaves_out_fields_of_the_request(fields, sent, left_out):
    with serving(lambda n, b: (200, chat("fine"))) as (url, bodies):
        writer(url, request_fields=fields).generate(REQUESTS[:1])
    assert sent <= set(bodies[0])
    assert not left_out & set(bodies[0])
    plain = {"seed": 1, "max_tokens": 200, "temperature": 0.9}
    for name in ("max_tokens", "temperature"):
        new = fields.get(name, name)
        assert new is None or bodies[0][new] == plain[name]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_field_is_named_and_the_hint_says_what_to_write(status):
    said = b'{"error": {"message": "Unsupported parameter: max_tokens"}}'
    with serving(lambda n, b: (status, said)) as (url, _), pytest.raises(EngineError) as caught:
        writer(url).generate(REQUESTS[:1])
    for words in ("Unsupported parameter: max_tokens", "temperature, max_tokens, seed",
                  "request_fields", "max_completion_tokens"):  # fmt: skip
        assert words in str(caught.value)


def test_wrong_request_fields_are_named_all_at_once():
    fields = {"sed": None, "seed": "", "max_tokens": "temperature"}
    with pytest.raises(ValueError, match="has 'sed'") as caught:
        writer("http://x/v1", request_fields=fields)
    for words in ("request_fields.seed", "request_fields.max_tokens"):
        assert words in str(caught.value)


NO_MODEL = b'{"error": {"message": "there is no tiny"}}'
FAULTS: dict[str, tuple[Answer, str]] = {
    "always 500": (lambda n, b: (500, b'{"error": {"message": "boom"}}'), "answered 500"),
    "unknown model": (lambda n, b: (404, NO_MODEL), "answered 404.*tiny"),
    "not JSON": (lambda n, b: (200, b"<html>"), "no chat completion"),
    "no choices": (lambda n, b: (200, b'{"choices": []}'), "no chat completion"),
    "an array": (lambda n, b: (200, b"[]"), "no chat completion"),
    "nothing": (lambda n, b: (200, b""), "no chat completion"),
    "not text": (lambda n, b: (200, b"\xff\xfe"), "no chat completion"),
    "too deep": (lambda n, b: (200, b"[" * 100_000), "no chat completion"),
    "choices null": (lambda n, b: (200, b'{"choices": null}'), "no chat completion"),
    "another protocol": (lambda n, b: (200, b'{"detail": "not here"}'), "no chat.*not here"),
}


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
    with pytest.raises(EngineError, match=r"cannot be reached.*start the server.*api_server"):
        writer("http://127.0.0.1:9/v1").generate(REQUESTS[:1])


def test_identity_needs_no_server_and_follows_what_changes_a_reply():
    one = writer("http://127.0.0.1:9/v1")
    assert one.model_id == "tiny"
    assert one.revision.startswith("r1+caption_pair_v1-")
    assert one.revision == writer("http://127.0.0.1:10/v1", concurrency=3).revision
    changes = ({"temperature": 0.1}, {"seed": 4}, {"schema": False}, {"max_words": 9},
               {"request_fields": {"temperature": None}})  # fmt: skip
    assert (
        len({writer("http://x/v1", **change).revision for change in changes} | {one.revision}) == 6
    )


def test_wrong_settings_name_field_and_value():
    with pytest.raises(ValueError, match="concurrency must be positive, got 0; timeout_seconds"):
        writer("http://x/v1", concurrency=0, timeout_seconds=-1.0)


def test_the_key_is_named_by_its_variable_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-value")
    with serving(echo) as (url, _):
        one = writer(url, api_key_variable="MY_KEY")
        one.generate(REQUESTS[:1])
    assert "secret-value" not in repr(one) + one.revision
