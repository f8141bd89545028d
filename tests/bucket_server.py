"""A real S3 API on localhost (moto's server), and a TCP proxy before it that can cut a put."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

BUCKET = "alignguard"


class CuttingProxy:
    """Passes bytes on; ``cut(path, times)`` ends so many puts of such objects in their middle."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._path, self._left, self.dropped = b"", 0, 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, path: str, times: int) -> None:
        self._path, self._left = path.encode(), times

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        try:
            while data := source.recv(2**16):
                if asks and self._left and self._is_the_put(data):
                    self._left -= 1
                    self.dropped += 1
                    target.sendall(data[:-1])
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _is_the_put(self, data: bytes) -> bool:
        first = data.split(b"\r\n", 1)[0]
        return first.startswith(b"PUT ") and self._path in first


@contextmanager
def serving() -> Iterator[tuple[CuttingProxy, dict[str, str]]]:
    """The proxy, and the environment variables that lead s3fs to it; the bucket is there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = CuttingProxy(server.get_host_and_port()[1])
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",  # s3fs tries again itself
    }
    try:
        yield proxy, environment
    finally:
        proxy.close()
        server.stop()
