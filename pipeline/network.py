"""The bytes below HTTP: one TCP connection, with TLS or without; the only module that knows httpcore.

httpcore's own backend reads nothing while it writes: when a server refuses a body early and resets the connection,
the failed write loses the refusal. Here whatever comes is taken in at once, and sending ends with the refusal, as
RFC 9112, section 9.5, asks.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

import httpcore

_HELD_BYTES = 256 * 1024  # received ahead of being read; more waits in the kernel
_BLOCK_BYTES = 64 * 1024
_NEXT_ADDRESS_S = 0.25  # RFC 8305: before a name's next address is tried beside the first
_REFUSAL = re.compile(rb"HTTP/1\.[01] [45]")


class Backend(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore on the running event loop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of ``host`` that answers.

        Raises:
            httpcore.ConnectError, httpcore.ConnectTimeout: there is none.
        """
        try:
            async with asyncio.timeout(timeout):
                _, stream = await asyncio.get_running_loop().create_connection(
                    _Stream,
                    host,
                    port,
                    local_addr=(local_address, 0) if local_address else None,
                    happy_eyeballs_delay=_NEXT_ADDRESS_S,
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        for option in socket_options or ():
            stream.socket.setsockopt(*option)
        return stream


class _Stream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection: what asyncio tells it on one side, what httpcore asks of it on the other."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._readable = asyncio.Event()  # something is received, or nothing more will be
        self._writable = asyncio.Event()  # there is room, or no use in sending
        self._writable.set()
        self._ended = False
        self._error: Exception | None = None

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP has no other
        self._tcp = self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._readable.set()
        if self._is_refused():
            self._writable.set()
        if len(self._received) > _HELD_BYTES:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        if error and self._transport is self._tcp:
            for block in _left_in(self.socket):
                self._received += block
        self._end(error)
        self._writable.set()

    def _end(self, error: Exception | None) -> None:
        self._ended, self._error = True, self._error or error
        self._readable.set()

    def _is_refused(self) -> bool:
        return _REFUSAL.match(self._received) is not None

    # --- what httpcore asks

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                await self._readable.wait()
        except TimeoutError:
            raise httpcore.ReadTimeout from None
        data = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if not self._ended:
            self._transport.resume_reading()
            if not self._received:
                self._readable.clear()
        elif not data and self._error:
            raise httpcore.ReadError(str(self._error))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._check_sending()
        self._transport.write(buffer)
        if len(buffer) < _BLOCK_BYTES and self._writable.is_set():
            return
        try:
            async with asyncio.timeout(timeout):
                await self._writable.wait()
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        await asyncio.sleep(0)  # so that what has come is seen before the next block, and others have their turn
        self._check_sending()

    def _check_sending(self) -> None:
        if self._is_refused():
            raise httpcore.WriteError("the server has answered already")
        if self._tcp.is_closing():  # asyncio would write into nothing, and say so in its log
            raise httpcore.WriteError("the connection broke")

    async def aclose(self) -> None:
        self._transport.abort()
        await asyncio.sleep(0)  # for connection_lost

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if self._received:
            raise httpcore.ConnectError("the server spoke before it was encrypted")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        except TimeoutError:
            raise httpcore.ConnectTimeout("no encryption") from None
        except OSError as error:  # ssl.SSLError is one
            raise httpcore.ConnectError(str(error)) from None
        if transport is None:  # lost in the moment of success
            raise httpcore.ConnectError("the connection broke")
        if self._transport is self._tcp:
            self._tcp.set_protocol(_Salvage(self._tcp))
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # an idle connection that brings anything, an end too, is of no more use
            return self._readable.is_set()
        return self._transport.get_extra_info(info)

    @property
    def socket(self) -> Any:
        return self._transport.get_extra_info("socket")


class _Salvage(asyncio.BufferedProtocol):
    """Stands between a socket and TLS, so that TLS gets what is left in the socket when a write fails."""

    def __init__(self, tcp: asyncio.Transport) -> None:
        self._socket = tcp.get_extra_info("socket")
        self._tls = cast("asyncio.BufferedProtocol", tcp.get_protocol())

    def get_buffer(self, sizehint: int) -> Any:
        return self._tls.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._tls.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        return self._tls.eof_received()

    def pause_writing(self) -> None:
        self._tls.pause_writing()

    def resume_writing(self) -> None:
        self._tls.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if error:
            for block in _left_in(self._socket):
                memoryview(self._tls.get_buffer(len(block)))[: len(block)] = block
                self._tls.buffer_updated(len(block))
        self._tls.connection_lost(error)


def _left_in(socket: Any) -> Iterator[bytes]:
    """What the kernel has received and still holds after a write has failed.

    Linux keeps it through a reset; where a system does not, there is none.
    """
    with suppress(OSError):
        while block := os.read(socket.fileno(), _BLOCK_BYTES):
            yield block
