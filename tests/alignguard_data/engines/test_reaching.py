"""Each cause of a server that cannot be asked is named as itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from alignguard_data.contracts.errors import ConfigError, EngineError
from alignguard_data.engines.reaching import key_fault, proxy_of, url_fault
from alignguard_data.engines.served import ServedModel
from pipelines.profile import load_profile
from tests.conftest import reduced_profile

SECRET = "sk-secret"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A port where every connection gets ``reply`` and is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.recv(1000)
                    connection.sendall(reply)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def message(url: str, **settings) -> str:
    served = ServedModel(model="m", base_url=url, max_retries=0, timeout_seconds=5, **settings)
    with pytest.raises(EngineError) as caught:
        served.ask([])
    return str(caught.value)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_nothing_listens():
    assert "nothing listens there: start the server" in message(
        f"http://127.0.0.1:{free_port()}/v1"
    )


def test_a_name_that_is_not_known(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = message("http://wrong.example/v1")
    assert "the name wrong.example is not known (DNS" in found
    assert "start the server" not in found


@pytest.mark.parametrize("reply", [b"SSH-2.0-x\r\n\r\n", b"\x00\x01\x02", b""])
def test_another_service_has_the_port(reply):
    with answering(reply) as port:
        found = message(f"http://127.0.0.1:{port}/v1")
    assert f":{port}/v1" in found
    assert "start the server" not in found


def test_tls_is_asked_of_a_server_without_it():
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "does not speak TLS" in message(f"https://127.0.0.1:{port}/v1")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_named_without_its_password(scheme, monkeypatch):
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://me:{SECRET}@{proxy}")
    found = message(f"{scheme}://server.example/v1")
    assert f"through the proxy http://{proxy}" in found
    assert "NO_PROXY=server.example" in found
    assert SECRET not in found
    assert "start the server" not in found


@pytest.mark.parametrize("proxy", [f"foo://me:{SECRET}@127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_no_client_can_use(proxy, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", proxy)
    found = message("http://server.example/v1")
    assert "ALL_PROXY=" in found
    assert "127.0.0.1:9" in found
    assert "cannot be asked" in found


def test_authorities_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    assert f"SSL_CERT_FILE={tmp_path}/nowhere.pem" in message("https://server.example/v1")


@pytest.mark.parametrize(("end", "what"), [
    ("\n", "a line break"), ("\r\n", "a line break"), (" ", "a blank"), ("\t", "a blank"),
    ("é", "not ASCII"), ("\x01", "control character"), ("\u2011x", "not ASCII"),
])  # fmt: skip
def test_a_key_that_no_header_takes_is_named_and_not_shown(end, what, monkeypatch):
    variable = "MY_KEY"
    monkeypatch.setenv(variable, SECRET + end)
    with pytest.raises(ValueError, match=what) as caught:
        ServedModel(model="m", api_key_variable=variable)
    assert variable in str(caught.value)
    assert SECRET not in str(caught.value)
    monkeypatch.setenv(variable, SECRET)
    assert key_fault(variable) is None


WRONG_URLS = [
    "htp://127.0.0.1/v1", "127.0.0.1:8000/v1", "localhost:8000", "http://", "http:///v1",
    "http://h:99999/v1", "http://h:abc/v1", "http://[::1/v1", "http://a b/v1", "http://h/v1\n",
    "file:///etc/passwd", "ftp://h/v1",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_address_names_its_field_before_anything_is_asked(url, tmp_path):
    with pytest.raises(ValueError, match="base_url") as caught:
        ServedModel(model="m", base_url=url)
    assert repr(url) in str(caught.value)
    params = {"model": "m", "served_revision": "1", "base_url": url, "max_tokens": "many"}
    writer = {"use": "alignguard_data.engines.text.openai_writer:OpenAIWriter", "params": params}
    with pytest.raises(ConfigError) as refused:
        load_profile(str(reduced_profile(tmp_path, writer=writer)))
    assert [fault.split(": ")[0] for fault in refused.value.faults] == [
        "writer.params.max_tokens",
        "writer.params.base_url",
    ]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "https://api.example.org/v1/", "http://[::1]:80/v1"]
)
def test_a_right_address_is_taken(url):
    assert url_fault(url) is None


def test_no_proxy_is_named_where_it_is_passed_by(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:1")
    assert proxy_of("http://server.example/v1") == "http://proxy.example:1"
    monkeypatch.setenv("NO_PROXY", "server.example")
    assert proxy_of("http://server.example/v1") is None
