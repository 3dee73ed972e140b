"""The quotes of answers looked for in their documents, several at once, in the background of a run.

Nothing here is paid for: what a kill or ^C keeps from being looked for, the next run looks for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from pipeline import aggregator, pdf
from pipeline.domain import Chunk, ChunkProof
from pipeline.ledger import Ledger
from pipeline.pdf import Source
from pipeline.reading import Reader
from pipeline.sandbox import SandboxError
from pipeline.workers import Pool, Wake

_PROVE = "pipeline.prover:prove"
_REST_S = 0.5  # the next request takes the place of one that was answered: it comes first on a busy processor
_WRITTEN_AT_ONCE = 64  # the disk is waited for once; what a kill takes is looked for again


class Proving:
    """A context manager; left, it gives up what it is at.

    ``place`` tells where a content lies as it was when it was hashed; None where it does not any more.
    """

    def __init__(self, ledger: Ledger, reader: Reader, place: Callable[[str], Source | None]) -> None:
        self._ledger = ledger
        self._reader = reader
        self._place = place
        self._waiting: deque[tuple[float, Chunk]] = deque()  # with the time of its turn
        self._found: list[tuple[Chunk, ChunkProof | None]] = []
        self._wake = Wake()
        self._pool: Pool[Chunk, ChunkProof | None] = Pool(self._prove, reader.processes, self._wake)
        self._given: set[str] = set()
        self._no_more = False
        self.interrupted = False
        self._work: asyncio.Task[None] | None = None

    def add(self, chunk: Chunk, is_busy: bool = False) -> None:
        """Look for the quotes of a chunk whose answer is on record; a little later while the run ``is_busy``."""
        if chunk.id not in self._given:
            self._given.add(chunk.id)
            self._waiting.append((time.monotonic() + _REST_S * is_busy, chunk))
            self._wake.set()

    async def finish(self, chunks: Iterable[Chunk]) -> None:
        """Add these, and return when all are looked for.

        Raises:
            Exception: a bug in a worker.
        """
        for chunk in chunks:
            self.add(chunk)
        self._no_more = True
        self._wake.set()
        if self._work is not None:
            await self._work

    def interrupt(self) -> None:
        """Begin nothing more."""
        self.interrupted = self._no_more = True
        self._waiting.clear()
        self._wake.set()

    async def __aenter__(self) -> Self:
        self._work = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._pool.abort()
        if self._found:
            self._write()

    async def _look(self) -> None:
        while self._waiting or self._pool.busy or not self._no_more:
            for done in self._pool.collect():
                if done.bug is not None:
                    raise done.bug
                self._found.append((done.item, done.result))
            if len(self._found) >= _WRITTEN_AT_ONCE:
                self._write()
            while self._pool.free and self._wait_s() == 0:
                self._pool.start(self._waiting.popleft()[1])
            if self._waiting or self._pool.busy or not self._no_more:
                await self._wake.wait(self._wait_s() if self._pool.free else None)
        self._write()

    def _wait_s(self) -> float | None:
        """How long until the next chunk's turn; None when none waits."""
        if not self._waiting:
            return None
        return 0.0 if self._no_more else max(0.0, self._waiting[0][0] - time.monotonic())

    def _write(self) -> None:
        with self._ledger.transaction():
            for chunk, proof in self._found:
                if proof is not None:
                    self._ledger.record_proof(chunk.id, proof, pdf.PROVER)
        self._found.clear()

    async def _prove(self, chunk: Chunk) -> ChunkProof | None:
        """None for what another run may look at: the file is not the one that was read, or cannot be opened now."""
        source = self._place(chunk.content)
        result = self._ledger.full_record(chunk.id).result
        if source is None or result is None:
            return None
        claims = aggregator.claims(result, chunk.pages)
        try:
            proof: ChunkProof = await self._reader.read(source, _PROVE, chunk.pages, claims)
        except SandboxError:  # the file makes whoever looks into it crash or hang, unless it was written to meanwhile
            return None if pdf.is_changed(source) else ChunkProof.not_checkable(claims)
        except (pdf.PdfError, pdf.SourceChangedError, OSError):
            return None
        return proof
