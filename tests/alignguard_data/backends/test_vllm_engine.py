"""The real vLLM engine on a CPU, with tiny random-weight chat models of the real classes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from alignguard_data.backends.openai_text import OpenAIWriter
from alignguard_data.backends.vllm_text import VLLMWriter
from alignguard_data.errors import EngineError
from alignguard_data.prompts import write_prompt_pairs
from alignguard_data.protocols import WritingRequest
from alignguard_data.reply_gate import WritingConfig
from tests.alignguard_data.backends.tiny_chat import (
    CPU_ENVIRONMENT,
    ENGINE,
    INTERPRETER,
    KINDS,
    missing_engine,
    tiny_chat_model,
)
from tests.alignguard_data.tiny_rooms import TinyRooms, concept

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

READY_SECONDS = 900
"""50 on a machine that does nothing else; others may have it loaded."""
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
    assert running.output_tokens > 0 and running.input_tokens > 0


def test_the_same_seed_gives_the_same_text_in_any_batch(running):
    together = running.generate(REQUESTS)
    assert running.generate(REQUESTS) == together
    assert running.generate(REQUESTS[2:3]) == together[2:3]
    assert len(set(together)) > 1


def test_replies_are_held_to_the_schema(running):
    """A random model ends in the middle of a string; what it wrote so far is the schema's."""
    for reply in running.generate(REQUESTS):
        try:
            assert set(json.loads(reply)) == {"unsafe_prompt", "safe_prompt"}
        except json.JSONDecodeError:
            assert reply.startswith('{"unsafe_prompt":"')
            assert not any(ord(character) < 32 for character in reply)


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

        def generate(self, requests: list[WritingRequest]) -> list[str]:
            self.calls += 1
            if self.calls > 1:
                raise KeyboardInterrupt
            return running.generate(requests)

    with pytest.raises(KeyboardInterrupt):
        write_prompt_pairs(rooms.data, CONCEPT, FailsAfterOne(), config)
    manifest = write_prompt_pairs(rooms.data, CONCEPT, running, config)
    assert manifest.counts["requests"] == 12  # nothing that a random model writes is a pair
    whole = write_prompt_pairs(
        TinyRooms(tmp_path / "2").fill("taxonomy").data, CONCEPT, running, config
    )
    assert manifest.content_id == whole.content_id


def test_the_openai_writer_speaks_with_vllms_own_server(model, unused_port, tmp_path):
    command = [
        str(INTERPRETER), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(unused_port),
        "--max-model-len", "1024", "--dtype", "float32", "--enforce-eager",
        "--no-enable-chunked-prefill",
        "--structured-outputs-config", json.dumps(ENGINE["structured_outputs_config"]),
    ]  # fmt: skip
    said = tmp_path / "server.log"
    with (
        said.open("wb") as log,
        subprocess.Popen(
            command, env={**os.environ, **CPU_ENVIRONMENT}, start_new_session=True,
            stdout=log, stderr=log,
        ) as server,
    ):  # fmt: skip
        try:
            wait_until_ready(server, f"http://127.0.0.1:{unused_port}/health")
            served = OpenAIWriter(
                model="tiny", served_revision="r", base_url=f"http://127.0.0.1:{unused_port}/v1",
                max_tokens=96, timeout_seconds=600,
            )  # fmt: skip
            replies = served.generate(REQUESTS)
            assert replies == served.generate(REQUESTS), said.read_text()[-2000:]
            assert all(reply.startswith('{"unsafe_prompt":') for reply in replies)
            assert served.output_tokens > 0
        except EngineError as error:
            pytest.fail(f"{error}\n{said.read_text()[-30000:]}")
        finally:
            os.killpg(server.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=20)
            with suppress(ProcessLookupError):  # a child may outlive it
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_ready(server: subprocess.Popen, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(1)
    pytest.fail(f"the server was not ready in {READY_SECONDS} s")


def test_the_interpreter_is_not_ours():
    assert Path(sys.executable).parent != INTERPRETER.parent
