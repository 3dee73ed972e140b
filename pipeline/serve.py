"""The offline endpoint on a loopback port, with chosen faults, for tests and trials.

h11 on bare asyncio streams, because faults need the socket itself: a reset before the first byte, an end
in the middle of a body, a refusal while the client is still sending.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any

import h11

from pipeline import offline, offline_batches
from pipeline.faults import Fault, FaultKind, FaultPlan, faulty_reply
from pipeline.message_batches import BATCHES_PATH, MOST_BYTES
from pipeline.offline import Message, Reply

_READ_BYTES = 256 * 1024
_HEAD_BYTES = 64 * 1024
_DISCARDED_BYTES = 256 * 1024 * 1024  # of a refused body, so that the refusal arrives
_BACKLOG = 1024
_SECRET_HEADERS = frozenset({"authorization", "x-api-key"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One POST to /v1/messages, or one request of a batch, in the order in which they were complete.

    ``sha256`` is that of the body, "" when it was refused unread. ``status`` is None as long as nothing
    was answered, and when the connection was dropped. ``answered``: a whole message was sent, and would
    have been paid for. ``at_s`` is monotonic. ``in_flight`` counts the requests that were under way
    when this one began, itself included. ``headers`` have lower-case names and no key; ``body`` is the
    parsed JSON where bodies are kept.
    """

    ordinal: int
    sha256: str
    at_s: float
    in_flight: int
    headers: Mapping[str, str]
    body: Any = None
    fault: FaultKind | None = None
    status: int | None = None
    answered: bool = False


class Endpoint:
    """A Messages endpoint for one event loop. ``seen`` and ``batches.created`` may be read from any thread.

    Args:
        faults: Which request gets which fault.
        latency_s: The least time before an answer.
        read_pdf: False answers without opening the document.
        structured_output: False refuses ``output_config.format`` as an old router does.
        requests_per_minute: More than so many get a 429; 0 is no limit. At once a sixtieth of it is let in.
        limit_headers: Whether each response tells that limit, as the API does and many routers do not.
        keep_bodies: Whether ``seen`` keeps the parsed bodies.
    """

    def __init__(
        self,
        faults: FaultPlan | None = None,
        latency_s: float = 0.0,
        read_pdf: bool = True,
        structured_output: bool = True,
        requests_per_minute: int = 0,
        limit_headers: bool = False,
        keep_bodies: bool = False,
    ) -> None:
        self.seen: list[Seen] = []
        self._faults = faults or FaultPlan()
        self._rule_uses = [0] * len(self._faults.rules)
        self._latency_s = latency_s
        self._read_pdf = read_pdf
        self._structured_output = structured_output
        self._limit = _Limit(requests_per_minute) if requests_per_minute else None
        self._limit_headers = limit_headers
        self._keep_bodies = keep_bodies
        self._in_flight: set[object] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.batches = offline_batches.Batches(self._batched)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; port 0 takes a free one. Returns the base URL without /v1.

        Raises:
            OSError: the port is taken, or is not ours to take.
        """
        self._server = await asyncio.start_server(self._converse, host, port, limit=_READ_BYTES, backlog=_BACKLOG)
        address = self._server.sockets[0].getsockname()
        return f"http://[{address[0]}]:{address[1]}" if ":" in address[0] else f"http://{address[0]}:{address[1]}"

    async def close(self) -> None:
        """Stop listening and end every connection, also those in the middle of an answer."""
        if self._server is not None:
            self._server.close()
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)
            await self.batches.close()
            await self._server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its end."""
        conversation = asyncio.current_task()
        assert conversation is not None  # noqa: S101 - asyncio runs this as a task
        self._conversations.add(conversation)
        wire = _Wire(reader, writer)
        try:
            while (head := await wire.next_head()) is not None and await self._exchange(wire, head):
                pass
        except h11.RemoteProtocolError as error:
            await wire.refuse(str(error))
        except asyncio.CancelledError:
            wire.abort()  # we are closing; a client that does not read must not hold that up
        except (ConnectionError, h11.LocalProtocolError):
            pass  # the client has left, or asked for what cannot be said in HTTP
        finally:
            self._conversations.discard(conversation)
            await wire.close()

    async def _exchange(self, wire: _Wire, head: h11.Request) -> bool:
        """One request and its response; whether the connection goes on."""
        path = head.target.decode("ascii").partition("?")[0]
        if path.startswith(BATCHES_PATH):
            return await self._about_batches(wire, head)
        if (head.method, path) != (b"POST", "/v1/messages"):
            request = _Request(head, await wire.body(head, offline.MAX_BODY_BYTES))
            return await wire.send(self._safely(request, "req_offline", None), lambda: None)
        ticket = object()
        self._in_flight.add(ticket)
        try:
            return await self._message(wire, head, ticket)
        finally:
            self._in_flight.discard(ticket)

    async def _about_batches(self, wire: _Wire, head: h11.Request) -> bool:
        """One request about batches. What it changes is changed before ``latency_s`` has passed."""
        request = _Request(head, await wire.body(head, MOST_BYTES))
        request_id = "req_offline"
        reply = offline.refusal_of(request.headers, request_id)
        if request.body is None:
            reply = offline.too_large_reply(request_id)
        if reply is None:
            host = f"http://{request.headers['host']}"
            status, headers, body = await self.batches.respond(request.method, request.path, request.body or b"", host)
            reply = Reply(status, {**headers, "request-id": request_id}, body)
        await asyncio.sleep(self._latency_s)
        return await wire.send(reply, lambda: None)

    async def _batched(self, body: bytes) -> Mapping[str, Any]:
        """The result of one request of a batch, which is seen like any other."""
        request, number = _Request(_BATCHED, body), len(self.seen)
        kept = request.parsed() if self._keep_bodies else None
        self.seen.append(Seen(number + 1, request.sha256, time.monotonic(), 0, {}, kept))
        fault, reply = await self._reply(request, number + 1, f"req_offline_{number + 1:06d}")
        kind = fault.kind if fault else None
        is_whole = reply.status == 200 and kind not in (*_UNANSWERED, FaultKind.DROP, FaultKind.EXPIRED)
        self.seen[number] = replace(self.seen[number], fault=kind, status=reply.status, answered=is_whole)
        if kind is FaultKind.EXPIRED:
            return {"type": "expired"}
        return offline_batches.succeeded(json.loads(reply.body)) if is_whole else offline_batches.errored(reply.body)

    async def _message(self, wire: _Wire, head: h11.Request, ticket: object) -> bool:
        in_flight, at_s = len(self._in_flight), time.monotonic()
        request = _Request(head, await wire.body(head, offline.MAX_BODY_BYTES))
        number = len(self.seen)
        request_id = f"req_offline_{number + 1:06d}"
        kept = request.parsed() if self._keep_bodies else None
        self.seen.append(Seen(number + 1, request.sha256, at_s, in_flight, request.public_headers(), kept))
        fault, reply = await self._reply(request, number + 1, request_id)
        if self._limit and self._limit_headers:
            reply = replace(reply, headers={**reply.headers, **self._limit.headers(datetime.now(UTC))})
        self.seen[number] = replace(self.seen[number], fault=fault.kind if fault else None)
        if fault and fault.kind is FaultKind.DROP:
            self._in_flight.discard(ticket)
            wire.reset()
            return False
        is_whole = reply.status == 200 and (fault is None or fault.kind not in _UNANSWERED)

        def done() -> None:
            """Before the last byte leaves: who has read the answer must find it noted."""
            self._in_flight.discard(ticket)
            self.seen[number] = replace(self.seen[number], status=reply.status, answered=is_whole)

        if fault and fault.kind is FaultKind.CUT_STREAM:
            await wire.send_half(reply, done)
            return False
        try:
            return await wire.send(reply, done)
        except ConnectionError:
            self.seen[number] = replace(self.seen[number], answered=False)
            raise

    async def _reply(self, request: _Request, ordinal: int, request_id: str) -> tuple[Fault | None, Reply]:
        if request.body is None:
            return None, offline.too_large_reply(request_id)
        if self._limit and (wait_s := self._limit.wait_s(time.monotonic())):
            reply = offline.error_reply(429, "rate_limit_error", "Number of requests per minute exceeded", request_id)
            return None, replace(reply, headers={**reply.headers, "retry-after": str(math.ceil(wait_s))})
        text = await asyncio.to_thread(offline.attached_text, request.body) if self._faults.reads_text else ""
        fault = self._faults.pick(ordinal, text, self._rule_uses)
        await asyncio.sleep(self._latency_s + (fault.seconds if fault and fault.kind is FaultKind.SLOW else 0.0))
        if self._read_pdf:
            return fault, await asyncio.to_thread(self._safely, request, request_id, fault)
        return fault, self._safely(request, request_id, fault)

    def _safely(self, request: _Request, request_id: str, fault: Fault | None) -> Reply:
        """The response; a bug in making it is a 500, not the end of the server."""

        def respond(change: Callable[[Message], None] | None) -> Reply:
            return offline.respond(
                request.method,
                request.path,
                request.headers,
                request.body or b"",
                self._read_pdf,
                structured_output=self._structured_output,
                request_id=request_id,
                change=change,
            )

        try:
            if request.body is None:
                return offline.too_large_reply(request_id)
            return respond(None) if fault is None else faulty_reply(fault, respond, request_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return offline.error_reply(500, "api_error", f"Internal server error: {error!r}", request_id)


_BATCHED = h11.Request(
    method="POST",
    target="/v1/messages",
    headers=[("host", "batch"), ("x-api-key", "batch"), ("anthropic-version", "2023-06-01")],
)
_UNANSWERED = frozenset({FaultKind.CUT_STREAM, FaultKind.CLEAN_CUT, FaultKind.STREAM_ERROR, FaultKind.HTML_200})


class _Limit:
    """A token bucket, as the API's rate limits are: tokens come evenly, and those of a second are kept.

    Source: https://platform.claude.com/docs/en/api/rate-limits, which says that 60 requests a minute may be
    enforced as one a second.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._burst = math.ceil(per_minute / 60)
        self._tokens, self._at_s = float(self._burst), -math.inf

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is a token; 0 takes one. ``now_s`` is monotonic."""
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_minute / 60)
        self._at_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) * 60 / self._per_minute
        self._tokens -= 1
        return 0.0

    def headers(self, now: datetime) -> dict[str, str]:
        """What the API tells of its limit; the reset is when the bucket is full again, to the second."""
        full = now + timedelta(seconds=(self._burst - self._tokens) * 60 / self._per_minute)
        values = {"limit": self._per_minute, "remaining": int(self._tokens), "reset": f"{full:%Y-%m-%dT%H:%M:%SZ}"}
        return {f"anthropic-ratelimit-requests-{name}": str(value) for name, value in values.items()}


class _Request:
    """A request as received; ``body`` is None when it was too large to be taken in."""

    def __init__(self, head: h11.Request, body: bytes | None) -> None:
        self.method = head.method.decode("ascii")
        self.path = head.target.decode("ascii")
        self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        self.body = body

    @property
    def sha256(self) -> str:
        return "" if self.body is None else hashlib.sha256(self.body).hexdigest()

    def public_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name not in _SECRET_HEADERS}

    def parsed(self) -> Any:
        try:
            return json.loads(self.body or b"null")
        except (ValueError, RecursionError):
            return None


class _Wire:
    """One HTTP/1.1 connection: h11 for the bytes' meaning, asyncio for the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def next_head(self) -> h11.Request | None:
        """The next request line and headers; None when the client has closed."""
        event = await self._next_event()
        return event if isinstance(event, h11.Request) else None

    async def body(self, head: h11.Request, limit_bytes: int) -> bytes | None:
        """The request's body; None as soon as it is known to be over the limit."""
        if int(dict(head.headers).get(b"content-length", b"0")) > limit_bytes:
            return None
        parts: list[bytes] = []
        size_bytes = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size_bytes += len(event.data)
            if size_bytes > limit_bytes:
                return None
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def send(self, reply: Reply, done: Callable[[], None]) -> bool:
        """Send ``reply``, calling ``done`` before its last bytes; whether the connection goes on.

        When the request is not yet whole, the rest of it is read and dropped first: a socket closed over
        unread bytes takes the response away from the client.
        """
        is_early = self._http.their_state is h11.SEND_BODY
        head = self._head(reply, ends_connection=is_early)
        done()
        self._writer.write(head + self._encoded(h11.Data(data=reply.body)) + self._encoded(h11.EndOfMessage()))
        await self._writer.drain()
        if is_early:
            await self._discard_request()
            return False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def send_half(self, reply: Reply, done: Callable[[], None]) -> None:
        """Begin the response and end the connection in the middle of the body."""
        head = self._head(reply, ends_connection=False)
        done()
        self._writer.write(head + self._encoded(h11.Data(data=reply.body[: len(reply.body) // 2])))
        await self._writer.drain()

    def _head(self, reply: Reply, ends_connection: bool) -> bytes:
        headers = [("date", formatdate(usegmt=True)), *reply.headers.items()]
        if "event-stream" not in reply.headers["content-type"]:  # a stream's length is not known in advance
            headers.append(("content-length", str(len(reply.body))))
        if ends_connection:
            headers.append(("connection", "close"))
        return self._encoded(h11.Response(status_code=reply.status, headers=headers))

    def _encoded(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    async def _discard_request(self) -> None:
        left_bytes = _DISCARDED_BYTES
        while left_bytes > 0 and isinstance(event := await self._next_event(), h11.Data):
            left_bytes -= len(event.data)

    async def refuse(self, reason: str) -> None:
        """Answer bytes that are not HTTP, if an answer can still be sent."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            reply = offline.error_reply(400, "invalid_request_error", f"malformed HTTP: {reason}", "req_offline")
            with suppress(ConnectionError, h11.LocalProtocolError):
                head = self._head(reply, ends_connection=True)
                self._writer.write(head + self._encoded(h11.Data(data=reply.body)))
                await self._writer.drain()

    def reset(self) -> None:
        """End the connection with a reset: the client gets no byte, not even a close."""
        linger_not = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
        self.abort()

    def abort(self) -> None:
        """End the connection without sending what is still buffered."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await self._writer.wait_closed()


@contextmanager
def running(endpoint: Endpoint, port: int = 0) -> Iterator[str]:
    """Serve ``endpoint`` from a thread of its own for as long as the block lasts; gives the base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="offline endpoint", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(endpoint.start(port=port), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(endpoint.close(), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def serve_forever(endpoint: Endpoint, tell: Callable[[str], None], host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve ``endpoint`` until SIGINT or SIGTERM; ``tell`` gets a line at the start and one at the end.

    To be called from the main thread, which alone gets signals.

    Raises:
        OSError: the port cannot be listened on.
    """

    async def serve() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        tell(f"listening on {await endpoint.start(host, port)}")
        await stopping.wait()
        await endpoint.close()
        tell(f"stopped after {len(endpoint.seen)} requests")

    asyncio.run(serve())
