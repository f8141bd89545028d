"""A hub on 127.0.0.1: the requests that huggingface_hub 2.4 makes to push a dataset, stored.

Keeps what it is sent (requests in order, repositories with files, settings, commits, tags) and can
be made to misbehave: ``faults`` maps a part of a path to a status.
"""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_double"  # the double's own


@dataclass
class Repository:
    private: bool
    gated: str | bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    ignores_settings: bool = False

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.requests]

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any]:
        for part, status in self.faults.items():
            if part in path:
                return status, {"error": "injected"}
        if path.startswith("/lfs/"):  # a signed address: no token
            return self._blob(path.removeprefix("/lfs/"), body)
        if token != TOKEN:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/whoami-v2":
            return 200, {"name": "someone", "type": "user"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        name = "/".join(path.removeprefix("/api").removeprefix("/datasets/").split("/")[:2])
        repository = self.repositories.get(name.removesuffix(".git"))
        if repository is None:
            return 404, {"error": "Repository not found"}
        rest = path.partition(name)[2].strip("/")
        return self._of(repository, method, rest, body)

    def _of(self, repository: Repository, method: str, rest: str, body: bytes) -> tuple[int, Any]:
        if rest == "settings":
            return self._settings(repository, json.loads(body))
        if rest == "refs":
            tags = [
                {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
                for name, oid in repository.tags.items()
            ]
            return 200, {"branches": [], "converts": [], "tags": tags}
        if rest.startswith("tree/"):
            return 200, [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in repository.files.items()
            ]
        if rest.startswith("preupload/"):
            asked = json.loads(body)["files"]
            return 200, {"files": [self._mode(file) for file in asked]}
        if rest.endswith("objects/batch"):
            return 200, {"objects": [self._action(o) for o in json.loads(body)["objects"]]}
        if rest.startswith("commit/"):
            return self._commit(repository, body)
        if rest.startswith("tag/"):
            repository.tags[json.loads(body)["tag"]] = rest.removeprefix("tag/")
            return 200, {}
        assert (method, rest) == ("GET", ""), rest
        return 200, {"id": "x/y", "private": repository.private, "gated": repository.gated}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        known = name in self.repositories
        if not known:
            self.repositories[name] = Repository(private=asked.get("visibility") == "private")
        return 409 if known else 200, {"url": f"{self.url}/datasets/{name}"}

    def _settings(self, repository: Repository, asked: dict[str, Any]) -> tuple[int, Any]:
        if not self.ignores_settings:
            repository.gated = asked.get("gated", repository.gated)
            if "visibility" in asked:
                repository.private = asked["visibility"] == "private"
        return 200, {}

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith((".parquet", ".png"))
        mode = "lfs" if large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.blobs:
            return wanted
        upload = {"href": f"{self.url}/lfs/{wanted['oid']}", "header": {}}
        return {**wanted, "actions": {"upload": upload}}

    def _blob(self, oid: str, body: bytes) -> tuple[int, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "not these bytes"}
        self.blobs[oid] = body
        return 200, {}

    def _commit(self, repository: Repository, body: bytes) -> tuple[int, Any]:
        files, commit = dict(repository.files), {}
        for line in body.splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                commit = value
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            else:
                assert kind == "deletedFile", kind
                del files[value["path"]]
        repository.files = files
        oid = hashlib.sha1(body).hexdigest()
        repository.commits.append({**commit, "oid": oid})
        return 200, {"commitUrl": f"{self.url}/datasets/x/y/commit/{oid}", "commitOid": oid}


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub on a free port of 127.0.0.1 until the block ends."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            hub.requests.append((self.command, path, body))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, content = hub.answer(self.command, path, body, token)
            raw = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _file(self, *, content: bool) -> bool:
            """Answer for one file of a repository; False where the path names none."""
            name, found, inside = urlsplit(self.path).path.partition("/resolve/main/")
            repository = hub.repositories.get(name.removeprefix("/datasets/"))
            if not found:
                return False
            raw = repository.files.get(unquote(inside)) if repository else None
            hub.requests.append((self.command, urlsplit(self.path).path, b""))
            self.send_response(404 if raw is None else 200)
            self.send_header("ETag", f'"{hashlib.sha1(raw or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(raw or b"")))
            self.end_headers()
            if content and raw:
                self.wfile.write(raw)
            return True

        def do_GET(self) -> None:
            if not self._file(content=True):
                self._reply()

        def do_HEAD(self) -> None:
            self._file(content=False)

        do_POST = do_PUT = _reply

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
