"""One host's part of a run: documents read, chunks cut, attempts made. Knows no ledger and repeats nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import endpoints, failures, messages
from pipeline.domain import Outcome, Synthesis
from pipeline.engine import Hash, HostSettings, Join, Prepare, Read, Send, Work
from pipeline.errors import SettingsError
from pipeline.reading import LocalReader
from pipeline.results import Results

if TYPE_CHECKING:
    from pipeline.chunk_worker import ChunkWorker
    from pipeline.client import Client


class HostRunner:
    """Does the work of one job on one host.

    ``spool`` is the folder for cut chunks, made when the first is and removed at the end; nobody else uses it.
    With ``results`` an outcome is kept there before it is given away, until the driver says that it is on record.
    """

    def __init__(
        self, settings: HostSettings, key: str | None, reader: LocalReader, spool: Path, results: Results | None = None
    ) -> None:
        self._settings = settings
        self._key = key
        self.spool = spool
        self._results = results
        self._reader = reader
        self._free = asyncio.Semaphore(settings.slots)
        self._sent: dict[str, asyncio.Task[Outcome]] = {}
        self._client: Client | None = None
        self._worker: ChunkWorker | None = None

    async def do(self, work: Work) -> Any:
        """Do what is asked for; see each kind of work. Given up by its caller, an attempt goes on.

        Raises:
            SettingsError: there is no way to the endpoint, or the folder for cut chunks cannot be made.
            Exception: what reading a document raised.
        """
        match work:
            case Read():
                return await self._reader.read(work.source, work.function, *work.args)
            case Hash():
                return await self._reader.hash(work.source)
            case Prepare():
                return await self.worker().prepare(work.chunk, work.original, work.reduced)
            case Send():
                return await self._send(work)
            case Join():
                return await self._join(work.attempt)

    def worker(self) -> ChunkWorker:
        """What cuts and sends, made when it is first needed.

        Raises:
            SettingsError: see ``do``.
        """
        from pipeline.chunk_worker import ChunkWorker  # loads what speaks HTTP, and many a run only reads

        if self._worker is None:
            _make(self.spool)
            given = self._settings
            around = messages.largest_body(given.endpoint, given.prompt, fields=given.fields)
            self._worker = ChunkWorker(
                self.client(), self._reader, self.spool, given.endpoint, given.prompt, given.max_request_bytes,
                around, given.fields,
            )  # fmt: skip
        return self._worker

    def client(self) -> Client:
        """The way to the endpoint.

        Raises:
            SettingsError: there is none.
        """
        if self._client is None:
            given = self._settings
            self._client = endpoints.connect(given.endpoint, self._key, given.slots, self._reader.sandbox)
        return self._client

    def held(self) -> Sequence[str]:
        """The attempts that are made or whose outcomes are kept here."""
        return [*self._sent, *(self._results.keys() if self._results else ())]

    @property
    def is_busy(self) -> bool:
        """Whether an attempt is being made."""
        return bool(self._sent)

    async def close(self) -> None:
        """Give up what is in flight, close the connections and remove the spool."""
        for task in self._sent.values():
            task.cancel()
        await asyncio.gather(*self._sent.values(), return_exceptions=True)
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
        if self._worker is not None:
            shutil.rmtree(self.spool, ignore_errors=True)
        self._client = self._worker = None

    async def _send(self, work: Send) -> Outcome:
        if self._results is None:
            return await self._attempt(work)
        self._results.drop(work.recorded)
        if (kept := self._results.get(work.attempt)) is not None:
            return kept
        if work.payload.spooled_bytes and work.payload.path and not work.payload.path.exists():
            return failures.of_lost("its host was started anew before it was sent", sent=False, hold=False)
        if work.attempt not in self._sent:
            self._sent[work.attempt] = asyncio.create_task(self._kept(work, self._results))
        return await asyncio.shield(self._sent[work.attempt])

    async def _kept(self, work: Send, results: Results) -> Outcome:
        try:
            outcome = await self._attempt(work)
            with suppress(OSError):  # a full disk here must not take from the driver what is paid for
                await asyncio.to_thread(results.put, work.attempt, outcome)
            return outcome
        finally:
            del self._sent[work.attempt]

    async def _join(self, attempt: str) -> Outcome | None:
        if attempt in self._sent:
            return await asyncio.shield(self._sent[attempt])
        return self._results.get(attempt) if self._results else None

    async def _attempt(self, work: Send) -> Outcome:
        async with self._free:
            worker = self.worker()
            if isinstance(work.task, Synthesis):
                return await worker.send_synthesis(work.task, work.by_schema, work.max_tokens)
            assert work.original is not None  # noqa: S101 - a chunk has one
            return await worker.send_chunk(work.task, work.original, work.payload, work.by_schema, work.max_tokens)


def _make(spool: Path) -> None:
    shutil.rmtree(spool, ignore_errors=True)  # what a killed run left
    try:
        spool.mkdir(mode=0o700, parents=True)  # parts of documents
    except OSError as error:
        raise SettingsError(f"the folder for cut chunks cannot be made: {error}; remove what stands there") from None
