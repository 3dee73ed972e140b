"""One request over HTTP; the only module that knows httpx.

A pool of httpx slows down quadratically with its connections (it looks at each of them for each request),
so each connection is a transport of its own, and all share one TLS context. Requests go to the transports
directly: what ``httpx.AsyncClient`` adds (redirects, cookies, authentication) is not wanted here and takes
as long as the sending itself. Bodies are streamed from disk in blocks of base64 with the length known in
advance: a request of 20 MB costs 0.4 MB of memory.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import ssl
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.request import getproxies, proxy_bypass

# httpx loads its command line with rich and a highlighter, 0.05 s, wherever they can be imported; None says that they
# cannot (https://docs.python.org/3/reference/import.html#the-module-cache), and httpx does without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

from pipeline import network  # noqa: E402
from pipeline.messages import Body  # noqa: E402

_BLOCK_BYTES = 192 * 1024  # divisible by three: each block is base64 without padding
_LARGEST_RESPONSE_BYTES = 64_000_000
_CONNECT_S = 10.0
_WRITE_S = 60.0  # for one block
_KEEP_ALIVE_S = 60.0
_SHORTEST_KEY = 12  # characters

Handler = Callable[[str, str, Mapping[str, str], bytes], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""An endpoint in this process: method, path with query, headers and body in; status, headers and body out."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``status`` is None when no response began; ``problem`` says what broke.

    ``sent``: the whole request had left, whatever came back.

    A response that broke off has both a status and a problem. Header names are in lower case.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str | None = None
    latency_s: float = 0.0
    sent: bool = False


def load() -> None:
    """Load what the transport puts off to its first request, where it takes 0.05 s that all requests wait for."""

    async def unused() -> None:
        await _connections(httpx.URL("http://localhost"), 1)[0].aclose()

    asyncio.run(unused())


class Client:
    """Sends requests to one endpoint, at most ``concurrency`` at once.

    ``secret`` is the key among the headers: it is cut out of whatever comes back, since some routers
    quote it in their errors. ``handler`` answers in this process instead of the network.
    ``timeout_s`` bounds a whole request, from connecting to the last byte.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        secret: str | None,
        timeout_s: float,
        concurrency: int,
        handler: Handler | None = None,
    ) -> None:
        # Cutting a word of a few letters out of an answer would destroy it, and no real key is that short.
        self._secret = secret if secret and len(secret) >= _SHORTEST_KEY else None
        self._timeout_s = timeout_s
        self._base_url = base_url.rstrip("/")
        self._headers = {"accept": "*/*", "accept-encoding": "gzip, deflate", **headers}
        # Generating an answer may take minutes without a byte; the deadline in _exchange bounds the whole.
        timeouts = {"connect": _CONNECT_S, "write": _WRITE_S, "pool": _CONNECT_S}
        self._extensions = {"timeout": timeouts}
        self._connections = (
            [_HandlerTransport(handler)] * concurrency if handler else _connections(httpx.URL(base_url), concurrency)
        )
        self._free = list(self._connections)

    async def post(self, path: str, body: Body, payload: Path | None = None) -> Reply:
        """Send a body, with the file at ``payload`` in base64 in its gaps, and await the whole response.

        Trouble on the way is part of the reply. An OSError of the payload's file is raised.
        """
        payload_bytes = payload.stat().st_size if payload else 0
        headers = {"content-length": str(body.size_bytes(payload_bytes))}
        async with aclosing(_blocks(body, payload, payload_bytes)) as blocks:  # a refusal may leave it halfway
            return await self._exchange("POST", path, headers, blocks)

    async def post_file(self, path: str, file: Path) -> Reply:
        """Send a file as it is, which is a whole body. ``sent`` as soon as its last block was about to leave.

        An OSError of the file is raised.
        """
        size_bytes = file.stat().st_size
        left_bytes = size_bytes

        async def blocks() -> AsyncGenerator[bytes, None]:
            nonlocal left_bytes
            with file.open("rb") as opened:
                while block := opened.read(_BLOCK_BYTES):
                    left_bytes -= len(block)
                    yield block

        async with aclosing(blocks()) as content:
            reply = await self._exchange("POST", path, {"content-length": str(size_bytes)}, content)
        return replace(reply, sent=left_bytes == 0)

    async def get(self, path: str, target: Path | None = None) -> Reply:
        """Ask for a resource; its body goes to the file ``target`` where one is given, if the status is 200.

        An OSError of the file is raised.
        """
        if target is None:
            return await self._exchange("GET", path, {}, None)
        with target.open("wb") as file:
            return await self._exchange("GET", path, {}, None, file)

    async def _exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None,
        target: BinaryIO | None = None,
    ) -> Reply:
        connection = self._free.pop()
        started = time.monotonic()
        reply = _Partial(target, self._secret)
        content = content and reply.noting_the_end(content)
        problem = None
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await connection.handle_async_request(self._request(method, path, headers, content))
                try:
                    await reply.take(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            problem = f"no whole answer within {self._timeout_s:.0f} s"
        except (httpx.TransportError, httpx.DecodingError, _TooLongError) as error:
            problem = _words(error)
        finally:
            self._free.append(connection)
        return self._without_secret(reply, problem, time.monotonic() - started)

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], content: AsyncIterator[bytes] | None
    ) -> httpx.Request:
        return httpx.Request(
            method,
            self._base_url + path,
            headers={**self._headers, **headers},
            content=content,
            extensions=self._extensions,
        )

    def _without_secret(self, reply: _Partial, problem: str | None, latency_s: float) -> Reply:
        body, headers = bytes(reply.body), reply.headers
        if self._secret:
            body = body.replace(self._secret.encode(), b"[key]")
            headers = {name: value.replace(self._secret, "[key]") for name, value in headers.items()}
            problem = problem and problem.replace(self._secret, "[key]")
        return Reply(reply.status, headers, body, problem, latency_s, reply.sent)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            await connection.aclose()


class _TooLongError(Exception):
    pass


@dataclass(slots=True)
class _Partial:
    """A request and its response as far as they came.

    A good body goes into ``target``, where there is one, each line without the ``secret``.
    """

    target: BinaryIO | None = None
    secret: str | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    sent: bool = False

    async def noting_the_end(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """What is to be sent; ``sent`` once all of it has been."""
        async for block in content:
            yield block
        self.sent = True

    async def take(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        if self.target is not None and self.status == 200:
            await self._save(response, self.target)
            return
        async for block in response.aiter_bytes():
            self.body += block
            if len(self.body) > _LARGEST_RESPONSE_BYTES:
                raise _TooLongError(f"the answer is longer than {_LARGEST_RESPONSE_BYTES // 1_000_000} MB")

    async def _save(self, response: httpx.Response, target: BinaryIO) -> None:
        """Line by line, so that no key is cut in two between two blocks."""
        rest = b""
        async for block in response.aiter_bytes():
            lines = (rest + block).splitlines(keepends=True)
            rest = b"" if not lines or lines[-1].endswith(b"\n") else lines.pop()
            target.writelines(map(self._clean, lines))
            if len(rest) > _LARGEST_RESPONSE_BYTES:
                raise _TooLongError(f"a line is longer than {_LARGEST_RESPONSE_BYTES // 1_000_000} MB")
        target.write(self._clean(rest))

    def _clean(self, line: bytes) -> bytes:
        return line.replace(self.secret.encode(), b"[key]") if self.secret else line


async def _blocks(body: Body, payload: Path | None, payload_bytes: int) -> AsyncGenerator[bytes, None]:
    for block in body_blocks(body, payload, payload_bytes):
        yield block


def body_blocks(body: Body, payload: Path | None, payload_bytes: int) -> Iterator[bytes]:
    """The body; of a file that grows meanwhile only what was announced.

    Raises:
        OSError: the file cannot be read, or has become shorter.
    """
    if payload is None:
        yield body.head
        return
    # Reading a block from the page cache is faster than handing it to a thread. A small body goes out as
    # one block: each costs a round through the event loop.
    with payload.open("rb") as file:
        before = body.head
        for gap_bytes, after in body.gaps(payload_bytes):
            left_bytes = gap_bytes
            while left_bytes > _BLOCK_BYTES:
                yield before + base64.b64encode(_exactly(file, _BLOCK_BYTES))
                before, left_bytes = b"", left_bytes - _BLOCK_BYTES
            yield before + base64.b64encode(_exactly(file, left_bytes)) + after
            before = b""


def _exactly(file: BinaryIO, size_bytes: int) -> bytes:
    block = file.read(size_bytes)
    if len(block) != size_bytes:
        raise OSError(errno.ESTALE, "it became shorter while it was read")
    return block


def _words(error: Exception) -> str:
    if isinstance(error, _TooLongError):
        return str(error)
    names: dict[type[Exception], str] = {
        httpx.ConnectTimeout: f"no connection within {_CONNECT_S:.0f} s",
        httpx.WriteTimeout: f"the endpoint took no data for {_WRITE_S:.0f} s",
        httpx.ConnectError: "no connection",
    }
    said = str(error)
    return ": ".join(part for part in (names.get(type(error), "the connection broke"), said) if part)


def _connections(url: httpx.URL, count: int) -> Sequence[httpx.AsyncBaseTransport]:
    """Connections to an endpoint, through the environment's proxy where it names one; each opens when it is used.

    Raises:
        ImportError, ValueError, OSError: a proxy or a certificate file that cannot be used.
    """
    tls = httpx.create_ssl_context(verify=url.scheme == "https")  # made once: each takes a millisecond and more
    proxy = _proxy_for(url)
    try:
        return [_Connection(tls, proxy) for _ in range(count)]
    except httpx.InvalidURL as error:
        raise ValueError(f"the proxy's address is not valid: {error}") from None


def _proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment names for an endpoint; it is for the outside, not for this machine."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or is_loopback(url.host) or proxy_bypass(url.netloc.decode()):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Connection(httpx.AsyncHTTPTransport):
    """A transport with a pool of one."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEP_ALIVE_S)
        super().__init__(verify=tls, proxy=proxy, limits=limits)
        # httpcore's pools take a network backend, but httpx has no parameter to hand one on.
        self._pool._network_backend = network.Backend()


class _HandlerTransport(httpx.AsyncBaseTransport):
    """Hands requests to an endpoint in this process."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, answer_headers, body = await self._handler(
            request.method, request.url.raw_path.decode("ascii"), headers, await request.aread()
        )
        return httpx.Response(status, headers=dict(answer_headers), content=body)
