"""A real S3 API on localhost (moto's server), and a TCP proxy before it that can cut a put, or
count the reads that come through it, each held up a little as a network would.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

BUCKET = "alignguard"


class CuttingProxy:
    """Passes bytes on; ``cut(path, times)`` ends so many puts of such objects in their middle.

    ``fetched`` are the bytes that came out since the last ``count``.
    ``count(latency)`` begins to count: ``asked`` are the reads (GET, HEAD) since then, ``alone``
    those that began while no other was under way, and ``most_at_once`` how many ever were.
    """

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._path, self._left, self.dropped = b"", 0, 0
        self._latency, self._under_way, self._counting = 0.0, 0, threading.Lock()
        self.asked = self.alone = self.most_at_once = self.fetched = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, path: str, times: int) -> None:
        self._path, self._left = path.encode(), times

    def count(self, latency: float) -> None:
        self._latency = latency
        self.asked = self.alone = self.most_at_once = self.fetched = 0

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
                self._look(data, asks)
                if not asks:
                    with self._counting:
                        self.fetched += len(data)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _look(self, data: bytes, asks: bool) -> None:
        """A connection carries one request at a time, and a read's is one piece."""
        if not self._latency or not data.startswith((b"GET ", b"HEAD ") if asks else b"HTTP/1"):
            return
        with self._counting:
            self.asked += asks
            self.alone += asks and not self._under_way
            self._under_way += 1 if asks else -1
            self.most_at_once = max(self.most_at_once, self._under_way)
        if asks:
            time.sleep(self._latency)

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
        # Buckets and connections are the process's: the next server is another one.
        urlopen(f"http://127.0.0.1:{proxy.port}/moto-api/reset", data=b"").close()
        S3FileSystem.clear_instance_cache()
        proxy.close()
        server.stop()
