"""Quotes proven on real PDFs, as a worker process does it."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pypdf import PdfWriter
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from pipeline import prover, splitter
from pipeline.domain import Box, ChunkProof, Claim, PageRange, Proof, QuoteCheck
from pipeline.pdf import Passwords, PdfError, Source, SourceChangedError
from pipeline.pdfium import Pages
from pipeline.prover import prove
from pipeline.sandbox import Sandbox
from tests.bare_pdf import page_of_characters
from tests.conftest import clause, write_pdf
from tools import bench_quotes

SAMPLES = Path(__file__).resolve().parents[1] / "sample_docs"
FILLER = "Nothing in this part of the agreement is of interest to anybody who looks for a quote."


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    yield
    splitter.use(Passwords())
    splitter._close_held()
    prover._held.clear()


def source_of(path: Path) -> Source:
    facts = path.stat()
    return Source(str(path), facts.st_size, facts.st_mtime_ns)


def words(number: int) -> str:
    """The sentence of ``clause``."""
    return clause(number).split("\n")[1]


@pytest.fixture
def nine(tmp_path: Path) -> Source:
    """Nine pages, each with a sentence of its own."""
    return source_of(write_pdf(tmp_path / "nine.pdf", [clause(number) for number in range(1, 10)]))


def proof(source: Source, page: int | None, quote: str, pages: PageRange | None = None) -> Proof:
    """What becomes of one claim, in a chunk of pages 4 to 6 unless other ``pages`` are given."""
    (found,) = prove(source, pages or PageRange(4, 6), (Claim(page, quote),)).proofs
    return found


def checked(source: Source, page: int | None, quote: str) -> tuple[str, int | None]:
    found = proof(source, page, quote)
    return found.check.value, found.page


@pytest.mark.parametrize(
    ("named", "stands_on"), [(5, 5), (5, 4), (5, 6), (4, 3), (4, 6), (4, 9), (4, 1), (None, 5), (None, 8)]
)
def test_a_quote_is_found_wherever_it_stands(nine: Source, named: int | None, stands_on: int) -> None:
    """On the named page it is verified; beside it, elsewhere in the chunk or in the document the page is corrected."""
    check = "verified" if named == stands_on else "page_corrected"

    assert checked(nine, named, words(stands_on)) == (check, stands_on)


def test_claims_keep_their_order(nine: Source) -> None:
    """One proof for each, also for the same one twice; none for none."""
    claims = (
        Claim(6, words(6)),
        Claim(4, "Not a word of this stands anywhere."),
        Claim(4, words(4)),
        Claim(6, words(6)),
    )

    assert [p.page for p in prove(nine, PageRange(4, 6), claims).proofs] == [6, 4, 4, 6]
    assert prove(nine, PageRange(4, 6), ()).proofs == ()


def test_other_words_are_shown_where_they_stand(nine: Source) -> None:
    """A changed word makes a quote altered, whatever it resembles; what stands there is named with its place."""
    found = proof(nine, 5, words(5).replace("may increase", "may not increase"))

    assert (found.check, found.page) == (QuoteCheck.ALTERED, 5)
    assert found.found == words(5).removesuffix(".")
    assert len(found.boxes) == 1


def test_other_words_on_another_page_of_the_chunk(nine: Source) -> None:
    """The page is that of the words which resemble the quote most; pages outside the chunk are not compared."""
    assert checked(nine, 4, words(6).replace("fees", "prices")) == ("altered", 6)
    assert proof(nine, 9, words(1).replace("K001 at", "Q"), PageRange(9, 9)).page == 9


def test_what_stands_nowhere_is_not_found(nine: Source) -> None:
    """Neither are quotes without a word; the page stays the named one."""
    assert checked(nine, 5, "Das Mietverhältnis endet ohne Kündigung zum Jahresende.") == ("not_found", 5)
    assert checked(nine, None, "…") == ("not_found", None)
    assert checked(nine, 77, "") == ("not_found", 77)


def test_a_short_quote_must_stand_on_the_named_page(nine: Source) -> None:
    """A few letters stand somewhere in every document: on another page they prove nothing."""
    assert checked(nine, 5, "title 5") == ("verified", 5)
    assert checked(nine, 5, "title 4") == ("altered", 5)
    assert checked(nine, 5, "ACME") == ("not_found", 5)
    assert checked(nine, None, "title 4") == ("not_found", None)


def test_a_quote_may_go_on_on_the_next_page(tmp_path: Path) -> None:
    """Whichever of the two is named; footers and headers between do not count."""
    pages = [f"Agreement\nPage {n} of 3\n{FILLER}\n{text}\nACME Ltd." for n, text in
             ((1, "The Supplier may increase"), (2, "the fees at any time."), (3, "Nothing."))]  # fmt: skip
    source = source_of(write_pdf(tmp_path / "a.pdf", pages))
    quote = "The Supplier may increase the fees at any time."

    assert [checked(source, page, quote) for page in (1, 2)] == [("verified", 1), ("verified", 2)]
    assert checked(source, 3, quote) == ("page_corrected", 1)
    assert proof(source, 1, quote).boxes[0].top > proof(source, 1, FILLER).boxes[0].top


def scanned(path: Path, stamp: str = "") -> Source:
    """A page of text and one that is a picture, perhaps with a stamp."""
    canvas = Canvas(str(path), invariant=1)
    canvas.drawString(60, 700, words(1))
    canvas.showPage()
    canvas.drawImage(ImageReader(Image.linear_gradient("L")), 0, 0, 595, 842)
    canvas.drawString(60, 30, stamp)
    canvas.showPage()
    canvas.save()
    return source_of(path)


@pytest.mark.parametrize("stamp", ["", "ACME 000123"])
def test_a_scan_cannot_be_checked(tmp_path: Path, stamp: str) -> None:
    """Only what stands word for word in the text of another page is found all the same."""
    source = scanned(tmp_path / "a.pdf", stamp)

    assert proof(source, 2, words(2)).check is QuoteCheck.NOT_CHECKABLE
    assert checked(source, 2, words(1)) == ("page_corrected", 1)
    assert proof(source, None, words(2), PageRange(2, 2)).check is QuoteCheck.NOT_CHECKABLE


def test_an_image_file_cannot_be_checked(tmp_path: Path) -> None:
    """It has no text; one that has changed is refused like any other."""
    path = tmp_path / "a.pdf"
    Image.linear_gradient("L").save(path, "PNG")
    source = source_of(path)

    assert checked(source, 1, FILLER) == ("not_checkable", 1)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SourceChangedError):
        proof(source, 1, FILLER)


@pytest.mark.parametrize("data", [b"%PDF-1.7 nothing", b""])
def test_what_cannot_be_opened_cannot_be_checked(tmp_path: Path, data: bytes) -> None:
    """A run does not end for it."""
    path = tmp_path / "a.pdf"
    path.write_bytes(data)

    assert checked(source_of(path), 1, FILLER) == ("not_checkable", 1)


@pytest.mark.parametrize(
    ("foot", "head", "words", "page"),
    [
        ("The Supplier may not", "terminate it at any time in its discretion.", "terminate it at any time", 2),
        ("It is not\nPage 1", "liable for the damages of the Customer.", "liable for the damages", 2),
        ("Any un-", "lawful use of the data ends the licence.", "lawful use of the data", 2),
        ("The Supplier shall indemnify", "no Customer at all for it.", "The Supplier shall indemnify", 1),
    ],
)
def test_what_the_page_before_or_behind_turns_around_is_not_word_for_word(
    tmp_path: Path, foot: str, head: str, words: str, page: int
) -> None:
    """A break between pages hides no negation and no part of a word, nor does a footer."""
    path = write_pdf(tmp_path / "a.pdf", [f"{FILLER}\n{foot}", f"{head}\n{FILLER}\nPage 2", f"{FILLER}\nPage 3"])

    assert proof(source_of(path), page, words).check is QuoteCheck.ALTERED
    harmless = write_pdf(tmp_path / "b.pdf", [f"{FILLER}\nIt ends here.\n{words}", f"{words}\n{FILLER}"])
    assert proof(source_of(harmless), page, words).check is QuoteCheck.VERIFIED


def test_a_file_whose_password_is_not_here_is_not_judged() -> None:
    """It was opened before; another run may have the password again."""
    with pytest.raises(PdfError, match="password"):
        proof(source_of(SAMPLES / "trouble" / "locked.pdf"), 1, FILLER)


def test_a_locked_file_opens_with_its_password(tmp_path: Path) -> None:
    """The one with which its pages were cut."""
    path = write_pdf(tmp_path / "a.pdf", [clause(1)])
    writer = PdfWriter(clone_from=io.BytesIO(path.read_bytes()))
    writer.encrypt("open sesame", algorithm="AES-256")
    writer.write(path)
    splitter.use(Passwords("X", ("wrong", "open sesame")))

    assert checked(source_of(path), 1, words(1)) == ("verified", 1)


def test_a_repaired_file_is_read_as_it_was_repaired(tmp_path: Path) -> None:
    """The index that pypdf was given is pdfium's too: neither opens the file without."""
    path = write_pdf(tmp_path / "a.pdf", [clause(1), clause(2)])
    path.write_bytes(path.read_bytes().split(b"\nxref")[0])

    assert checked(source_of(path), 2, words(2)) == ("verified", 2)


def test_a_changed_file_is_refused(nine: Source) -> None:
    """Its words may be others than those that the model read."""
    Path(nine.path).write_bytes(b"%PDF-1.4 something else")

    with pytest.raises(SourceChangedError):
        proof(nine, 1, FILLER)


def test_chunks_of_one_document_read_each_page_once(nine: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its texts are kept until another document has its turn, or they are too many."""
    read: Counter[int] = Counter()
    text = Pages.text

    def counted(pages: Pages, number: int) -> str:
        read[number] += 1
        return text(pages, number)

    monkeypatch.setattr(Pages, "text", counted)

    for first in (1, 4, 7):
        proof(nine, first, "Das Mietverhältnis endet ohne Kündigung.", PageRange(first, first + 2))
    assert read == Counter(range(4, 10))  # those of the first chunk were read when it was looked at

    monkeypatch.setattr(prover, "_MOST_HELD_CHARS", 300)
    prover._held.clear()
    assert checked(nine, 1, words(9)) == ("page_corrected", 9)
    assert sum(len(held.raw) for held in prover._held[nine].values()) <= 300


def test_a_box_is_where_the_words_are(tmp_path: Path) -> None:
    """One for each line, and for each column where a line of a quote goes on in the next one."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(600, 800), invariant=1)
    for x, y, line in (
        (60, 700, "First the Supplier may"),
        (60, 600, "increase the fees"),
        (350, 700, "at any time. Last."),
    ):
        canvas.drawString(x, y, line)
    canvas.showPage()
    canvas.save()

    boxes = proof(source_of(tmp_path / "a.pdf"), 1, "the Supplier may increase the fees at any time").boxes

    expected = [(85, 100, 180), (60, 200, 150), (350, 100, 415)]
    assert len(boxes) == len(expected)
    for box, (left, baseline, right) in zip(boxes, expected, strict=True):
        assert box.left * 600 == pytest.approx(left, abs=8)
        assert box.right * 600 == pytest.approx(right, abs=8)
        assert box.top * 800 < baseline < box.bottom * 800 < baseline + 5


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_line_of_a_turned_page_has_one_box(tmp_path: Path, rotation: int) -> None:
    """Its words are not boxed one by one, and two lines are two boxes."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(600, 400), invariant=1)
    canvas.setFont("Helvetica", 11)
    canvas.setPageRotation(rotation)
    canvas.drawString(60, 300, "The liability of the Supplier under this")
    canvas.drawString(60, 287, "Agreement shall be unlimited in all cases.")
    canvas.showPage()
    canvas.save()

    quote = "liability of the Supplier under this Agreement shall be unlimited"
    assert len(proof(source_of(tmp_path / "a.pdf"), 1, quote).boxes) == 2


def test_boxes_stay_on_the_page(tmp_path: Path) -> None:
    """What is cropped away has none, and a hostile page does not make thousands."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(600, 800), invariant=1)
    canvas.setCropBox((0, 0, 100, 800))
    canvas.drawString(60, 700, words(1))
    canvas.drawString(160, 600, words(2))
    canvas.showPage()
    for number in range(400):
        canvas.drawString(60 + 300 * (number % 2), 790 - 1.9 * number, "word")
    canvas.showPage()
    canvas.save()
    source = source_of(tmp_path / "a.pdf")

    (box,) = proof(source, 1, words(1)).boxes
    assert box.left == pytest.approx(0.6, abs=0.01)
    assert box.right == 1.0
    assert proof(source, 1, words(2)) == Proof(QuoteCheck.VERIFIED, 1)
    assert 100 < len(proof(source, 2, "word " * 400).boxes) <= 200


def test_right_to_left_text_is_found_as_it_is_read(tmp_path: Path) -> None:
    """Pages hold it as it is seen, from the left; a quote holds it as it is read."""
    quote = "הספק רשאי להעלות את המחיר ב 15 אחוזים (30) בכל עת"
    seen = quote.replace("15", "51").replace("30", "03")[::-1].replace("(", "<").replace(")", "(").replace("<", ")")
    path = tmp_path / "a.pdf"
    path.write_bytes(page_of_characters(seen))

    found = proof(source_of(path), 1, quote)

    assert found.check is QuoteCheck.VERIFIED
    assert len(found.boxes) == 1
    assert proof(source_of(path), 1, quote.replace("15", "51")).check is QuoteCheck.ALTERED


def test_in_the_sandbox(nine: Source) -> None:
    """Claims and proofs travel between processes."""

    async def called(sandbox: Sandbox) -> ChunkProof:
        proven: ChunkProof = await sandbox.call(
            1, "pipeline.prover:prove", nine, PageRange(4, 6), (Claim(4, words(4)),)
        )
        return proven

    with Sandbox(1) as sandbox:
        found = asyncio.run(called(sandbox))

    assert found.proofs[0].check is QuoteCheck.VERIFIED
    assert isinstance(found.proofs[0].boxes[0], Box)


def test_quotes_of_real_pages(tmp_path: Path) -> None:
    """Of true quotes, damaged as copies are, at least 99 of 100 are verified; of changed ones none."""
    rows = bench_quotes.measure(SAMPLES / "contracts", 300)

    true = [row for row in rows if row.is_true]
    assert sum(row.quotes for row in true) == 300
    assert sum(row.verified for row in true) >= 297, [row.wrong for row in true]
    assert [row.wrong for row in rows if not row.is_true and row.verified] == []
