"""The quotes of answers looked for in their documents, several at once, in the background of a run.

Nothing here is paid for: what a kill or ^C keeps from being looked for, the next run looks for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from pipeline import aggregator, pdf
from pipeline.domain import Chunk, ChunkProof
from pipeline.ledger import Ledger
from pipeline.pdf import Source
from pipeline.reading import Reader
from pipeline.sandbox import SandboxError
from pipeline.workers import Pool, Wake

_PROVE = "pipeline.prover:prove_each"
_REST_S = 0.5  # the next request takes the place of one that was answered: it comes first on a busy processor
_IN_ONE_CALL = 8  # on another host the way there takes longer than the looking
_MOST_WAITING = 1_000  # memory must not grow with the folder
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
        self._found: list[tuple[Chunk, ChunkProof]] = []
        self._wake = Wake()
        self._pool: Pool[tuple[Chunk, ...], Mapping[Chunk, ChunkProof]] = Pool(
            self._prove, reader.processes, self._wake
        )
        self._given: set[str] = set()
        self._no_more = False
        self.interrupted = False
        self._work: asyncio.Task[None] | None = None

    def add(self, chunk: Chunk, is_busy: bool = False) -> None:
        """Look for the quotes of a chunk whose answer is on record; a little later while the run ``is_busy``.

        Where too many wait it is left to the end, when the ledger names what nobody has looked at.
        """
        if chunk.id not in self._given and (len(self._waiting) < _MOST_WAITING or not is_busy):
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
        contents = {content: n for n, content in enumerate(dict.fromkeys(c.content for _, c in self._waiting))}
        self._waiting = deque(sorted(self._waiting, key=lambda waiting: contents[waiting[1].content]))
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
                self._found += (done.result or {}).items()
            if len(self._found) >= _WRITTEN_AT_ONCE:
                self._write()
            while self._pool.free and self._wait_s() == 0:
                self._pool.start(self._next())
            if self._waiting or self._pool.busy or not self._no_more:
                await self._wake.wait(self._wait_s() if self._pool.free else None)
        self._write()

    def _next(self) -> tuple[Chunk, ...]:
        """The chunk whose turn it is; when no request waits for a worker any more, with others of its document."""
        chunks = [self._waiting.popleft()[1]]
        while self._no_more and self._waiting and len(chunks) < _IN_ONE_CALL:
            if self._waiting[0][1].content != chunks[0].content:
                break
            chunks.append(self._waiting.popleft()[1])
        return tuple(chunks)

    def _wait_s(self) -> float | None:
        """How long until the next chunk's turn; None when none waits."""
        if not self._waiting:
            return None
        return 0.0 if self._no_more else max(0.0, self._waiting[0][0] - time.monotonic())

    def _write(self) -> None:
        with self._ledger.transaction():
            for chunk, proof in self._found:
                self._ledger.record_proof(chunk.id, proof, pdf.PROVER)
                self._given.discard(chunk.id)  # from now on the ledger knows
        self._found.clear()

    async def _prove(self, chunks: tuple[Chunk, ...]) -> Mapping[Chunk, ChunkProof]:
        """Chunks of one content. Those that another run may look at are left out.

        Of such a one the file is not the one that was read, or cannot be opened now.
        """
        source = self._place(chunks[0].content)
        results = ((chunk, self._ledger.full_record(chunk.id).result) for chunk in chunks)
        claims = {chunk: aggregator.claims(result, chunk.pages) for chunk, result in results if result is not None}
        if source is None or not claims:
            return {}
        try:
            asked = tuple((chunk.pages, of_chunk) for chunk, of_chunk in claims.items())
            return dict(zip(claims, await self._reader.read(source, _PROVE, asked), strict=True))
        except SandboxError:
            if len(claims) > 1:  # one of them may be to blame
                return {chunk: proof for one in claims for chunk, proof in (await self._prove((one,))).items()}
            if pdf.is_changed(source):
                return {}
            # The file makes whoever looks into it crash or hang.
            return {chunk: ChunkProof.not_checkable(of_chunk) for chunk, of_chunk in claims.items()}
        except (pdf.PdfError, pdf.SourceChangedError, OSError):
            return {}
