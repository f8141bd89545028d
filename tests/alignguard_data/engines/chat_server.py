"""A chat server on this machine whose every answer a test decides."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[int, dict], tuple[int, bytes]]


def chat(
    text: object,
    refusal: str | None = None,
    logprobs: dict[str, float] | None = None,
    finish_reason: str | None = "stop",
    **changes: object,
) -> bytes:
    """A completion; ``logprobs``: of the first token's candidates; ``changes``: to its fields."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice: dict[str, object] = {"index": 0, "finish_reason": finish_reason, "message": message}
    if logprobs is not None:
        top = [{"token": t, "logprob": p, "bytes": None} for t, p in logprobs.items()]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]} if top else None
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "tiny",
            "choices": [choice],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            **changes,
        }
    ).encode()


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[dict]]]:
    """A server whose n-th request is answered by ``answer(n, body)``; its URL and the bodies."""
    bodies: list[dict] = []
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                bodies.append(body)
                number = len(bodies) - 1
            status, content = answer(number, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            with suppress(BrokenPipeError):  # a client that hung up
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
