"""Pages copied to files of their own: what travels with them, what stays behind, what broken files do."""

from __future__ import annotations

import base64
import io
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from pypdf.errors import PdfReadError
from pypdf.generic import NullObject

from pipeline import pdf_reader, pdf_repair, pdf_writer
from pipeline.copier import Copier
from pipeline.domain import PageRange
from pipeline.pdf import Copied, PdfError
from pipeline.pdf_reader import Reader
from pipeline.pdf_writer import Writer
from tools.corpus.originals import raw_pdf, stream

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((ROOT / "sample_docs" / "contracts").glob("*.pdf"))
OPENING = ("benign", "opens-without-password", "bloat", "split", "badchunk", "pypdf-only")
REAL = SAMPLES + [path for kind in OPENING for path in sorted((ROOT.parent / "shared" / "corpus" / kind).glob("*.pdf"))]
# Its only content stream is 3.5 bytes long, by its own word.
WITHOUT_CONTENT = {"format-corpus__T02-05-01_015_invalid-stream-length-in-dictionary.pdf"}

PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 10 0 R%b>>"


def document(*pages: bytes, catalog: bytes = b"", tree: bytes = b"", **others: bytes) -> bytes:
    """A PDF of these page dictionaries, which are objects 3, 4 ...; ``others`` are named ``o`` and their number."""
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 3 + len(pages)))
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R%b>>" % catalog,
        2: b"<</Type/Pages/Count %d/Kids[%b]%b>>" % (len(pages), kids, tree),
        **dict(enumerate(pages, 3)),
        10: stream(b"0 0 m 9 9 l S"),
    }
    return raw_pdf({**objects, **{int(name[1:]): body for name, body in others.items()}})


def copied(data: bytes, first: int = 1, last: int = 1, max_bytes: int | None = None) -> tuple[bytes, Copied]:
    out = io.BytesIO()
    result = Copier(Reader(io.BytesIO(data))).copy(PageRange(first, last), out, max_bytes)
    assert result.size_bytes == len(out.getvalue())
    return out.getvalue(), result


def chunk(data: bytes, first: int = 1, last: int = 1) -> PdfReader:
    """The copied pages, as pypdf reads them with nothing to complain about."""
    return PdfReader(io.BytesIO(copied(data, first, last)[0]), strict=True)


def names(resources: Any, part: str) -> set[str]:
    return set(resources.get(part, {}).get_object()) if part in resources else set()


def looks(data: bytes, number: int, longest: int = 400) -> tuple[bytes, int, int] | None:
    """The pixels of a page, counted from 1, with its annotations and form fields; None if it cannot be drawn."""
    try:
        with pypdfium2.PdfDocument(data) as file:
            file.init_forms()
            page = file[number - 1]
            scale = longest / max(*page.get_size(), 1)
            bitmap = page.render(scale=scale)
            return bytes(bitmap.buffer), bitmap.width, bitmap.height
    except pypdfium2.PdfiumError:
        return None


# Looks


@pytest.mark.parametrize("path", REAL, ids=lambda path: f"{path.parent.name}/{path.stem[:40]}")
def test_every_page_looks_as_it_did(path: Path) -> None:
    """Each page of real documents, cut out alone, is drawn in the same pixels, or says why it cannot be cut."""
    data = path.read_bytes()
    reader = Reader(io.BytesIO(data))
    copier = Copier(reader)
    for number in range(1, min(len(reader.pages), 12) + 1):
        out = io.BytesIO()
        if path.name in WITHOUT_CONTENT:
            with pytest.raises(PdfError, match=f"^page {number} cannot be read: "):
                copier.copy(PageRange(number, number), out)
            continue
        copier.copy(PageRange(number, number), out)
        assert looks(data, number) in (None, looks(out.getvalue(), 1))  # None: only pypdf reads the source


def test_the_comparison_of_looks_sees_a_difference() -> None:
    """A line that is missing is noticed."""
    lines = document(PAGE % b"", PAGE.replace(b"10 0 R", b"11 0 R") % b"", o11=stream(b"0 0 m 0 0 l S"))

    assert looks(lines, 1) is not None
    assert looks(lines, 1) != looks(lines, 2)


def test_boxes_rotation_and_unit_are_kept() -> None:
    """Own and inherited page attributes arrive, also those that pypdf does not inherit."""
    own = b"<</Type/Page/Parent 2 0 R/UserUnit 2.5/TrimBox[5 5 90 90]/ArtBox[6 6 9 9]/BleedBox[1 2 3 4]/Rotate 270>>"
    data = document(own, PAGE % b"", tree=b"/MediaBox[0 0 100 300]/CropBox[1 1 99 299]/Rotate 90")

    first, second = (dict[str, Any](page) for page in chunk(data, 1, 2).pages)

    assert first["/UserUnit"] == 2.5
    assert first["/Rotate"] == 270
    assert [first[key] for key in ("/MediaBox", "/CropBox")] == [[0, 0, 100, 300], [1, 1, 99, 299]]
    assert [first[key] for key in ("/TrimBox", "/ArtBox", "/BleedBox")] == [[5, 5, 90, 90], [6, 6, 9, 9], [1, 2, 3, 4]]
    assert (second["/MediaBox"], second["/Rotate"]) == ([0, 0, 200, 200], 90)


def test_pages_of_a_deep_tree_come_in_order() -> None:
    """Fifty levels of page tree nodes, a page at each."""
    objects = {1: b"<</Type/Catalog/Pages 100 0 R>>"}
    for level in range(50):
        node, page = 100 + level, 200 + level
        deeper = b"%d 0 R" % (node + 1) if level < 49 else b""
        objects[node] = b"<</Type/Pages/Count 1/MediaBox[0 0 %d 9]/Kids[%d 0 R %b]>>" % (10 + level, page, deeper)
        objects[page] = b"<</Type/Page/Parent %d 0 R>>" % node

    pages = chunk(raw_pdf(objects), 11, 40).pages

    assert [page["/MediaBox"][2] for page in pages] == list(range(20, 50))  # type: ignore[index]


# Resources


SHARED = b"/Resources<</XObject<</A 20 0 R/B 21 0 R/C 22 0 R>>/Font<</F1 23 0 R/F2 24 0 R>>%b>>"
IMAGE = stream(b"\xff" * 64, b"/Type/XObject/Subtype/Image/Width 8/Height 8/ColorSpace/DeviceGray/BitsPerComponent 8")
FORM = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def shared(content: bytes, more: bytes = b"", filters: bytes = b"", **others: bytes) -> bytes:
    """One page with this content and resources that it may not need."""
    objects = {"o20": IMAGE, "o21": IMAGE, "o22": IMAGE, "o23": FONT, "o24": FONT, **others}
    objects["o10"] = stream(content, filters)
    return document(PAGE % b"", tree=SHARED % more, **objects)


@pytest.mark.parametrize(
    ("content", "pictures", "fonts"),
    [
        (b"q /B Do Q BT /F2 9 Tf (x) Tj ET", {"/B"}, {"/F2"}),
        (b"/#42 Do", {"/B"}, set()),
        (b"/A Do/C Do", {"/A", "/C"}, set()),
        (b"0 0 m", set(), set()),
        (b"BI /W 1 /H 1 /CS /B /BPC 8 ID x EI", {"/B"}, set()),
    ],
)
def test_only_resources_that_the_content_names_travel(content: bytes, pictures: set[str], fonts: set[str]) -> None:
    """Entries of shared dictionaries that no content names are left behind, with the objects behind them."""
    reader = chunk(shared(content))
    resources = reader.pages[0]["/Resources"]

    assert names(resources, "/XObject") == pictures
    assert names(resources, "/Font") == fonts
    images = [o for n in range(1, len(reader.xref[0]) + 1) if "/Width" in str(o := reader.get_object(n))]
    assert len(images) == len(pictures)


@pytest.mark.parametrize("encoding", ["flate", "ascii85 and flate"])
def test_encoded_content_is_read_for_its_names(encoding: str) -> None:
    """The encodings that content has in practice."""
    data, filters = zlib.compress(b"/B Do"), b"/Filter/FlateDecode"
    if encoding != "flate":
        data, filters = base64.a85encode(data) + b"~>", b"/Filter[/ASCII85Decode/FlateDecode]"

    assert names(chunk(shared(data, filters=filters)).pages[0]["/Resources"], "/XObject") == {"/B"}


@pytest.mark.parametrize(
    ("content", "filters"),
    [
        (zlib.compress(b"/B Do" * 1000)[:-9], b"/Filter/FlateDecode"),
        (b"not compressed", b"/Filter/FlateDecode"),
        (b"x", b"/Filter/LZWDecode"),
        (zlib.compress(b"/B Do"), b"/Filter/FlateDecode/DecodeParms<</Predictor 12>>"),
        (b"/B Do", b"/Filter/ASCII85Decode"),
        (zlib.compress(bytes(20_000_000)), b"/Filter/FlateDecode"),
        (b"/B Do", b"/Filter/RunLengthDecode"),
    ],
)
def test_content_that_cannot_be_read_to_its_end_keeps_everything(content: bytes, filters: bytes) -> None:
    """A doubt never costs a picture: truncated, broken, huge or in a rare encoding."""
    assert names(chunk(shared(content, filters=filters)).pages[0]["/Resources"], "/XObject") == {"/A", "/B", "/C"}


@pytest.mark.parametrize(
    ("content", "more", "others"),
    [
        (b"/A Do", b"", {"o20": stream(b"/B Do", FORM)}),
        (b"/A Do", b"", {"o20": stream(b"/Z Do /B Do", FORM + b"/Resources<</XObject<</Z 21 0 R>>>>")}),
        (b"/A Do", b"", {"o20": stream(b"/C Do", FORM), "o22": stream(b"/B Do", FORM)}),
        (b"/G gs", b"/ExtGState<</G<</SMask<</S/Alpha/G 30 0 R>>>>>>", {"o30": stream(b"/B Do", FORM)}),
        (b"/P scn", b"/Pattern<</P 30 0 R>>", {"o30": stream(b"/B Do", b"/PatternType 1")}),
    ],
)
def test_names_in_forms_count(content: bytes, more: bytes, others: dict[str, bytes]) -> None:
    """What a form, a pattern or a soft mask has not itself it may take from the page."""
    resources = chunk(shared(content, more, **others)).pages[0]["/Resources"]

    assert "/B" in names(resources, "/XObject")
    assert names(resources, "/Font") == set()


def test_a_form_without_resources_takes_them_where_it_is_used() -> None:
    """Used by the page and by another form, it names entries of both."""
    inner = stream(b"/B Do", FORM)
    for name in (b"I", b"J", b"K", b"L", b"M", b"N", b"O", b"P"):  # which of the two is met first is up to chance
        outer = stream(b"/%b Do" % name, FORM + b"/Resources<</XObject<</%b 30 0 R/B 22 0 R>>>>" % name)
        data = shared(b"/A Do /%b Do" % name, b"", o20=outer, o30=inner)
        data = data.replace(b"/A 20 0 R", b"/%b 30 0 R/A 20 0 R" % name)
        resources: Any = chunk(data).pages[0]["/Resources"]

        assert names(resources, "/XObject") == {"/A", "/" + name.decode(), "/B"}
        assert names(resources["/XObject"]["/A"]["/Resources"], "/XObject") == {"/" + name.decode(), "/B"}


def test_a_form_keeps_its_own_resources_only() -> None:
    """Forms share dictionaries too; each gets what it names."""
    both = b"/Resources<</XObject<</Y 21 0 R/Z 22 0 R>>>>"
    page = chunk(shared(b"/A Do", o20=stream(b"/Z Do", FORM + both))).pages[0]
    resources: Any = page["/Resources"]

    assert names(resources, "/XObject") == {"/A"}
    assert names(resources["/XObject"]["/A"]["/Resources"], "/XObject") == {"/Z"}


def test_a_font_that_draws_with_the_pages_resources_keeps_them() -> None:
    """A Type 3 font without resources may name any of the page's."""
    font = b"<</Type/Font/Subtype/Type3/CharProcs<</a 30 0 R>>/FontBBox[0 0 1 1]>>"
    data = shared(b"BT /F1 9 Tf (a) Tj ET", o23=font, o30=stream(b"/B Do"))

    assert names(chunk(data).pages[0]["/Resources"], "/XObject") == {"/A", "/B", "/C"}


def test_resources_that_are_all_used_are_shared_as_before() -> None:
    """One object for all pages that inherit it, not a copy for each."""
    everything = b"<</Font<</F1 23 0 R>>>>"
    pages = [PAGE % b""] * 3
    data = document(*pages, tree=b"/Resources 20 0 R", o10=stream(b"/F1 9 Tf"), o20=everything, o23=FONT)

    assert len({page.raw_get("/Resources").idnum for page in chunk(data, 1, 3).pages}) == 1


def test_default_colour_spaces_are_used_without_a_name() -> None:
    """They stand for the device's colours wherever those are set."""
    data = shared(b"1 g", b"/ColorSpace<</DefaultGray[/CalGray 30 0 R]/CS0 30 0 R>>", o30=b"<</Gamma 2>>")

    assert names(chunk(data).pages[0]["/Resources"], "/ColorSpace") == {"/DefaultGray"}


def test_chunks_with_shared_resources_are_together_as_large_as_the_source() -> None:
    """Sixty pages with one dictionary of all pictures, each page cut alone."""
    out = io.BytesIO()
    file = Writer(out)
    pictures = [file.reserve() for _ in range(60)]
    for number in pictures:
        file.write(
            number, stream(bytes(20_000), b"/Type/XObject/Subtype/Image/Width 200/Height 100/BitsPerComponent 8")
        )
    all_of_them = file.reserve()
    listed = b"".join(b"/I%d %b" % (n, pdf_writer.reference(n)) for n in pictures)
    file.write(all_of_them, b"<</XObject<<%b>>>>" % listed)
    for number in pictures:
        content = file.reserve()
        file.write_stream(content, b"", b"/I%d Do" % number)
        file.write_page(b"/MediaBox[0 0 9 9]/Resources %d 0 R/Contents %d 0 R" % (all_of_them, content))
    file.finish(b"")
    source = out.getvalue()

    sizes = [copied(source, page, page)[1].size_bytes for page in range(1, 61)]

    assert sum(sizes) < 1.1 * len(source)


# Annotations


def annotated(annotation: bytes, catalog: bytes = b"", **others: bytes) -> list[Any]:
    """The annotations that are left of one."""
    data = document(PAGE % b"/Annots[30 0 R]", PAGE % b"", catalog=catalog, o30=annotation, **others)
    page = chunk(data).pages[0]
    return [a.get_object() for a in page.get("/Annots", [])]


@pytest.mark.parametrize("kind", ["Stamp", "FreeText", "Ink", "Highlight", "Text", "Square", "FileAttachment"])
def test_annotations_that_say_something_travel(kind: str) -> None:
    """Comments, stamps and marks exist as annotations alone."""
    look = stream(b"0 0 m", FORM)
    ties = b"/P 3 0 R/Popup 40 0 R/IRT 4 0 R/A<</S/JavaScript/JS(x)>>/AA<<>>/FS 41 0 R/StructParent 1"
    body = b"<</Type/Annot/Subtype/%b/Rect[0 0 9 9]/Contents(a word)/AP<</N 42 0 R>>%b>>" % (kind.encode(), ties)

    (found,) = annotated(body, o40=b"<</Type/Annot>>", o41=b"<</Type/Filespec>>", o42=look)

    assert found["/Contents"] == "a word"
    assert found["/AP"]["/N"].get_data() == b"0 0 m"
    assert set(found) == {"/Type", "/Subtype", "/Rect", "/Contents", "/AP"}


@pytest.mark.parametrize(
    ("border", "travels"),
    [
        (b"/Border[0 0 0]", False),
        (b"/BS<</W 0>>", False),
        (b"/Border[0 0 1]", True),
        (b"", True),  # one unit by default
        (b"/Border[0 0 0]/AP<</N 42 0 R>>", True),
    ],
)
def test_a_link_travels_if_it_is_seen_and_leads_nowhere(border: bytes, travels: bool) -> None:
    """Its border is part of the look; its target would bring other pages along."""
    link = b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/Dest[4 0 R/Fit]/A<</S/URI/URI(http://x)>>%b>>" % border

    found = annotated(link, o42=stream(b"", FORM))

    assert [sorted({"/A", "/Dest"} & set(a)) for a in found] == ([[]] if travels else [])


def test_filled_fields_keep_their_value_and_look() -> None:
    """A value that stands in the parent field, the font of the form, and the wish for new appearances."""
    form = b"/AcroForm<</Fields[31 0 R]/NeedAppearances true/DA(/Helv 0 Tf)/DR<</Font<</Helv 50 0 R/No 51 0 R>>>>>>"
    parent = b"<</FT/Tx/T(customer)/V(Miller & Co)/DA(/Helv 9 Tf 0 g)/Kids[30 0 R]>>"
    widget = b"<</Type/Annot/Subtype/Widget/T(name)/Parent 31 0 R/Rect[0 0 90 9]/AP<</N 42 0 R>>>>"
    look = stream(b"BT (Miller & Co) Tj ET", FORM)
    pages = (PAGE % b"/Annots[30 0 R]", PAGE % b"")
    data = document(*pages, catalog=form, o30=widget, o31=parent, o42=look, o50=FONT, o51=FONT)

    reader = chunk(data, 1, 2)

    root: Any = reader.root_object
    assert (root["/AcroForm"]["/NeedAppearances"].value, root["/AcroForm"]["/DA"]) == (True, "/Helv 0 Tf")
    assert set(root["/AcroForm"]["/DR"]["/Font"]) == {"/Helv"}
    (field,) = root["/AcroForm"]["/Fields"]
    assert field == reader.pages[0].raw_get("/Annots")[0]
    assert (field["/FT"], field["/T"], field["/V"]) == ("/Tx", "customer.name", "Miller & Co")
    assert field["/AP"]["/N"].get_data() == b"BT (Miller & Co) Tj ET"
    assert "/AcroForm" not in chunk(data, 2, 2).root_object


def test_a_signature_keeps_its_look_and_not_its_proof() -> None:
    """The proof is one of the whole file, and is large."""
    signature = b"<</Contents<%b>/Reference[<</Data 1 0 R>>]>>" % (b"00" * 8000)
    widget = b"<</Type/Annot/Subtype/Widget/FT/Sig/T(s)/V 43 0 R/Rect[0 0 9 9]/AP<</N 42 0 R>>>>"
    data = document(PAGE % b"/Annots[30 0 R]", o30=widget, o42=stream(b"q Q", FORM), o43=signature)

    out, _ = copied(data)

    assert b"q Q" in out
    assert len(out) < 2000


def test_a_broken_annotation_costs_itself_alone() -> None:
    """Missing, no dictionary, without a kind, with a parent that is its own: the page and the others stay."""
    good = b"<</Subtype/Stamp/Rect[0 0 9 9]/Contents(good)>>"
    loop = b"<</Subtype/Widget/Rect[0 0 9 9]/Parent 33 0 R>>"
    data = document(
        PAGE % b"/Annots[99 0 R 30 0 R null 7 31 0 R 32 0 R 33 0 R]",
        o30=b"(text)", o31=b"<</Rect[0 0 9 9]>>", o32=good, o33=loop,
    )  # fmt: skip

    annotations: Any = chunk(data).pages[0]["/Annots"]

    assert [a["/Subtype"] for a in annotations] == ["/Stamp", "/Widget"]


# Layers


def test_hidden_layers_stay_hidden() -> None:
    """The state of the layers that the page has travels; the other layers do not."""
    layers = (
        b"/OCProperties<</OCGs[30 0 R 31 0 R 32 0 R]/D<</BaseState/ON/OFF[31 0 R 32 0 R]/Order[30 0 R 31 0 R]%b>>>>"
    )
    state = b"/AS[<</Event/View/Category[/View]/OCGs[31 0 R 32 0 R]>>]"
    page = PAGE % b"/Resources<</Properties<</L1 30 0 R/L2 31 0 R>>>>"
    content = stream(b"/OC /L2 BDC 0 0 200 200 re f EMC /OC /L1 BDC 0 0 50 50 re f EMC")
    groups = {f"o3{n}": b"<</Type/OCG/Name(layer %d)>>" % n for n in range(3)}
    data = document(page, catalog=layers % state, o10=content, **groups)

    out, _ = copied(data)

    properties: Any = PdfReader(io.BytesIO(out)).root_object["/OCProperties"]
    assert [group["/Name"] for group in properties["/OCGs"]] == ["layer 0", "layer 1"]
    assert [group["/Name"] for group in properties["/D"]["/OFF"]] == ["layer 1"]
    assert [group["/Name"] for group in properties["/D"]["/AS"][0]["/OCGs"]] == ["layer 1"]
    assert looks(out, 1) == looks(data, 1)
    assert looks(out, 1) != looks(document(page, o10=content, **groups), 1)


# What stays behind


def test_nothing_of_the_rest_of_the_document_travels() -> None:
    """Outlines, scripts, attached files, structure, metadata, threads and other pages are left behind."""
    catalog = (
        b"/Outlines 30 0 R/OpenAction<</S/JavaScript/JS 31 0 R>>/Names<</EmbeddedFiles<</Names[(f) 32 0 R]>>>>"
        b"/StructTreeRoot 33 0 R/Metadata 34 0 R/Dests 35 0 R/AA<</WC 36 0 R>>"
    )
    page = PAGE % (
        b"/B[30 0 R]/AA<</O 36 0 R>>/Metadata 34 0 R/PieceInfo<</X 31 0 R>>/StructParents 1/Thumb 31 0 R"
        b"/Resources<</XObject<</A 20 0 R>>/Properties<</M 33 0 R/N 4 0 R/O 37 0 R/P 32 0 R>>>>"
    )
    secret = stream(b"secret")
    image = IMAGE.replace(b"<<", b"<</Metadata 34 0 R/Alternates[31 0 R]/StructParent 1/PieceInfo<</X 31 0 R>>", 1)
    other = b"<</Parent 2 0 R/Note(secret)>>"
    data = document(
        page, other, catalog=catalog, o10=stream(b"/A Do /M /N /O /P"), o20=image,
        o30=b"<</Type/Outlines/T(secret)>>", o31=secret, o32=b"<</Type/Filespec/EF<</F 31 0 R>>/UF(secret)>>",
        o33=b"<</Type/StructElem/P 2 0 R/T(secret)>>", o34=secret, o35=b"<</a(secret)>>",
        o36=b"<</S/JavaScript/JS(secret)>>", o37=b"<</Type/Catalog/T(secret)>>",
    )  # fmt: skip

    out, _ = copied(data)

    assert b"/Width 8" in out
    assert b"secret" not in out
    for word in (b"Outlines", b"JavaScript", b"Struct", b"Metadata", b"PieceInfo", b"Alternates", b"/AA", b"/B["):
        assert word not in out


# Bytes


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(min_size=1, max_size=12))
def test_strings_and_names_of_any_bytes_stay_what_they_were(data: bytes, name: bytes) -> None:
    """A palette is a string, and a font may be named in any encoding: not one byte may change."""
    key = b"/" + b"".join(b"#%02X" % byte for byte in name)
    source = document(PAGE % b"/Group<</S/Transparency/CS[<%b>(%b)]/K %b>>" % (data.hex().encode(), b"a\\\rb", key))

    group = pdf_reader.resolved(Reader(io.BytesIO(copied(source)[0])).pages[0]["/Group"])

    assert isinstance(group, dict)
    assert group["/CS"][0].original_bytes == data
    assert str(group["/K"]).encode("latin1") == b"/" + name


def test_a_font_whose_name_is_not_utf8_is_found_by_the_content() -> None:
    """The name in the content and the name in the resources are the same bytes still."""
    page = PAGE % b"/Resources<</Font<</\xcb\xce\xcc\xe5 20 0 R>>>>"
    data = document(page, o10=stream(b"BT /\xcb\xce\xcc\xe5 90 Tf 20 20 Td (A) Tj ET"), o20=FONT)

    out, _ = copied(data)

    assert looks(out, 1) == looks(data, 1) != looks(document(page), 1)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30))
def test_a_number_keeps_its_value_without_an_exponent(value: float) -> None:
    """PDF knows no exponents."""
    text = pdf_writer.real(value)

    assert set(text) <= set(b"-.0123456789")
    assert float(text) == pytest.approx(value, rel=1e-12, abs=1e-19)


def test_streams_pass_as_they_are() -> None:
    """Nothing is decoded or packed anew: also bytes that could not be."""
    noise = b"\x00\x01 no deflate \r\n endobj \xff" * 9
    data = document(PAGE % b"", o10=stream(noise, b"/Filter/FlateDecode"))

    assert noise in copied(data)[0]


def test_the_same_pages_give_the_same_bytes_whatever_came_before() -> None:
    """A fresh copier and one that has copied other pages agree."""
    data = SAMPLES[0].read_bytes()
    worn = Copier(Reader(io.BytesIO(data)))
    for pages in (PageRange(1, 2), PageRange(2, 2), PageRange(1, 1)):
        out = io.BytesIO()
        worn.copy(pages, out)
        assert out.getvalue() == copied(data, pages.first, pages.last)[0]


# The limit


def heavy(pages: int) -> bytes:
    """Pages with a picture of their own, a shared one and a form field each."""
    form = b"/AcroForm<</Fields[]/DA(/Helv 0 Tf)/DR<</Font<</Helv 6 0 R>>>>>>"
    groups = b" ".join(b"%d 0 R" % (104 + 10 * page) for page in range(pages))
    layers = b"/OCProperties<</OCGs[%b]/D<</OFF[%b]>>>>" % (groups, groups)
    objects = {1: b"<</Type/Catalog/Pages 2 0 R%b%b>>" % (form, layers), 5: IMAGE, 6: FONT}
    for page in range(pages):
        own = 100 + 10 * page
        resources = b"<</XObject<</I %d 0 R/S 5 0 R>>/Properties<</L %d 0 R>>>>" % (own + 2, own + 4)
        objects[own] = b"<</Type/Page/MediaBox[0 0 9 9]/Contents %d 0 R/Resources %b/Annots[%d 0 R]>>" % (
            own + 1, resources, own + 3,
        )  # fmt: skip
        objects[own + 1] = stream(b"/I Do /S Do /L")
        objects[own + 2] = stream(bytes(1000 + page), b"/Subtype/Image")
        objects[own + 4] = b"<</Type/OCG/Name(layer)>>"
        objects[own + 3] = b"<</Subtype/Widget/T(f%d)/DA(/Helv 9 Tf)/Rect[0 0 9 9]>>" % page
    kids = b" ".join(b"%d 0 R" % (100 + 10 * page) for page in range(pages))
    objects[2] = b"<</Type/Pages/Count %d/Kids[%b]>>" % (pages, kids)
    return raw_pdf(objects)


def test_the_limit_is_met_to_the_byte() -> None:
    """What fits exactly is taken; with a byte less it is a page less, and the file is that of those pages."""
    data = heavy(12)
    for last in range(2, 13):
        whole, _ = copied(data, 1, last)

        assert copied(data, 1, 12, max_bytes=len(whole)) == (whole, Copied(PageRange(1, last), len(whole)))
        fewer, _ = copied(data, 1, last - 1)
        assert copied(data, 1, 12, max_bytes=len(whole) - 1)[0] == fewer


def test_a_single_page_above_the_limit_comes_alone() -> None:
    """The caller sees its size."""
    _, result = copied(heavy(3), 2, 3, max_bytes=500)

    assert result.pages == PageRange(2, 2)
    assert result.size_bytes > 500


def test_all_pages_are_found_in_chunks_that_fit() -> None:
    """Each chunk begins where the last one ended, and nothing is read twice but the page that did not fit."""
    data, first, sizes = heavy(40), 1, []
    copier = Copier(Reader(io.BytesIO(data)))
    while first <= 40:
        out = io.BytesIO()
        result = copier.copy(PageRange(first, 40), out, 10_000)
        assert len(PdfReader(out, strict=True).pages) == len(result.pages)
        sizes.append(result.size_bytes)
        first = result.pages.last + 1

    assert max(sizes) <= 10_000
    assert len(sizes) <= 9


# Broken and hostile files


def test_a_missing_or_broken_object_is_null_and_the_page_stays() -> None:
    """A font that the file has not, a picture that is its own length: the rest of the page is there."""
    page = PAGE % b"/Resources<</Font<</F 98 0 R>>/XObject<</X 97 0 R/Y 20 0 R>>>>"
    broken = b"<</Length 97 0 R>>stream\nx\nendstream"
    data = document(page, o10=stream(b"/F 9 Tf /X Do /Y Do"), o20=IMAGE, o97=broken)

    resources: Any = chunk(data).pages[0]["/Resources"]

    assert isinstance(resources["/Font"]["/F"], NullObject)
    assert isinstance(resources["/XObject"]["/X"], NullObject)
    assert resources["/XObject"]["/Y"]["/Width"] == 8


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"99 0 R", "its content is missing"),
        (b"[10 0 R 99 0 R]", "its content is missing"),
        (b"10", "its content is broken"),
        (b"(words)", "its content is broken"),
        (b"[10 0 R 10]", "its content is broken"),
        (b"2 0 R", "its content is broken"),
        (b"97 0 R", "page 2 cannot be read: "),
    ],
)
def test_a_page_without_its_content_is_an_error_that_names_it(contents: bytes, reason: str) -> None:
    """It would pass for an empty page that is answered."""
    broken = PAGE.replace(b"10 0 R", contents) % b""
    data = document(PAGE % b"", broken, o97=b"<</Length 97 0 R>>stream\nx\nendstream")

    with pytest.raises(PdfError, match=f"^page 2 cannot be read: .*{reason.removeprefix('page 2 cannot be read: ')}"):
        copied(data, 1, 2)
    assert len(chunk(data, 1, 1).pages) == 1


def test_the_reason_is_the_same_each_time() -> None:
    """The reader is used again, and what it says of a broken page does not change."""
    data = document(PAGE.replace(b"10 0 R", b"97 0 R") % b"", o97=b"<</Length 3.5>>stream\nx\nendstream")
    copier, reasons = Copier(Reader(io.BytesIO(data))), set()
    for _ in range(3):
        with pytest.raises(PdfError) as caught:
            copier.copy(PageRange(1, 1), io.BytesIO())
        reasons.add(str(caught.value))

    assert len(reasons) == 1


def test_a_reason_holds_no_address() -> None:
    """Two runs give the same words."""
    page = PAGE.replace(b"10 0 R", b"97 0 R") % b""
    data = document(page, o97=b"<</Length 97 0 R>>stream\nx").replace(b"endobj\nxref", b"xref")

    with pytest.raises(PdfError, match=r"^page 1 cannot be read: .*IndirectObject\(97, 0\)"):
        copied(data)


def test_a_page_whose_resources_are_missing_is_an_error_that_names_it() -> None:
    """Without its fonts it would pass for an empty page."""
    with pytest.raises(PdfError, match=r"^page 1 cannot be read: its resources are missing"):
        copied(document(PAGE % b"/Resources 99 0 R"))


def in_object_stream(*bodies: bytes, root: int = 1) -> bytes:
    """A page whose graphics states are these objects, number 20 and so on, of one object stream."""
    offsets = [sum(len(body) + 1 for body in bodies[:n]) for n in range(len(bodies))]
    index = b" ".join(b"%d %d" % (20 + n, offset) for n, offset in enumerate(offsets)) + b"\n"
    states = b"".join(b"/G%d %d 0 R" % (n, 20 + n) for n in range(len(bodies)))
    numbers = b" ".join(b"/G%d gs" % n for n in range(len(bodies)))
    page = PAGE % b"/Resources<</ExtGState<<%b>>>>" % states
    entries = b"/Type/ObjStm/N %d/First %d" % (len(bodies), len(index))
    packed = stream(index + b"\n".join(bodies), entries)
    data = document(page, o10=stream(numbers), o15=packed)
    table = b"".join(struct.pack(">BHB", 2, 15, n) for n in range(len(bodies)))
    start, older = len(data), int(data.split(b"startxref\n")[1].split()[0])
    entries = b"/Type/XRef/Size 90/Root %d 0 R/W[1 2 1]/Index[20 %d]/Prev %d" % (root, len(bodies), older)
    return data + b"80 0 obj\n%b\nendobj\nstartxref\n%d\n%%%%EOF" % (stream(table, entries), start)


def test_a_cross_reference_stream_takes_no_objects_place() -> None:
    """It claims the number of a page's content: what the table says is the content, first and later."""
    data = in_object_stream(b"<</CA .5>>").replace(b"80 0 obj", b"10 0 obj")
    copier = Copier(Reader(io.BytesIO(data)))
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        copier.copy(PageRange(1, 1), out)

    assert b"/G0 gs" in outs[0].getvalue()
    assert outs[0].getvalue() == outs[1].getvalue()


def test_objects_before_a_broken_one_in_an_object_stream_are_kept() -> None:
    """What follows the broken one is out of reach; the answer is the same each time, and no stream is held."""
    copier = Copier(Reader(io.BytesIO(in_object_stream(b"<</CA .5>>", b"<</CA .6>>", b"@broken@", b"<</CA .7>>"))))
    outs = []
    for _ in range(2):
        out = io.BytesIO()
        copier.copy(PageRange(1, 1), out)
        outs.append(out.getvalue())
        held = [o for o in copier.reader.resolved_objects.values() if isinstance(o, pdf_reader.StreamObject)]
        assert "/ObjStm" not in [str(o["/Type"]) for o in held]

    assert outs[0] == outs[1]
    assert b"/CA 0.5" in outs[0]
    assert b"/CA 0.6" in outs[0]


def test_parsed_objects_do_not_pile_up_within_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each page they are forgotten if they are many."""
    monkeypatch.setattr(pdf_reader, "_MOST_HELD_BYTES", 1_000)
    held = []

    class Noting(Reader):
        def trim(self) -> None:
            super().trim()
            held.append(len(self.resolved_objects))

    copier = Copier(Noting(io.BytesIO(heavy(50))))
    copier.copy(PageRange(1, 50), io.BytesIO())

    assert len(held) == 51
    assert max(held) < 30


@pytest.mark.parametrize("second", [None, b"<</Length 4 0 R>>stream\nx\nendstream"])
def test_a_page_that_is_gone_keeps_its_number(second: bytes | None) -> None:
    """Missing or unreadable, it cannot be cut, and the pages behind it are still those that they were."""
    pages = {n: b"<</Type/Page/MediaBox[0 0 9 %d]>>" % n for n in (3, 5)} | ({4: second} if second else {})
    tree = b"<</Type/Pages/Count 3/Kids[3 0 R 4 0 R 5 0 R]>>"
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree, **pages})

    assert len(Reader(io.BytesIO(data)).pages) == 3
    assert chunk(data, 3, 3).pages[0].mediabox.height == 5
    with pytest.raises(PdfError, match=r"^page 2 cannot be read: its content is missing"):
        copied(data, 1, 3)


def test_a_page_that_was_removed_is_not_missed() -> None:
    """A reference to nothing in a tree that counts without it."""
    pages = {n: b"<</Type/Page/MediaBox[0 0 9 %d]>>" % n for n in (3, 5)}
    tree = b"<</Type/Pages/Count 2/Kids[3 0 R 4 0 R 5 0 R]>>"

    reader = chunk(raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree, **pages}), 1, 2)

    assert [page.mediabox.height for page in reader.pages] == [3, 5]


@pytest.mark.parametrize("direct", [b"null", b"7", b"<<>>", b"<</Type/Font>>"])
def test_what_stands_in_the_place_of_a_page_keeps_its_number(direct: bytes) -> None:
    """It cannot be cut, and the pages behind it are still those that they were."""
    check_second_page_is_missing(direct, b"<<>>")


@pytest.mark.parametrize("other", [b"<</Type/Font>>", b"null", b"[3 0 R]", b"<<>>", b"<</Type/Annot/Contents(x)>>"])
def test_what_a_tree_takes_for_a_page_keeps_its_number(other: bytes) -> None:
    """The same for references that lead to something else."""
    check_second_page_is_missing(b"4 0 R", other)


def check_second_page_is_missing(kid: bytes, other: bytes) -> None:
    """That of three pages the second is ``kid``, a reference to ``other`` or something else."""
    pages = {n: b"<</Type/Page/MediaBox[0 0 9 %d]>>" % n for n in (3, 5)}
    tree = b"<</Type/Pages/Count 3/Kids[3 0 R %b 5 0 R]>>" % kid
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree, 4: other, **pages})

    assert len(Reader(io.BytesIO(data)).pages) == 3
    assert chunk(data, 3, 3).pages[0].mediabox.height == 5
    with pytest.raises(PdfError, match=r"^page 2 cannot be read: its content is missing"):
        copied(data, 1, 3)


def test_what_stands_in_the_place_of_a_page_is_still_what_others_use() -> None:
    """A tree that leads to the resources of its pages leaves them their fonts."""
    pages = dict.fromkeys((3, 5), PAGE % b"/Resources 8 0 R")
    tree = b"<</Type/Pages/Count 3/Kids[3 0 R 8 0 R 5 0 R]>>"
    resources = b"<</Type/Resources/Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Courier>>>>>>"
    words = stream(b"BT /F1 9 Tf (words) Tj ET")
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree, 8: resources, 10: words, **pages})

    assert names(chunk(data, 3, 3).pages[0]["/Resources"], "/Font") == {"/F1"}


@pytest.mark.parametrize("kind", [b"/Pagee", b"(Page)", b"/Template", b" 99"])
def test_a_page_of_the_wrong_type_is_a_page(kind: bytes) -> None:
    """With its content, and in its place."""
    page = PAGE.replace(b"/Type/Page", b"/Type" + kind)

    reader = chunk(document(PAGE % b"", page % b"/Rotate 90", PAGE % b""), 1, 3)

    assert [(page.rotation, "/Contents" in page) for page in reader.pages] == [(0, True), (90, True), (0, True)]


@pytest.mark.parametrize(
    "branch",
    [b"", b"2 0 R", b"<</A 1", b"<</Type/Pages/Count 2>>", b"<</Count 2/Kidz[5 0 R 6 0 R]>>", b"<</Count 2/Kids["],
)
def test_a_branch_of_the_page_tree_that_is_gone_keeps_the_numbers_of_its_pages(branch: bytes) -> None:
    """The root says how many pages it had; those behind it are still those that they were."""
    pages = {n: b"<</Type/Page/MediaBox[0 0 9 %d]>>" % n for n in (3, 5, 6, 7)}
    tree = b"<</Type/Pages/Count 4/Kids[3 0 R 4 0 R 7 0 R]>>"
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree, **pages} | ({4: branch} if branch else {}))

    assert len(Reader(io.BytesIO(data)).pages) == 4
    assert chunk(data, 4, 4).pages[0].mediabox.height == 7
    for number in (2, 3):
        with pytest.raises(PdfError, match=f"^page {number} cannot be read: its content is missing"):
            copied(data, number, number)


def test_a_lie_about_the_number_of_pages_does_not_make_them() -> None:
    """However many the tree says, no more are missed than there are objects."""
    tree = b"<</Type/Pages/Count 999999999/Kids[3 0 R 99 0 R]>>"
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree, 3: PAGE % b""})

    assert 2 <= len(Reader(io.BytesIO(data)).pages) <= 6


@pytest.mark.parametrize(
    "root", [b"<</Count 3/Kids[3 0 R 9999999999999999999 0 R]>>", b"<</Type/Page/Count 2/Kids[3 0 R"]
)
def test_a_broken_root_of_the_page_tree_is_no_page(root: bytes) -> None:
    """It would pass for a single empty page."""
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: root, 3: PAGE % b""})

    with pytest.raises(PdfReadError, match="the page tree is broken"):
        Reader(io.BytesIO(data))


def test_an_entry_with_kids_and_content_is_a_page_if_it_says_so() -> None:
    """Without a type it is a branch, as for other readers."""
    objects = {1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Count 1/Kids[3 0 R]>>", 10: stream(b"")}
    node = b"<<%b/Contents 10 0 R/Rotate 90/Kids[4 0 R]>>"
    page, branch = ({**objects, 3: node % kind, 4: PAGE % b"/Rotate 180"} for kind in (b"/Type/Page", b""))

    assert [chunk(raw_pdf(o)).pages[0].rotation for o in (page, branch)] == [90, 180]


@pytest.mark.parametrize("kind", [b"/Pagez", b"/Page", b"null"])
def test_a_page_tree_of_the_wrong_type_is_a_page_tree(kind: bytes) -> None:
    """At its root and below."""
    root, node = (b"<</Type %b/Count 1/Kids[%d 0 R]>>" % (kind, kid) for kid in (3, 4))
    data = raw_pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: root, 3: node, 4: PAGE % b"", 10: stream(b"")})

    assert len(chunk(data).pages) == 1


@pytest.mark.parametrize("broken", [b"/Reso\rrces 9 0 R", b"/A 18 -5 R", b"/B<41"])
@pytest.mark.parametrize("packed", [False, True], ids=["by itself", "in an object stream"])
def test_a_page_that_breaks_off_before_its_content_cannot_be_cut(broken: bytes, packed: bool) -> None:
    """It would pass for an empty page."""
    page = PAGE.replace(b"/Contents", broken + b"/Contents") % b""
    data = document(PAGE % b"", page)
    if packed:
        catalog = b"<</Type/Catalog/Pages 21 0 R>>"
        data = in_object_stream(catalog, b"<</Type/Pages/Count 1/Kids[22 0 R]>>", page, root=20)

    with pytest.raises(PdfError, match=r"^page \d cannot be read: its dictionary is broken"):
        copied(data, 1, len(Reader(io.BytesIO(data)).pages))


def test_an_object_nested_too_deep_is_broken_however_deep_the_stack_is() -> None:
    """What a page shows does not depend on who asks for it."""
    deep = b"<</Font<</F1" + b"<</A" * 3000
    data = document(PAGE % b"/Resources<</ExtGState 97 0 R/Font<</F 98 0 R>>>>", o97=deep, o98=b"<</Type/Font>>")

    def from_depth(frames: int) -> bytes:
        return from_depth(frames - 1) if frames else copied(data)[0]

    assert len({from_depth(frames) for frames in range(0, 40, 3)}) == 1


def test_a_trailer_nested_too_deep_is_broken_however_deep_the_stack_is() -> None:
    """Whether the file opens does not depend on who asks."""
    data = document(PAGE % b"").replace(b"/Root 1 0 R", b"/Root 1 0 R/Info" + b"<</A" * 3000)

    def from_depth(frames: int) -> None:
        if frames:
            return from_depth(frames - 1)
        with pytest.raises(PdfReadError, match="nested too deep"):
            Reader(io.BytesIO(data))
        return None

    for frames in range(0, 40, 3):
        from_depth(frames)


@pytest.mark.parametrize("contents", [b"", b"/Contents null", b"/Contents[]", b"/Contents 98 0 R"])
def test_an_empty_page_is_a_page(contents: bytes) -> None:
    """Without content, or with one that says null."""
    data = document(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]%b>>" % contents, o98=b"null")

    assert len(chunk(data).pages) == 1


def test_a_broken_object_is_the_same_each_time() -> None:
    """A second look-up finds what the first did, so that bytes and reasons do not depend on what came before."""
    page = PAGE % b"/Resources<</XObject<</X 97 0 R>>>>"
    data = document(page, page, o10=stream(b"/X Do"), o97=b"<</Length 97 0 R>>stream\nx\nendstream")
    copier = Copier(Reader(io.BytesIO(data)))
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        copier.copy(PageRange(1, 2), out)

    assert outs[0].getvalue() == outs[1].getvalue() == copied(data, 1, 2)[0]


@pytest.mark.parametrize("shift", [-7, 13, 100_000])
def test_objects_are_found_where_the_table_is_wrong(shift: int) -> None:
    """Offsets that lead astray cost one search of the file, and no page."""
    data = document(PAGE % b"", o10=stream(b"(here) Tj"))
    table = data.index(b"\n10 1\n") + 6
    wrong = data[:table] + b"%010d" % (int(data[table : table + 10]) + shift) + data[table + 10 :]

    assert chunk(wrong).pages[0]["/Contents"].get_data() == b"(here) Tj"  # type: ignore[attr-defined]


def test_many_dangling_references_cost_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is not searched anew for each object that it has not."""
    searches = []
    search = pdf_repair.object_headers

    def noted(file: Any) -> Any:
        searches.append(file)
        return search(file)

    monkeypatch.setattr(pdf_reader, "object_headers", noted)
    dangling = b"".join(b"/X%d %d 0 R" % (n, n) for n in range(1000, 4000))
    begun = time.process_time()

    copied(
        document(
            PAGE % b"/Resources<</XObject<<%b>>>>" % dangling, o10=stream(b"x", b"/Filter/None"), o20=bytes(9_000_000)
        )
    )

    assert len(searches) == 1
    assert time.process_time() - begun < 5


def test_cycles_and_long_chains_end() -> None:
    """Objects that lead to each other, to their page and to the catalog; twenty thousand in a row."""
    chain = {f"o{n}": b"<</Next %d 0 R/Prev %d 0 R>>" % (n + 1, n - 1) for n in range(1000, 21_000)}
    cycle = b"/XObject<</X 20 0 R>>/ExtGState<</G 1000 0 R>>/Properties<</P 3 0 R/C 1 0 R>>"
    form = stream(b"/X Do", FORM + b"/Resources<</XObject<</X 20 0 R>>>>/Self 20 0 R")
    content = stream(b"/X Do /G gs /P /C")

    reader = chunk(document(PAGE % b"/Resources<<%b>>" % cycle, o10=content, o20=form, **chain))

    assert len(reader.pages) == 1
    assert len(reader.xref[0]) > 20_000


@pytest.mark.parametrize("depth", [200, 5_000, 200_000])
def test_deep_nesting_is_an_object_or_null(depth: int) -> None:
    """Arrays within arrays come to no harm, whether pypdf can read them or not."""
    data = document(
        PAGE % b"/Resources<</ExtGState<</G 20 0 R>>>>", o10=stream(b"/G gs"), o20=b"[" * depth + b"]" * depth
    )

    out, _ = copied(data)

    assert len(PdfReader(io.BytesIO(out)).pages) == 1
    assert (b"[" * depth in out) == (depth == 200)


def test_a_large_document_is_copied_in_little_memory(tmp_path: Path) -> None:
    """Streams pass one by one: thirty pages of a megabyte each need a few of them at once."""
    out = io.BytesIO()
    file = Writer(out)
    for _ in range(30):
        picture, content = file.reserve(), file.reserve()
        file.write_stream(picture, b"/Type/XObject/Subtype/Image", bytes(1_000_000))
        file.write_stream(content, b"", b"/I Do")
        file.write_page(b"/MediaBox[0 0 9 9]/Contents %d 0 R/Resources<</XObject<</I %d 0 R>>>>" % (content, picture))
    file.finish(b"")
    (tmp_path / "source.pdf").write_bytes(out.getvalue())
    with (tmp_path / "source.pdf").open("rb") as source, (tmp_path / "target.pdf").open("wb") as target:
        copier = Copier(Reader(source))
        tracemalloc.start()
        try:
            copier.copy(PageRange(1, 30), target)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 5_000_000
