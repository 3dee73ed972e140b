"""A page that is too large for one request made smaller: its images first, else the whole page as a picture.

Everything here runs in a worker process (see ``sandbox``). Of the two ways the first keeps the page's text.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline import image_files, images, pdf_images, pdfium, splitter
from pipeline.domain import PageRange
from pipeline.images import Layout
from pipeline.pdf import Source
from pipeline.pdf_reader import ArrayObject, DictionaryObject, found

# Pixels to the inch of an image as large as the page, and the quality of its JPEG. Below, small print is lost.
_IMAGE_STEPS = ((150, 80), (150, 60), (100, 60))
_DRAWING_STEPS = ((200, 80), (150, 75), (100, 60))
_LONGEST_DRAWING_PX = 4000  # the API takes 8000 and makes its own of it, far below these
_POINTS_PER_INCH = 72
_DEFAULT_LENGTH_IN = 11.0  # of a page that does not say how large it is
_MOST_LENGTH_IN = 1000.0


def with_smaller_images(source: Source, page: int, target: Path, max_bytes: int) -> int | None:
    """Write one page as a PDF whose images have fewer pixels; its size, or None if ``max_bytes`` are too few.

    ``page`` counts from 1. Text, vectors and annotations stay as they are, and so do images that cannot be
    decoded. The same page gives the same bytes.

    Raises:
        PdfError: the page cannot be cut.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read or the target not written.
    """
    pages, before = PageRange(page, page), None
    with splitter.opened(source) as copier:
        length_in = _length_in(copier.reader.pages[page - 1])
        for dpi, quality in _IMAGE_STEPS:
            smaller = partial(pdf_images.smaller, longest_px=max(1, round(dpi * length_in)), quality=quality)
            with target.open("wb") as out:
                size_bytes = copier.copy(pages, out, replaced=smaller).size_bytes
            if size_bytes <= max_bytes:
                return size_bytes
            if size_bytes == before:  # no image can be made smaller
                return None
            before = size_bytes
    return None


def as_picture(source: Source, page: int, target: Path, max_bytes: int) -> int | None:
    """Write one page as a JPEG file; its size, or None if ``max_bytes`` are too few.

    ``page`` counts from 1. The same page gives the same bytes.

    Raises:
        As ``with_smaller_images`` does, and PdfError when the page cannot be drawn.
    """
    splitter.cut(source, PageRange(page, page), target)
    drawing = pdfium.draw_first_page(target, _DRAWING_STEPS[0][0], _LONGEST_DRAWING_PX)
    layout = Layout(drawing.width_px, drawing.height_px, components=3, bits=8)
    longest_px = max(drawing.width_px, drawing.height_px)
    for dpi, quality in _DRAWING_STEPS:
        jpeg = images.compressed(drawing.samples, layout, longest_px * dpi // _DRAWING_STEPS[0][0], quality)
        if len(jpeg.data) <= min(max_bytes, image_files.MOST_IMAGE_BYTES):
            return target.write_bytes(jpeg.data)
    return None


def _length_in(page: DictionaryObject) -> float:
    """The longer side of the whole page in inches; what is seen of it may be less."""
    box, unit = found(page.get("/MediaBox")), found(page.get("/UserUnit"))
    corners = [found(corner) for corner in box] if isinstance(box, ArrayObject) else []
    match corners:
        case [float() | int() as left, float() | int() as low, float() | int() as right, float() | int() as high]:
            points = max(abs(right - left), abs(high - low)) * (unit if isinstance(unit, int | float) else 1.0)
            return min(points / _POINTS_PER_INCH, _MOST_LENGTH_IN) if points > 0 else _DEFAULT_LENGTH_IN
        case _:
            return _DEFAULT_LENGTH_IN
