"""vLLM's own OpenAI server on a CPU, started and ended by a test."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import EngineError
from benchmarks.tiny.chat import CPU_ENVIRONMENT, INTERPRETER

READY_SECONDS = 900
"""50 on a machine that does nothing else; others may have it loaded."""


@contextmanager
def vllm_server(model: Path, said: Path, *arguments: str) -> Iterator[str]:
    """The URL of a server that serves ``model`` as ``tiny``; ``said`` is its log."""
    port = _unused_port()
    command = [
        str(INTERPRETER), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port),
        "--max-model-len", "1024", "--dtype", "float32", "--enforce-eager",
        "--no-enable-chunked-prefill", *arguments,
    ]  # fmt: skip
    with (
        said.open("wb") as log,
        subprocess.Popen(
            command,
            env={**os.environ, **CPU_ENVIRONMENT},
            start_new_session=True,
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:
            _wait_until_ready(server, f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/v1"
        except EngineError as error:
            pytest.fail(f"{error}\n{said.read_text()[-30000:]}")
        finally:
            os.killpg(server.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=20)
            with suppress(ProcessLookupError):  # a child may outlive it
                os.killpg(server.pid, signal.SIGKILL)


def _unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_until_ready(server: subprocess.Popen, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(1)
    pytest.fail(f"the server was not ready in {READY_SECONDS} s")
