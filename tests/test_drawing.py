"""Pages drawn small for the reports: of every kind of document, in the sandbox, whatever a document does to it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageStat
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen.canvas import Canvas

from pipeline import drawing, page_pictures, splitter
from pipeline.domain import PagePicture
from pipeline.pdf import Passwords, PdfError, Source, SourceChangedError
from pipeline.reading import LocalReader
from pipeline.reports.names import document_name
from pipeline.sandbox import Sandbox
from tests.conftest import Workspace, clause, write_pdf
from tests.report_values import a_document
from tests.test_passwords import SECRET, lock

A4_PX = (800, 1131)


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    yield
    splitter.use(Passwords())
    splitter._close_held()


def source_of(path: Path) -> Source:
    facts = path.stat()
    return Source(str(path), facts.st_size, facts.st_mtime_ns)


def pixels(picture: PagePicture) -> Image.Image:
    image = Image.open(io.BytesIO(picture.data))
    assert image.format == "WEBP"
    assert image.size == (picture.width_px, picture.height_px)
    return image.convert("RGB")


def darkness(image: Image.Image, left: float, top: float, right: float, bottom: float) -> float:
    """How dark a part of the page is, in shares of its sides: 0 for white, 1 for black."""
    box = [round(share * side) for share, side in zip((left, top, right, bottom), image.size * 2, strict=True)]
    return 1 - ImageStat.Stat(image.convert("L").crop((box[0], box[1], box[2], box[3]))).mean[0] / 255


def test_a_page_is_drawn_as_it_is_shown_in_few_bytes(tmp_path: Path) -> None:
    """A page of A4 is 800 pixels wide, its words stand where they do, and its colours stay."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(595, 842))
    for line in range(45):
        canvas.drawString(60, 780 - 16 * line, clause(line).split("\n")[1])
    canvas.showPage()
    canvas.setFillColorRGB(1, 0, 0)
    canvas.rect(0, 421, 595, 421, fill=1)
    canvas.showPage()
    canvas.save()

    drawn = drawing.draw(source_of(tmp_path / "a.pdf"), [1, 2])

    text, red = pixels(drawn[1]), pixels(drawn[2])
    assert text.size == A4_PX
    assert len(drawn[1].data) < 60_000
    assert darkness(text, 0.1, 0.06, 0.8, 0.9) > 0.05
    assert darkness(text, 0.1, 0.0, 0.8, 0.05) == 0
    found = red.getpixel((400, 300))
    assert isinstance(found, tuple)
    assert found == pytest.approx((255, 0, 0), abs=8)


def test_a_turned_page_lies_as_people_see_it(tmp_path: Path) -> None:
    """Boxes are shares of the page as it is shown."""
    writer = PdfWriter(clone_from=PdfReader(write_pdf(tmp_path / "a.pdf", ["Words"])))
    writer.pages[0].rotate(90)
    writer.write(tmp_path / "b.pdf")

    image = pixels(drawing.draw(source_of(tmp_path / "b.pdf"), [1])[1])

    assert image.size == A4_PX[::-1]
    assert darkness(image, 0.9, 0.05, 0.95, 0.2) > 0.02


def test_a_locked_file_is_drawn_with_its_password(tmp_path: Path) -> None:
    """And not without."""
    source = lock(write_pdf(tmp_path / "a.pdf", ["Words"]), SECRET)
    with pytest.raises(PdfError, match="password"):
        drawing.draw(source, [1])
    splitter.use(Passwords("NAME", (SECRET,)))

    assert darkness(pixels(drawing.draw(source, [1])[1]), 0.05, 0.05, 0.5, 0.1) > 0.005


def test_a_damaged_file_is_drawn_as_it_was_repaired(tmp_path: Path) -> None:
    """Its pages have the numbers under which they were sent; one that is lost has no picture."""
    path = write_pdf(tmp_path / "a.pdf", ["One", "Two"])
    path.write_bytes(path.read_bytes()[: path.read_bytes().rindex(b"startxref")])

    assert set(drawing.draw(source_of(path), [1, 2, 3])) == {1, 2}


def test_image_files_are_drawn_from_the_image(tmp_path: Path) -> None:
    """Page by page for a TIFF; a page that is not there is left out."""
    first, second = Image.new("L", (1000, 2000), 40), Image.new("L", (300, 200), 200)
    first.save(tmp_path / "a.tiff", save_all=True, append_images=[second])

    drawn = drawing.draw(source_of(tmp_path / "a.tiff"), [1, 2, 3])

    assert {page: pixels(picture).size for page, picture in drawn.items()} == {1: (566, 1131), 2: (300, 200)}
    assert darkness(pixels(drawn[1]), 0, 0, 1, 1) == pytest.approx(1 - 40 / 255, abs=0.03)


def test_another_file_in_the_place_of_the_one_that_was_read_is_not_drawn(tmp_path: Path) -> None:
    """Its pages are not those that the risks speak of."""
    source = source_of(write_pdf(tmp_path / "a.pdf", ["Words"]))

    with pytest.raises(SourceChangedError):
        drawing.draw(replace(source, mtime_ns=1), [1])


def crashing(source: Source, pages: Sequence[int]) -> dict[int, PagePicture]:
    """Runs in a worker, in the place of ``drawing.draw``: page 3 ends the process."""
    if 3 in pages:
        os._exit(7)
    return {page: PagePicture(b"", page, 1) for page in pages}


def test_a_page_that_crashes_what_draws_it_costs_no_other_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that went with it are drawn one by one."""
    monkeypatch.setattr(page_pictures, "_DRAW", f"{__name__}:crashing")
    source = source_of(write_pdf(tmp_path / "a.pdf", ["Words"]))
    with Sandbox(2) as sandbox:
        draw = page_pictures.drawer(LocalReader(sandbox), {"a.pdf": source}, lambda: 2)

        assert set(draw(a_document("a.pdf"), [1, 2, 3, 4, 5])) == {1, 2, 4, 5}
        assert draw(a_document("a.pdf"), [3]) == {}


def test_a_document_is_opened_as_often_as_one_host_has_processes(tmp_path: Path) -> None:
    """However many there are on all hosts: what is about one document goes to one."""

    class Counting(LocalReader):
        async def read(self, source: Source, function: str, *args: object) -> dict[int, str]:
            shares.append(args[0])
            return {}

    shares: list[object] = []
    reader = Counting(Sandbox(1))

    page_pictures.drawer(reader, {"a.pdf": Source("a.pdf", 7, 7)}, lambda: 2)(a_document("a.pdf"), range(1, 10))

    assert shares == [range(1, 10, 2), range(2, 10, 2)]


def test_a_document_that_is_gone_has_no_pictures(tmp_path: Path) -> None:
    """As in a report that is written again after the folder was cleared."""
    source = Source(str(tmp_path / "gone.pdf"), 7, 7)
    with Sandbox(1) as sandbox:
        draw = page_pictures.drawer(LocalReader(sandbox), {"gone.pdf": source}, lambda: 1)

        assert draw(a_document("gone.pdf"), [1]) == draw(a_document("never.pdf"), [1]) == {}


def test_a_run_writes_pages_with_pictures_and_links_to_the_originals(workspace: Workspace) -> None:
    """And `report` the same, byte for byte."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), "Nothing here", clause(3)])
    workspace.write_job(report={"formats": ["html"]})
    workspace.run()
    page = workspace.reports / "documents" / f"{document_name('a.pdf')}.html"
    written = page.read_text()

    assert written.count("data:image/webp;base64,") == 2
    assert 'href="../../docs/a.pdf#page=3"' in written
    page.unlink()
    code, _, err = workspace.docpipe("report", str(workspace.job_file))
    assert (code, err) == (0, "")
    assert page.read_text() == written
