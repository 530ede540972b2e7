"""An S3 proxy that does what networks and stores do at night: a thread of its own, one rule after
the other, all counted.

It forwards HTTP/1.1 requests to one server, a new connection each. A rule says which requests it
is for (method, a pattern of the path, from the how-manieth on, for how many) and what is done to
them:

==============  ==================================================================================
``status``      answer this status (500, 503, ...), the request is not forwarded
``refuse``      close the connection at once
``cut_before``  read the request, then close: it is not forwarded
``cut_after``   forward the request, then close: the store has done it, its answer is lost
``truncate``    forward, answer with half of the body, then close
``black_hole``  read the request, answer nothing for as long as the client waits
``delay``       forward after so many seconds
``call``        call a function with the request after the store has answered, before the client is
``forget``      forward without the headers ``If-Match`` and ``If-None-Match``, signed anew
==============  ==================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rig.server import KEY, SECRET

MUTATING = ("PUT", "POST", "DELETE")
_ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>by the '
    b"proxy</Message></Error>"
)
_CODES = {
    500: b"InternalError",
    501: b"NotImplemented",
    503: b"SlowDown",
    403: b"AccessDenied",
    404: b"NoSuchBucket",
}
_UNSIGNED = (
    b"if-match:",
    b"if-none-match:",
    b"authorization:",
    b"expect:",
    b"content-length:",
    b"transfer-encoding:",
)


@dataclass(frozen=True)
class Request:
    """A request that came through: its number among all, and among those that change something (0:
    it does not).
    """

    method: str
    path: str
    headers: frozenset[str]
    number: int
    mutation: int


@dataclass
class Rule:
    """What is done to which requests."""

    action: str
    methods: tuple[str, ...] = ()
    pattern: str = ""
    header: str = ""
    first: int = 1
    count: int = 1 << 60
    share: float = 1.0
    status: int = 503
    seconds: float = 0.0
    call: Callable[[Request], None] | None = None
    matched: int = 0
    done: int = 0

    def takes(self, request: Request, chance: random.Random) -> bool:
        """Whether the rule is for this request; counts it."""
        if (self.methods and request.method not in self.methods) or not re.search(
            self.pattern, request.path
        ):
            return False
        if self.header and self.header not in request.headers:
            return False
        self.matched += 1
        if self.matched < self.first or self.done >= self.count or chance.random() >= self.share:
            return False
        self.done += 1
        return True


@dataclass
class Proxy:
    """A proxy that listens; rules may be added and taken away while it does."""

    upstream: tuple[str, int]
    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        """Forget rules and counts."""
        self.rules.clear()
        self.requests.clear()

    def mutations(self) -> list[Request]:
        """The requests that change something, in the order in which they came."""
        return [request for request in self.requests if request.mutation]

    def add(self, action: str, **how: object) -> Rule:
        """Add a rule."""
        rule = Rule(action, **how)  # type: ignore[arg-type]
        self.rules.append(rule)
        return rule

    async def _serve(self, ready: threading.Event) -> None:
        self._chance = random.Random(self.seed)
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self._stopped = asyncio.Event()
        ready.set()
        await self._stopped.wait()
        server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, TimeoutError, OSError
        ):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request on; whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        method, path, _ = lines[0].decode().split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        if headers.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, headers)
        mutating = method in MUTATING
        number = sum(1 for request in self.requests if request.mutation) + 1 if mutating else 0
        request = Request(
            method, path, frozenset(map(bytes.decode, headers)), len(self.requests) + 1, number
        )
        self.requests.append(request)
        rule = next((rule for rule in list(self.rules) if rule.takes(request, self._chance)), None)
        return await self._act(rule, request, lines, body, writer)

    async def _act(
        self,
        rule: Rule | None,
        request: Request,
        lines: list[bytes],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> bool:
        action = rule.action if rule else "forward"
        if action in ("refuse", "cut_before"):
            return False
        if rule and action == "black_hole":
            await asyncio.sleep(3600)
            return False
        if rule and action == "delay":
            await asyncio.sleep(rule.seconds)
        if rule and action == "status":
            text = _ERROR % _CODES.get(rule.status, b"Error") if request.method != "HEAD" else b""
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n" % (rule.status, len(text)) + text
            )
            await writer.drain()
            return True
        if action == "forget":
            lines = _without_conditions(lines, body)
        answer = await self._forward(lines, body)
        if rule and rule.call is not None:
            await asyncio.get_running_loop().run_in_executor(None, rule.call, request)
        if action == "cut_after":
            return False
        if action == "truncate":
            head, _, content = answer.partition(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n" + content[: len(content) // 2])
            await writer.drain()
            return False
        writer.write(answer)
        await writer.drain()
        return False

    async def _forward(self, lines: list[bytes], body: bytes) -> bytes:
        """The store's whole answer; a connection for each, so that its end is the answer's end."""
        reader, writer = await asyncio.open_connection(*self.upstream)
        try:
            dropped = (b"connection:", b"expect:", b"transfer-encoding:", b"content-length:")
            kept = [line for line in lines if not line.lower().startswith(dropped)]
            sent = [*kept, b"Content-Length: %d" % len(body), b"Connection: close"]
            writer.write(b"\r\n".join(sent) + b"\r\n\r\n" + body)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()


def _without_conditions(lines: list[bytes], body: bytes) -> list[bytes]:
    """A request without its conditions; they were signed, so it is signed again."""
    method, path, _ = lines[0].decode().split(" ")
    named = (
        line.decode().split(": ", 1) for line in lines[1:] if not line.lower().startswith(_UNSIGNED)
    )
    headers = {"Host" if name == "host" else name: value for name, value in named}
    request = AWSRequest(method, f"http://{headers['Host']}{path}", headers, body)
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    return [lines[0], *(f"{name}: {value}".encode() for name, value in request.headers.items())]


async def _body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return await reader.readexactly(int(headers.get(b"content-length", b"0")))
    pieces = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)


@contextlib.contextmanager
def proxy(endpoint: str, seed: int = 0) -> Iterator[Proxy]:
    """A proxy in front of a server, for the time of the context."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    found, ready = Proxy((host, int(port)), seed), threading.Event()

    def run() -> None:
        loop = asyncio.new_event_loop()
        found._loop = loop
        loop.run_until_complete(found._serve(ready))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run, name="s3-proxy", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the proxy does not start")
    try:
        yield found
    finally:
        found._loop.call_soon_threadsafe(found._stopped.set)  # type: ignore[union-attr]
        thread.join(10)
