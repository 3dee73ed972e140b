"""What pages say and look like to pdfium, which shares no code with what cuts them. Runs in a worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pypdfium2

from pipeline.domain import PageRange

_LONGEST_SIDE = 300  # pixels
_MOST_PAGES_BESIDES = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """A page: digests of its words and of its pixels (None if they were not asked for, or not drawn)."""

    text: str
    picture: str | None = None


def pages_seen(path: Path, pages: PageRange, pictures: bool) -> tuple[Seen | None, ...]:
    """The pages of a range; None for one that pdfium cannot load.

    Raises:
        ValueError: pdfium does not open the file.
    """
    with _opened(path) as file:
        file.init_forms()  # without it, fields are not drawn
        return tuple(_seen(file, number, pictures) for number in range(pages.first, pages.last + 1))


def pages_behind(path: Path, pages: int) -> int:
    """How many pages pdfium can load behind the last one that we know; it counts none that it only believes in.

    Raises:
        ValueError: pdfium does not open the file.
    """
    with _opened(path) as file:
        numbers = range(pages + 1, min(len(file), pages + _MOST_PAGES_BESIDES) + 1)
        return sum(_seen(file, number, pictures=False) is not None for number in numbers)


def _opened(path: Path) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise ValueError(str(error)) from None


def _seen(file: pypdfium2.PdfDocument, number: int, pictures: bool) -> Seen | None:
    try:
        page = file[number - 1]
        words = page.get_textpage().get_text_bounded().split()
    except (pypdfium2.PdfiumError, IndexError):
        return None
    return Seen(_digest(" ".join(words).encode("utf-8", "replace")), _drawn(page) if pictures else None)


def _drawn(page: pypdfium2.PdfPage) -> str | None:
    try:
        bitmap = page.render(scale=_LONGEST_SIDE / max(*page.get_size(), 1))
    except pypdfium2.PdfiumError:
        return None
    return f"{bitmap.width}x{bitmap.height} {_digest(bytes(bitmap.buffer))}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
