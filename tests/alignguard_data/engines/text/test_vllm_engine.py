"""The real vLLM engine on a CPU, with tiny random-weight chat models of the real classes."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import NothingMade
from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.engines.text.openai_writer import OpenAIWriter
from alignguard_data.engines.text.vllm_writer import VLLMWriter
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.room import write_prompt_pairs
from benchmarks.tiny.chat import (
    CPU_ENVIRONMENT,
    ENGINE,
    INTERPRETER,
    KINDS,
    missing_engine,
    tiny_chat_model,
)
from tests.alignguard_data.engines.text.vllm_server import vllm_server
from tests.alignguard_data.tiny_rooms import TinyRooms, concept

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

CONCEPT = concept("lines.bar")
REQUESTS = [WritingRequest(concept=CONCEPT, index=i) for i in range(8)]


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    if missing := missing_engine():
        pytest.skip(missing)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory) -> Path:
    return tiny_chat_model(tmp_path_factory.mktemp("chat") / request.param, request.param)


def writer(model: Path, **changes: object) -> VLLMWriter:
    settings = {"max_tokens": 96, "engine": ENGINE, "environment": CPU_ENVIRONMENT}
    return VLLMWriter(model=str(model), interpreter=str(INTERPRETER), **(settings | changes))


@pytest.fixture(scope="module")
def running(model) -> Iterator[VLLMWriter]:
    one = writer(model)
    yield one
    one.close()


def test_a_batch_is_answered_and_counted(running):
    replies = running.generate(REQUESTS)
    assert len(replies) == len(REQUESTS)
    assert running.output_tokens > 0
    assert running.input_tokens > 0


def test_the_same_seed_gives_the_same_text_in_any_batch(running):
    together = running.generate(REQUESTS)
    assert running.generate(REQUESTS) == together
    assert running.generate(REQUESTS[2:3]) == together[2:3]
    assert len(set(together)) > 1


def follows_the_schema(reply: Reply) -> bool:
    """A random model may end in the middle of a string; what it wrote so far is the schema's."""
    if reply.finish_reason == "stop":
        return set(json.loads(reply.text, strict=False)) == {"unsafe_prompt", "safe_prompt"}
    start = '{"unsafe_prompt":"'
    return reply.finish_reason == "length" and reply.text.startswith(start) and reply.text != start


def test_replies_are_held_to_the_schema(running):
    assert all(follows_the_schema(reply) for reply in running.generate(REQUESTS))


def test_without_a_schema_nothing_follows_it(running):
    """Nor does an empty text: the test above can fail."""
    chats = [running._instruction.messages(request) for request in REQUESTS]
    free = running._ask(chats, list(range(len(chats))), None)
    assert not any(follows_the_schema(reply) for reply in free if reply.finish_reason == "length")
    assert not follows_the_schema(Reply(text="", finish_reason="length"))
    assert not follows_the_schema(Reply(text="", finish_reason="error"))


def test_a_killed_worker_is_replaced_and_writes_the_same(running):
    before = running.generate(REQUESTS[:2])
    os.killpg(running._running._process.pid, signal.SIGKILL)
    assert running.generate(REQUESTS[:2]) == before


def test_the_room_keeps_its_batches_and_goes_on(tmp_path, running):
    """The first attempt fails after one batch; the next asks only for the rest."""
    rooms = TinyRooms(tmp_path).fill("taxonomy")
    config = WritingConfig(pairs_per_concept=4, max_requests_per_pair=3, ask_in_batches_of=4)

    class FailsAfterOne:
        model_id, revision = running.model_id, running.revision
        calls = 0

        def generate(self, requests: list[WritingRequest]) -> list[Reply]:
            self.calls += 1
            if self.calls > 1:
                raise KeyboardInterrupt
            return running.generate(requests)

    with pytest.raises(KeyboardInterrupt):
        write_prompt_pairs(rooms.data, CONCEPT, FailsAfterOne(), config)
    # Nothing that a random model writes is a pair; the error shows one of the replies.
    with pytest.raises(NothingMade, match=r"\(12 of 12\)") as resumed:
        write_prompt_pairs(rooms.data, CONCEPT, running, config)
    other = TinyRooms(tmp_path / "2").fill("taxonomy")
    with pytest.raises(NothingMade) as whole:
        write_prompt_pairs(other.data, CONCEPT, running, config)
    assert str(resumed.value) == str(whole.value)


def test_the_openai_writer_speaks_with_vllms_own_server(model, tmp_path):
    held = json.dumps(ENGINE["structured_outputs_config"])
    with vllm_server(model, tmp_path / "log", "--structured-outputs-config", held) as url:
        served = OpenAIWriter(
            model="tiny", served_revision="r", base_url=url, max_tokens=96, timeout_seconds=600
        )
        replies = served.generate(REQUESTS)
        assert replies == served.generate(REQUESTS)
        assert all(follows_the_schema(reply) for reply in replies)
        assert served.output_tokens > 0


def test_the_interpreter_is_not_ours():
    assert Path(sys.executable).parent != INTERPRETER.parent
