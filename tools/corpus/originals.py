"""Small sound PDFs of many makes, to be broken by ``mutations``: the same bytes every time."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

_SAMPLE = Path(__file__).resolve().parents[2] / "sample_docs" / "trouble" / "good-contract.pdf"

_FONT = b"<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>%b>>"
_PAGE = b"<</Type/Page/Parent %d 0 R/MediaBox[0 0 300 300]/Resources 9 0 R/Contents %d 0 R%b>>"


def originals() -> dict[str, bytes]:
    """The files by name, each of 2 to 4 pages."""
    return {
        "text": _text(),
        "encrypted": _text(StandardEncryption("", ownerPassword="owner", strength=128)),
        "form": _form(),
        "layers": _layers(),
        "page tree": _page_tree(),
        "shared resources": _shared_resources(),
        "annotations": _annotations(),
        "object streams": _object_streams(),
        "updated": _updated(),
        "sample": _SAMPLE.read_bytes(),
    }


def _text(encryption: StandardEncryption | None = None) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1, pageCompression=0, encrypt=encryption)
    for page in range(1, 4):
        canvas.drawString(60, 780, f"The fee of schedule {page} may be raised at any time.")
        canvas.bookmarkPage(f"p{page}")
        canvas.addOutlineEntry(f"Schedule {page}", f"p{page}")
        canvas.linkRect("", "p1", (60, 60, 90, 90))
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _form() -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    for page in range(1, 3):
        canvas.drawString(60, 780, f"Form {page}")
        canvas.acroForm.textfield(name=f"party{page}", value="Supplier Ltd", x=60, y=700, width=200, height=20)
        canvas.acroForm.checkbox(name=f"agreed{page}", checked=True, x=60, y=650)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _layers() -> bytes:
    properties = b"/Properties<</L1 20 0 R/L2 21 0 R>>"
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R/OCProperties<</OCGs[20 0 R 21 0 R]/D<</ON[20 0 R]/OFF[21 0 R]"
        b"/AS[<</Event/View/Category[/View]/OCGs[20 0 R]>>]>>>>>>",
        2: b"<</Type/Pages/Count 2/Kids[3 0 R 4 0 R]>>",
        3: _PAGE % (2, 10, b""),
        4: _PAGE % (2, 11, b""),
        9: _FONT % properties,
        10: stream(b"/OC/L1 BDC " + _words(b"shown") + b" EMC"),
        11: stream(b"/OC/L2 BDC " + _words(b"hidden") + b" EMC"),
        20: b"<</Type/OCG/Name(one)>>",
        21: b"<</Type/OCG/Name(two)>>",
    }
    return raw_pdf(objects)


def _page_tree() -> bytes:
    """Three levels, what pages inherit, and content in parts."""
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Count 4/Kids[3 0 R 4 0 R]/MediaBox[0 0 300 300]/Resources 9 0 R>>",
        3: b"<</Type/Pages/Parent 2 0 R/Count 3/Kids[5 0 R 6 0 R]/Rotate 90>>",
        4: b"<</Type/Page/Parent 2 0 R/Contents[10 0 R 11 0 R]>>",
        5: b"<</Type/Pages/Parent 3 0 R/Count 2/Kids[7 0 R 8 0 R]/CropBox[5 5 200 200]>>",
        6: b"<</Type/Page/Parent 3 0 R/Contents 12 0 R>>",
        7: b"<</Type/Page/Parent 5 0 R/Contents 10 0 R>>",
        8: b"<</Type/Page/Parent 5 0 R/Contents 13 0 R/Rotate 0>>",
        9: _FONT % b"",
        10: stream(_words(b"one")),
        11: stream(_words(b"two")),
        12: stream(_words(b"three")),
        13: b"[10 0 R 12 0 R]",
    }
    return raw_pdf(objects)


def _shared_resources() -> bytes:
    """One dictionary for all pages: pictures, forms in forms, a soft mask, a Type 3 font."""
    picture = b"/Type/XObject/Subtype/Image/Width 4/Height 4/ColorSpace/DeviceGray/BitsPerComponent 8"
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 100 100]"
    parts = (
        b"/XObject<</Im1 20 0 R/Im2 21 0 R/Fm1 22 0 R/Fm2 23 0 R>>/ExtGState<</G1<</SMask<</S/Alpha/G 23 0 R>>>>>>"
        b"/ColorSpace<</C1[/Indexed/DeviceRGB 1(abcdef)]>>"
    )
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Count 3/Kids[3 0 R 4 0 R 5 0 R]>>",
        3: _PAGE % (2, 10, b""),
        4: _PAGE % (2, 11, b""),
        5: _PAGE % (2, 12, b""),
        9: _FONT % parts,
        10: stream(_words(b"picture") + b" q 9 0 0 9 0 0 cm /Im1 Do Q"),
        11: stream(zlib.compress(_words(b"form") + b" /G1 gs /Fm1 Do"), b"/Filter/FlateDecode"),
        12: stream(b"/C1 cs 0 sc 0 0 9 9 re f /T3 1 Tf"),
        20: stream(bytes(range(16)), picture),
        21: stream(bytes(range(16, 32)), picture),
        22: stream(b"/Fm2 Do /Im2 Do", form),
        23: stream(b"0 0 5 5 re f", form + b"/Resources<</XObject<</Im2 21 0 R>>>>"),
    }
    return raw_pdf(objects)


def _annotations() -> bytes:
    stamp = b"<</Type/Annot/Subtype/Stamp/Rect[9 9 99 99]/AP<</N 22 0 R>>/P 3 0 R/Popup 21 0 R/IRT 23 0 R>>"
    field = b"<</Type/Annot/Subtype/Widget/Rect[9 9 50 50]/Parent 25 0 R/T(name)/AP<</N<</On 22 0 R>>>>/AS/On>>"
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[25 0 R]/DA(/F1 9 Tf)/DR<</Font<</F1 26 0 R>>>>>>>>",
        2: b"<</Type/Pages/Count 2/Kids[3 0 R 4 0 R]>>",
        3: _PAGE % (2, 10, b"/Annots[20 0 R 21 0 R 23 0 R]"),
        4: _PAGE % (2, 10, b"/Annots 27 0 R"),
        9: _FONT % b"",
        10: stream(_words(b"signed")),
        20: stamp,
        21: b"<</Type/Annot/Subtype/Popup/Rect[0 0 9 9]/Parent 20 0 R>>",
        22: stream(b"0 0 40 40 re S", b"/Type/XObject/Subtype/Form/BBox[0 0 90 90]"),
        23: b"<</Type/Annot/Subtype/Link/Rect[1 1 9 9]/Dest[4 0 R/Fit]/Border[0 0 1]>>",
        24: field,
        25: b"<</FT/Tx/T(party)/V(Supplier)/DA(/F1 9 Tf 0 g)/Kids[24 0 R]>>",
        26: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        27: b"[24 0 R]",
    }
    return raw_pdf(objects)


def _object_streams() -> bytes:
    """Objects in two object streams, one of them compressed, and a cross-reference stream."""
    inside = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Count 2/Kids[3 0 R 4 0 R]>>",
        3: _PAGE % (2, 10, b""),
        4: _PAGE % (2, 11, b""),
        9: _FONT % b"",
    }
    out = bytearray(b"%PDF-1.7\n")
    rows = {0: (0, 0, 65535)}
    for holder, numbers, packed in ((20, (1, 2, 9), False), (21, (3, 4), True)):
        index, bodies = b"", b""
        for place, number in enumerate(numbers):
            index += b"%d %d " % (number, len(bodies))
            bodies += inside[number] + b" "
            rows[number] = (2, holder, place)
        entries = b"/Type/ObjStm/N %d/First %d" % (len(numbers), len(index))
        body = zlib.compress(index + bodies) if packed else index + bodies
        rows[holder] = (1, len(out), 0)
        out += b"%d 0 obj\n%b\nendobj\n" % (holder, stream(body, entries + b"/Filter/FlateDecode" * packed))
    for number in (10, 11):
        rows[number] = (1, len(out), 0)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, stream(_words(b"page %d" % number)))
    rows[22] = (1, len(out), 0)
    table = b"".join(
        kind.to_bytes(1, "big") + where.to_bytes(3, "big") + place.to_bytes(2, "big")
        for kind, where, place in (rows.get(number, (0, 0, 0)) for number in range(23))
    )
    start = len(out)
    out += b"22 0 obj\n%b\nendobj\n" % stream(table, b"/Type/XRef/Size 23/W[1 3 2]/Root 1 0 R")
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def _updated() -> bytes:
    """A file with an update appended to it: an object replaced, one free, and a table that leads to the older one."""
    before = _page_tree()
    older = int(before.split()[-2])
    out = bytearray(before)
    place = len(out)
    out += b"12 0 obj\n%b\nendobj\n" % stream(_words(b"three, amended"))
    start = len(out)
    out += b"xref\n0 1\n0000000014 65535 f \n12 1\n%010d 00000 n \n14 1\n0000000000 00001 f \n" % place
    return bytes(out + b"trailer\n<</Size 15/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF\n" % (older, start))


def _words(text: bytes) -> bytes:
    return b"BT /F1 12 Tf 40 200 Td (%b) Tj ET" % text


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream's object, with these entries beside its length."""
    return b"<<%b/Length %d>>stream\n%b\nendstream" % (entries, len(data), data)


def raw_pdf(objects: Mapping[int, bytes], trailer: bytes = b"") -> bytes:
    """A PDF of these objects, number 1 being the catalog, without a look at what they hold."""
    out = bytearray(b"%PDF-1.7\n")
    table = []
    for number, body in objects.items():
        table.append(b"%d 1\n%010d 00000 n \n" % (number, len(out)))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 1\n0000000000 65535 f \n" + b"".join(table)
    out += b"trailer\n<</Size %d/Root 1 0 R%b>>\nstartxref\n%d\n%%%%EOF\n" % (max(objects) + 1, trailer, start)
    return bytes(out)
