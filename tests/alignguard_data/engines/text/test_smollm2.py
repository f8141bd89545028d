"""The real vLLM engine with a real language model, SmolLM2-135M.

Every grammar that we ship, under each of vLLM's grammar engines, offline and served.
"""

import json
import os
import signal
from collections.abc import Iterator

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignguard_data.contracts.errors import EngineError, NothingMade
from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.engines.text.chat import SCHEMA, Instruction
from alignguard_data.engines.text.openai_writer import OpenAIWriter
from alignguard_data.engines.text.steps import REPLY_FIELD
from alignguard_data.engines.text.vllm_writer import VLLMWriter
from alignguard_data.engines.unpacked import unpacked
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.room import write_prompt_pairs
from alignguard_data.standin.factory import small_instruction
from benchmarks.tiny.chat import (
    CPU_ENVIRONMENT,
    ENGINE,
    INTERPRETER,
    missing_engine,
)
from tests.alignguard_data.engines.text.vllm_server import vllm_server
from tests.alignguard_data.tiny_rooms import TinyRooms, concept

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

SPIRAL = concept("curled.spiral", terms=("spiral",))
REQUESTS = [WritingRequest(concept=SPIRAL, index=i) for i in range(6)]
IN_STEPS = str(small_instruction())
BACKENDS = ("xgrammar", "guidance")
NOT_COMPILED = {
    "type": "object",
    "properties": {
        name: {"type": "string", "pattern": r'^[^\x00-\x1f"\\]{8,300}$'} for name in ("a", "b")
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}
"""What xgrammar 0.2.8 fails on, after it said that it knows every feature of it."""


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    if missing := missing_engine():
        pytest.skip(missing)


@pytest.fixture(scope="module", params=BACKENDS)
def running(request, smollm2) -> Iterator[VLLMWriter]:
    one = VLLMWriter(
        model=smollm2,
        interpreter=str(INTERPRETER),
        instruction=IN_STEPS,
        temperature=0.5,
        max_tokens=80,
        engine={
            **ENGINE,
            "structured_outputs_config": {
                "backend": request.param,
                "disable_any_whitespace": True,
            },
        },
        environment=CPU_ENVIRONMENT,
    )
    yield one
    one.close()


def holds(text: str, *fields: str) -> bool:
    """Whether a whole reply is an object of these texts, of the schema's lengths."""
    try:
        content = json.loads(text, strict=False)
    except ValueError:
        return False
    return (
        isinstance(content, dict)
        and list(content) == list(fields)
        and all(isinstance(said, str) and 8 <= len(said) <= 300 for said in content.values())
    )


def test_a_gguf_becomes_a_checkpoint_that_still_knows_what_it_knew(smollm2):
    folder = unpacked(smollm2)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118 - tied to the embeddings
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    model, words = (kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert "<|im_start|>" in words.chat_template
    asked = words("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        scores = model(**asked).logits[0, -1]
    assert words.decode(scores.argmax()) == " Paris"


def test_a_batch_in_steps_is_answered_in_pairs_that_name_the_concept(running):
    """At temperature 0.5 more than nine of ten pairs did when this was written."""
    replies = running.generate(REQUESTS)
    assert len(replies) == len(REQUESTS)
    assert len(set(replies)) > 1
    assert running.output_tokens > 0
    assert running.input_tokens > 0
    pairs = [json.loads(reply.text) for reply in replies if reply.finish_reason == "stop"]
    good = [p for p in pairs if "spiral" in p["unsafe_prompt"] and "spiral" not in p["safe_prompt"]]
    assert len(good) >= 3


def test_every_shipped_schema_holds_the_model(running):
    """Each asked with the shipped instruction for whole pairs, which says nothing of captions."""
    chats = [Instruction().messages(request) for request in REQUESTS[:4]]
    seeds = list(range(len(chats)))
    for schema in (SCHEMA, *running._instruction.schemas):
        fields = list(schema["properties"])
        replies = running._ask(chats, seeds, schema)
        whole = [reply for reply in replies if reply.finish_reason == "stop"]
        assert all(holds(reply.text, *fields) for reply in whole)
        assert all(reply.text.startswith(f'{{"{fields[0]}":"') for reply in replies)
        assert whole or len(fields) > 1, "a single caption ends within its tokens"


def test_nothing_is_held_without_a_schema(running):
    """So that the tests above can fail."""
    chats = [Instruction().messages(request) for request in REQUESTS[:4]]
    replies = running._ask(chats, [0, 1, 2, 3], None)
    assert not any(holds(reply.text, REPLY_FIELD) for reply in replies)
    assert not any(holds(empty, REPLY_FIELD) for empty in ("", "{}", '{"caption":""}'))


def test_the_same_seed_gives_the_same_text(running):
    together = running.generate(REQUESTS)
    assert running.generate(REQUESTS) == together


def test_a_killed_worker_is_replaced_and_the_room_goes_on_with_the_same_text(tmp_path, running):
    """Killed after the room's first batch; what was saved is not asked again."""
    rooms = TinyRooms(tmp_path / "1").fill("taxonomy")
    config = WritingConfig(pairs_per_concept=4, max_requests_per_pair=1, ask_in_batches_of=2)
    asked: list[int] = []

    class Killed:
        model_id, revision = running.model_id, running.revision

        def generate(self, requests: list[WritingRequest]) -> list[Reply]:
            if asked:
                os.killpg(running._running._process.pid, signal.SIGKILL)
                raise KeyboardInterrupt
            asked.extend(request.index for request in requests)
            return running.generate(requests)

    with pytest.raises(KeyboardInterrupt):
        write_prompt_pairs(rooms.data, SPIRAL, Killed(), config)
    resumed = write_prompt_pairs(rooms.data, SPIRAL, running, config)
    other = TinyRooms(tmp_path / "2").fill("taxonomy")
    undisturbed = write_prompt_pairs(other.data, SPIRAL, running, config)
    assert asked == [0, 1]
    assert resumed.rows > 0
    assert resumed.content_id == undisturbed.content_id


def test_a_reply_that_runs_out_of_tokens_is_cut_off(tmp_path, running, monkeypatch):
    rooms = TinyRooms(tmp_path).fill("taxonomy")
    config = WritingConfig(pairs_per_concept=2, max_requests_per_pair=1)
    monkeypatch.setattr(running, "max_tokens", 5)
    with pytest.raises(NothingMade, match=r"cut_off \(2 of 2\)"):
        write_prompt_pairs(rooms.data, SPIRAL, running, config)


def test_a_grammar_that_does_not_compile_is_an_error_in_the_engines_words(running):
    chats = [Instruction().messages(REQUESTS[0])]
    if running.engine["structured_outputs_config"]["backend"] == "guidance":
        pytest.skip("guidance compiles what xgrammar does not")
    with pytest.raises(
        EngineError, match=r"(?s)1 of 1 requests with 'error'.*Check failed"
    ) as caught:
        running._ask(chats, [0], NOT_COMPILED)
    assert "Failed to compile grammar" in str(caught.value)


def test_a_served_model_writes_the_same_pairs_under_vllms_default_grammar(smollm2, tmp_path):
    with vllm_server(unpacked(smollm2), tmp_path / "server.log") as url:
        served = OpenAIWriter(
            model="tiny", served_revision="r", base_url=url, instruction=IN_STEPS,
            temperature=0.5, max_tokens=80, timeout_seconds=600,
        )  # fmt: skip
        replies = served.generate(REQUESTS)
        assert served.generate(REQUESTS) == replies
        pairs = [json.loads(reply.text) for reply in replies if reply.finish_reason == "stop"]
        assert len([pair for pair in pairs if "spiral" in pair["unsafe_prompt"]]) >= 3
        free = Instruction().messages(REQUESTS[0])
        held = served._ask([free], [0], SCHEMA)[0]
        assert held.finish_reason == "length" or holds(held.text, *SCHEMA["properties"])
        assert served.output_tokens > 0
