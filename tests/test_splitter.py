"""PDFs opened, counted and cut: real files, and each way in which one can be broken."""

from __future__ import annotations

import errno
import io
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen.canvas import Canvas

from pipeline import splitter
from pipeline.copier import Copier
from pipeline.domain import Layout, PageRange
from pipeline.pdf import Copied, Inspection, PdfError, Source, SourceChangedError
from pipeline.pdf_reader import Reader, WatchedFile
from pipeline.pdf_repair import Repair
from pipeline.splitter import cut, inspect, page_texts
from tools.corpus.originals import raw_pdf, stream

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "sample_docs" / "contracts"
TROUBLE = ROOT / "sample_docs" / "trouble"
CORPUS = ROOT.parent / "shared" / "corpus"
# Comments before object numbers; an object stream with a wrong offset; a filter's name that pypdf does not take.
BEYOND_REPAIR = {"pocs__efail-text.pdf", "qpdf__bad40.pdf", "qpdf__filter-abbreviation.pdf"}
CORPUS_FILES = sorted(CORPUS.glob("*/*.pdf"))


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    """Each test begins and ends without the document that the module holds open."""
    splitter._close_held()
    yield
    splitter._close_held()


def word(page: int) -> str:
    """A word that stands on one page alone."""
    return f"unique{page:04d}word"


def pdf(pages: int) -> bytes:
    """A PDF whose pages each hold their own word."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    for page in range(1, pages + 1):
        canvas.drawString(72, 720, word(page))
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def encrypted(data: bytes, user: str, algorithm: str = "AES-256") -> bytes:
    writer = PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(user, "owner secret", algorithm=algorithm)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def source_of(path: Path) -> Source:
    facts = path.stat()
    return Source(str(path), facts.st_size, facts.st_mtime_ns)


@pytest.fixture
def seven(tmp_path: Path) -> Source:
    """A file of seven pages."""
    path = tmp_path / "seven.pdf"
    path.write_bytes(pdf(7))
    return source_of(path)


def written(folder: Path, data: bytes) -> Source:
    path = folder / "x.pdf"
    path.write_bytes(data)
    return source_of(path)


def cut_texts(source: Source, pages: PageRange, folder: Path) -> tuple[str, ...]:
    target = folder / "chunk.pdf"
    assert cut(source, pages, target) == Copied(pages, target.stat().st_size)
    return page_texts(target.read_bytes())


@pytest.mark.parametrize("pages", [1, 2, 7, 120])
def test_pages_are_counted(tmp_path: Path, pages: int) -> None:
    """The count is that of the file."""
    source = written(tmp_path, pdf(pages))

    assert inspect(source, with_layout=False) == Inspection(pages)
    assert inspect(source).pages == pages


def test_what_is_on_the_pages_is_seen_when_they_are_counted(tmp_path: Path) -> None:
    """Characters for each page, though the file is held open by another reader; cutting works as before."""
    source = written(tmp_path, pdf(3))

    assert inspect(source) == Inspection(3, layout=Layout((14, 14, 14)))
    assert cut_texts(source, PageRange(2, 2), tmp_path) == (word(2),)


def test_a_number_of_pages_that_pdfium_disputes_is_noted(tmp_path: Path) -> None:
    """A file may lie about it: pages are those that pypdf finds, and the reader is told."""
    source = written(tmp_path, pdf(3).replace(b"/Count 3", b"/Count 9"))

    assert inspect(source) == Inspection(3, note="pypdf counts 3 pages, pdfium 9")


def test_what_pdfium_cannot_open_is_counted_all_the_same(tmp_path: Path) -> None:
    """Its layout is empty, and nothing is wrong with it."""
    source = written(tmp_path, pdf(3).replace(b"/Root 6 0 R", b"/Root 9 0 R"))

    assert inspect(source) == Inspection(3)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_chunk_holds_exactly_its_pages(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any range of any document: the chunk's pages are the source's, in order, and no others."""
    count = data.draw(st.integers(1, 9))
    first = data.draw(st.integers(1, count))
    last = data.draw(st.integers(first, count))
    folder = tmp_path_factory.mktemp("cut")

    texts = cut_texts(written(folder, pdf(count)), PageRange(first, last), folder)

    assert texts == tuple(word(page) for page in range(first, last + 1))


def test_a_chunk_leaves_the_words_of_other_pages_behind(tmp_path: Path, seven: Source) -> None:
    """Not even unseen objects of other pages travel with a chunk."""
    whole, part = tmp_path / "whole.pdf", tmp_path / "part.pdf"

    assert cut(seven, PageRange(3, 3), part).size_bytes < cut(seven, PageRange(1, 7), whole).size_bytes

    reader = PdfReader(part)
    streams = [reader.get_object(number) for number in range(1, len(reader.xref[0]) + 1)]
    content = b"".join(o.get_data() for o in streams if o is not None and hasattr(o, "get_data"))
    assert word(3).encode() in content
    assert not any(word(page).encode() in content for page in (1, 2, 4, 5, 6, 7))


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.pdf")), ids=lambda path: str(path.stem))
def test_the_cut_contracts_say_what_the_whole_says(path: Path, tmp_path: Path) -> None:
    """Every sample contract, cut into single pages, keeps the text of each page."""
    source = source_of(path)
    count = inspect(source).pages
    assert count is not None

    texts = [cut_texts(source, PageRange(page, page), tmp_path)[0] for page in range(1, count + 1)]

    assert texts == [page.extract_text().strip() for page in PdfReader(path).pages]


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_an_owner_protected_file_opens_and_its_cut_is_not_encrypted(tmp_path: Path, algorithm: str) -> None:
    """An empty user password is no obstacle, and the chunk can be sent."""
    source = written(tmp_path, encrypted(pdf(3), user="", algorithm=algorithm))

    assert inspect(source) == Inspection(3, encrypted=True, layout=Layout((14, 14, 14)))
    assert cut_texts(source, PageRange(2, 3), tmp_path) == (word(2), word(3))
    assert not PdfReader(tmp_path / "chunk.pdf").is_encrypted


def test_a_locked_file_says_that_a_password_is_needed(tmp_path: Path) -> None:
    """Neither counting nor cutting guesses a password."""
    source = written(tmp_path, encrypted(pdf(3), user="secret"))

    assert inspect(source) == Inspection(None, encrypted=True, problem="a password is needed to open it")
    with pytest.raises(PdfError, match="a password is needed"):
        cut(source, PageRange(1, 1), tmp_path / "chunk.pdf")
    assert not (tmp_path / "chunk.pdf").exists()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "not a PDF: the file holds an HTML page"),
        (b"\n<HTML><body>404</body></HTML>", "not a PDF: the file holds an HTML page"),
        (b"PK\x03\x04 a spreadsheet", "not a PDF: the file holds something else"),
        (pdf(7)[:1500], "truncated or damaged: the end of the PDF is missing, and no page is whole"),
        (b"%PDF-1.7\n1 0 obj\n<<>>", "truncated or damaged: the end of the PDF is missing"),
        (b"%PDF-1.7\nstartxref\n0\n%%EOF", "not a readable PDF"),
    ],
)
def test_what_is_no_pdf_says_what_it_is(tmp_path: Path, data: bytes, problem: str) -> None:
    """Each kind of broken file has a reason of one line."""
    found = inspect(written(tmp_path, data))

    assert found.pages is None
    assert not found.encrypted
    assert found.problem is not None
    assert found.problem.startswith(problem)
    assert len(found.problem.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("empty.pdf", "empty"),
        ("locked.pdf", "password"),
        ("really-html.pdf", "HTML"),
        ("truncated.pdf", None),
        ("good-contract.pdf", None),
        ("Ünïcödé 合同.PDF", None),
        ("=1+1.pdf", None),
    ],
)
def test_the_troublesome_samples(name: str, problem: str | None) -> None:
    """Each sample of trouble is told for what it is, whatever its name."""
    found = inspect(source_of(TROUBLE / name))

    assert (found.pages is None) == (problem is not None)
    assert problem is None or problem in (found.problem or "")


def test_a_pdf_without_pages_has_a_reason(tmp_path: Path) -> None:
    """Zero pages would pass for a document that is all answered."""
    buffer = io.BytesIO()
    PdfWriter().write(buffer)

    assert inspect(written(tmp_path, buffer.getvalue())) == Inspection(None, problem="the PDF has no pages")


def test_pages_that_are_not_there_cannot_be_cut(tmp_path: Path, seven: Source) -> None:
    """A range that passes the end is an error, never a shorter chunk."""
    with pytest.raises(PdfError, match="pages 6-9 cannot be cut"):
        cut(seven, PageRange(6, 9), tmp_path / "chunk.pdf")


def test_a_chunk_is_cut_to_fit(tmp_path: Path, seven: Source) -> None:
    """As many pages as the limit allows, and the file is the one that a cut of those pages gives."""
    fitting, exact = tmp_path / "fitting.pdf", tmp_path / "exact.pdf"
    limit = cut(seven, PageRange(2, 4), exact).size_bytes

    result = cut(seven, PageRange(2, 7), fitting, limit)

    assert result == Copied(PageRange(2, 4), limit)
    assert fitting.read_bytes() == exact.read_bytes()


def test_a_cut_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Half a chunk in the spool folder would pass for a whole one."""
    source = written(tmp_path, pdf(3).replace(b"/Contents 11 0 R", b"/Contents 99 0 R"))
    target = tmp_path / "chunk.pdf"

    with pytest.raises(PdfError, match=r"^page 3 cannot be read: its content is missing"):
        cut(source, PageRange(1, 3), target)

    assert not target.exists()
    assert cut_texts(source, PageRange(1, 2), tmp_path) == (word(1), word(2))


def test_a_target_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path, seven: Source) -> None:
    """The document is not to blame."""
    with pytest.raises(FileNotFoundError):
        cut(seven, PageRange(1, 1), tmp_path / "gone" / "chunk.pdf")


def test_the_same_reason_every_time(tmp_path: Path) -> None:
    """A reason holds no memory address, so that two runs report the same words."""
    source = written(tmp_path, pdf(3).replace(b"/Kids", b"/Kidz"))

    assert inspect(source) == inspect(source)


def test_a_source_that_changed_after_hashing_is_refused(tmp_path: Path, seven: Source) -> None:
    """Its pages must not be filed under the old hash: not on the first cut, and not while it is held open."""
    path = Path(seven.path)
    assert inspect(seven).pages == 7

    with path.open("ab") as file:
        file.write(b"\n% appended")

    for attempt in (lambda: inspect(seven), lambda: cut(seven, PageRange(1, 1), tmp_path / "chunk.pdf")):
        with pytest.raises(SourceChangedError):
            attempt()


def test_a_source_of_the_same_size_but_another_time_is_refused(tmp_path: Path, seven: Source) -> None:
    """The time of the last change counts too."""
    os.utime(seven.path, ns=(seven.mtime_ns + 1,) * 2)

    with pytest.raises(SourceChangedError):
        cut(seven, PageRange(1, 1), tmp_path / "chunk.pdf")


def test_a_source_that_changes_while_it_is_cut_is_refused(
    tmp_path: Path, seven: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which bytes were read is unknown then; no file is left of them."""
    copy = Copier.copy

    def disturbed(copier: Copier, pages: PageRange, out: BinaryIO, max_bytes: int | None) -> Copied:
        with Path(seven.path).open("ab") as file:
            file.write(b"%")
        return copy(copier, pages, out, max_bytes)

    monkeypatch.setattr(Copier, "copy", disturbed)

    with pytest.raises(SourceChangedError):
        cut(seven, PageRange(1, 1), tmp_path / "chunk.pdf")
    assert not (tmp_path / "chunk.pdf").exists()


def test_a_source_that_is_written_to_while_it_is_read_is_no_broken_pdf(seven: Source) -> None:
    """What pypdf then says of it would be filed under the hash of what it was."""

    def read() -> None:
        with splitter.opened(seven):
            Path(seven.path).write_bytes(b"another")
            raise PdfError("page 3 cannot be read")

    with pytest.raises(SourceChangedError):
        read()


def test_a_disk_that_fails_is_remembered() -> None:
    """The first page of this process's memory cannot be read, as a bad sector cannot."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("no /proc here")
    with io.BufferedReader(WatchedFile("/proc/self/mem")) as file:
        with pytest.raises(OSError, match="Input/output"):
            file.read(1)

        assert isinstance(file.raw, WatchedFile)
        assert file.raw.trouble is not None


def test_a_source_that_could_not_be_read_is_no_broken_pdf(
    tmp_path: Path, seven: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out of a chunk for a disk that failed, whatever pypdf made of it."""
    copy = Copier.copy

    def disturbed(copier: Copier, pages: PageRange, out: BinaryIO, max_bytes: int | None) -> Copied:
        copier.reader.stream.raw.trouble = OSError(errno.EIO, "Input/output error")  # type: ignore[union-attr]
        return copy(copier, pages, out, max_bytes)

    monkeypatch.setattr(Copier, "copy", disturbed)

    with pytest.raises(OSError, match="Input/output"):
        cut(seven, PageRange(1, 1), tmp_path / "chunk.pdf")
    assert not (tmp_path / "chunk.pdf").exists()


def test_a_source_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    """A missing file is no broken PDF."""
    with pytest.raises(FileNotFoundError):
        inspect(Source(str(tmp_path / "gone.pdf"), 1, 1))


def test_the_same_range_twice_gives_the_same_bytes(tmp_path: Path, seven: Source) -> None:
    """Freshly opened or held, after other ranges or first: one range is one sequence of bytes."""
    results = []
    for opened_anew in (True, False, True):
        if opened_anew:
            splitter._close_held()
        else:
            cut(seven, PageRange(1, 4), tmp_path / "other.pdf")
        cut(seven, PageRange(3, 5), tmp_path / "chunk.pdf")
        results.append((tmp_path / "chunk.pdf").read_bytes())

    assert results[0] == results[1] == results[2]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that a reader is made for."""
    names: list[str] = []

    def noted(file: io.BufferedReader, repair: Repair | None, passwords: Sequence[str]) -> Reader:
        names.append(Path(file.name).name)
        return Reader(file, repair, passwords)

    monkeypatch.setattr(splitter, "Reader", noted)
    return names


def test_many_chunks_of_one_file_open_it_once(tmp_path: Path, seven: Source, opened: list[str]) -> None:
    """Counting and cutting one document after another read each cross-reference table once."""
    other = written(tmp_path, pdf(3))
    inspect(seven)
    for page in range(1, 8):
        cut(seven, PageRange(page, page), tmp_path / "chunk.pdf")
    for page in range(1, 4):
        cut(other, PageRange(page, page), tmp_path / "chunk.pdf")

    assert opened == ["seven.pdf", "x.pdf"]


def test_one_document_is_held_open_at_most(tmp_path: Path) -> None:
    """A thousand documents in turn do not use up the file handles."""
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("no /proc here")
    before = len(list(handles.iterdir()))
    for number in range(20):
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(pdf(1) if number % 2 else b"%PDF-1.7 startxref broken")
        inspect(source_of(path))

    assert len(list(handles.iterdir())) <= before + 1


def test_page_texts_are_those_of_the_pages() -> None:
    """One text for each page, in order; a page without text has none."""
    writer = PdfWriter(clone_from=io.BytesIO(pdf(2)))
    writer.add_blank_page(200, 200)
    buffer = io.BytesIO()
    writer.write(buffer)

    assert page_texts(buffer.getvalue()) == (word(1), word(2), "")


def test_page_texts_have_what_fields_and_annotations_show() -> None:
    """In their present state; not what is hidden, whatever state it is in, nor what cannot be read."""
    fields = {
        b"shown": b"/Subtype/Widget/FT/Tx/V(other)",
        b"stamped": b"/Subtype/Stamp",
        b"hidden": b"/Subtype/Widget/FT/Tx/F 2",
        b"unseen": b"/Subtype/Widget/FT/Tx/F 32",
        b"popup": b"/Subtype/Popup",
    }
    annotations = [
        b"<<%b/Rect[0 0 90 9]/AP<</N %d 0 R>>>>" % (kind, 20 + number) for number, kind in enumerate(fields.values())
    ]
    annotations += [
        b"<</Subtype/Widget/FT/Btn/AS/On/Rect[0 0 9 9]/AP<</N<</On 30 0 R/Off 31 0 R>>>>>>",
        b"<</Subtype/Widget/Rect[0 0 9 9]/AP<</N 32 0 R>>>>", b"7", b"<</AP 7>>", b"99 0 R",
    ]  # fmt: skip
    texts = {20 + number: word for number, word in enumerate(fields)} | {30: b"ticked", 31: b"unticked"}
    form = b"/Subtype/Form/BBox[0 0 90 9]/Resources<</Font<</F 5 0 R>>>>"
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 200 200]>>",
        3: b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>/Annots[%b]>>"
        % b" ".join(annotations),
        4: stream(b"BT /F 9 Tf (printed) Tj ET"),
        5: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        **{number: stream(b"BT /F 9 Tf (%b) Tj ET" % text, form) for number, text in texts.items()},
        32: stream(b"no flate", form + b"/Filter/FlateDecode"),
    }  # fmt: skip

    assert page_texts(raw_pdf(objects))[0].split() == ["printed", "shown", "stamped", "ticked"]


@pytest.mark.parametrize("user", ["", "secret"])
def test_page_texts_refuses_what_is_encrypted(user: str) -> None:
    """As the API does, even when the password is empty."""
    with pytest.raises(PdfError) as caught:
        page_texts(encrypted(pdf(1), user))

    assert caught.value.encrypted


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.booleans())
def test_page_texts_of_anything_is_a_pdf_error_at_worst(junk: bytes, dressed: bool) -> None:
    """Random bytes, also dressed up as a PDF, raise nothing else."""
    with pytest.raises(PdfError):
        page_texts(b"%PDF-1.7\n" + junk + b"\nstartxref\n9\n%%EOF" if dressed else junk)


def test_a_pdf_error_survives_the_way_between_processes() -> None:
    """Pickled and back it has its reason and its mark."""
    back = pickle.loads(pickle.dumps(PdfError("locked", encrypted=True)))  # noqa: S301 - our own bytes

    assert (str(back), back.reason, back.encrypted) == ("locked", "locked", True)


def test_a_value_survives_the_way_between_processes(seven: Source) -> None:
    """What functions take and give can be pickled."""
    for value in (seven, inspect(seven), PageRange(1, 2)):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes


@pytest.mark.skipif(not CORPUS_FILES, reason="the collection of broken PDFs is not here")
@pytest.mark.parametrize("path", CORPUS_FILES, ids=lambda path: f"{path.parent.name}/{path.stem[:40]}")
def test_a_file_of_the_corpus_is_cut_or_has_a_reason(path: Path, tmp_path: Path) -> None:
    """Real files that break programs: counted and cut as a whole, or a reason; the ordinary ones all work."""
    source, target = source_of(path), tmp_path / "whole.pdf"

    found = inspect(source)
    assert found.pages is not None or found.problem is not None
    reader = None
    if found.pages is not None:
        with suppress(PdfError):
            cut(source, PageRange(1, found.pages), target)
            reader = PdfReader(target)
    assert target.exists() is (reader is not None)

    kind = path.parent.name
    if kind == "benign":
        assert found.problem is None
    if kind in ("benign", "opens-without-password"):
        assert reader is not None
        assert not reader.is_encrypted
        assert len(reader.pages) == found.pages
    if kind in ("locked", "unsupported"):
        assert found.encrypted
    if kind == "repairable" and path.name not in BEYOND_REPAIR:
        assert found.note == "repaired: the file's index was damaged"
    if kind in ("unreadable", "zero") and "wrong-type" not in path.name and found.pages is not None:
        assert found.note or found.problem  # a page that is only named wrong is read as it is
