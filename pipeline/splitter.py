"""PDF bytes in, facts and chunks out: the only module that knows pypdf.

Everything here runs in a worker process (see ``sandbox``): a PDF is hostile input. Functions take and
give plain picklable values. A broken file may make pypdf raise anything, not only ``PyPdfError``
(its own documentation says so), so whatever it raises becomes a ``PdfError`` with a reason.
"""

from __future__ import annotations

import io
import logging
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from pypdf import PdfReader, PdfWriter, apply_configuration
from pypdf.errors import FileNotDecryptedError

from pipeline.domain import PageRange
from pipeline.pdf import Inspection, PdfError, Source, SourceChangedError
from pipeline.text import shortened

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings are about files, not about the run

# pypdf refuses single streams over 75 MB; a raw scan may be larger and is copied, never decoded.
_LARGEST_STREAM_BYTES = 300_000_000


# Article beads and actions of a page lead to other pages and drag them along. The leading 1 limits the
# key to the page itself: without it a Type 3 font would lose its glyph "B".
_DROPPED_PAGE_KEYS: list[str | int] = [1, "/B", 1, "/AA"]


def inspect(source: Source) -> Inspection:
    """Count the pages of a file.

    Raises:
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    try:
        with _opened(source) as reader:
            return Inspection(len(reader.pages), encrypted=reader.is_encrypted)
    except PdfError as error:
        return Inspection(None, encrypted=error.encrypted, problem=error.reason)


def cut(source: Source, pages: PageRange, target: Path) -> int:
    """Write a range of pages as an unencrypted PDF of its own; the size in bytes as written.

    Raises:
        PdfError: these pages cannot be cut.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read or the target not written.
    """
    with _opened(source) as reader:
        with _foreseen(f"{pages.label} cannot be cut"):
            writer = _copied(reader, pages)
            if len(writer.pages) != len(pages):
                raise PdfError(f"{pages.label} cannot be cut: {len(writer.pages)} of {len(pages)} pages came out")
            buffer = io.BytesIO()
            writer.write(buffer)
        target.write_bytes(buffer.getbuffer())
        return buffer.tell()


def page_texts(data: bytes) -> tuple[str, ...]:
    """The text of each page; "" where a page has no text layer.

    Raises:
        PdfError: not a PDF, or encrypted in any way, as the Messages API takes it.
    """
    with _configured():
        reader = _reader(io.BytesIO(data))
        if reader.is_encrypted:
            raise PdfError("encrypted", encrypted=True)
        with _foreseen("the text cannot be read"):
            return tuple(page.extract_text().strip() for page in reader.pages)


def _copied(reader: PdfReader, pages: PageRange) -> PdfWriter:
    try:
        writer = PdfWriter()
        writer.append(reader, pages=(pages.first - 1, pages.last), import_outline=False)
    except Exception:  # noqa: BLE001 - pypdf stumbles over broken links and forms in many ways
        writer = PdfWriter()
        for number in range(pages.first - 1, pages.last):
            writer.add_page(reader.pages[number], excluded_keys=_DROPPED_PAGE_KEYS)  # type: ignore[arg-type]
    return writer


@contextmanager
def _opened(source: Source) -> Iterator[PdfReader]:
    with _configured():
        file, reader = _held.pop(source) if source in _held else _open(source)
        _close_held()  # another document's turn has come
        try:
            _check_unchanged(source, file)
            yield reader
        except BaseException:
            file.close()
            raise
        reader.resolved_objects.clear()  # keeps the memory at one chunk's worth
        _held[source] = file, reader


def _open(source: Source) -> tuple[BinaryIO, PdfReader]:
    # A plain handle: given a path, pypdf would hold the whole file in memory.
    file = Path(source.path).open("rb")  # noqa: SIM115 - closed by _opened or _close_held
    try:
        _check_unchanged(source, file)
        return file, _reader(file)
    except BaseException:
        file.close()
        raise


def _check_unchanged(source: Source, file: BinaryIO) -> None:
    stat = os.fstat(file.fileno())
    if (stat.st_size, stat.st_mtime_ns) != (source.size_bytes, source.mtime_ns):
        raise SourceChangedError(source.path)


# The document opened last, since its next chunk is likely to be asked for next: reading the cross-reference
# table and the page tree again for each chunk would cost more than the cut. One entry, one thread.
_held: dict[Source, tuple[BinaryIO, PdfReader]] = {}


def _close_held() -> None:
    while _held:
        _held.popitem()[1][0].close()


def _configured() -> AbstractContextManager[object]:
    return apply_configuration(maximum_declared_stream_length=_LARGEST_STREAM_BYTES)


def _reader(file: BinaryIO) -> PdfReader:
    _check_shape(file)
    with _foreseen("not a readable PDF"):
        reader = PdfReader(file)
        if not reader.pages:  # reads the page tree, and so needs the password
            raise PdfError("the PDF has no pages")
    return reader


def _check_shape(file: BinaryIO) -> None:
    """Name what is plainly no PDF; pypdf would search a large file without ``startxref`` for minutes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise PdfError("the file is empty")
    head = file.read(1024)
    file.seek(0)
    if b"%PDF-" not in head:
        kind = "an HTML page" if b"<html" in head.lower() or b"<!doctype html" in head.lower() else "something else"
        raise PdfError(f"not a PDF: the file holds {kind}")
    if not _contains(file, b"startxref"):
        raise PdfError("truncated or damaged: the end of the PDF is missing")


def _contains(file: BinaryIO, needle: bytes) -> bool:
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.rfind(needle) >= 0
    except OSError:  # bytes in memory, or a network share that maps no files
        data = file.read()
        file.seek(0)
        return needle in data


@contextmanager
def _foreseen(what: str) -> Iterator[None]:
    """Whatever pypdf raises, as a PdfError with a reason of one line."""
    try:
        yield
    except (PdfError, MemoryError):
        raise
    except FileNotDecryptedError:
        raise PdfError("a password is needed to open it", encrypted=True) from None
    except NotImplementedError as error:  # an unknown security handler
        raise PdfError(
            f"encrypted in a way that cannot be opened: {shortened(str(error), 120)}", encrypted=True
        ) from None
    except Exception as error:
        # pypdf names objects with the address of their reader, which differs from run to run.
        words = re.sub(r", \d{9,}\)", ")", f"{type(error).__name__}: {error}")
        raise PdfError(f"{what}: {shortened(words, 160)}") from error
