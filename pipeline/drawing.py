"""Pages drawn small for the reports, of every kind of document.

Everything here runs in a worker process (see ``sandbox``): a document is hostile input.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline import image_files, images, pdfium, splitter
from pipeline.domain import PagePicture, PageRange
from pipeline.pdf import PdfError, Source

_DPI = 97  # a page of A4 is then 800 pixels wide
_LONGEST_PX = 1131


def draw(source: Source, pages: Iterable[int]) -> dict[int, PagePicture]:
    """Pictures of some pages, by page, as they are shown; a page that cannot be drawn is left out.

    A page of a PDF is cut out first, as for a request: so a locked file is drawn with its password, a damaged
    one as it was repaired, and page 7 is the page that was sent as page 7.

    Raises:
        PdfError, ImageError: the file cannot be used.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    with Path(source.path).open("rb") as file:
        head = file.read(image_files.HEAD_BYTES)
    if image_files.media_type(head) is not None:
        return image_files.previews(source, pages, _LONGEST_PX)
    pictures: dict[int, PagePicture] = {}
    with splitter.opened(source) as copier:
        for page in pages:
            with suppress(PdfError, images.PictureError):
                copier.copy(PageRange(page, page), cut := io.BytesIO())
                drawn = pdfium.draw_first_page(cut, _DPI, _LONGEST_PX)
                layout = images.Layout(drawn.width_px, drawn.height_px, components=3, bits=8)
                pictures[page] = images.preview_of(drawn.samples, layout)
    return pictures
