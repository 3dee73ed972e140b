"""Pictures made smaller: fewer pixels, JPEG. The only module that knows Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageChops

# A picture is hostile. Its pixels are counted before they are decoded, by the functions here and not by Pillow,
# whose own limit is a warning first.
Image.MAX_IMAGE_PIXELS = None
_MOST_PIXELS = 150_000_000

_CMYK = "CMYK"
_MODES = {1: "L", 3: "RGB", 4: _CMYK}
# Pillow's names for pixels of so many components and bits, and for how they lie in memory.
_LAYOUTS = {
    (1, 1): ("1", "1"),
    (1, 2): ("L", "L;2"),
    (1, 4): ("L", "L;4"),
    (1, 8): ("L", "L"),
    (3, 8): ("RGB", "RGB"),
    (4, 8): (_CMYK, _CMYK),
}
_PNG_COLOURS = {1: 0, 3: 2, 4: 6}  # by components; four are red, green, blue and alpha to a PNG
_PNG_INDEXED = 3


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG file. ``components``: 1 for gray, 3 for RGB, 4 for CMYK."""

    data: bytes
    width_px: int
    height_px: int
    components: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How samples lie in memory: rows from the top, each beginning with a new byte.

    ``bits`` are those of each component, most significant first. ``palette`` has the components of each entry
    where samples are indices; ``components`` is then the number of a palette entry's.
    """

    width_px: int
    height_px: int
    components: int
    bits: int
    palette: bytes | None = None

    @property
    def samples(self) -> int:
        """Components of a pixel as it lies in memory."""
        return 1 if self.palette is not None else self.components

    @property
    def row_bytes(self) -> int:
        """The length of one row."""
        return (self.width_px * self.samples * self.bits + 7) // 8


@dataclass(frozen=True, slots=True)
class Facts:
    """What the head of a picture's file says."""

    media_type: str
    width_px: int
    height_px: int


def facts(data: bytes) -> Facts:
    """Type and size of a JPEG, PNG, GIF or WebP file.

    Raises:
        ValueError: it is none of these, or broken.
    """
    with _opened(data, ("JPEG", "PNG", "GIF", "WEBP")) as image:
        return Facts(Image.MIME[image.format or ""], *image.size)


def recompressed(data: bytes, longest_px: int, quality: int) -> Jpeg:
    """A JPEG or JPEG 2000 file with at most so many pixels on its longer side.

    Raises:
        ValueError: broken, too large, or of a kind that a JPEG cannot hold.
    """
    with _opened(data, ("JPEG", "JPEG2000")) as image:
        _check_pixels(*image.size)
        if image.format == "JPEG":
            image.draft(None, _fitted(image.size, longest_px))  # decodes at an eighth, a quarter or half of the size
        _load(image)
        return _jpeg(image, longest_px, quality)


def compressed(samples: bytes, layout: Layout, longest_px: int, quality: int) -> Jpeg:
    """Samples as a JPEG file with at most so many pixels on its longer side.

    Raises:
        ValueError: too few samples, too many pixels, or a layout that is not known.
    """
    _check_pixels(layout.width_px, layout.height_px)
    if layout.bits == 16:  # the upper half of each sample will do
        samples, layout = samples[::2], replace(layout, bits=8)
    mode, raw = _LAYOUTS.get((layout.samples, layout.bits), ("", ""))
    if not mode:
        raise ValueError(f"{layout.samples} components of {layout.bits} bits")
    if layout.palette is not None:
        mode, raw = "P", "P" if layout.bits == 8 else f"P;{layout.bits}"
    size, all_bytes = (layout.width_px, layout.height_px), layout.row_bytes * layout.height_px
    image = Image.frombytes(mode, size, samples[:all_bytes], "raw", raw, layout.row_bytes, 1)
    return _jpeg(_coloured(image, layout), longest_px, quality)


def compressed_png_rows(rows: bytes, layout: Layout, longest_px: int, quality: int) -> Jpeg:
    """As ``compressed``, for samples that are filtered and deflated as in a PNG file (RFC 2083, 5 and 6)."""
    _check_pixels(layout.width_px, layout.height_px)
    colour = _PNG_COLOURS.get(layout.samples) if layout.palette is None else _PNG_INDEXED
    if colour is None:
        raise ValueError(f"{layout.samples} components")
    header = struct.pack(">IIBBBBB", layout.width_px, layout.height_px, layout.bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    if colour == _PNG_INDEXED:  # an index has a colour to a PNG; which one does not matter here
        parts.insert(1, (b"PLTE", bytes(3 << min(layout.bits, 8))))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_png_part(*part) for part in parts)
    with _opened(data, ("PNG",)) as image:
        _load(image)
        if image.mode == "RGBA":
            return _jpeg(_coloured(Image.frombytes(_CMYK, image.size, image.tobytes()), layout), longest_px, quality)
        return _jpeg(_coloured(image, layout), longest_px, quality)


def _png_part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _coloured(image: Image.Image, layout: Layout) -> Image.Image:
    """The pixels as ``_jpeg`` takes them."""
    palette = layout.palette
    if palette is not None:
        index = Image.frombytes("L", image.size, image.tobytes())
        bands = [index.point(_table(palette[band :: layout.components])) for band in range(layout.components)]
        image = Image.merge(_MODES[layout.components], bands)
    # To Pillow the CMYK of every JPEG is inverted, in reading and in writing, as Adobe's is.
    return ImageChops.invert(image) if image.mode == _CMYK else image


def _table(entries: bytes) -> Sequence[int]:
    return [*entries[:256], *[0] * (256 - len(entries))]


def _opened(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"a broken picture: {error}") from error


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"a broken picture: {error}") from error


def _check_pixels(width: int, height: int) -> None:
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels")


def _fitted(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    scale = min(1.0, longest_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _jpeg(image: Image.Image, longest_px: int, quality: int) -> Jpeg:
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in _MODES.values():
        raise ValueError(f"pixels of the kind {image.mode}")
    size = _fitted(image.size, longest_px)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return Jpeg(out.getvalue(), *size, len(image.getbands()))
