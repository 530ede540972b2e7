"""A few hosts on one machine: network namespaces with addresses of their own, on one bridge, each
with a link to cut."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: Addresses for tests between networks (RFC 2544): nobody's own.
_NETWORK = "198.18.77"
#: The environment variable that tells a process on one of the hosts of the others.
GIVEN = "NOISYDASK_HOSTS"
_ANSWERS_WITHIN = 10.0


class NotHereError(RuntimeError):
    """This machine lets us make no namespaces; the text says why."""


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotHereError("there is no command ip (package iproute2)") from error
    except subprocess.CalledProcessError as error:
        raise NotHereError(f"ip {' '.join(words)}: {error.stderr.strip()}") from error


@dataclass
class Hosts:
    """Hosts by name. This process is none of them: what is to see them runs on one."""

    prefix: str
    addresses: dict[str, str]
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def given(self) -> str:
        """What makes these hosts known to a process on one of them."""
        return json.dumps({"prefix": self.prefix, "addresses": self.addresses})

    def on(self, name: str) -> list[str]:
        """What to put before a command so that it runs on a host."""
        return ["ip", "netns", "exec", f"{self.prefix}{name}"]

    def start(self, name: str, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Run a command on a host, its output in a file."""
        with log.open("wb") as file:
            child = subprocess.Popen(
                [*self.on(name), *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def end(self) -> None:
        """End what this process started on the hosts."""
        for child in self.children:
            child.kill()
            child.wait()

    def cut(self, name: str) -> None:
        """Take a host's link down: what is sent to it or by it is lost, and nobody is told."""
        _ip("-n", f"{self.prefix}net", "link", "set", f"p-{name}", "down")

    def heal(self, name: str) -> None:
        """Bring a host's link up again."""
        _ip("-n", f"{self.prefix}net", "link", "set", f"p-{name}", "up")


def _build(hosts: Hosts) -> None:
    net = f"{hosts.prefix}net"
    _ip("netns", "add", net)
    _ip("-n", net, "link", "add", "bridge", "type", "bridge")
    _ip("-n", net, "link", "set", "bridge", "up")
    for name, address in hosts.addresses.items():
        space = f"{hosts.prefix}{name}"
        _ip("netns", "add", space)
        _ip(
            "-n",
            net,
            "link",
            "add",
            f"p-{name}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            space,
        )
        _ip("-n", net, "link", "set", f"p-{name}", "master", "bridge", "up")
        _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "link", "set", "lo", "up")


def _check(hosts: Hosts) -> None:
    """Let the last host call the first: a machine may forbid that, too."""
    listener, *_, caller = hosts.addresses
    listen = (
        "import socket, sys; socket.create_server((sys.argv[1], 7000)).accept()[0].sendall(b'here')"
    )
    call = "import socket, sys; print(socket.create_connection((sys.argv[1], 7000), 2).recv(4))"
    address = hosts.addresses[listener]
    child = subprocess.Popen([*hosts.on(listener), sys.executable, "-c", listen, address])
    hosts.children.append(child)
    deadline = time.monotonic() + _ANSWERS_WITHIN
    while time.monotonic() < deadline:
        asked = [*hosts.on(caller), sys.executable, "-c", call, address]
        if b"here" in subprocess.run(asked, capture_output=True, check=False).stdout:
            return
        time.sleep(0.1)
    raise NotHereError("hosts made here do not reach one another")


def _remove(hosts: Hosts) -> None:
    """End what runs on the hosts, and remove them; whatever of it there is."""
    hosts.end()
    for name in (*hosts.addresses, "net"):
        space = f"{hosts.prefix}{name}"
        found = subprocess.run(
            ["ip", "netns", "pids", space], capture_output=True, text=True, check=False
        )
        for pid in found.stdout.split():  # grandchildren
            os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


@contextmanager
def many_hosts(names: Sequence[str]) -> Iterator[Hosts]:
    """Hosts on one network; gone, with all that runs on them, when the context ends.

    Raises
    ------
    NotHereError
        If this machine does not let us.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise NotHereError("needs root and the command ip (package iproute2)")
    addresses = {name: f"{_NETWORK}.{10 + number}" for number, name in enumerate(names)}
    hosts = Hosts(f"nd{os.getpid()}-", addresses)
    try:
        _build(hosts)
        _check(hosts)
        yield hosts
    finally:
        _remove(hosts)
