"""One request over HTTP, against servers that are whatever a server can be."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gzip
import ipaddress
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline import client
from pipeline.client import Client, Reply
from pipeline.messages import Body
from tests.conftest import DEADLINE_S, KEY, wait_until

PATH = "/v1/messages"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
SMALL = Body(b'{"a": "b"}')


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came over the wire."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    def head(self) -> Request | None:
        """The next request without its body; None when the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not (block := self.socket.recv(65536)):
                return None
            self._buffer += block
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = [name.partition(":") for name in fields]
        return Request(line, tuple((name.lower(), value.strip()) for name, _, value in pairs), b"")

    def request(self) -> Request | None:
        """The next whole request."""
        if (head := self.head()) is None:
            return None
        size = int((head.all("content-length") or ["0"])[0])
        parts, left = [self._buffer[:size]], size - len(self._buffer)
        self._buffer = self._buffer[size:]
        while left > 0:
            block = self.socket.recv(min(left, 1 << 20))
            if not block:
                return None
            parts.append(block)
            left -= len(block)
        return Request(head.line, head.headers, b"".join(parts))

    def skip(self, size: int, block_size: int) -> int:
        """Read so many bytes in small blocks and forget them; how many came."""
        came = len(self._buffer)
        self._buffer = b""
        while came < size and (block := self.socket.recv(min(size - came, block_size))):
            came += len(block)
        return came

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """Close so that the client gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Talk = Callable[[Peer], None]


@dataclass(slots=True)
class Server:
    """A listening server. ``accepted`` counts its connections; ``ending`` is set when the test is over."""

    address: str
    ending: threading.Event = field(default_factory=threading.Event)
    accepted: int = 0
    ended: int = 0

    @property
    def base_url(self) -> str:
        return f"http://{self.address}"


@contextmanager
def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Hand every connection to ``talk``, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    server = Server(f"127.0.0.1:{listener.getsockname()[1]}")
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def converse(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            # Else a reset would drop what Nagle's algorithm holds back, behind what TLS says after its handshake.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                talk(Peer(connection))
        server.ended += 1

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                server.accepted += 1
                open_sockets.append(connection)
                threads.append(threading.Thread(target=converse, args=[connection], daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        server.ending.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in open_sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def answering(reply: bytes, seen: list[Request] | None = None) -> Talk:
    """A conversation that gives each whole request the same bytes."""

    def talk(peer: Peer) -> None:
        while request := peer.request():
            if seen is not None:
                seen.append(request)
            peer.send(reply)

    return talk


def once(reply: bytes) -> Talk:
    """A conversation that ends after some bytes, whatever they say."""

    def talk(peer: Peer) -> None:
        peer.request()
        peer.send(reply)

    return talk


def connected(base_url: str, concurrency: int = 1, **settings: Any) -> Client:
    given: dict[str, Any] = {"headers": HEADERS, "secret": KEY, "timeout_s": DEADLINE_S} | settings
    return Client(base_url, concurrency=concurrency, **given)


def post(base_url: str, body: Body = SMALL, payload: Path | None = None, **settings: Any) -> Reply:
    """One request through a client of its own."""

    async def exchange() -> Reply:
        async with connected(base_url, **settings) as one:
            return await one.post(PATH, body, payload)

    return asyncio.run(exchange())


def http(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A well-formed response."""
    fields = {"content-length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


# --- what goes out


@pytest.mark.parametrize("size", [0, 1, 2, 3, 192 * 1024, 192 * 1024 + 1, 1_000_000])
def test_the_body_on_the_wire_is_head_base64_and_tail(tmp_path: Path, size: int) -> None:
    """Byte for byte, under its true length, whatever the payload's size does to base64."""
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(size))
    body = Body('{"data":"ü'.encode(), b'"}')
    seen: list[Request] = []
    with serving(answering(OK, seen)) as server:
        reply = post(server.base_url, body, payload)
    (request,) = seen
    assert (reply.status, reply.body, reply.problem) == (200, b"{}", None)
    assert request.line == f"POST {PATH} HTTP/1.1"
    assert request.body == body.head + base64.b64encode(payload.read_bytes()) + body.tail
    assert request.all("content-length") == [str(body.size_bytes(size))] == [str(len(request.body))]
    assert request.all("transfer-encoding") == []
    assert request.all("authorization") == [f"Bearer {KEY}"]
    assert request.all("host") == [server.address]


def test_a_body_without_a_payload_is_its_head() -> None:
    """Text alone goes out as it is."""
    seen: list[Request] = []
    with serving(answering(OK, seen)) as server:
        reply = post(server.base_url, SMALL)
    assert reply.status == 200
    assert seen[0].body == SMALL.head
    assert seen[0].all("content-length") == [str(len(SMALL.head))]
    assert seen[0].all("transfer-encoding") == []


def test_get_asks_without_a_body() -> None:
    """A resource is asked for with the same key."""
    seen: list[Request] = []

    async def exchange(base_url: str) -> Reply:
        async with connected(base_url) as one:
            return await one.get("/v1/models/x")

    with serving(answering(OK, seen)) as server:
        reply = asyncio.run(exchange(server.base_url))
    assert reply.status == 200
    assert seen[0].line == "GET /v1/models/x HTTP/1.1"
    assert (seen[0].body, seen[0].all("transfer-encoding")) == (b"", [])
    assert seen[0].all("authorization") == [f"Bearer {KEY}"]


def test_a_path_in_the_base_url_stands_before_the_path_of_the_request() -> None:
    """Routers put the API below a path of their own."""
    seen: list[Request] = []
    with serving(answering(OK, seen)) as server:
        post(server.base_url + "/api/anthropic")
    assert seen[0].line == f"POST /api/anthropic{PATH} HTTP/1.1"


def test_a_payload_that_is_gone_is_an_error_of_its_file(tmp_path: Path) -> None:
    """Trouble with our own file is raised and does not spoil the client."""

    async def exchange(base_url: str) -> Reply:
        async with connected(base_url) as one:
            for _ in range(20):
                with pytest.raises(FileNotFoundError):
                    await one.post(PATH, SMALL, tmp_path / "gone")
            return await one.post(PATH, SMALL)

    with serving(answering(OK)) as server:
        assert asyncio.run(exchange(server.base_url)).status == 200


def test_a_payload_that_becomes_shorter_while_it_is_sent_is_an_error_of_its_file(tmp_path: Path) -> None:
    """The server never gets a whole body, and the next request goes its way."""
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000))
    whole: list[Request] = []

    def talk(peer: Peer) -> None:
        if payload.stat().st_size == 24_000_000:
            peer.socket.recv(1)  # the head has come; of the body the buffers hold some megabytes at most
            os.truncate(payload, 20_000_000)
        answering(OK, whole)(peer)

    async def exchange(base_url: str) -> Reply:
        async with connected(base_url) as one:
            with pytest.raises(OSError, match="shorter"):
                await one.post(PATH, Body(b"<", b">"), payload)
            return await one.post(PATH, SMALL)

    with serving(talk) as server:
        sound = asyncio.run(exchange(server.base_url))
    assert sound.status == 200
    assert [request.body for request in whole] == [SMALL.head]


def test_of_a_payload_that_grows_while_it_is_sent_only_what_was_announced_goes_out(tmp_path: Path) -> None:
    """The connection stays in step, so that the next request is understood."""
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000))
    whole: list[Request] = []

    def talk(peer: Peer) -> None:
        while head := peer.head():
            os.truncate(payload, 25_000_000)
            size = int(head.all("content-length")[0])
            assert peer.skip(size, 1 << 20) == size
            whole.append(head)
            peer.send(OK)

    async def exchange(base_url: str) -> list[Reply]:
        async with connected(base_url) as one:
            return [await one.post(PATH, Body(b"<", b">"), payload), await one.post(PATH, SMALL)]

    with serving(talk) as server:
        replies = asyncio.run(exchange(server.base_url))
    assert [(reply.status, reply.problem) for reply in replies] == [(200, None)] * 2
    assert [request.all("content-length") for request in whole] == [["32000002"], [str(len(SMALL.head))]]
    assert server.accepted == 1


def test_sending_a_large_payload_to_a_slow_reader_takes_little_memory(tmp_path: Path) -> None:
    """30 MB go through without being in memory, however slowly they are taken."""
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(30_000_000))
    code = """
import asyncio, resource, sys
from pathlib import Path
from pipeline.client import Client
from pipeline.messages import Body

async def main(base_url, payload):
    async with Client(base_url, {}, None, 60.0, 1) as client:
        await client.post("/", Body(b"{}"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply = await client.post("/", Body(b"<", b">"), payload)
        print(reply.status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""
    taken = 0

    def talk(peer: Peer) -> None:
        nonlocal taken
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        while head := peer.head():
            taken = peer.skip(int(head.all("content-length")[0]), 16 * 1024)
            peer.send(OK)

    with serving(talk) as server:
        run = [sys.executable, "-c", code, server.base_url, str(payload)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    status, grown_kb = map(int, done.stdout.split())
    assert (status, taken) == (200, 40_000_002)
    assert grown_kb < 8_000


# --- loading


def test_loaded_ahead_the_first_request_loads_nothing() -> None:
    """Neither what its transport puts off to it nor httpx's own command line, which brings rich."""
    code = """
import asyncio, sys
from pipeline import client

async def ask():
    async with client.Client("http://127.0.0.1:9", {}, None, 5.0, 1) as one:
        return await one.get("/")

client.load()
loaded = set(sys.modules)
asyncio.run(ask())
print(sorted(set(sys.modules) - loaded), "rich" in loaded)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[] False"


# --- connections


@pytest.mark.parametrize("concurrency", [1, 3, 8, 9, 20])
def test_never_more_connections_than_requests_at_once(concurrency: int) -> None:
    """Round after round goes over the connections of the first."""
    all_there = threading.Barrier(concurrency, timeout=DEADLINE_S)

    def talk(peer: Peer) -> None:
        while peer.request():
            all_there.wait()
            peer.send(OK)

    async def exchange(base_url: str) -> list[Reply]:
        async with connected(base_url, concurrency) as one:
            rounds = [await asyncio.gather(*(one.post(PATH, SMALL) for _ in range(concurrency))) for _ in range(4)]
        return [reply for replies in rounds for reply in replies]

    with serving(talk) as server:
        replies = asyncio.run(exchange(server.base_url))
    assert [reply.status for reply in replies] == [200] * (4 * concurrency)
    assert server.accepted == concurrency


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used() -> None:
    """An idle connection may end at any time: the next request takes a new one and is not lost."""
    closed = threading.Event()

    def talk(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.socket.close()
        closed.set()

    async def exchange(base_url: str) -> list[Reply]:
        replies = []
        async with connected(base_url) as one:
            for _ in range(3):
                replies.append(await one.post(PATH, SMALL))
                await asyncio.to_thread(closed.wait, DEADLINE_S)
                closed.clear()
        return replies

    with serving(talk) as server:
        replies = asyncio.run(exchange(server.base_url))
    assert [(reply.status, reply.problem) for reply in replies] == [(200, None)] * 3
    assert server.accepted == 3


def test_a_cancelled_request_ends_its_connection_and_frees_its_place() -> None:
    """What is given up is not left running, and the next request works."""
    asked = threading.Event()

    def talk(peer: Peer) -> None:
        request = peer.request()
        if request and b"silence" in request.body:
            asked.set()
            peer.socket.recv(1)  # until the client leaves
        else:
            peer.send(OK)

    async def exchange(server: Server) -> Reply:
        async with connected(server.base_url) as one:
            for _ in range(10):
                task = asyncio.create_task(one.post(PATH, Body(b"silence")))
                await asyncio.to_thread(asked.wait, DEADLINE_S)
                asked.clear()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(wait_until, lambda: server.ended == 10)
            return await one.post(PATH, SMALL)

    with serving(talk) as server:
        assert asyncio.run(exchange(server)).status == 200


# --- what comes back


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nX-One: 1\r\n\r\nhello",
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nhello"
        ),
        b"HTTP/1.1 200\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["length", "chunked", "trailer", "until the end", "HTTP/1.0", "interim responses", "no reason"],
)
def test_a_body_is_whole_however_it_is_framed(raw: bytes) -> None:
    """Every framing that HTTP/1 knows gives status, lower-case headers and body."""
    with serving(once(raw)) as server:
        reply = post(server.base_url)
    assert (reply.status, reply.body, reply.problem) == (200, b"hello", None)
    assert reply.headers["x-one"] == "1"
    assert reply.latency_s > 0


@pytest.mark.parametrize("status", [201, 204, 400, 404, 429, 500, 529, 599])
def test_a_status_is_part_of_the_reply(status: int) -> None:
    """No status is an exception; what it means is decided elsewhere."""
    body = b"" if status == 204 else b'{"type": "error"}'
    with serving(once(http(f"{status} Whatever", body, retry_after="7"))) as server:
        reply = post(server.base_url)
    assert (reply.status, reply.body, reply.headers["retry-after"], reply.problem) == (status, body, "7", None)


@pytest.mark.parametrize("ending", ["reads the rest", "says no more", "closes", "resets"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_early_413_arrives_while_the_body_is_still_being_sent(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, tmp_path: Path, scheme: str, ending: str
) -> None:
    """A server that has seen enough is heard, whatever it does with the rest of the body."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = server_side(certificate) if scheme == "https" else None
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000))

    def talk(peer: Peer) -> None:
        peer.head()
        peer.send(http("413 Too Large", b'{"error": "too large"}', connection="close"))
        if ending == "reads the rest":
            while peer.socket.recv(1 << 20):
                pass
        if ending == "says no more":
            peer.socket.shutdown(socket.SHUT_WR)
            while peer.socket.recv(1 << 20):
                pass
        if ending == "resets":
            peer.reset()

    with serving(talk, tls) as server:
        reply = post(f"{scheme}://{server.address}", SMALL, payload)
    assert reply.status == 413
    assert reply.body == b'{"error": "too large"}'
    assert not _is_open(payload)


def test_nothing_more_is_sent_after_a_refusal(tmp_path: Path) -> None:
    """The rest of a large body would be for nothing."""
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000))
    taken = 0

    def talk(peer: Peer) -> None:
        nonlocal taken
        peer.head()
        peer.send(http("413 Too Large"))
        taken = peer.skip(32_000_000, 1 << 20)

    with serving(talk) as server:
        reply = post(server.base_url, SMALL, payload)
    assert reply.status == 413
    assert taken < 24_000_000


@pytest.mark.parametrize("first", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
def test_a_word_in_between_does_not_end_the_sending(tmp_path: Path, first: bytes) -> None:
    """Only a refusal does."""
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000))
    taken = 0

    def talk(peer: Peer) -> None:
        nonlocal taken
        peer.head()
        peer.send(first)
        taken = peer.skip(32_000_002, 1 << 20)
        peer.send(OK)

    with serving(talk) as server:
        reply = post(server.base_url, Body(b"<", b">"), payload)
    assert (reply.status, reply.problem, taken) == (200, None, 32_000_002)


def _is_open(path: Path) -> bool:
    """Whether this process still has the file open."""
    links = Path("/proc/self/fd").iterdir()
    return any(os.path.realpath(link) == str(path) for link in links)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(status: str) -> None:
    """The key goes nowhere but where the job says."""
    with (
        serving(answering(OK)) as elsewhere,
        serving(answering(http(status, location=f"{elsewhere.base_url}/v1/messages"))) as server,
    ):
        reply = post(server.base_url)
    assert reply.status == int(status[:3])
    assert elsewhere.accepted == 0


def test_gzip_is_unpacked() -> None:
    """A compressed body comes as what it says."""
    with serving(once(http("200 OK", gzip.compress(b"hello " * 1000), content_encoding="gzip"))) as server:
        reply = post(server.base_url)
    assert (reply.status, reply.body, reply.problem) == (200, b"hello " * 1000, None)


def test_what_only_claims_to_be_gzip_is_a_problem() -> None:
    """Status and problem, no exception."""
    with serving(once(http("200 OK", b"this is not gzip", content_encoding="gzip"))) as server:
        reply = post(server.base_url)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.problem


def _endless(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.send(b"x" * 65536)


def _bomb(peer: Peer) -> None:
    peer.request()
    peer.send(http("200 OK", gzip.compress(bytes(20_000_000)), content_encoding="gzip"))


@pytest.mark.parametrize("talk", [_endless, _bomb], ids=["endless", "gzip bomb"])
def test_a_body_without_end_is_cut(monkeypatch: pytest.MonkeyPatch, talk: Talk) -> None:
    """What is longer than any answer ends with a problem, not with the memory."""
    monkeypatch.setattr(client, "_LARGEST_RESPONSE_BYTES", 2_000_000)
    with serving(talk) as server:
        reply = post(server.base_url, timeout_s=5.0)
    assert reply.status == 200
    assert reply.problem == "the answer is longer than 2 MB"
    assert len(reply.body) >= 2_000_000


_PACKED = gzip.compress(os.urandom(2_500_000))


@pytest.mark.parametrize(
    "raw",
    [
        http("200 OK", bytes(9_000_000)),
        http("200 OK", _PACKED[:1000] + bytes(1_000_000), content_encoding="gzip"),
        http("200 OK", _PACKED, content_encoding="gzip"),
    ],
    ids=["too long", "broken gzip", "too long unpacked"],
)
def test_a_response_given_up_halfway_frees_its_place(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    """However many are given up, each ends its connection, and the next request works."""
    monkeypatch.setattr(client, "_LARGEST_RESPONSE_BYTES", 1_000_000)

    def talk(peer: Peer) -> None:
        while request := peer.request():
            peer.send(raw if b"spoil" in request.body else OK)

    async def exchange(base_url: str) -> tuple[list[Reply], Reply]:
        async with connected(base_url, timeout_s=5.0) as one:
            spoiled = [await one.post(PATH, Body(b"spoil")) for _ in range(12)]
            return spoiled, await one.post(PATH, SMALL)

    with serving(talk) as server:
        spoiled, sound = asyncio.run(exchange(server.base_url))
    assert all(reply.status == 200 and reply.problem for reply in spoiled)
    assert (sound.status, sound.body) == (200, b"{}")


# --- what breaks


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\ncontent-length: 100\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
    ],
    ids=["short of its length", "without a last chunk", "garbled chunks"],
)
def test_a_response_that_breaks_off_has_its_status_and_a_problem_and_what_came(raw: bytes) -> None:
    """Half an answer is told from a whole one, and from none."""
    with serving(once(raw)) as server:
        reply = post(server.base_url)
    assert (reply.status, reply.headers["x-one"], reply.body) == (200, "1", b"hello")
    assert reply.problem


def _reset(peer: Peer) -> None:
    peer.request()
    peer.reset()


@pytest.mark.parametrize(
    "talk",
    [
        _reset,
        once(b""),
        once(b"HTTP/1.1 200 OK\r\nx-one: 1"),
        once(b"SSH-2.0-OpenSSH_9.6\r\n"),
        once(b"<html>no HTTP</html>\n\n"),
        once(b"HTTP/1.1 abc\r\n\r\n"),
        once(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 10_000_000 + b"\r\n\r\n"),
        once(http("302 Found", location="http://[broken")),
        once(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"),
    ],
    ids=["reset", "end", "half a head", "SSH", "HTML", "no status", "endless head", "bad redirect", "bad length"],
)
def test_what_is_no_response_is_a_problem_of_the_connection(talk: Talk) -> None:
    """The reason is one line; nothing is raised, and the client can go on."""
    with serving(talk) as server:
        reply = post(server.base_url)
    assert reply.status in (None, 302)
    assert reply.status or (reply.problem and len(reply.problem) < 500)
    assert reply.body == b""


def test_a_refused_connection_is_a_problem_of_the_connection() -> None:
    """Nobody listens on the port."""
    with serving(once(b"")) as server:
        pass
    reply = post(server.base_url)
    assert reply.status is None
    assert reply.problem
    assert reply.problem.startswith("no connection")
    assert not reply.sent


def test_a_name_that_does_not_resolve_is_a_problem_of_the_connection() -> None:
    """Without a network, or with a slip in the job file."""
    reply = post("http://nowhere.invalid")
    assert reply.status is None
    assert reply.problem


def test_a_server_that_takes_no_data_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Well before the deadline, which is for a server that thinks."""
    monkeypatch.setattr(client, "_WRITE_S", 0.05)
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000))

    def talk(peer: Peer) -> None:
        server.ending.wait()

    with serving(talk) as server:
        reply = post(server.base_url, SMALL, payload)
    assert reply.status is None
    assert reply.problem
    assert reply.problem.startswith("the endpoint took no data for")


def test_a_server_that_does_not_begin_encryption_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes connections and says nothing is no connection."""
    monkeypatch.setattr(client, "_CONNECT_S", 0.05)

    def talk(peer: Peer) -> None:
        server.ending.wait()

    with serving(talk) as server:
        reply = post(f"https://{server.address}")
    assert reply.status is None
    assert reply.problem
    assert reply.problem.startswith("no connection within")


DEADLINE_OF_REQUEST_S = 0.15


@pytest.mark.parametrize(
    ("where", "status"),
    [("silence", None), ("head", None), ("body", 200), ("takes nothing", None)],
)
def test_the_deadline_bounds_the_whole_request(tmp_path: Path, where: str, status: int | None) -> None:
    """A server that always does a little gets no more time than one that does nothing."""
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(24_000_000 if where == "takes nothing" else 10))

    def drip(peer: Peer, server: Server, head: bytes, drop: bytes) -> None:
        peer.send(head)
        while not server.ending.wait(0.005):
            peer.send(drop)

    def talk(peer: Peer) -> None:
        if where == "takes nothing":
            server.ending.wait()
            return
        peer.request()
        if where == "silence":
            server.ending.wait()
        elif where == "head":
            drip(peer, server, b"HTTP/1.1 200 OK\r\nx: ", b"x")
        else:
            drip(peer, server, b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x")

    with serving(talk) as server:
        reply = post(server.base_url, SMALL, payload, timeout_s=DEADLINE_OF_REQUEST_S)
    assert reply.status == status
    assert reply.problem is not None
    assert reply.problem.startswith("no whole answer within")
    assert bool(reply.body) == (where == "body")
    assert reply.sent == (where != "takes nothing")
    assert DEADLINE_OF_REQUEST_S <= reply.latency_s < 5


# --- the key


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_key_is_cut_out_of_bodies_and_headers(encoding: str) -> None:
    """Some routers quote the key in their errors, in whatever form the body comes."""
    said = f'{{"message": "invalid key {KEY}, {KEY}"}}'.encode()
    body = gzip.compress(said) if encoding else said
    headers = {"x_debug": f"key={KEY};"} | ({"content_encoding": encoding} if encoding else {})
    with serving(once(http("401 Unauthorized", body, **headers))) as server:
        reply = post(server.base_url)
    assert reply.body == b'{"message": "invalid key [key], [key]"}'
    assert reply.headers["x-debug"] == "key=[key];"


def test_the_key_is_cut_out_of_problems() -> None:
    """What is no HTTP may be an echo of the request."""
    with serving(once(f"echo {KEY}\r\n\r\n".encode())) as server:
        reply = post(server.base_url)
    assert reply.status is None
    assert reply.problem
    assert KEY not in repr(reply)


def test_the_key_is_cut_out_of_half_a_body() -> None:
    """A response that breaks off is no exception."""
    with serving(once(b"HTTP/1.1 500 Oops\r\ncontent-length: 1000\r\n\r\n" + KEY.encode())) as server:
        reply = post(server.base_url)
    assert (reply.body, bool(reply.problem)) == (b"[key]", True)


@pytest.mark.parametrize("key", ["x", "key", "test", ""])
def test_a_short_key_does_not_destroy_answers(key: str) -> None:
    """A word of a few letters, such as a local router takes for a key, stays in the answers."""
    body = b'{"text": "the key of the next exchange was tested"}'
    with serving(once(http("200 OK", body, x_test="x"))) as server:
        reply = post(server.base_url, secret=key)
    assert reply.body == body
    assert reply.headers["x-test"] == "x"


# --- proxies and TLS


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("form", ["http://{}", "http://user:word@{}", "{}"])
def test_a_proxy_of_the_environment_is_used_for_the_outside(
    monkeypatch: pytest.MonkeyPatch, variable: str, form: str
) -> None:
    """A name that only the proxy can resolve is reached through it, with its own password where it wants one."""
    seen: list[Request] = []
    with serving(answering(OK, seen)) as proxy:
        monkeypatch.setenv(variable.lower(), form.format(proxy.address))
        reply = post("http://outside.invalid")
    assert (reply.status, reply.body) == (200, b"{}")
    assert seen[0].line == f"POST http://outside.invalid{PATH} HTTP/1.1"
    assert seen[0].body == SMALL.head
    credentials = base64.b64encode(b"user:word").decode()
    assert seen[0].all("proxy-authorization") == ([f"Basic {credentials}"] if "@" in form else [])


@pytest.mark.parametrize("exceptions", ["outside.invalid", ".invalid", "a.com,outside.invalid", "*"])
def test_what_no_proxy_names_is_reached_without_it(monkeypatch: pytest.MonkeyPatch, exceptions: str) -> None:
    """Here it does not exist, and so the proxy must not see it."""
    with serving(answering(OK)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        monkeypatch.setenv("no_proxy", exceptions)
        reply = post("http://outside.invalid")
    assert reply.status is None
    assert proxy.accepted == 0


def test_a_proxy_does_not_see_the_key_of_an_encrypted_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for a tunnel, and nothing is said before that stands."""
    heads: list[Request | None] = []

    def refuse(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(http("403 Forbidden", connection="close"))

    with serving(refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base_url)
        reply = post("https://outside.invalid")
    assert heads[0] is not None
    assert heads[0].line == "CONNECT outside.invalid:443 HTTP/1.1"
    assert KEY not in repr(heads)
    assert reply.status is None
    assert reply.problem


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_loopback_is_reached_without_the_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A served endpoint on this machine needs no NO_PROXY."""
    with serving(answering(OK)) as proxy, serving(answering(OK)) as server:
        monkeypatch.setenv(variable, proxy.base_url)
        monkeypatch.setenv(variable.lower(), proxy.base_url)
        for base_url in (server.base_url, server.base_url.replace("127.0.0.1", "localhost")):
            assert post(base_url).status == 200
    assert (proxy.accepted, server.accepted) == (0, 2)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "docpipe test")])
    today = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    """TLS as a server with this certificate speaks it."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return tls


def tunnelling(target: str, spoken_first: bytes = b"") -> Talk:
    """A proxy that leads every tunnel to one address, after some words of its own."""

    def talk(peer: Peer) -> None:
        peer.head()
        # What is said first stands at the end of a block of 64 KB: as much as is read at once of the proxy's answer.
        head = b"HTTP/1.1 200 Connection established\r\n\r\n"
        peer.send(head + (spoken_first and bytes(65536 - len(head)) + spoken_first))
        host, _, port = target.partition(":")
        with socket.create_connection((host, int(port))) as inner:

            def back() -> None:
                with suppress(OSError):
                    while block := inner.recv(65536):
                        peer.send(block)

            returning = threading.Thread(target=back, daemon=True)
            returning.start()
            with suppress(OSError):
                while block := peer.socket.recv(65536):
                    inner.sendall(block)
            inner.shutdown(socket.SHUT_RDWR)
            returning.join()

    return talk


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
def test_a_request_goes_through_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, tmp_path: Path, proxy_scheme: str
) -> None:
    """Encrypted from end to end, over an encrypted way to the proxy too, whole."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(client, "is_loopback", lambda host: False)
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(1_000_000))
    seen: list[Request] = []
    tls = server_side(certificate)
    with (
        serving(answering(OK, seen), tls) as server,
        serving(tunnelling(server.address), tls if proxy_scheme == "https" else None) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"{proxy_scheme}://{proxy.address}")
        reply = post(f"https://{server.address}", Body(b"<", b">"), payload)
    assert (reply.status, reply.problem, proxy.accepted) == (200, None, 1)
    assert seen[0].body == b"<" + base64.b64encode(payload.read_bytes()) + b">"


def test_what_a_proxy_says_before_the_encryption_is_not_taken_for_the_answer(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    """Who sits in between could put words into the endpoint's mouth."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(client, "is_loopback", lambda host: False)
    forged = http("200 OK", b'{"forged": true}')
    tls = server_side(certificate)
    with serving(answering(OK), tls) as server, serving(tunnelling(server.address, forged)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base_url)
        reply = post(f"https://{server.address}")
    assert b"forged" not in reply.body


@pytest.mark.parametrize("trusted", [True, False])
def test_only_a_server_with_a_trusted_certificate_gets_the_request(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, tmp_path: Path, trusted: bool
) -> None:
    """A company's own authority is named by SSL_CERT_FILE; who nobody vouches for gets no byte of it."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(1_000_000))
    seen: list[Request] = []
    with serving(answering(OK, seen), server_side(certificate)) as server:
        reply = post(f"https://{server.address}", Body(b"<", b">"), payload)
    if trusted:
        assert reply.status == 200
        assert seen[0].body == b"<" + base64.b64encode(payload.read_bytes()) + b">"
    else:
        assert (reply.status, seen) == (None, [])
        assert "certificate" in (reply.problem or "").lower()
