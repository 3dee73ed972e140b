"""Files opened and cut as the program does it, through its sandbox, and what came out judged by others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.domain import PageRange, SourceFile
from pipeline.pdf import Copied, Inspection, PdfError, Source
from pipeline.sandbox import Sandbox, SandboxError
from pipeline.text import shortened
from tools.corpus.by_pdfium import Seen
from tools.corpus.findings import Examined, Finding, Kind

_MAXRSS_PER_MB = 1e6 if sys.platform == "darwin" else 1000


async def examine_all(
    folder: Path,
    files: Iterable[SourceFile],
    pages_per_chunk: int,
    pictures: bool,
    done: Callable[[Examined], None],
) -> None:
    """Every file, as many at once as there are processors; ``done`` is told of each when it is through.

    Args:
        folder: what the files' paths are relative to.
        files: as the scanner gives them, without a problem.
        pages_per_chunk: how many pages are cut into one chunk.
        pictures: compare what pages look like, too.
        done: called in the event loop.
    """
    waiting = iter(files)

    async def work(chunk: Path) -> None:
        with Sandbox(1) as reader, Sandbox(1) as judge:
            examiner = Examiner(reader, judge, chunk, pages_per_chunk, pictures)
            with contextlib.suppress(SandboxError):
                await reader.call(0, "os:getpid")  # its start is not the first file's doing
            for file in waiting:
                done(await examiner.examine(folder, file))

    with tempfile.TemporaryDirectory(prefix="docpipe-corpus-") as spool:
        async with asyncio.TaskGroup() as group:
            for number in range(len(os.sched_getaffinity(0))):
                group.create_task(work(Path(spool) / f"{number}.pdf"))


class Examiner:
    """Examines one file after the other.

    Args:
        reader: a sandbox of one process, for what the program does; nothing else runs in it.
        judge: a sandbox for second opinions.
        chunk: where each chunk is written in its turn.
        pages_per_chunk: how many pages are cut into one chunk.
        pictures: compare what pages look like, too.
    """

    def __init__(self, reader: Sandbox, judge: Sandbox, chunk: Path, pages_per_chunk: int, pictures: bool) -> None:
        self._reader = reader
        self._judge = judge
        self._chunk = chunk
        self._pages_per_chunk = pages_per_chunk
        self._pictures = pictures

    async def examine(self, folder: Path, file: SourceFile) -> Examined:
        """Open a file, cut all of it and compare."""
        source = Source(str(folder / file.path), file.size_bytes, file.mtime_ns)
        examined = Examined(file.path, file.size_bytes)
        inspection = await self._inspect(examined, source)
        if inspection is not None:
            examined.pages, examined.problem, examined.note = inspection.pages, inspection.problem, inspection.note
        for pages in chunks(examined.pages or 0, self._pages_per_chunk):
            await self._cut(examined, source, pages)
        if examined.pages:
            await self._look_behind(examined, source)
        with contextlib.suppress(SandboxError, OSError):
            usage = await self._reader.call(0, "resource:getrusage", resource.RUSAGE_SELF)
            examined.peak_mb = usage.ru_maxrss / _MAXRSS_PER_MB
        return examined

    async def _inspect(self, examined: Examined, source: Source) -> Inspection | None:
        """As a run does: once more without pdfium, where that has ended its process."""
        inspection: Inspection | None = await self._read(examined, None, source, "inspect")
        if inspection is None and examined.findings:
            reason = examined.findings.pop().detail
            inspection = await self._read(examined, None, source, "inspect", False)
            if inspection is not None:
                inspection = replace(inspection, note=f"opened without pdfium: {reason}")
        return inspection

    async def _cut(self, examined: Examined, source: Source, pages: PageRange) -> None:
        """Cut a range; its halves where that fails, as the program does, so that the others are delivered."""
        copied: Copied | None = await self._read(examined, pages, source, "cut", pages, self._chunk)
        if copied is not None:
            examined.chunks += 1
            examined.chunk_bytes += copied.size_bytes
            examined.pages_cut += len(pages)
            await self._judge_chunk(examined, source, pages, copied.size_bytes)
        elif len(pages) > 1:
            middle = (pages.first + pages.last) // 2
            await self._cut(examined, source, PageRange(pages.first, middle))
            await self._cut(examined, source, PageRange(middle + 1, pages.last))

    async def _read(
        self, examined: Examined, pages: PageRange | None, source: Source, function: str, *args: object
    ) -> Any:
        """What the splitter gives; None when it gives nothing, and then the reason is noted."""
        begun_s = time.perf_counter()
        try:
            return await self._reader.call(source.size_bytes, f"pipeline.splitter:{function}", source, *args)
        except PdfError as error:
            reason = error.reason
        except SandboxError as error:
            reason = str(error)
            examined.findings.append(Finding(kind_of(reason), reason, pages))
        except Exception as error:  # noqa: BLE001 - what nobody has foreseen is what is looked for
            reason = shortened(f"{type(error).__name__}: {error}", 200)
            examined.findings.append(Finding(Kind.CRASHED, reason, pages))
        finally:
            examined.reading_s += time.perf_counter() - begun_s
        if pages is None:
            examined.problem = reason
        elif len(pages) == 1:
            examined.uncut.append((pages.first, reason))
        return None

    # What was cut, seen by others

    async def _judge_chunk(self, examined: Examined, source: Source, pages: PageRange, size_bytes: int) -> None:
        def found(kind: Kind, detail: str, where: PageRange = pages) -> None:
            examined.findings.append(Finding(kind, detail, where))

        if self._chunk.stat().st_size != size_bytes:
            found(Kind.NOT_REOPENED, "its size is not the one that was told")
        try:
            count = await self._judge.call(size_bytes, "tools.corpus.by_pypdf:pages_of", self._chunk)
            if count < len(pages):
                found(Kind.LOST, f"{count} pages in a chunk of {len(pages)}", PageRange(1, len(pages) - count))
            elif count > len(pages):
                found(Kind.NOT_REOPENED, f"{count} pages in a chunk of {len(pages)}")
            chunk = await self._seen(self._chunk, size_bytes, PageRange(1, len(pages)))
        except (ValueError, SandboxError) as error:
            found(Kind.NOT_REOPENED, shortened(str(error), 200))
            return
        try:
            before = await self._seen(Path(source.path), source.size_bytes, pages)
        except (ValueError, SandboxError) as error:
            examined.uncompared[shortened(f"pdfium: {error}", 80)] += len(pages)
            return
        for number, (old, new) in enumerate(zip(before, chunk, strict=True), pages.first):
            _compare(examined, number, old, new)

    async def _seen(self, path: Path, size_bytes: int, pages: PageRange) -> tuple[Seen | None, ...]:
        seen: tuple[Seen | None, ...] = await self._judge.call(
            size_bytes, "tools.corpus.by_pdfium:pages_seen", path, pages, self._pictures
        )
        return seen

    async def _look_behind(self, examined: Examined, source: Source) -> None:
        pages = examined.pages or 0
        behind = "tools.corpus.by_pdfium:pages_behind"
        with contextlib.suppress(ValueError, SandboxError):  # then it has no opinion
            more = await self._judge.call(source.size_bytes, behind, Path(source.path), pages)
            if more:
                detail = f"pdfium finds {more} pages behind the last of {pages}"
                examined.findings.append(Finding(Kind.LOST, detail, PageRange(pages + 1, pages + more)))


def chunks(pages: int, pages_per_chunk: int) -> Iterator[PageRange]:
    """The ranges that a document is cut into."""
    for first in range(1, pages + 1, pages_per_chunk):
        yield PageRange(first, min(pages, first + pages_per_chunk - 1))


def _compare(examined: Examined, number: int, old: Seen | None, new: Seen | None) -> None:
    """One page of the source and of the chunk."""
    if old is None:
        examined.uncompared["pdfium does not load the page of the source"] += 1
        return
    kinds = list(differences(old, new))
    if kinds and examined.note:  # a broken index leaves a choice, and the report says that we made one
        examined.uncompared["pdfium repairs the source in another way"] += 1
        return
    examined.compared += 1
    page = PageRange(number, number)
    examined.findings += [Finding(kind, "pdfium sees another page", page) for kind in kinds]


def differences(before: Seen, after: Seen | None) -> Iterator[Kind]:
    """What is not the same about a page that was cut."""
    if after is None:
        yield Kind.NOT_REOPENED
        return
    if before.text != after.text:
        yield Kind.TEXT_DIFFERS
    if before.picture != after.picture and before.picture is not None:
        yield Kind.PICTURE_DIFFERS


def kind_of(reason: str) -> Kind:
    """Which of its limits the sandbox speaks of."""
    words: dict[str, Kind] = {"took more than": Kind.HUNG, "of memory": Kind.OUT_OF_MEMORY}
    return next((kind for part, kind in words.items() if part in reason), Kind.CRASHED)
