"""What is seen on pages: characters, scans, bookmarks; real files, also those that pdfium does not open."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from pipeline import pdfium
from pipeline.domain import Layout
from pipeline.pdfium import Seen, look

WIDTH, HEIGHT = 595.0, 842.0


def picture() -> ImageReader:
    return ImageReader(Image.linear_gradient("L"))


def canvas(pages: int = 0) -> tuple[Canvas, io.BytesIO]:
    """An A4 document that begins with so many pages of one word each."""
    buffer = io.BytesIO()
    drawn = Canvas(buffer, pagesize=(WIDTH, HEIGHT), invariant=True)
    for number in range(1, pages + 1):
        drawn.drawString(72, 720, f"word{number:03}")
        drawn.showPage()
    return drawn, buffer


def finished(drawn: Canvas, buffer: io.BytesIO) -> io.BytesIO:
    drawn.save()
    return buffer


def test_characters_are_counted_page_by_page() -> None:
    """Each page has the characters of its text layer, an empty one none."""
    drawn, buffer = canvas(2)
    drawn.rect(10, 10, 50, 50)
    drawn.showPage()

    assert look(finished(drawn, buffer), 3) == Seen(3, Layout((7, 7, 0)))


def test_a_picture_of_a_page_is_a_scan() -> None:
    """One image over the page, strips of it, one in a form, also under a stamp or turned; not a logo."""
    drawn, buffer = canvas()
    drawn.drawImage(picture(), 0, 0, WIDTH, HEIGHT)
    drawn.showPage()
    for strip in range(8):
        drawn.drawImage(picture(), 0, strip * HEIGHT / 8, WIDTH, HEIGHT / 8)
    drawn.showPage()
    drawn.beginForm("page")
    drawn.drawImage(picture(), 0, 0, 10, 10)
    drawn.endForm()
    drawn.scale(WIDTH / 10, HEIGHT / 10)
    drawn.doForm("page")
    drawn.showPage()
    drawn.setPageRotation(90)
    drawn.drawImage(picture(), 20, 20, WIDTH - 40, HEIGHT - 40)
    drawn.drawString(72, 30, "ACME 000123")
    drawn.showPage()
    drawn.drawImage(picture(), 20, 700, 100, 100)
    drawn.showPage()

    assert look(finished(drawn, buffer), 5).layout.scans == (1, 2, 3, 4)


def test_a_scan_with_a_text_layer_is_none() -> None:
    """Its text can be searched and quoted like any other; so can text on a background picture."""
    drawn, buffer = canvas()
    drawn.drawImage(picture(), 0, 0, WIDTH, HEIGHT)
    text = drawn.beginText(72, 720)
    text.setTextRenderMode(3)  # invisible, as OCR writes it
    text.textLine("The Supplier may increase the fees at any time in its sole discretion.")
    drawn.drawText(text)
    drawn.showPage()

    seen = look(finished(drawn, buffer), 1)

    assert seen.layout.scans == ()
    assert seen.layout.text_chars[0] >= 70


def test_bookmarks_of_the_top_level_lead_to_pages() -> None:
    """Sections below and repetitions add nothing; the pages are in order."""
    drawn, buffer = canvas()
    for number, level in enumerate((0, 1, 0, 0), 1):
        drawn.bookmarkPage(f"p{number}")
        drawn.addOutlineEntry(f"Part {number}", f"p{number}", level)
        drawn.drawString(72, 720, "text")
        drawn.showPage()
    drawn.addOutlineEntry("Again", "p3", 0)

    assert look(finished(drawn, buffer), 4).layout.bookmarks == (1, 3, 4)


def test_other_pages_than_pypdf_counts_have_no_layout() -> None:
    """Their numbers need not be those of the pages that are cut."""
    assert look(finished(*canvas(3)), 2) == Seen(3, Layout())


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7 nothing", b"\0" * 1000])
def test_what_pdfium_does_not_open_has_no_layout(data: bytes) -> None:
    """It is no failure: pypdf may have opened it."""
    assert look(io.BytesIO(data), 1) == Seen(None, Layout())


def test_a_document_of_very_many_pages_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bookmarks are still there: they take no look at the pages."""
    monkeypatch.setattr(pdfium, "_MOST_PAGES", 2)
    drawn, buffer = canvas(2)
    drawn.bookmarkPage("last")
    drawn.addOutlineEntry("Last", "last", 0)
    drawn.showPage()

    assert look(finished(drawn, buffer), 3) == Seen(3, Layout(bookmarks=(3,)))


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    """Not every name is UTF-8; a file is handed over open."""
    path = tmp_path / "\udcff.pdf"
    path.write_bytes(finished(*canvas(1)).getvalue())

    with path.open("rb") as file:
        assert look(file, 1).pages == 1
