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
from pipeline.pdf import PdfError
from pipeline.pdfium import PageText, Seen, look

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


def first_page(file: io.BytesIO, pages: int = 1) -> PageText:
    with pdfium.opened(file, pages) as document:
        return document.page(1)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (50, 300, 450, 600)])
def test_characters_are_where_they_are_seen(tmp_path: Path, rotation: int, crop: tuple[int, ...] | None) -> None:
    """However a page is turned and cropped, all ink of its only word lies in the boxes of the characters."""
    drawn, buffer = canvas()
    drawn.setPageRotation(rotation)
    if crop:
        drawn.setCropBox(crop)
    drawn.setFont("Helvetica", 40)
    drawn.drawString(120, 420, "Liability")
    drawn.showPage()
    path = tmp_path / "a.pdf"
    path.write_bytes(finished(drawn, buffer).getvalue())

    page = first_page(buffer)
    picture = pdfium.draw_first_page(path, 72, 2000)

    image = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.samples).convert("L")
    inked = image.point(lambda shade: 255 * (shade < 128)).getbbox()
    assert inked is not None
    boxes = [box for box in map(page.box, range(len(page.text))) if box]
    assert page.text == "Liability"
    assert len(boxes) == len(page.text)
    seen = [share * side for share, side in zip(
        (min(b.left for b in boxes), min(b.top for b in boxes),
         max(b.right for b in boxes), max(b.bottom for b in boxes)),
        (image.width, image.height) * 2, strict=True)]  # fmt: skip
    assert seen[0] - 2 <= inked[0] <= seen[0] + 20
    assert seen[1] - 2 <= inked[1] <= seen[1] + 20
    assert seen[2] - 20 <= inked[2] <= seen[2] + 2
    assert seen[3] - 20 <= inked[3] <= seen[3] + 2


def test_what_stands_in_form_fields_is_text() -> None:
    """A contract's blanks are filled in with fields; the model sees them, and so they can be quoted."""
    drawn, buffer = canvas()
    drawn.drawString(72, 720, "Monthly fee:")
    drawn.acroForm.textfield(value="EUR 4,200", x=180, y=715, width=200, height=20)
    drawn.showPage()

    page = first_page(finished(drawn, buffer))

    assert "Monthly fee:" in page.text
    assert "EUR 4,200" in page.text
    box = page.box(page.text.index("EUR"))
    assert box is not None
    assert 0.3 < box.left < 0.35


def test_texts_of_many_pages_are_read_anew_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a document holds of its pages is let go; each page still has its own text."""
    monkeypatch.setattr(pdfium, "_HELD_BYTES", 1)

    with pdfium.opened(finished(*canvas(5)), 5) as document:
        assert [document.text(number) for number in (5, 1, 2, 3, 4)] == [f"word{n:03}" for n in (5, 1, 2, 3, 4)]


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7 nothing", finished(*canvas(3)).getvalue()])
def test_pages_that_are_not_those_of_pypdf_have_no_texts(data: bytes) -> None:
    """A file that pdfium does not open, or whose pages it counts otherwise, is refused as a whole."""
    with pytest.raises(PdfError, match="pdfium"):
        first_page(io.BytesIO(data), pages=2)
