"""What is on pages, and pages drawn: PDFs with other eyes than pypdf's. The only module that knows pypdfium2.

pdfium is native code, so it runs in the sandbox alone: a file may crash it.
"""

from __future__ import annotations

import itertools
import logging
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_float, c_int, c_uint, c_ulong, c_ushort, sizeof
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pypdfium2

from pipeline.domain import Box, Layout
from pipeline.pdf import PdfError

logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)  # its warnings are about files, not about the run

# What it may raise for a file, by its documentation and its source; an index error where pages are not there.
_TROUBLE = (pypdfium2.PdfiumError, RuntimeError, IndexError, ValueError, ZeroDivisionError)

_MOST_PAGES = 5_000  # some ten seconds
_MOST_BOOKMARKS = 5_000
_HELD_BYTES = 20_000_000
_MOST_OBJECTS = 1_000  # of a page; scans have few
_FORMS_DEEP = 3
_SCAN_CHARS = 50  # a number or a stamp may be text on a page that is a picture
_SCAN_SHARE = 0.5  # of the page under images
_MOST_CHARS = 200_000  # of a page
_MOST_MARKS = 20  # around a piece of text
_LAYER = "OC\0".encode("utf-16-le")
_MOST_TEXTS = 30_000  # pieces of text of a page: some seven seconds
_MOST_NOTES = 200  # of a page
_MOST_NOTE_CHARS = 4_000
_LOOK_DPI = 100
_LOOK_LONGEST_PX = 1_600
_MOST_WEIGHED = 3_000  # objects of a page; one with more is drawn anyway
_MOST_COMPARED = 20_000
_LINE_PT = 5.0  # narrower, it is a rule and covers nothing
_SMALL_PT = 2.2  # the height of letters of three points and less
_NEAR = 40  # of 255: colours that far apart are told apart at once
_DEVICE_PX = 1_000_000  # pdfium gives places on the page as shown in whole pixels: as fine as a share of it needs


@dataclass(frozen=True, slots=True)
class Seen:
    """What pdfium makes of a file: its number of ``pages``, None where it opens none, and their layout."""

    pages: int | None
    layout: Layout


def look(file: BinaryIO, pages: int, password: str | None = None) -> Seen:
    """Look at every page of a file that has so many ``pages`` by pypdf's count.

    The layout is empty where pdfium counts others, for then its pages need not be pypdf's; the texts of more
    than 5,000 pages are not looked at.

    Args:
        file: opened for reading in binary, seekable; its position changes.
        pages: how many there are.
        password: what it is locked with, if it is.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with pypdfium2.PdfDocument(file, password) as document:
            found = len(document)
            if found != pages:
                return Seen(found, Layout())
            bookmarks = tuple(sorted(set(_bookmarked(document))))
        if pages > _MOST_PAGES:
            return Seen(pages, Layout(bookmarks=bookmarks))
        texts = list(_texts(file, pages, password))
        scans = tuple(number for number, (_, is_scan) in enumerate(texts, 1) if is_scan)
        return Seen(pages, Layout(tuple(chars for chars, _ in texts), scans, bookmarks))
    except _TROUBLE:
        return Seen(None, Layout())


def _texts(file: BinaryIO, pages: int, password: str | None) -> Iterator[tuple[int, bool]]:
    """``_text`` of each page."""
    at_once = _pages_at_once(file, pages)
    for first in range(1, pages + 1, at_once):
        with pypdfium2.PdfDocument(file, password) as document:
            for number in range(first, min(first + at_once, pages + 1)):
                yield _text(document, number)


def _pages_at_once(file: BinaryIO, pages: int) -> int:
    """A document holds whatever was read of it, so a large one is opened anew after so many pages."""
    return max(1, _HELD_BYTES * pages // max(file.seek(0, os.SEEK_END), 1))


def _text(document: pypdfium2.PdfDocument, number: int) -> tuple[int, bool]:
    """The characters in a page's text layer, and whether it is a scan; a page that pdfium cannot load has neither."""
    try:
        page = document[number - 1]
    except _TROUBLE:
        return 0, False
    try:
        text = page.get_textpage()
        chars = text.count_chars()
        text.close()
        return chars, chars < _SCAN_CHARS and _is_picture(page)
    except _TROUBLE:
        return 0, False
    finally:
        page.close()


def _is_picture(page: pypdfium2.PdfPage) -> bool:
    """Whether images, of which a scan may have many in strips, cover most of a page."""
    left, bottom, right, top = page.get_bbox()
    covered = 0.0
    for image in itertools.islice(_images(page), _MOST_OBJECTS):
        x1, y1, x2, y2 = _place(image)
        covered += max(0.0, min(x2, right) - max(x1, left)) * max(0.0, min(y2, top) - max(y1, bottom))
    return bool(covered > _SCAN_SHARE * (right - left) * (top - bottom))


def _images(page: pypdfium2.PdfPage) -> Iterator[pypdfium2.PdfObject]:
    objects = itertools.islice(page.get_objects(max_depth=_FORMS_DEEP), _MOST_OBJECTS)
    return (item for item in objects if item.type == pypdfium2.raw.FPDF_PAGEOBJ_IMAGE)


def _place(item: pypdfium2.PdfObject) -> tuple[float, float, float, float]:
    """Left, bottom, right and top on the page: what is in a form goes by the form's own coordinates."""
    place: tuple[float, float, float, float] = item.get_bounds()
    while item.container is not None:
        item = item.container
        place = item.get_matrix().on_rect(*place)
    return place


def _bookmarked(document: pypdfium2.PdfDocument) -> Iterator[int]:
    for bookmark in itertools.islice(document.get_toc(max_depth=1), _MOST_BOOKMARKS):
        target = bookmark.get_dest()
        index = target.get_index() if target is not None else None
        if index is not None and 0 <= index < len(document):
            yield index + 1


@dataclass(frozen=True, slots=True)
class PageText:
    """The text layer of a page, in the order of its content, with what shows in fields and annotations.

    Lines end in CR LF; a hyphen at the end of a line may be U+0002 or U+FFFE.
    ``shares`` has four numbers for each character of ``text``, those of a ``domain.Box``: 16 bytes a character.
    """

    text: str
    shares: array[float]

    def box(self, index: int) -> Box | None:
        """Where a character stands, as high as its font; None for one that takes no room, such as a line's end."""
        left, top, right, bottom = self.shares[4 * index : 4 * index + 4]
        return Box(left, top, right, bottom) if left < right and top < bottom else None


@dataclass(frozen=True, slots=True)
class Gray:
    """A page as it is shown: a byte for each pixel, 0 for black; rows from the top, without gaps.

    ``dots_per_pt`` are its pixels for each point of the page. ``has_image``: an image is part of it;
    ``is_scan``: images cover most of it.
    """

    samples: bytes
    width_px: int
    height_px: int
    dots_per_pt: float
    has_image: bool
    is_scan: bool


@dataclass(frozen=True, slots=True)
class Note:
    """What an annotation says, which may be more than it shows. ``is_hidden``: it is not shown at all."""

    text: str
    box: Box
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """A page looked at for what a reader cannot see.

    Without reason for doubt there is no ``picture``, and ``page`` has no places.
    """

    page: PageText
    notes: tuple[Note, ...]
    picture: Gray | None


class Pages:
    """The texts of an open document; see ``opened``."""

    def __init__(self, file: BinaryIO, pages: int, password: str | None) -> None:
        self._file, self._count, self._password = file, pages, password
        self._at_once = _pages_at_once(file, pages)
        self._read = 0
        self._document = self._open()

    def text(self, number: int) -> str:
        """The text layer of a page, counted from 1; "" of one that pdfium cannot load. At most 200,000 characters."""
        return self.page(number, with_shares=False).text

    def page(self, number: int, with_shares: bool = True) -> PageText:
        """The same with the places of its characters."""
        self._make_room()
        try:
            page = self._document[number - 1]
        except _TROUBLE:
            return PageText("", array("f"))
        try:
            page = self._flat(page, number)
            return _page_text(page, lambda _: with_shares)
        except _TROUBLE:
            return PageText("", array("f"))
        finally:
            page.close()

    def examined(self, number: int, is_doubtful: Callable[[str], bool]) -> Examined:
        """A page, counted from 1, with its picture and places if it, or ``is_doubtful`` of its text, gives reason.

        One that pdfium cannot load is empty; one that was read before has no notes.
        """
        self._make_room()
        nothing = PageText("", array("f"))
        try:
            page = self._document[number - 1]
        except _TROUBLE:
            return Examined(nothing, (), None)
        try:
            notes = tuple(_notes(page))  # they are gone from what is flat
            page = self._flat(page, number)
            text = _page_text(page, lambda words: is_doubtful(words) or _may_hide(page))
            return Examined(text, notes, _gray(page) if text.shares else None)
        except _TROUBLE:
            return Examined(nothing, (), None)
        finally:
            page.close()

    def _flat(self, page: pypdfium2.PdfPage, number: int) -> pypdfium2.PdfPage:
        """The page, in memory, with what is written into fields and annotations as text like any other."""
        if not pypdfium2.raw.FPDFPage_GetAnnotCount(page):
            return page
        pypdfium2.raw.FPDFPage_Flatten(page, pypdfium2.raw.FLAT_NORMALDISPLAY)
        page.close()
        return self._document[number - 1]

    def close(self) -> None:
        """End it; the file stays open."""
        self._document.close()

    def _open(self) -> pypdfium2.PdfDocument:
        document = pypdfium2.PdfDocument(self._file, self._password)
        found = len(document)
        if found != self._count:
            document.close()
            raise PdfError(f"pdfium counts {found} pages, not {self._count}")
        return document

    def _make_room(self) -> None:
        self._read += 1
        if self._read > self._at_once:
            self._document.close()
            self._document = self._open()
            self._read = 1


@contextmanager
def opened(file: BinaryIO, pages: int, password: str | None = None) -> Iterator[Pages]:
    """The pages of a file that has so many ``pages`` by pypdf's count, to read their texts; arguments as for ``look``.

    Raises:
        PdfError: pdfium cannot open it, or counts other pages, whose numbers would not be the same.
        OSError: the file cannot be read.
    """
    try:
        document = Pages(file, pages, password)
    except _TROUBLE as error:
        raise PdfError(f"pdfium cannot open it: {error}") from error
    try:
        yield document
    finally:
        document.close()


def _page_text(page: pypdfium2.PdfPage, wants_shares: Callable[[str], bool]) -> PageText:
    """The text of a page, with the places of its characters if they are wanted for such a text."""
    if _has_countless_texts(page):
        return PageText("", array("f"))
    layer = page.get_textpage()
    try:
        chars = min(layer.count_chars(), _MOST_CHARS)
        text = layer.get_text_range(0, chars) if chars > 0 else ""
        if len(text) != chars:  # characters without a code are left out of the whole: then one by one
            codes = (pypdfium2.raw.FPDFText_GetUnicode(layer, index) for index in range(chars))
            text = "".join(chr(code) if code <= 0x10FFFF else "\ufffd" for code in codes)
        return PageText(text, _shares(page, layer, chars) if text and wants_shares(text) else array("f"))
    finally:
        layer.close()


def _has_countless_texts(page: pypdfium2.PdfPage) -> bool:
    """Whether pdfium would read the text for minutes, which takes it the square of the number of pieces."""
    raw = pypdfium2.raw
    count = raw.FPDFPage_CountObjects(page)
    kinds = (raw.FPDFPageObj_GetType(raw.FPDFPage_GetObject(page, index)) for index in range(count))
    return bool(count > _MOST_TEXTS and sum(kind == raw.FPDF_PAGEOBJ_TEXT for kind in kinds) > _MOST_TEXTS)


def _shares(page: pypdfium2.PdfPage, layer: pypdfium2.PdfTextPage, chars: int) -> array[float]:
    """Left, top, right and bottom of each character on the page as it is shown; zeros where there is no place."""
    x0, y0 = _on_device(page, 0, 0)
    side = 1000  # points, so far apart that whole pixels are exact enough
    (xx, xy), (yx, yy) = _on_device(page, side, 0), _on_device(page, 0, side)
    xx, xy, yx, yy = (xx - x0) / side, (xy - y0) / side, (yx - x0) / side, (yy - y0) / side
    place, found = pypdfium2.raw.FS_RECTF(), array("f")
    for index in range(chars):
        if not pypdfium2.raw.FPDFText_GetLooseCharBox(layer, index, place):
            found.extend((0, 0, 0, 0))
            continue
        corners = ((place.left, place.bottom), (place.right, place.top))
        (x1, x2) = (x0 + x * xx + y * yx for x, y in corners)
        (y1, y2) = (y0 + x * xy + y * yy for x, y in corners)
        found.extend((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    return found


def _on_device(page: pypdfium2.PdfPage, x: float, y: float) -> tuple[float, float]:
    """A point of the page's own coordinates as shares of the page as it is shown, turned and cropped."""
    across, down = c_int(), c_int()
    pypdfium2.raw.FPDF_PageToDevice(page, 0, 0, _DEVICE_PX, _DEVICE_PX, 0, x, y, byref(across), byref(down))
    return across.value / _DEVICE_PX, down.value / _DEVICE_PX


def _notes(page: pypdfium2.PdfPage) -> Iterator[Note]:
    raw, place = pypdfium2.raw, pypdfium2.raw.FS_RECTF()
    for index in range(min(raw.FPDFPage_GetAnnotCount(page), _MOST_NOTES)):
        item = raw.FPDFPage_GetAnnot(page, index)
        if not item:
            continue
        text = _contents(item)
        if text and raw.FPDFAnnot_GetRect(item, place):
            x1, y1 = _on_device(page, place.left, place.bottom)
            x2, y2 = _on_device(page, place.right, place.top)
            box = Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            yield Note(
                text,
                box,
                bool(raw.FPDFAnnot_GetFlags(item) & (raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW)),
            )
        raw.FPDFPage_CloseAnnot(item)


def _contents(item: pypdfium2.raw.FPDF_ANNOTATION) -> str:
    """The text of an annotation, cut after so many characters; a field's value, if it has no other."""
    buffer = (c_ushort * _MOST_NOTE_CHARS)()
    for key in (b"Contents", b"V"):
        size_bytes = pypdfium2.raw.FPDFAnnot_GetStringValue(item, key, buffer, sizeof(buffer))
        if 2 < size_bytes <= sizeof(buffer):
            return bytes(buffer)[: size_bytes - 2].decode("utf-16-le", "replace")
    return ""


def _gray(page: pypdfium2.PdfPage) -> Gray:
    scale = min(_LOOK_DPI / 72, _LOOK_LONGEST_PX / max(page.get_size()))
    bitmap = page.render(scale=scale, grayscale=True)
    pixels = memoryview(bitmap.buffer).cast("B")
    rows = (pixels[y * bitmap.stride : y * bitmap.stride + bitmap.width] for y in range(bitmap.height))
    has_image = next(_images(page), None) is not None
    return Gray(b"".join(rows), bitmap.width, bitmap.height, scale, has_image, has_image and _is_picture(page))


_Place = tuple[float, float, float, float]
_Colour = tuple[int, int, int]


def _may_hide(page: pypdfium2.PdfPage) -> bool:
    """Whether the objects of a page give reason to doubt that all of its text is seen; only a picture can tell.

    Reasons are text without paint, with transparency, in a layer, in the colour of what it is written on, very small,
    outside the page, or with something painted over it. What is in a form has coordinates of its own: it is a reason.
    """
    raw = pypdfium2.raw
    count = raw.FPDFPage_CountObjects(page)
    if count > _MOST_WEIGHED:
        return True
    left, bottom, right, top = page.get_bbox()
    grounds: list[tuple[_Place, _Colour | None]] = [((left, bottom, right, top), (255, 255, 255))]
    written: list[_Place] = []
    for index in range(count):
        item = raw.FPDFPage_GetObject(page, index)
        kind = raw.FPDFPageObj_GetType(item)
        if kind == raw.FPDF_PAGEOBJ_TEXT:
            place = _bounds(item)
            if _is_odd(item, place, grounds):
                return True
            written.append(place)
        elif kind == raw.FPDF_PAGEOBJ_FORM:
            if _has_text(item):
                return True
        elif kind != raw.FPDF_PAGEOBJ_PATH or _is_filled(item):
            place = _bounds(item)
            if min(place[2] - place[0], place[3] - place[1]) < _LINE_PT:
                continue
            if len(written) * len(grounds) > _MOST_COMPARED or any(_overlap(place, other) for other in written):
                return True
            grounds.append((place, _colour(item) if kind == raw.FPDF_PAGEOBJ_PATH else None))
    return False


def _is_odd(item: pypdfium2.raw.FPDF_PAGEOBJECT, place: _Place, grounds: list[tuple[_Place, _Colour | None]]) -> bool:
    """Whether a piece of text may not be seen on what was painted before it, the page first."""
    raw = pypdfium2.raw
    mode = raw.FPDFTextObj_GetTextRenderMode(item)
    if mode not in (raw.FPDF_TEXTRENDERMODE_FILL, raw.FPDF_TEXTRENDERMODE_FILL_STROKE):
        return True
    if raw.FPDFPageObj_HasTransparency(item) or _is_in_layer(item):
        return True
    width, height = place[2] - place[0], place[3] - place[1]
    if max(width, height) > _LINE_PT * 2 and min(width, height) < _SMALL_PT:
        return True
    left, bottom, right, top = grounds[0][0]
    if place[0] < left - 1 or place[1] < bottom - 1 or place[2] > right + 1 or place[3] > top + 1:
        return True
    colour = _colour(item)
    return colour is None or any(_are_near(colour, ground) and _overlap(place, other) for other, ground in grounds)


def _is_in_layer(item: pypdfium2.raw.FPDF_PAGEOBJECT) -> bool:
    """Whether it is marked as part of a layer, which may be switched off (ISO 32000-1, 8.11.3.2)."""
    raw, name, size_bytes = pypdfium2.raw, (c_ushort * 3)(), c_ulong()
    for index in range(min(raw.FPDFPageObj_CountMarks(item), _MOST_MARKS)):
        mark = raw.FPDFPageObj_GetMark(item, index)
        if raw.FPDFPageObjMark_GetName(mark, name, sizeof(name), byref(size_bytes)) and bytes(name) == _LAYER:
            return True
    return False


def _has_text(form: pypdfium2.raw.FPDF_PAGEOBJECT, depth: int = 1) -> bool:
    raw = pypdfium2.raw
    for index in range(min(raw.FPDFFormObj_CountObjects(form), _MOST_WEIGHED)):
        item = raw.FPDFFormObj_GetObject(form, index)
        kind = raw.FPDFPageObj_GetType(item)
        if kind == raw.FPDF_PAGEOBJ_TEXT:
            return True
        if kind == raw.FPDF_PAGEOBJ_FORM and (depth >= _FORMS_DEEP or _has_text(item, depth + 1)):
            return True
    return False


def _is_filled(path: pypdfium2.raw.FPDF_PAGEOBJECT) -> bool:
    fill, stroke = c_int(), c_int()
    return bool(pypdfium2.raw.FPDFPath_GetDrawMode(path, byref(fill), byref(stroke)) and fill.value)


def _bounds(item: pypdfium2.raw.FPDF_PAGEOBJECT) -> _Place:
    left, bottom, right, top = c_float(), c_float(), c_float(), c_float()
    pypdfium2.raw.FPDFPageObj_GetBounds(item, byref(left), byref(bottom), byref(right), byref(top))
    return left.value, bottom.value, right.value, top.value


def _colour(item: pypdfium2.raw.FPDF_PAGEOBJECT) -> _Colour | None:
    """Red, green and blue of what fills it, 0 to 255; None for a pattern."""
    red, green, blue, alpha = c_uint(), c_uint(), c_uint(), c_uint()
    if not pypdfium2.raw.FPDFPageObj_GetFillColor(item, byref(red), byref(green), byref(blue), byref(alpha)):
        return None
    return red.value, green.value, blue.value


def _are_near(a: _Colour, b: _Colour | None) -> bool:
    return b is not None and abs(a[0] - b[0]) < _NEAR and abs(a[1] - b[1]) < _NEAR and abs(a[2] - b[2]) < _NEAR


def _overlap(a: _Place, b: _Place) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Pixels of red, green and blue, one byte each; rows from the top, without gaps."""

    samples: bytes
    width_px: int
    height_px: int


def draw_first_page(file: Path | BinaryIO, dpi: int, longest_px: int) -> Drawing:
    """The first page of an unencrypted PDF with its annotations and form fields, on white.

    Drawn with ``dpi`` pixels to the inch, or with fewer where its longer side would have more than
    ``longest_px``.

    Raises:
        PdfError: it cannot be opened or drawn.
    """
    try:
        with pypdfium2.PdfDocument(file) as document:
            document.init_forms()
            page = document[0]
            scale = min(dpi / 72, longest_px / max(page.get_size()))
            bitmap = page.render(scale=scale, rev_byteorder=True, force_bitmap_format=pypdfium2.raw.FPDFBitmap_BGR)
            row_bytes = 3 * bitmap.width
            pixels = memoryview(bitmap.buffer).cast("B")
            rows = (pixels[y * bitmap.stride : y * bitmap.stride + row_bytes] for y in range(bitmap.height))
            return Drawing(b"".join(rows), bitmap.width, bitmap.height)
    except _TROUBLE as error:
        raise PdfError(f"the page cannot be drawn: {error}") from error
