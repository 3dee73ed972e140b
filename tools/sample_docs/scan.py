"""Blocks in, pictures of slightly crooked and dirty pages out, as an office scanner makes them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import reportlab
from PIL import Image, ImageDraw, ImageFont

from tools.sample_docs.markup import Block, Clause, Kind, NewPage, Words

_DPI = 120
_WIDTH_PX, _HEIGHT_PX = round(8.27 * _DPI), round(11.69 * _DPI)
_MARGIN_PX = _DPI
_PAPER, _INK = 246, 38
_SKEW_DEGREES = (0.6, -0.4, 0.8)
_SPECKLES = 500
_FONTS = Path(reportlab.__file__).parent / "fonts"


def page_jpegs(blocks: Sequence[Block]) -> Iterator[bytes]:
    """One grey JPEG of an A4 page for each page that ``blocks`` name.

    Raises:
        ValueError: the words of a page do not fit on it.
    """
    breaks = 0
    numbered: list[tuple[int, Block]] = []
    for block in blocks:
        breaks += isinstance(block, NewPage)
        numbered.append((breaks, block))
    for index, page in groupby(numbered, key=lambda pair: pair[0]):
        drawn = _draw([block for _, block in page], f"Page {index + 1} of {breaks + 1}")
        yield _as_scanned(drawn, index)


def _draw(blocks: Sequence[Block], footer: str) -> Image.Image:
    image = Image.new("L", (_WIDTH_PX, _HEIGHT_PX), _PAPER)
    pen = ImageDraw.Draw(image)
    y = _MARGIN_PX
    for block in blocks:
        if isinstance(block, Words | Clause):
            y = _write(pen, block, y)
    if y > _HEIGHT_PX - _MARGIN_PX:
        raise ValueError(f"too many words for the picture of {footer}")
    pen.text((_WIDTH_PX / 2, _HEIGHT_PX - _MARGIN_PX * 0.6), footer, fill=_INK, font=_font(13), anchor="mm")
    return image


def _write(pen: ImageDraw.ImageDraw, block: Words | Clause, y: int) -> int:
    """Write one block below ``y`` (pixels from the top); where it ends."""
    kind = block.kind if isinstance(block, Words) else Kind.PARAGRAPH
    heading = kind in (Kind.TITLE, Kind.SECTION)
    font = _font(28 if kind is Kind.TITLE else 18, bold=heading)
    text = f"{block.label}  {block.text}" if isinstance(block, Clause) else block.text
    centred = kind in (Kind.TITLE, Kind.CENTRED)
    for line in _lines(text, font):
        x = (_WIDTH_PX - font.getlength(line)) / 2 if centred else _MARGIN_PX
        pen.text((x, y), line, fill=_INK, font=font)
        y += round(font.size * 1.6)
    return y + 12


def _lines(text: str, font: ImageFont.FreeTypeFont) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > _WIDTH_PX - 2 * _MARGIN_PX:
            yield line
            longer = word
        line = longer
    yield line


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    file = _FONTS / ("VeraBd.ttf" if bold else "Vera.ttf")
    return ImageFont.truetype(str(file), size_px, layout_engine=ImageFont.Layout.BASIC)


def _as_scanned(page: Image.Image, index: int) -> bytes:
    """``page`` turned a little, with dust on it, as a JPEG. ``index`` chooses the fixed angle and the dust."""
    crooked = page.rotate(_SKEW_DEGREES[index % len(_SKEW_DEGREES)], Image.Resampling.BILINEAR, fillcolor=_PAPER)
    dust = random.Random(index)
    for _ in range(_SPECKLES):
        place = (dust.randrange(_WIDTH_PX), dust.randrange(_HEIGHT_PX))
        crooked.putpixel(place, dust.randrange(90, 235))
    out = io.BytesIO()
    crooked.save(out, "JPEG", quality=45)
    return out.getvalue()
