"""A Hugging Face hub on this machine: as much of its HTTP interface as pushing and pulling a model takes."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHub(ThreadingHTTPServer):
    """Repositories by name, each a dictionary of file name to content; every request is written down."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = {}
        self.private = {}
        self.requests = []
        self.refuses = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name):
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers until the block ends."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = self._parts()
        if self.server.refuses:
            self._json({"error": "You are not allowed to write here."}, 403)
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif "preupload" in parts:
            asked = [file["path"] for file in json.loads(body)["files"]]
            self._json({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in asked]})
        else:
            name = "/".join(parts[2:4])
            for line in map(json.loads, body.splitlines()):
                assert line["key"] in ("header", "file"), line  # nothing is ever deleted
                if line["key"] == "file":
                    self.server.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = self.server.commit(name)
            self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit})

    def do_GET(self):
        parts = self._parts()
        api = parts[0] == "api"
        name = "/".join(parts[2:4] if api else parts[:2])
        stored = self.server.repositories.get(name)
        if stored is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif not api:
            self._file(stored[parts[-1]], self.server.commit(name))
        elif "tree" in parts:
            self._json(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in stored.items()
                ]
            )
        else:
            self._json(
                {"id": name, "sha": self.server.commit(name), "siblings": [{"rfilename": file} for file in stored]}
            )

    do_HEAD = do_GET

    def _create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            self._json({"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}, 409)
        else:
            self.server.repositories[name] = {}
            self.server.private[name] = asked.get("private", asked.get("visibility") == "private")
            self._json({"url": f"{self.server.url}/{name}"})

    def _parts(self):
        self.server.requests.append(f"{self.command} {self.path}")
        return self.path.split("?")[0].strip("/").split("/")

    def _json(self, value, status=200, headers=None):
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _file(self, content, commit):
        self._send(content, 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

    def _send(self, content, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *said):
        """Keep the tests quiet."""
