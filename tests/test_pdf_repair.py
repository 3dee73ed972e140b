"""Files without an index: what is left of them is found, what is lost is named, and nothing partial looks whole."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import splitter
from pipeline.domain import Layout, PageRange
from pipeline.pdf import Inspection, PdfError, Source
from pipeline.pdf_repair import Mended, repair
from pipeline.splitter import cut, inspect

INDEX = "repaired: the file's index was damaged"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


@pytest.fixture(autouse=True)
def _nothing_held() -> None:
    splitter._close_held()


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<<%b/Length %d>>stream\n%b\nendstream" % (entries, len(data), data)


def content(page: int) -> bytes:
    return stream(zlib.compress(b"BT /F1 24 Tf 72 700 Td (word%03d) Tj ET" % page), b"/Filter/FlateDecode")


def a_page(number: int, parent: int = 2, rest: bytes = b"") -> bytes:
    """A page whose content is the object after it."""
    own = b"/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>%b>>" % rest
    return b"<</Type/Page/Parent %d 0 R/Contents %d 0 R%b>>" % (parent, number + 1, own)


def written(objects: Iterable[tuple[int, bytes]], end: bytes = b"trailer<</Root 1 0 R>>\n") -> bytes:
    """A file of these objects without a usable index."""
    body = b"".join(b"%d 0 obj%b\nendobj\n" % entry for entry in objects)
    return b"%PDF-1.7\n" + body + end


def tree_first(pages: int) -> list[tuple[int, bytes]]:
    """A document whose page tree stands before its pages, 10, 12, 14 and so on."""
    kids = b" ".join(b"%d 0 R" % (10 + 2 * n) for n in range(pages))
    tree = b"<</Type/Pages/Count %d/Kids[%b]>>" % (pages, kids)
    objects = [(1, b"<</Type/Catalog/Pages 2 0 R>>"), (2, tree), (3, FONT)]
    for n in range(pages):
        objects += [(10 + 2 * n, a_page(10 + 2 * n)), (11 + 2 * n, content(n + 1))]
    return objects


def tree_last(pages: int) -> list[tuple[int, bytes]]:
    """The same, as most programs write it: what names the pages comes last."""
    catalog, tree, font, *rest = tree_first(pages)
    return [font, *rest, tree, catalog]


def saved(folder: Path, data: bytes) -> Source:
    path = folder / "x.pdf"
    path.write_bytes(data)
    splitter._close_held()
    facts = path.stat()
    return Source(str(path), facts.st_size, facts.st_mtime_ns)


def words(source: Source, pages: int | None, folder: Path) -> list[str | None]:
    """The text of each page, cut alone; None where it cannot be cut."""
    found: list[str | None] = []
    for page in range(1, (pages or 0) + 1):
        target = folder / "chunk.pdf"
        try:
            cut(source, PageRange(page, page), target, 10**9)
        except PdfError:
            found.append(None)
        else:
            with pypdfium2.PdfDocument(target) as document:
                found.append(document[0].get_textpage().get_text_bounded())
    return found


def expected(pages: Iterable[int | None]) -> list[str | None]:
    return [f"word{page:03}" if page else None for page in pages]


@pytest.mark.parametrize("objects", [tree_first(4), tree_last(4)], ids=["tree-first", "tree-last"])
@pytest.mark.parametrize("end", [b"trailer<</Root 1 0 R>>\n", b"xref\n0 1\ngarbage", b"startxref\n99999\n%%EOF\n"])
def test_a_file_without_an_index_has_all_its_pages(
    tmp_path: Path, objects: Sequence[tuple[int, bytes]], end: bytes
) -> None:
    """Nothing is lost but the table of places; the reader is told, and the layout is seen too."""
    source = saved(tmp_path, written(objects, end))

    found = inspect(source)

    assert found in (Inspection(4, note=INDEX, layout=Layout((7, 7, 7, 7))), Inspection(4, layout=Layout((7, 7, 7, 7))))
    assert (found.note == INDEX) or end.startswith(b"startxref")
    assert words(source, 4, tmp_path) == expected([1, 2, 3, 4])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_cut_anywhere_shows_exactly_the_pages_that_are_left(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A page counts as readable when all of it lies before the cut, and then it is the page that it was."""
    folder = tmp_path_factory.mktemp("cut")
    whole = written(tree_first(5))
    at = data.draw(st.integers(whole.index(b"10 0 obj"), whole.index(b"trailer") - 1))
    ends = [whole.index(b"endstream", whole.index(b"%d 0 obj" % number)) + 9 for number in range(11, 20, 2)]
    left = [page for page, end in enumerate(ends, 1) if end <= at]
    source = saved(folder, whole[:at])

    found = inspect(source)

    if not left:
        assert found.pages is None
        assert (found.problem or "").startswith("truncated or damaged: the end of the PDF is missing")
        return
    assert (found.pages, found.problem, found.note) == (5, None, f"truncated: {len(left)} of 5 pages readable")
    assert words(source, 5, folder) == expected(page if page in left else None for page in range(1, 6))


def test_a_file_that_lost_its_page_tree_is_never_whole(tmp_path: Path) -> None:
    """The pages that are left are read; that there were more cannot be ruled out, and the problem says so."""
    whole = written(tree_last(5))
    source = saved(tmp_path, whole[: whole.index(b"16 0 obj") + 3])

    found = inspect(source)

    assert found.problem == "truncated: 3 of 3 pages readable; whether there were more is not known"
    assert words(source, found.pages, tmp_path) == expected([1, 2, 3])


def test_a_picture_that_is_lost_makes_its_page_unreadable(tmp_path: Path) -> None:
    """A viewer would show the page without it, and a model would report on what it cannot see."""
    objects = tree_first(2)
    objects[3] = (10, a_page(10, rest=b"/XObject<</I 40 0 R>>"))
    picture = stream(
        bytes(100), b"/Type/XObject/Subtype/Image/Width 10/Height 10/BitsPerComponent 8/ColorSpace/DeviceGray"
    )
    objects[4] = (11, stream(b"BT /F1 24 Tf (word001) Tj ET /I Do"))
    whole = written([*objects, (40, picture)])
    source = saved(tmp_path, whole[:-60])

    assert inspect(source).note == "truncated: 1 of 2 pages readable"
    assert words(source, 2, tmp_path) == expected([None, 2])


def test_what_a_page_inherits_may_be_lost_with_the_tree(tmp_path: Path) -> None:
    """Without its fonts and its size a page is not whole."""
    pages = [(10, b"<</Type/Page/Parent 2 0 R/Contents 11 0 R>>"), (11, content(1)), (12, a_page(12)), (13, content(2))]
    source = saved(tmp_path, written([(3, FONT), *pages], b""))

    assert (inspect(source).problem or "").startswith("truncated: 1 of 2 pages readable")
    assert words(source, 2, tmp_path) == expected([None, 2])


def objects_in_a_stream(objects: Sequence[tuple[int, bytes]]) -> bytes:
    bodies, places, place = b"", [], 0
    for number, body in objects:
        places.append(b"%d %d" % (number, place))
        bodies += body + b" "
        place += len(body) + 1
    head = b" ".join(places) + b" "
    entries = b"/Type/ObjStm/N %d/First %d/Filter/FlateDecode" % (len(objects), len(head))
    return stream(zlib.compress(head + bodies), entries)


def test_objects_in_object_streams_are_found(tmp_path: Path) -> None:
    """Newer files hold their page tree compressed."""
    loose = [entry for entry in tree_first(3) if entry[1].endswith(b"endstream")]
    packed = [entry for entry in tree_first(3) if not entry[1].endswith(b"endstream")]
    whole = written([*loose, (50, objects_in_a_stream(packed))], b"startxref\n1\n%%EOF")
    source = saved(tmp_path, whole)

    assert (inspect(source).pages, inspect(source).note) == (3, INDEX)
    assert words(source, 3, tmp_path) == expected([1, 2, 3])


def test_an_object_stream_that_is_broken_leaves_no_page_for_whole(tmp_path: Path) -> None:
    """Nobody knows which pages it held."""
    packed = objects_in_a_stream(tree_first(2)[:3])
    broken = packed.replace(packed[-30:-20], b"\0" * 10)
    pages = tree_first(2)[3:]
    source = saved(tmp_path, written([(3, FONT), *pages, (50, broken)]))

    assert inspect(source).problem == "truncated: 2 of 2 pages readable; whether there were more is not known"


def test_the_last_definition_of_an_object_counts(tmp_path: Path) -> None:
    """As in a file that was changed and saved again."""
    source = saved(tmp_path, written([*tree_first(2), (11, content(7))]))

    assert words(source, inspect(source).pages, tmp_path) == expected([7, 2])


def test_what_an_attached_file_holds_is_no_object_of_ours(tmp_path: Path) -> None:
    """An uncompressed PDF inside of a PDF has objects of the same numbers."""
    attached = stream(written([(11, content(9)), (2, b"<</Type/Pages/Count 0/Kids[]>>")]), b"/Type/EmbeddedFile")
    source = saved(tmp_path, written([*tree_first(2), (60, attached)]))

    assert (inspect(source).pages, inspect(source).note) == (2, INDEX)
    assert words(source, 2, tmp_path) == expected([1, 2])


def test_encryption_without_its_key_is_not_taken_for_content(tmp_path: Path) -> None:
    """The trailer that says so may be lost: then nothing of the file is used."""
    secrets = (70, b"<</Filter/Standard/V 2/R 3/Length 128/P -1340/O<00>/U<00>>>")
    source = saved(tmp_path, written([*tree_first(2), secrets], b""))

    assert inspect(source) == Inspection(None, problem="truncated or damaged: the end of the PDF is missing")


def test_an_update_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    """The earlier part has an end of its own: read alone it would pass for the whole file."""
    whole = written(tree_first(2), b"xref\n0 1\n0000000000 65535 f \ntrailer<</Root 1 0 R>>\nstartxref\n9\n%%EOF\n")
    later = whole + b"11 0 obj" + content(7)[:-20]
    source = saved(tmp_path, later)

    assert inspect(source).note == "truncated: 1 of 2 pages readable"


def test_the_file_itself_stays_as_it_is(tmp_path: Path) -> None:
    """Counting and cutting repair nothing on disk."""
    source = saved(tmp_path, written(tree_last(3)))
    before = hashlib.sha256(Path(source.path).read_bytes()).digest()

    words(source, inspect(source).pages, tmp_path)

    assert hashlib.sha256(Path(source.path).read_bytes()).digest() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chunk.pdf", "x.pdf"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-2, 40), st.sampled_from([0, 1, 2]), st.integers(0, 20)), max_size=12))
def test_a_mended_file_reads_like_one_file(steps: list[tuple[int, int, int]]) -> None:
    """Wherever one reads, there are the file's bytes and then the index, as in a file of both."""
    mended, both = io.BufferedReader(Mended(io.BytesIO(b"abcdefghij"), b"KLMNOP")), io.BytesIO(b"abcdefghijKLMNOP")
    for offset, whence, size in steps:
        if whence == 0 and offset >= 0:
            assert mended.seek(offset) == both.seek(offset)
        elif whence == 2:
            assert mended.seek(0, 2) == both.seek(0, 2)
        assert mended.read(size) == both.read(size)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 900), st.integers(0, 60))
def test_any_damage_has_an_end(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, lost: int) -> None:
    """Bytes changed, lost or put in anywhere: pages or a reason, and what is cut is some page of the file."""
    folder = tmp_path_factory.mktemp("damage")
    whole = written(tree_first(3))
    source = saved(folder, whole[:at] + junk + whole[at + lost :])

    found = inspect(source)

    assert found.pages is not None or found.problem


@pytest.mark.parametrize("rest", [b"", b"startxref", b"\n1 0 obj", b"startxref\n1 0 obj\n", b"\n<</Type/Page>>endobj"])
def test_what_has_no_pages_has_no_index(tmp_path: Path, rest: bytes) -> None:
    """There is nothing to repair, and the reason is that of the file."""
    assert repair(io.BytesIO(b"%PDF-1.7" + rest)) is None
    found = inspect(saved(tmp_path, b"%PDF-1.7" + rest))
    assert (found.problem or "").startswith(("truncated or damaged", "not a readable PDF"))


@pytest.mark.parametrize("spam", [b"1 0 obj ", b"1 0 obj<</Type/Page/Parent 1 0 R>>", b"1 0 obj<</Length 9>>stream "])
def test_a_file_made_of_beginnings_ends_soon(spam: bytes) -> None:
    """Some 100,000 of them are gone through in seconds; the sandbox ends what takes longer."""
    assert repair(io.BytesIO(b"%PDF-1.7\n" + spam * 100_000)) is None or b"Page" in spam
