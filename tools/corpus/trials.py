"""One broken file, opened and cut in all ways; whatever must not come of it. Runs in a worker."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline import splitter
from pipeline.domain import PageRange
from pipeline.pdf import PdfError, Source
from pipeline.text import shortened
from tools.corpus import by_pdfium, by_pypdf

_LONGEST_S = 5.0
_MOST_PAGES = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """How a file fared. ``pages`` is None when it was refused; ``uncut`` counts pages that were."""

    pages: int | None
    uncut: int
    complaints: tuple[str, ...]
    longest_s: float


def tried(data: bytes, folder: Path) -> Trial:
    """Open a file and cut it whole, page by page, and again from a copy: all without a complaint, if all is well.

    Args:
        data: the file.
        folder: where it and its chunks may be written; nothing stays.
    """
    # A folder of its own: at the same path, in the same moment, with the same size, a file would pass for the last one.
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return _tried(data, _Attempt(Path(place)))


def _tried(data: bytes, attempt: _Attempt) -> Trial:
    one, copy = attempt.written("one.pdf", data), attempt.written("copy.pdf", data)
    pages = attempt.inspected(one)
    if pages is not None and attempt.inspected(copy) != pages:
        attempt.complaints.append("another number of pages the second time")
    uncut = 0
    if pages:
        ranges = [PageRange(1, pages), *(PageRange(n, n) for n in range(1, min(pages, _MOST_PAGES) + 1))]
        first = [attempt.cut(one, wanted) for wanted in ranges]
        # The other way round, by a reader that has seen nothing yet of what it has seen before.
        again = [attempt.cut(copy, wanted) for wanted in reversed(ranges)][::-1]
        attempt.complaints += [
            f"{wanted.label}: not the same the second time"
            for wanted, a, b in zip(ranges, first, again, strict=True)
            if a != b
        ]
        if isinstance(first[0], bytes) and pages <= _MOST_PAGES and not all(isinstance(c, bytes) for c in first):
            attempt.complaints.append("cut as a whole, but not page by page")
        uncut = sum(not isinstance(chunk, bytes) for chunk in first[1:])
    return Trial(pages, uncut, tuple(attempt.complaints), attempt.longest_s)


class _Attempt:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.complaints: list[str] = []
        self.longest_s = 0.0

    def written(self, name: str, data: bytes) -> Source:
        path = self._folder / name
        path.write_bytes(data)
        facts = path.stat()
        return Source(str(path), facts.st_size, facts.st_mtime_ns)

    def inspected(self, source: Source) -> int | None:
        """The number of pages; None when there is a reason."""
        with self._watched("inspect"):
            found = splitter.inspect(source)
            if (found.pages is None and found.problem is None) or found.pages == 0:  # with both, pages are lost
                self.complaints.append(f"inspect: neither pages nor a reason: {found}")
            return found.pages
        return None

    def cut(self, source: Source, pages: PageRange) -> bytes | str:
        """The chunk, or the reason why there is none."""
        target = self._folder / "chunk.pdf"
        with self._watched(f"cut {pages.label}"):
            try:
                copied = splitter.cut(source, pages, target)
            except PdfError as error:
                self._judge_reason(error.reason, pages)
                return error.reason
            self._judge_chunk(target, copied.size_bytes, pages)
            return target.read_bytes()
        return "raised"

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        begun_s = time.perf_counter()
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - any but those that are foreseen
            self.complaints.append(f"{what}: raised {shortened(f'{type(error).__name__}: {error}', 200)}")
        seconds = time.perf_counter() - begun_s
        self.longest_s = max(self.longest_s, seconds)
        if seconds > _LONGEST_S:
            self.complaints.append(f"{what}: took {seconds:.1f} s")

    def _judge_reason(self, reason: str, pages: PageRange) -> None:
        """It names a page of the range, and is one line of words."""
        named = re.match(r"page (\d+) cannot be read: .", reason)
        if not named or not pages.first <= int(named[1]) <= pages.last or len(reason.splitlines()) != 1:
            self.complaints.append(f"cut {pages.label}: not a reason: {reason!r}")
        if re.search(r"0x[0-9a-f]{6,}|\d{12,}\)", reason):
            self.complaints.append(f"cut {pages.label}: an address in the reason: {reason!r}")

    def _judge_chunk(self, chunk: Path, size_bytes: int, pages: PageRange) -> None:
        """It opens for others, with exactly these pages."""
        try:
            count = by_pypdf.pages_of(chunk)
            seen = by_pdfium.pages_seen(chunk, PageRange(1, len(pages)), pictures=False)
        except ValueError as error:
            self.complaints.append(f"cut {pages.label}: does not re-open: {error}")
            return
        if (count, size_bytes) != (len(pages), chunk.stat().st_size) or None in seen:
            self.complaints.append(f"cut {pages.label}: {count} pages, {seen.count(None)} that pdfium cannot load")
