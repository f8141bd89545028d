"""A model id or a revision that does not exist, on a hub that answers as the real one does."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

LOAD = """
import sys
from alignguard_data.engines.diffusion.loading import load_pipeline
from alignguard_data.engines.model_source import ModelSource
from alignguard_data.contracts.errors import EngineError
try:
    load_pipeline(ModelSource(sys.argv[1], "abc123"), device="cpu", dtype="float32")
except EngineError as error:
    print(error)
"""


class NotThere(BaseHTTPRequestHandler):
    """404 with the hub's own header for what is missing."""

    def do_GET(self) -> None:
        kind = "RevisionNotFound" if self.path.startswith("/real/model/") else "RepoNotFound"
        self.send_response(404)
        self.send_header("X-Error-Code", kind)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@contextmanager
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotThere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("real/model", "abc123 is not a valid git identifier"),
        ("no/model", "is not a valid model identifier"),
    ],
)
def test_what_the_hub_does_not_have_is_named_with_its_revision(tmp_path, monkeypatch, model, why):
    with hub() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)  # read when the library is imported
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        done = subprocess.run(
            [sys.executable, "-c", LOAD, model], capture_output=True, text=True, timeout=200
        )
    assert done.stdout.startswith(f"{model} cannot be loaded as a diffusion model"), done.stderr
    assert why in done.stdout
    assert "asked for revision abc123; `alignguard doctor`" in done.stdout
