"""PDF bytes in, facts and chunks out.

Everything here runs in a worker process (see ``sandbox``): a PDF is hostile input. Functions take and
give plain picklable values. A broken file may make pypdf raise anything, not only ``PyPdfError``
(its own documentation says so), so whatever it raises becomes a ``PdfError`` with a reason.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from pipeline import pdf_annotations, pdf_repair, pdfium
from pipeline.copier import Copier
from pipeline.domain import PageRange
from pipeline.pdf import Copied, Inspection, Passwords, PdfError, Source, SourceChangedError
from pipeline.pdf_reader import FileNotDecryptedError, PageObject, Reader, WatchedFile, found, limits, words
from pipeline.pdf_repair import Mended, Repair
from pipeline.text import shortened

_passwords = Passwords()  # in the memory of this process alone


def use(passwords: Passwords) -> None:
    """Try these on locked files from now on."""
    global _passwords
    _passwords = passwords


def inspect(source: Source, with_layout: bool = True) -> Inspection:
    """Count the pages of a file, and see what is on them.

    Without the layout no native code reads the file, and nobody checks pypdf's count.

    Raises:
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    try:
        with opened(source) as copier:
            counted = Inspection(len(copier.reader.pages), encrypted=copier.reader.is_encrypted)
            if copier.reader.repair:
                counted = _repaired(counted, copier)
            return _looked_at(counted, copier.reader) if with_layout else counted
    except PdfError as error:
        return Inspection(None, encrypted=error.encrypted, problem=error.reason)


def _looked_at(counted: Inspection, reader: Reader) -> Inspection:
    pages = counted.pages or 0
    seen = pdfium.look(reader.file, pages, reader.password)
    differs = seen.pages not in (None, pages)
    notes = [counted.note, f"pypdf counts {pages} pages, pdfium {seen.pages}" if differs else None]
    return replace(counted, layout=seen.layout, note="; ".join(filter(None, notes)) or None)


def _repaired(counted: Inspection, copier: Copier) -> Inspection:
    """The same with what became of the pages of a file that had to be repaired.

    Raises:
        PdfError: no page is whole.
    """
    repair, pages = copier.reader.repair, counted.pages or 0
    is_truncated = copier.reader.is_truncated
    # A part of what is drawn there may be lost: only a copy of a page shows that all is there.
    whole = sum(_is_whole(copier, page) for page in range(1, pages + 1)) if is_truncated else pages
    if not whole:
        raise PdfError("truncated or damaged: the end of the PDF is missing, and no page is whole")
    kind = "truncated" if is_truncated else "repaired"
    readable = f"{kind}: {whole} of {pages} pages readable"
    if not copier.reader.is_numbering_certain:
        return replace(counted, problem=f"{readable}; where in the document they stood is not certain")
    if repair and repair.is_tree_lost:
        return replace(counted, problem=f"{readable}; whether there were more is not known")
    return replace(counted, note=readable if is_truncated else "repaired: the file's index was damaged")


def _is_whole(copier: Copier, page: int) -> bool:
    try:
        copier.copy(PageRange(page, page), io.BytesIO())
    except PdfError:
        return False
    return True


def cut(source: Source, pages: PageRange, target: Path, max_bytes: int | None = None) -> Copied:
    """Write a range of pages as an unencrypted PDF of its own: as many as fit in ``max_bytes``, but one at least.

    In one pass; a cut that fails leaves no file.

    Raises:
        PdfError: these pages cannot be cut.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read or the target not written.
    """
    try:
        with opened(source) as copier:
            count = len(copier.reader.pages)
            if pages.last > count:
                raise PdfError(f"{pages.label} cannot be cut: the file has {count} pages")
            with target.open("wb") as out:
                return copier.copy(pages, out, max_bytes)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def page_texts(data: bytes) -> tuple[str, ...]:
    """The text of each page, with what is written into its fields and annotations; "" where there is none.

    Raises:
        PdfError: not a PDF, or encrypted in any way, as the Messages API takes it.
    """
    with limits():
        file = io.BytesIO(data)
        _check_kind(file)
        reader = _reader(file)
        if reader.is_encrypted:
            raise PdfError("encrypted", encrypted=True)
        with _foreseen("the text cannot be read"):
            return tuple("\n".join(_texts(page)).strip() for page in reader.pages)


def _texts(page: PageObject) -> Iterator[str]:
    yield page.extract_text()
    for form in pdf_annotations.shown(found(page.get("/Annots"))):
        with suppress(PdfError), _foreseen("the text cannot be read"):  # the page itself can be
            yield page.extract_xform_text(form)  # type: ignore[arg-type]  # it takes any stream


@contextmanager
def opened(source: Source) -> Iterator[Copier]:
    """The document at ``source``, to copy pages from.

    Raises:
        PdfError: it cannot be opened.
        SourceChangedError: the file is not the one that the scanner saw, or changed meanwhile.
        OSError: the file cannot be read.
    """
    with limits(source.size_bytes):
        file, copier = _held.pop(source) if source in _held else _open(source)
        _close_held()  # another document's turn has come
        try:
            _check_unchanged(source, file)
            yield copier
            _check_unchanged(source, file)
            _check_read(file)
        except BaseException:
            _explain(source, file)
            raise
        _held[source] = file, copier


def _open(source: Source) -> tuple[io.BufferedReader[WatchedFile], Copier]:
    # A plain handle: given a path, pypdf would hold the whole file in memory.
    file = io.BufferedReader(WatchedFile(source.path))  # closed by opened or _close_held
    try:
        _check_unchanged(source, file)
        return file, Copier(_reader_of_any(file))
    except BaseException:
        _explain(source, file)
        raise


def _explain(source: Source, file: io.BufferedReader[WatchedFile]) -> None:
    """Close a file that gave trouble; raise if its disk, or who wrote to it meanwhile, explains what pypdf says."""
    with file:
        _check_unchanged(source, file)
    _check_read(file)


def _check_unchanged(source: Source, file: BinaryIO) -> None:
    stat = os.fstat(file.fileno())
    if (stat.st_size, stat.st_mtime_ns) != (source.size_bytes, source.mtime_ns):
        raise SourceChangedError(source.path)


def _check_read(file: io.BufferedReader[WatchedFile]) -> None:
    if file.raw.trouble:
        raise file.raw.trouble


# The document opened last, since its next chunk is likely to be asked for next: reading the cross-reference
# table and the page tree again for each chunk would cost more than the cut. One entry, one thread.
_held: dict[Source, tuple[io.BufferedReader[WatchedFile], Copier]] = {}


def _close_held() -> None:
    while _held:
        _held.popitem()[1][0].close()


def _reader(file: BinaryIO) -> Reader:
    if not _has_end(file):
        raise PdfError("truncated or damaged: the end of the PDF is missing")
    return _parsed(file)


def _parsed(file: BinaryIO, repair: Repair | None = None) -> Reader:
    with _foreseen("not a readable PDF"):
        reader = Reader(file, repair, _passwords.candidates)
        if not reader.pages:  # reads the page tree, and so needs the password
            raise PdfError("the PDF has no pages")
    return reader


def _reader_of_any(file: BinaryIO) -> Reader:
    """A reader, also of a file whose index must be made anew."""
    _check_kind(file)
    try:
        return _reader(file)
    except PdfError as error:
        repair = None if error.encrypted else pdf_repair.repair(file)
        if repair is None:
            raise
        try:
            return _parsed(io.BufferedReader(Mended(file, repair.index)), repair)
        except PdfError as second:
            raise second if second.encrypted else error from None


def _check_kind(file: BinaryIO) -> None:
    """Name what is plainly no PDF."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise PdfError("the file is empty")
    head = file.read(1024)
    file.seek(0)
    if b"%PDF-" not in head:
        kind = "an HTML page" if b"<html" in head.lower() or b"<!doctype html" in head.lower() else "something else"
        raise PdfError(f"not a PDF: the file holds {kind}")


_OBJECT = re.compile(rb"\d[\0\t\n\f\r ]+\d{1,5}[\0\t\n\f\r ]+obj")


def _has_end(file: BinaryIO) -> bool:
    """Whether the place of an index is told behind the last object.

    Without it pypdf would search a large file for minutes, and in a file that was cut off it may find that of an
    earlier part.
    """
    with pdf_repair.view(file) as data:
        place = data.rfind(b"startxref")
        return place >= 0 and not _OBJECT.search(data, place)


@contextmanager
def _foreseen(what: str) -> Iterator[None]:
    """Whatever pypdf raises, as a PdfError with a reason of one line."""
    try:
        yield
    except (PdfError, MemoryError):
        raise
    except FileNotDecryptedError:
        tried = f"; none of the {len(_passwords.candidates)} in {_passwords.name} opens it" if _passwords.name else ""
        raise PdfError(f"a password is needed to open it{tried}", encrypted=True) from None
    except NotImplementedError as error:  # an unknown security handler
        raise PdfError(
            f"encrypted in a way that cannot be opened: {shortened(str(error), 120)}", encrypted=True
        ) from None
    except Exception as error:
        raise PdfError(f"{what}: {shortened(words(error), 160)}") from error
