"""Pictures: what their files hold, and the same upright, with fewer pixels, as PNG or JPEG.

The only module that knows Pillow.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from PIL import ExifTags, Image, ImageChops, ImageOps, TiffImagePlugin, UnidentifiedImageError

from pipeline.domain import PagePicture
from pipeline.text import shortened

# A picture is hostile. Its pixels are counted before they are decoded, by the functions here and not by Pillow,
# whose own limit is a warning first.
Image.MAX_IMAGE_PIXELS = None
_MOST_PIXELS = 150_000_000
_MOST_DECODED_BYTES = 1_000_000_000  # half of what a worker process may hold; black and white takes a byte a pixel

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

_STRIP_ROWS = 64  # of a picture that is made smaller, after that
_WIDE_GRAY = ("I", "F", "I;16", "I;16B", "I;16L")  # more than 8 bits
_NEW_SUBFILE_TYPE = 254  # a tag of TIFF
_ASIDE = 0b101  # bits of it: a smaller copy of another image, or a mask for it (TIFF 6.0, page 36)
_UPRIGHT = (0, 1)  # values of EXIF's orientation; 5 to 8 lie on their side
_RESOLUTIONS = (282, 283)  # TIFF's tags of the pixels to the inch, across and down
_MOST_STRETCH = 4


class PictureError(ValueError):
    """Bytes that are no picture, or none that can be read; the message is a reason of one line."""


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
    """What a picture's file holds.

    ``is_plain``: it is shown upright, in gray or red, green and blue, with nothing transparent and no animation.
    """

    media_type: str
    width_px: int
    height_px: int
    is_plain: bool = True
    is_animated: bool = False


@dataclass(frozen=True, slots=True)
class Coded:
    """A picture as the bytes of a file. ``media_type`` is that of PNG or JPEG."""

    data: bytes
    media_type: str


def facts(data: bytes) -> Facts:
    """What a JPEG, PNG, GIF or WebP file holds.

    Raises:
        PictureError: it is none of these, broken or too large.
    """
    with _opened(data, ("JPEG", "PNG", "GIF", "WEBP")) as image, _foreseen():
        _check_memory(image)  # EXIF may stand behind the pixels of a PNG
        # A camera's JPEG with further pictures behind the first is an "MPO" to Pillow; the others are previews.
        media_type = "image/jpeg" if image.format == "MPO" else Image.MIME[image.format or ""]
        is_animated = image.format != "MPO" and getattr(image, "is_animated", False)
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) in _UPRIGHT
        is_plain = is_upright and image.mode != _CMYK and not is_animated and not _is_seen_through(image)
        return Facts(media_type, *image.size, is_plain, is_animated)


def check(data: bytes, place: int) -> None:
    """Decode one picture of a file.

    Raises:
        PictureError: it is broken or too large.
    """
    with _opened(data, _FORMATS) as image, _foreseen():
        image.seek(place)
        if image.format == "JPEG":
            image.draft(None, (1, 1))  # reads it to its end all the same, in less time
        _check_memory(image)
        _load(image)


def tiff_pages(data: bytes) -> tuple[int, ...]:
    """Which of a TIFF file's images are pages, by their places from 0: those that are no preview or mask of another.

    Raises:
        PictureError: the file is broken.
    """
    pages: list[int] = []
    with _opened(data, ("TIFF",)) as image, _foreseen():
        for place in itertools.count():
            try:
                image.seek(place)
            except EOFError:
                break
            kind = _tag(image, _NEW_SUBFILE_TYPE)
            if not int(kind) & _ASIDE:
                pages.append(place)
    return tuple(pages)


def coded(data: bytes, place: int, longest_px: int, quality: int) -> Coded:
    """One picture of a file, upright, its pixels square and no more than so many on its longer side.

    Black and white, and what has a palette, becomes a PNG if no pixel must go; all else becomes a JPEG. What is
    transparent is white. Gray of more than 8 bits is spread over what the picture uses.

    Raises:
        PictureError: it is broken or too large.
    """
    with _opened(data, _FORMATS) as image, _foreseen():
        image.seek(place)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # a TIFF is turned when it is loaded
        stretch = _stretch(image)
        if image.format == "JPEG":
            image.draft(None, _fitted(image.size, longest_px))
        _check_memory(image)
        _load(image)
        if image.format != "TIFF":
            ImageOps.exif_transpose(image, in_place=True)
        is_small = max(image.size) <= longest_px and stretch == (1, 1)
        if is_small and image.mode in ("1", "P") and not _is_seen_through(image):
            image.save(out := io.BytesIO(), "PNG", optimize=True)
            return Coded(out.getvalue(), "image/png")
        plain = _plain(image, max(1, max(image.size) // longest_px))
        across, down = reversed(stretch) if orientation > 4 else stretch
        if (across, down) != (1, 1):
            plain = plain.resize((round(plain.width * across), round(plain.height * down)))
        return Coded(_jpeg(plain, longest_px, quality).data, "image/jpeg")


def preview(data: bytes) -> PagePicture:
    """A PNG or JPEG file as a small WebP file, without losing a pixel of its size.

    Raises:
        PictureError: it is broken or too large.
    """
    with _opened(data, ("PNG", "JPEG")) as image, _foreseen():
        _check_memory(image)
        _load(image)
        return _webp(image.convert("RGB"))


def preview_of(samples: bytes, layout: Layout) -> PagePicture:
    """The same for samples of red, green and blue with 8 bits each."""
    _check_pixels(layout.width_px, layout.height_px)
    return _webp(Image.frombytes("RGB", (layout.width_px, layout.height_px), samples))


def _webp(image: Image.Image) -> PagePicture:
    """In few bytes that can be read well: eight grays kept exactly suit drawn text, the lossy way suits all else."""
    files = []
    if _is_gray(image):
        image.convert("L").point(_EIGHT_GRAYS).save(out := io.BytesIO(), "WEBP", lossless=True)
        files.append(out.getvalue())
    if not files or len(files[0]) > _SMALL_BYTES:
        image.save(out := io.BytesIO(), "WEBP", quality=45)
        files.append(out.getvalue())
    return PagePicture(min(files, key=len), *image.size)


_SMALL_BYTES = 30_000  # no other way makes a page of text much smaller
_EIGHT_GRAYS = [round(round(value / 255 * 7) / 7 * 255) for value in range(256)]
_COLOURLESS = 24  # so far from gray the edges of letters may be that were drawn or scanned


def _is_gray(image: Image.Image) -> bool:
    extrema: Any = image.reduce(4).convert("HSV").getextrema()
    return bool(extrema[1][1] < _COLOURLESS)


def _tag(image: Image.Image, tag: int) -> float:
    """A number among a TIFF's tags; 0 where there is none, and for pictures of other kinds."""
    value = getattr(image, "tag_v2", {}).get(tag, 0)
    return float(value) if isinstance(value, int | float | TiffImagePlugin.IFDRational) else 0


def _plain(image: Image.Image, factor: int) -> Image.Image:
    """Gray or red, green and blue, each side divided by ``factor``; strip by strip, for there may be little memory."""
    levels = _levels(image)
    if factor == 1:
        return levels(image)
    size = -(-image.width // factor), -(-image.height // factor)
    small = Image.new(levels(image.crop((0, 0, 1, 1))).mode, size)
    for top in range(0, image.height, _STRIP_ROWS * factor):
        bottom = min(top + _STRIP_ROWS * factor, image.height)
        small.paste(levels(image.crop((0, top, image.width, bottom))).reduce(factor), (0, top // factor))
    return small


def _levels(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What turns parts of a picture to 8 bits of gray or of red, green and blue."""
    if image.mode in _WIDE_GRAY:
        if image.mode not in ("I", "F"):
            image = image.convert("I")
        extrema: Any = image.getextrema()
        low, high = extrema
        scale = 255 / (high - low) if high > low else 0
        shift = -low * scale if high > low else 255
        return lambda part: part.convert("F").point(lambda value: value * scale + shift).convert("L")
    if image.has_transparency_data:
        return _on_white
    return lambda part: part.convert("L" if image.mode in ("1", "L") else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _is_seen_through(image: Image.Image) -> bool:
    """Whether a pixel is not opaque; the API does not say what it puts behind it."""
    if not image.has_transparency_data:
        return False
    extrema: Any = image.convert("RGBA").getchannel("A").getextrema()
    return bool(extrema[0] < 255)


def _stretch(image: Image.Image) -> tuple[float, float]:
    """By what the sides must grow for square pixels: a fax has twice as many to the inch across as down."""
    across, down = (_tag(image, tag) for tag in _RESOLUTIONS)
    if not (across > 0 and down > 0 and 1 / _MOST_STRETCH <= across / down <= _MOST_STRETCH):
        return 1, 1
    if abs(across / down - 1) < 0.1:
        return 1, 1
    return max(1, down / across), max(1, across / down)


def recompressed(data: bytes, longest_px: int, quality: int) -> Jpeg:
    """A JPEG or JPEG 2000 file with at most so many pixels on its longer side.

    Raises:
        PictureError: broken, too large, or of a kind that a JPEG cannot hold.
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
        PictureError: too few samples, too many pixels, or a layout that is not known.
    """
    _check_pixels(layout.width_px, layout.height_px)
    if layout.bits == 16:  # the upper half of each sample will do
        samples, layout = samples[::2], replace(layout, bits=8)
    mode, raw = _LAYOUTS.get((layout.samples, layout.bits), ("", ""))
    if not mode:
        raise PictureError(f"{layout.samples} components of {layout.bits} bits")
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
        raise PictureError(f"{layout.samples} components")
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


_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF")


def _opened(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    with _foreseen():
        return Image.open(io.BytesIO(data), formats=formats)


def _load(image: Image.Image) -> None:
    with _foreseen(), _without_stderr():
        image.load()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """What libtiff has to say of each row that it does not understand goes nowhere."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@contextmanager
def _foreseen() -> Iterator[None]:
    """Whatever Pillow raises, as a PictureError; its warnings are about files."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise PictureError("a broken picture: its beginning cannot be read") from None
    except Exception as error:
        raise PictureError(f"a broken picture: {shortened(str(error) or type(error).__name__, 160)}") from error


def _check_memory(image: Image.Image) -> None:
    per_pixel = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    if image.width * image.height * per_pixel > _MOST_DECODED_BYTES:
        raise PictureError(f"{image.width} x {image.height} pixels are too many")


def _check_pixels(width: int, height: int) -> None:
    if not 0 < width * height <= _MOST_PIXELS:
        raise PictureError(f"{width} x {height} pixels")


def _fitted(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    scale = min(1.0, longest_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _jpeg(image: Image.Image, longest_px: int, quality: int) -> Jpeg:
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in _MODES.values():
        raise PictureError(f"pixels of the kind {image.mode}")
    size = _fitted(image.size, longest_px)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return Jpeg(out.getvalue(), *size, len(image.getbands()))
