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
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from alignguard_data.backends.openai_text import OpenAIWriter
from alignguard_data.backends.vllm_text import VLLMWriter
from alignguard_data.errors import EngineError
from alignguard_data.prompts import write_prompt_pairs
from alignguard_data.protocols import WritingRequest
from alignguard_data.reply_gate import WritingConfig
from tests.alignguard_data.tiny_rooms import TinyRooms, concept

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[3]
INTERPRETER = Path(os.environ.get("VLLM_PYTHON", REPOSITORY / ".venv-vllm/bin/python"))
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
ENGINE = {
    "max_model_len": 1024,
    "dtype": "float32",
    "enforce_eager": True,
    # On a CPU, vLLM 0.32 dies when the prompt of a seeded request is read in chunks.
    "enable_chunked_prefill": False,
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
}
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}<s>assistant\n"
CONCEPT = concept("lines.bar")
REQUESTS = [WritingRequest(concept=CONCEPT, index=i) for i in range(8)]
KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
}


def tiny_chat_model(folder: Path, kind: str) -> Path:
    """A model of 64 units and a byte-level tokenizer trained here, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["a bar in a quiet park, seen from above"] * 4,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    network, config = KINDS[kind]
    network(
        config(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
    ).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    if not INTERPRETER.exists():
        pytest.skip(f"{INTERPRETER} is not there: build it with `make vllm-cpu-env`")


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory) -> Path:
    return tiny_chat_model(tmp_path_factory.mktemp("chat") / request.param, request.param)


def writer(model: Path, **changes: object) -> VLLMWriter:
    settings = {"max_tokens": 96, "engine": ENGINE, "environment": ENVIRONMENT}
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
            command, env={**os.environ, **ENVIRONMENT}, start_new_session=True,
            stdout=log, stderr=log,
        ) as server,
    ):  # fmt: skip
        try:
            wait_until_ready(server, f"http://127.0.0.1:{unused_port}/health")
            served = OpenAIWriter(
                model="tiny", served_revision="r", base_url=f"http://127.0.0.1:{unused_port}/v1",
                max_tokens=96,
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
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(1)
    pytest.fail("the server was not ready in 300 s")


def test_the_interpreter_is_not_ours():
    assert Path(sys.executable).parent != INTERPRETER.parent
