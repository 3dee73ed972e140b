"""One page in fewer bytes: it looks as it did, keeps its text, and what cannot be made smaller stays as it is."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat
from pypdf import PdfReader
from reportlab.pdfgen.canvas import Canvas

from pipeline import images, reducer, splitter
from pipeline.pdf import Source
from pipeline.pdf_writer import Writer

WIDTH, HEIGHT = 1000, 1400  # pixels
PAGE_POINTS = 400, 560
LONGEST_AT_150 = round(560 / 72 * 150)
TEXT = "The Supplier may increase the fees of schedule K007 at any time in its sole discretion."


def picture(mode: str = "RGB") -> Image.Image:
    """Colours, shapes and noise: too much to deflate well."""
    shape = ImageDraw.Draw(image := Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB"))
    shape.rectangle((100, 100, 500, 500), fill=(200, 30, 30))
    shape.ellipse((400, 700, 900, 1200), fill=(30, 60, 220))
    noise = Image.frombytes("L", (WIDTH, HEIGHT), random.Random(1).randbytes(WIDTH * HEIGHT)).convert("RGB")
    return Image.blend(image, noise, 0.1).convert(mode)


RGB, GRAY, CMYK = picture(), picture("L"), picture("CMYK")
FEW = RGB.quantize(16)
PAIRS = FEW.point(lambda index: index % 4)
BITS = GRAY.convert("1")


def packed(image: Image.Image, bits: int) -> bytes:
    """Indices of a palette with so many bits each."""
    values, per_byte = image.tobytes(), 8 // bits
    return bytes(
        sum(value << (8 - bits * (place + 1)) for place, value in enumerate(values[start : start + per_byte]))
        for start in range(0, len(values), per_byte)
    )


def palette(image: Image.Image, entries: int) -> bytes:
    return bytes((image.getpalette() or [])[: 3 * entries])


def file_of(image: Image.Image, kind: str, quality: int = 97) -> bytes:
    image.save(out := io.BytesIO(), kind, quality=quality, optimize=quality < 10)
    return out.getvalue()


def png_rows(image: Image.Image) -> bytes:
    """The compressed rows of a PNG, which a PDF takes as they are."""
    data, place, rows = file_of(image, "PNG"), 8, b""
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"IDAT":
            rows += data[place + 8 : place + 8 + length]
        place += 12 + length
    return rows


def predicted(colors: int, bits: int = 8) -> bytes:
    parameters = b"/Predictor 15/Colors %d/BitsPerComponent %d/Columns %d" % (colors, bits, WIDTH)
    return b"/Filter/FlateDecode/DecodeParms<<%b>>" % parameters


FLATE = b"/Filter/FlateDecode"
ICC = b"[/ICCBased 20 0 R]"
SPOT = b"[/Separation/Gold/DeviceRGB<</FunctionType 2/Domain[0 1]/C0[1 1 1]/C1[.8 .6 .1]/N 1>>]"


def space(name: bytes, bits: int = 8) -> bytes:
    return b"/ColorSpace%b/BitsPerComponent %d" % (name, bits)


def indexed(image: Image.Image, entries: int) -> bytes:
    return b"[/Indexed/DeviceRGB %d<%b>]" % (entries - 1, palette(image, entries).hex().encode())


# Each kind of image that is made smaller: its entries, its bytes.
REDUCED: dict[str, tuple[bytes, bytes]] = {
    "rgb": (space(b"/DeviceRGB") + FLATE, zlib.compress(RGB.tobytes())),
    "gray": (space(b"/DeviceGray") + FLATE, zlib.compress(GRAY.tobytes())),
    "cmyk": (space(b"/DeviceCMYK") + FLATE, zlib.compress(CMYK.tobytes())),
    "not packed": (space(b"/DeviceRGB"), RGB.tobytes()),
    "16 bits": (
        space(b"/DeviceRGB", 16) + FLATE,
        zlib.compress(b"".join(bytes([high, 7]) for high in RGB.tobytes())),
    ),
    "inverted gray": (space(b"/DeviceGray") + b"/Decode[1 0]" + FLATE, zlib.compress(GRAY.tobytes())),
    "profile": (space(ICC) + FLATE, zlib.compress(RGB.tobytes())),
    "spot colour": (space(SPOT) + FLATE, zlib.compress(GRAY.tobytes())),
    "256 colours": (
        space(indexed(RGB.quantize(256), 256)) + FLATE,
        zlib.compress(RGB.quantize(256).tobytes()),
    ),
    "16 colours": (space(indexed(FEW, 16), 4) + FLATE, zlib.compress(packed(FEW, 4))),
    "4 colours": (space(indexed(FEW, 4), 2) + FLATE, zlib.compress(packed(PAIRS, 2))),
    "rgb in png rows": (space(b"/DeviceRGB") + predicted(3), png_rows(RGB)),
    "gray in png rows": (space(b"/DeviceGray") + predicted(1), png_rows(GRAY)),
    "cmyk in png rows": (
        space(b"/DeviceCMYK") + predicted(4),
        png_rows(Image.frombytes("RGBA", CMYK.size, CMYK.tobytes())),
    ),
    "16 colours in png rows": (space(indexed(FEW, 16), 4) + predicted(1, 4), png_rows(FEW)),
    "jpeg": (space(b"/DeviceRGB") + b"/Filter/DCTDecode", file_of(RGB, "JPEG")),
    "gray jpeg": (space(b"/DeviceGray") + b"/Filter/DCTDecode", file_of(GRAY, "JPEG")),
    "cmyk jpeg": (
        space(b"/DeviceCMYK") + b"/Decode[1 0 1 0 1 0 1 0]/Filter/DCTDecode",
        file_of(CMYK, "JPEG"),
    ),
    "packed jpeg": (
        space(b"/DeviceRGB") + b"/Filter[/FlateDecode/DCTDecode]",
        zlib.compress(file_of(RGB, "JPEG")),
    ),
    "jpeg 2000": (b"/Filter/JPXDecode", file_of(RGB, "JPEG2000")),
    "with a soft mask": (space(b"/DeviceRGB") + b"/SMask 21 0 R" + FLATE, zlib.compress(RGB.tobytes())),
}
BROKEN_JPEG = file_of(RGB, "JPEG")[:5000]
# Each kind that stays as it is, byte for byte.
KEPT: dict[str, tuple[bytes, bytes]] = {
    "a broken jpeg": (space(b"/DeviceRGB") + b"/Filter/DCTDecode", BROKEN_JPEG),
    "too few samples": (space(b"/DeviceRGB") + FLATE, zlib.compress(RGB.tobytes()[:-9999])),
    "transparent colours": (space(b"/DeviceRGB") + b"/Mask[0 9 0 9 0 9]" + FLATE, zlib.compress(RGB.tobytes())),
    "a mask tied to it": (space(b"/DeviceRGB") + b"/SMask 22 0 R" + FLATE, zlib.compress(RGB.tobytes())),
    "an unknown space": (space(b"[/Lab<</WhitePoint[1 1 1]>>]") + FLATE, zlib.compress(RGB.tobytes())),
    "a jpeg with other colours": (space(b"/DeviceGray") + b"/Filter/DCTDecode", file_of(RGB, "JPEG")),
    "colours that are no colours": (
        space(b"/DeviceRGB") + b"/DecodeParms<</ColorTransform 0>>/Filter/DCTDecode",
        file_of(RGB, "JPEG"),
    ),
    "jbig2": (space(b"/DeviceGray", 1) + b"/Filter/JBIG2Decode", b"\0" * 999),
    "an unknown filter": (space(b"/DeviceGray") + b"/Filter/NoSuch", b"\0" * 999),
    "a picture of no size": (b"/Filter/FlateDecode", zlib.compress(RGB.tobytes())),
    "small already": (space(b"/DeviceRGB") + b"/Filter/DCTDecode", file_of(RGB.resize((90, 90)), "JPEG", 5)),
}


def page_with(path: Path, entries: bytes, data: bytes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Source:
    """A PDF of one page: the image all over it, and a line of text."""
    drawn = b"q %d 0 0 %d 0 0 cm/Im Do Q BT/F 8 Tf 1 0 0 1 10 10 Tm(%b)Tj ET" % (*PAGE_POINTS, TEXT.encode())
    mask = zlib.compress(Image.radial_gradient("L").resize((300, 300)).tobytes())
    gray = b"/Type/XObject/Subtype/Image/Width 300/Height 300/ColorSpace/DeviceGray/BitsPerComponent 8" + FLATE
    with path.open("wb") as out:
        file = Writer(out)
        while (number := file.reserve()) < 22:
            pass
        assert number == 22
        image = b"/Type/XObject/Subtype/Image" + b"/Width %d/Height %d" % size
        file.write_stream(10, image + entries, data)
        file.write(11, b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
        file.write_stream(12, b"", drawn)
        for unused in (*range(3, 10), *range(13, 20)):
            file.write(unused, b"null")
        file.write_stream(20, b"/N 3/Alternate/DeviceRGB", b"no profile, so that the alternate counts")
        file.write_stream(21, gray, mask)
        file.write_stream(22, gray + b"/Matte[0 0 0]", mask)
        box = b"/MediaBox[0 0 %d %d]" % PAGE_POINTS
        file.write_page(box + b"/Contents 12 0 R/Resources<</XObject<</Im 10 0 R>>/Font<</F 11 0 R>>>>")
        file.finish(b"")
    return source_of(path)


def source_of(path: Path) -> Source:
    facts = path.stat()
    return Source(str(path), facts.st_size, facts.st_mtime_ns)


def reduced(source: Source, max_bytes: int) -> bytes | None:
    """The page as a PDF with smaller images, checked against the size that was promised."""
    target = Path(source.path).with_name("reduced")
    size_bytes = reducer.with_smaller_images(source, 1, target, max_bytes)
    assert size_bytes is None or size_bytes == target.stat().st_size <= max_bytes
    return None if size_bytes is None else target.read_bytes()


def drawn(data: bytes, scale: float = 1.0) -> Image.Image:
    with pypdfium2.PdfDocument(data) as document:
        image: Image.Image = document[0].render(scale=scale).to_pil().convert("RGB")
        return image


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of a colour, of 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def image_in(data: bytes) -> Any:
    """The entries of the only image."""
    resources: Any = PdfReader(io.BytesIO(data)).pages[0]["/Resources"]
    (image,) = resources["/XObject"].values()
    return image.get_object()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    splitter._close_held()


# --- images


@pytest.mark.parametrize("kind", REDUCED)
def test_an_image_with_fewer_bytes_looks_as_it_did(tmp_path: Path, kind: str) -> None:
    """Of every known kind; in its colours, under its mask, at 150 pixels to the inch, with the text beside it."""
    source = page_with(tmp_path / "a.pdf", *REDUCED[kind])
    before = Path(source.path).read_bytes()
    after = reduced(source, len(before) * 9 // 10)
    assert after is not None
    assert max(image_in(after)["/Width"], image_in(after)["/Height"]) == LONGEST_AT_150
    assert difference(drawn(before), drawn(after)) < 4
    assert TEXT in PdfReader(io.BytesIO(after)).pages[0].extract_text()


@pytest.mark.parametrize("kind", KEPT)
def test_an_image_that_leaves_a_doubt_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    """Byte for byte, and the page is said to be too large still."""
    entries, data = KEPT[kind]
    source = page_with(tmp_path / "a.pdf", entries, data, (0, 0) if kind == "a picture of no size" else (WIDTH, HEIGHT))
    assert reduced(source, 300) is None
    after = (tmp_path / "reduced").read_bytes()
    assert data in after


@pytest.mark.parametrize(
    "entries", [b"/ImageMask true", space(b"/DeviceGray", 1), space(b"[/Indexed/DeviceRGB 1<0000FFFFFF00>]", 1)]
)
def test_an_image_of_one_bit_keeps_its_bits_if_it_is_not_too_large(tmp_path: Path, entries: bytes) -> None:
    """It is packed better, and drawn in the very same pixels."""
    bits = BITS.resize((600, 840))
    source = page_with(tmp_path / "a.pdf", entries, bits.tobytes(), bits.size)
    before = Path(source.path).read_bytes()
    after = reduced(source, len(before) - 1)
    assert after is not None
    assert image_in(after)["/Filter"] == "/FlateDecode"
    assert difference(drawn(before), drawn(after)) == 0


def test_a_large_image_of_one_bit_becomes_gray(tmp_path: Path) -> None:
    """Fewer pixels of black or white would be no picture any more."""
    ImageDraw.Draw(bits := Image.new("1", (4000, 5600), 1)).ellipse((500, 700, 3500, 4900), width=300)
    source = page_with(tmp_path / "a.pdf", space(b"/DeviceGray", 1), bits.tobytes(), bits.size)
    before = Path(source.path).read_bytes()
    after = reduced(source, 1_500_000)
    assert after is not None
    assert image_in(after)["/BitsPerComponent"] == 8
    assert difference(drawn(before), drawn(after)) < 4


def test_a_mask_is_made_smaller_by_itself(tmp_path: Path) -> None:
    """Image and mask need not have the same number of pixels."""
    after = reduced(page_with(tmp_path / "a.pdf", *REDUCED["with a soft mask"]), 1_000_000)
    assert after is not None
    mask = image_in(after)["/SMask"].get_object()
    assert (mask["/Width"], mask["/ColorSpace"], mask["/Filter"]) == (300, "/DeviceGray", "/DCTDecode")


def test_pixels_are_given_up_last(tmp_path: Path) -> None:
    """First the quality falls, then the resolution, and below 100 pixels to the inch nothing is sent."""
    source = page_with(tmp_path / "a.pdf", *REDUCED["rgb"])
    seen, max_bytes = [], 10_000_000
    while (data := reduced(source, max_bytes)) is not None:
        seen.append(max(image_in(data)["/Width"], image_in(data)["/Height"]))
        max_bytes = len(data) - 1
    assert seen == [LONGEST_AT_150, LONGEST_AT_150, round(560 / 72 * 100)]


def test_the_same_page_gives_the_same_bytes(tmp_path: Path) -> None:
    """As a PDF with smaller images and as a picture."""
    source = page_with(tmp_path / "a.pdf", *REDUCED["jpeg"])
    assert reduced(source, 200_000) == reduced(source, 200_000)
    pictures = []
    for name in ("one", "two"):
        assert reducer.as_picture(source, 1, tmp_path / name, 1_000_000)
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1]


def test_a_picture_of_too_many_pixels_is_not_decoded() -> None:
    """A few bytes may promise any number of pixels."""
    layout = images.Layout(100_000, 100_000, 1, 1)
    for compress in (images.compressed, images.compressed_png_rows):
        with pytest.raises(ValueError, match="100000 x 100000 pixels"):
            compress(b"", layout, 100, 80)
    with pytest.raises(ValueError, match="15100 x 10000 pixels"):
        images.recompressed(file_of(Image.new("1", (15_100, 10_000)), "JPEG", 1), 100, 80)


# --- the whole page


def inline_page(path: Path) -> Source:
    """A page whose image stands in its content, where it is not made smaller; drawn askew."""
    canvas = Canvas(str(path), pagesize=(400, 560), invariant=1)
    canvas.setPageRotation(90)  # swaps the page size, too
    canvas.drawInlineImage(picture().resize((500, 700)), 50, 100, 300, 420)
    canvas.drawString(10, 20, TEXT)
    canvas.showPage()
    canvas.save()
    return source_of(path)


def test_a_page_as_a_picture_shows_what_the_page_shows(tmp_path: Path) -> None:
    """At 200 pixels to the inch, turned as the page is."""
    source, target = inline_page(tmp_path / "a.pdf"), tmp_path / "picture"
    assert reduced(source, 300_000) is None
    size_bytes = reducer.as_picture(source, 1, target, 3_000_000)
    assert size_bytes == target.stat().st_size
    with Image.open(target) as shown:
        assert (shown.format, shown.size) == ("JPEG", (1112, 1556))
        assert difference(shown, drawn(Path(source.path).read_bytes(), 200 / 72)) < 4


def test_a_picture_gets_smaller_only_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    """200, 150 and 100 pixels to the inch; then there is none."""
    source, target = inline_page(tmp_path / "a.pdf"), tmp_path / "picture"
    heights, max_bytes = [], 3_000_000
    while size_bytes := reducer.as_picture(source, 1, target, max_bytes):
        heights.append(images.facts(target.read_bytes()).height_px)
        max_bytes = size_bytes - 1
    assert [round(height / 560 * 72) for height in heights] == [200, 150, 100]


def test_a_picture_of_a_huge_page_has_no_more_pixels_than_the_api_takes(tmp_path: Path) -> None:
    """However large the page is, and however narrow."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(14_400, 30), invariant=1)
    canvas.drawString(10, 10, TEXT)
    canvas.showPage()
    canvas.save()
    assert reducer.as_picture(source_of(tmp_path / "a.pdf"), 1, tmp_path / "picture", 3_000_000)
    facts = images.facts((tmp_path / "picture").read_bytes())
    assert (facts.media_type, facts.width_px) == ("image/jpeg", 4000)


@pytest.mark.parametrize("box", [b"[0 0 0 0]", b"[1 2]", b" null", b"[0 0 99999999 5]", b"[(a) 0 0 0]"])
def test_a_page_of_no_known_size_is_made_smaller_too(tmp_path: Path, box: bytes) -> None:
    """What a broken size leaves is a guess, not a crash."""
    source = page_with(tmp_path / "a.pdf", *REDUCED["rgb"])
    path = Path(source.path)
    good = b"[0 0 %d %d]" % PAGE_POINTS
    path.write_bytes(path.read_bytes().replace(good, box.ljust(len(good))))
    assert reduced(source_of(path), 1_500_000) is not None
