"""Pages drawn as pixels; the only module that knows pypdfium2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pypdfium2

from pipeline.pdf import PdfError


@dataclass(frozen=True, slots=True)
class Drawing:
    """Pixels of red, green and blue, one byte each; rows from the top, without gaps."""

    samples: bytes
    width_px: int
    height_px: int


def draw_first_page(path: Path, dpi: int, longest_px: int) -> Drawing:
    """The first page of an unencrypted PDF with its annotations and form fields, on white.

    Drawn with ``dpi`` pixels to the inch, or with fewer where its longer side would have more than
    ``longest_px``.

    Raises:
        PdfError: it cannot be opened or drawn.
    """
    try:
        with pypdfium2.PdfDocument(path) as document:
            document.init_forms()
            page = document[0]
            scale = min(dpi / 72, longest_px / max(page.get_size()))
            bitmap = page.render(scale=scale, rev_byteorder=True, force_bitmap_format=pypdfium2.raw.FPDFBitmap_BGR)
            row_bytes = 3 * bitmap.width
            pixels = memoryview(bitmap.buffer).cast("B")
            rows = (pixels[y * bitmap.stride : y * bitmap.stride + row_bytes] for y in range(bitmap.height))
            return Drawing(b"".join(rows), bitmap.width, bitmap.height)
    except (pypdfium2.PdfiumError, RuntimeError, ZeroDivisionError) as error:
        raise PdfError(f"the page cannot be drawn: {error}") from error
