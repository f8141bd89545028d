"""The vLLM writer's worker: a process that may crash, hang or talk nonsense.

The scripts below speak the worker's protocol with this interpreter; the real engine is in
test_vllm_engine.py.
"""

import re
import sys
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.engines.text.vllm_writer import VLLMWriter, WorkerFailed
from tests.alignguard_data.tiny_rooms import concept

REQUESTS = [WritingRequest(concept=concept("lines.bar"), index=i) for i in range(3)]

GOOD = """
import json, sys
print("loading weights", file=sys.stderr)
setup = json.loads(sys.stdin.readline())
assert set(setup) == {"engine"}, setup
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    batch = json.loads(line)
    assert "bar" in batch["chats"][0][0]["content"]
    assert (batch["temperature"], batch["max_tokens"]) == (0.9, 200)
    assert set(batch["schema"]["properties"]) == {"unsafe_prompt", "safe_prompt"}
    replies = [{"text": f"reply {seed}", "finish_reason": "stop"} for seed in batch["seeds"]]
    print(json.dumps({"replies": replies, "input_tokens": 9, "output_tokens": 4}), flush=True)
"""
START = "import json, sys, os, time\nsys.stdin.readline()\n"
READY = START + "print('{\"ready\": true}', flush=True)\nsys.stdin.readline()\n"
STAY = "\ntime.sleep(60)"
BROKEN = {
    "crashes while loading": (START + "raise RuntimeError('no such model')", "no such model"),
    "crashes on a batch": (READY + "raise ValueError('bad batch')", r"code 1\).*bad batch"),
    "is killed": (READY + "os.kill(os.getpid(), 9)", "exit code -9.*run out of memory"),
    "out of memory": (READY + "raise MemoryError('CUDA out of memory')", "lower max_model_len"),
    "hangs": (READY + STAY, "gave no answer for 1 s"),
    "talks nonsense": (READY + "print('hello', flush=True)" + STAY, "invalid JSON: 'hello"),
    "answers a list": (READY + "print('[]', flush=True)" + STAY, "no JSON object"),
    "forgets a reply": (READY + 'print(\'{"replies": ["a"]}\', flush=True)' + STAY, "each of 3"),
    "is never ready": (START + "print('{}', flush=True)" + STAY, "did not report that it is ready"),
}
ONCE = """
import os
if not os.path.exists({marker!r}):
    open({marker!r}, "w").close()
    os._exit(3)
"""


def writer(folder: Path, script: str, **changes: object) -> VLLMWriter:
    file = folder / "worker.py"
    file.write_text(script)
    settings = {"interpreter": sys.executable, "reply_seconds": 20.0, "start_seconds": 20.0}
    return VLLMWriter(
        model="someone/model", model_revision="abc", worker=file, **(settings | changes)
    )


def test_one_worker_serves_many_batches_in_order(tmp_path):
    one = writer(tmp_path, GOOD)
    first = one.generate(REQUESTS)
    assert one.generate(REQUESTS[::-1]) == first[::-1]
    assert len(set(first)) == 3
    assert (one.input_tokens, one.output_tokens) == (18, 8)
    process = one._running._process
    one.close()
    assert process.poll() is not None


@pytest.mark.parametrize("how", BROKEN)
def test_a_worker_that_fails_twice_is_reported_with_its_last_lines(tmp_path, how, caplog):
    script, message = BROKEN[how]
    one = writer(tmp_path, script, reply_seconds=1.0)
    with pytest.raises(WorkerFailed) as caught:
        one.generate(REQUESTS)
    assert re.search(message, " ".join(str(caught.value).split()))
    assert "restarting it once" in caplog.text
    assert one._running is None


ENDS_BADLY = (
    READY
    + """
print("INFO fine", file=sys.stderr)
print("x ERROR Failed to compile grammar for request 0", file=sys.stderr)
for i in range(30):
    print(f"x ERROR   File {i}", file=sys.stderr)
print("x ERROR RuntimeError: the very cause", file=sys.stderr, flush=True)
bad = {"text": "", "finish_reason": %r}
good = {"text": "fine", "finish_reason": "stop"}
print(json.dumps({"replies": [good, bad, bad]}), flush=True)
"""
    + STAY
)


@pytest.mark.parametrize("end", ["error", "abort"])
def test_a_request_that_the_engine_fails_is_an_error_in_its_own_words(tmp_path, end, caplog):
    """A restart would fail again, so there is none."""
    with pytest.raises(EngineError) as caught:
        writer(tmp_path, ENDS_BADLY % end).generate(REQUESTS)
    for words in (f"2 of 3 requests with '{end}'", "Failed to compile grammar", "the very cause"):
        assert words in str(caught.value)
    assert "fine" not in str(caught.value)
    assert "restarting" not in caplog.text


def test_a_worker_that_fails_once_is_started_again(tmp_path):
    script = ONCE.format(marker=str(tmp_path / "failed"))
    one = writer(tmp_path, script + GOOD)
    assert len(one.generate(REQUESTS)) == 3
    one.close()


def test_an_environment_that_is_not_built_says_how_to_build_it(tmp_path):
    one = writer(tmp_path, GOOD, interpreter=str(tmp_path / "nowhere/python"))
    with pytest.raises(EngineError, match="make vllm-env"):
        one.generate(REQUESTS)


def test_a_hub_id_needs_a_revision():
    with pytest.raises(EngineError, match="model_revision"):
        VLLMWriter(model="someone/model")


def test_identity_is_known_without_a_worker(tmp_path):
    one = writer(tmp_path, GOOD)
    assert one.model_id == "someone/model"
    assert one.revision.startswith("abc+caption_pair_v1-")
    assert one.revision != writer(tmp_path, GOOD, temperature=0.2).revision
    assert one._running is None


def test_arguments_of_the_engine_that_can_change_a_reply_are_told_and_those_of_speed_are_not(
    tmp_path,
):
    """So that prompts are stale after another precision, and not after another room for them."""
    reported = writer(tmp_path, GOOD, engine={"dtype": "float16", "max_model_len": 64}).numerics
    assert reported == {"vllm dtype": "float16"}
