"""Blocks in, the bytes of a PDF out: the only importer of reportlab's layout.

Streams stay uncompressed: two builds of zlib may pack the same words into different bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import registerFont, stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import HRFlowable, KeepTogether, PageBreak, Paragraph, SimpleDocTemplate, Spacer
from reportlab.platypus import Table as TableFlowable

from tools.sample_docs.markup import Block, Clause, Kind, NewPage, Signatures, Table, Words

SUBSET_FONT = Path(__file__).parent / "fonts" / "DroidSansFallback-subset.ttf"
"""The committed font that holds the characters of the Chinese contract and no others."""

_MARGIN = 27 * mm
_LINE_PT = A4[0] - 2 * _MARGIN - 12  # reportlab's frame keeps 6 points free on either side
_GREY = colors.HexColor("#555555")
_NOT_IN_CJK_FONT = re.compile(r"[\x20-\x7e“”—…·]+")


@dataclass(frozen=True, slots=True)
class Look:
    """The type of a contract. Sizes are points; ``page_label`` takes the page and the number of pages."""

    regular: str
    bold: str
    size_pt: float
    leading_pt: float
    page_label: str = "Page {} of {}"
    cjk: bool = False


SERIF = Look("Times-Roman", "Times-Bold", 11.5, 16.5)
SERIF_DENSE = Look("Times-Roman", "Times-Bold", 11, 15)
SANS = Look("Helvetica", "Helvetica-Bold", 10.5, 15.5)
GERMAN = Look("Vera", "VeraBd", 10, 15.5, "Seite {} von {}")
CHINESE = Look("DroidSansFallback", "DroidSansFallback", 11.3, 19, "第 {} 页 共 {} 页", cjk=True)


@dataclass(frozen=True, slots=True)
class Protection:
    """Passwords of a file. An empty ``user`` password lets everybody read and print it, not copy from it."""

    user: str
    owner: str


def register_fonts() -> None:
    """Make the embedded fonts known to reportlab, which ships the Vera family itself."""
    for name, file in [
        ("Vera", "Vera.ttf"),
        ("VeraBd", "VeraBd.ttf"),
        ("DroidSansFallback", str(SUBSET_FONT)),
    ]:
        registerFont(TTFont(name, file))


def contract_pdf(
    blocks: Sequence[Block], look: Look, title: str, reference: str, protection: Protection | None = None
) -> bytes:
    """The contract as a PDF with a running head, page numbers and a bookmark for each section.

    Raises:
        ValueError: a page that ``blocks`` name does not begin where they say.
    """
    register_fonts()
    page_count, _ = _build(blocks, look, title, reference, None, 0)
    return _build(blocks, look, title, reference, protection, page_count)[1]


def images_pdf(jpegs: Iterable[bytes], title: str) -> bytes:
    """A PDF of A4 pages that hold one JPEG each and no text."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, pageCompression=0, invariant=1)
    canvas.setTitle(title)
    for jpeg in jpegs:
        canvas.drawImage(ImageReader(io.BytesIO(jpeg)), 0, 0, *A4)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _build(
    blocks: Sequence[Block], look: Look, title: str, reference: str, protection: Protection | None, page_count: int
) -> tuple[int, bytes]:
    """How many pages there are, and the PDF; ``page_count`` is what the page numbers say."""
    out = io.BytesIO()
    encrypt = protection and StandardEncryption(
        protection.user, protection.owner, canPrint=1, canModify=0, canCopy=0, canAnnotate=0, strength=128
    )
    document = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=_MARGIN, bottomMargin=_MARGIN,
        title=title, author="", pageCompression=0, invariant=1, encrypt=encrypt,
    )  # fmt: skip

    def furniture(canvas: Any, template: Any) -> None:
        _furniture(canvas, look, f"{title}|{reference}".split("|"), look.page_label.format(template.page, page_count))

    def after_flowable(flowable: Any) -> None:
        _check_page(flowable, document.page)
        if hasattr(flowable, "bookmark"):
            key = f"section-{flowable.bookmark}-{document.page}"
            document.canv.bookmarkPage(key)
            document.canv.addOutlineEntry(flowable.bookmark, key, 0)

    document.afterFlowable = after_flowable
    document.build(_flowables(blocks, look), onFirstPage=furniture, onLaterPages=furniture)
    return document.page, out.getvalue()


def _check_page(flowable: Any, page: int) -> None:
    wanted = getattr(flowable, "starts_page", page)
    if wanted != page:
        raise ValueError(f"page {wanted} begins on page {page}: the pages before it hold too much or too little")


def _furniture(canvas: Any, look: Look, head: Sequence[str], page_label: str) -> None:
    width, height = A4
    canvas.saveState()
    canvas.setFillColor(_GREY)
    canvas.setStrokeColor(colors.HexColor("#aaaaaa"))
    canvas.setLineWidth(0.4)
    canvas.setFont(look.regular, 8)
    canvas.drawString(_MARGIN, height - 16 * mm, head[0])
    canvas.setFont("Helvetica" if look.cjk else look.regular, 8)
    canvas.drawRightString(width - _MARGIN, height - 16 * mm, head[1])
    canvas.line(_MARGIN, height - 18 * mm, width - _MARGIN, height - 18 * mm)
    canvas.line(_MARGIN, 17 * mm, width - _MARGIN, 17 * mm)
    footer = Paragraph(_markup(page_label, look), _style(look, "footer", fontSize=8, alignment=TA_CENTER))
    footer.wrap(width - 2 * _MARGIN, 10 * mm)
    footer.drawOn(canvas, _MARGIN, 10 * mm)
    canvas.restoreState()


def _markup(text: str, look: Look) -> str:
    """``text`` for reportlab's Paragraph; the CJK font has no Latin letters, so those change the font."""
    if not look.cjk:
        return escape(text)
    return _NOT_IN_CJK_FONT.sub(lambda m: f'<font name="Vera">{escape(m[0])}</font>', text)


def _style(look: Look, name: str, **changes: Any) -> ParagraphStyle:
    values: dict[str, Any] = {
        "fontName": look.regular,
        "fontSize": look.size_pt,
        "leading": look.leading_pt,
        "spaceAfter": look.size_pt * 0.6,
        "wordWrap": "CJK" if look.cjk else None,
    }
    return ParagraphStyle(name, **(values | changes))


def _styles(look: Look) -> dict[Kind, ParagraphStyle]:
    size, bold = look.size_pt, look.bold
    return {
        Kind.TITLE: _style(
            look, "title", fontName=bold, fontSize=size * 1.6, leading=size * 2, alignment=TA_CENTER, spaceAfter=size
        ),
        Kind.SECTION: _style(
            look, "section", fontName=bold, fontSize=size * 1.13, spaceBefore=size * 0.8, keepWithNext=1
        ),
        Kind.PART: _style(look, "part", fontName=bold, spaceBefore=size * 0.3, keepWithNext=1),
        Kind.CENTRED: _style(look, "centred", alignment=TA_CENTER),
        Kind.PARAGRAPH: _style(look, "paragraph", alignment=TA_LEFT if look.cjk else TA_JUSTIFY),
    }


def _flowables(blocks: Sequence[Block], look: Look) -> list[Any]:
    styles = _styles(look)
    flowables: list[Any] = []
    starts_page: int | None = None
    for block in blocks:
        if isinstance(block, NewPage):
            flowables.append(PageBreak())
            starts_page = block.number
            continue
        flowable = _flowable(block, look, styles)
        if starts_page is not None:
            flowable.starts_page = starts_page
            starts_page = None
        flowables.append(flowable)
    return flowables


def _flowable(block: Words | Clause | Table | Signatures, look: Look, styles: dict[Kind, ParagraphStyle]) -> Any:
    if isinstance(block, Table):
        return _table(block, look)
    if isinstance(block, Signatures):
        return _signatures(block, look)
    if isinstance(block, Clause):
        indent = (13 if block.label.startswith("(") else 0) * mm
        style = _style(
            look, "clause", alignment=styles[Kind.PARAGRAPH].alignment, leftIndent=indent + 13 * mm,
            bulletIndent=indent, bulletFontName="Vera" if look.cjk else look.regular, bulletFontSize=look.size_pt,
        )  # fmt: skip
        return Paragraph(_markup(block.text, look), style, bulletText=block.label)
    paragraph = Paragraph(_markup(block.text, look), styles[block.kind])
    if block.kind is Kind.SECTION:
        paragraph.bookmark = block.text
    return paragraph


def _table(block: Table, look: Look) -> Any:
    size = look.size_pt * 0.85
    small = {"fontSize": size, "leading": size * 1.3, "spaceAfter": 0}
    alignments = [TA_RIGHT if column in block.figures else TA_LEFT for column in range(len(block.rows[0]))]
    head = [_style(look, "head", **small, fontName=look.bold, alignment=alignment) for alignment in alignments]
    cell = [_style(look, "cell", **small, alignment=alignment) for alignment in alignments]
    cells = [
        [Paragraph(_markup(text, look), style) for text, style in zip(texts, cell if row else head, strict=True)]
        for row, texts in enumerate(block.rows)
    ]
    table = TableFlowable(
        cells, colWidths=_column_widths(block, head[0], cell[0]), repeatRows=1, spaceBefore=4, spaceAfter=10
    )
    table.setStyle([
        ("GRID", (0, 0), (-1, -1), 0.4, colors.HexColor("#999999")),
        ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e8e8e8")),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
    ])  # fmt: skip
    return table


def _column_widths(block: Table, head: ParagraphStyle, cell: ParagraphStyle) -> list[float]:
    """Widths in points that fill the line; only columns wider than their fair share ever have to wrap."""
    fair = _LINE_PT / len(block.rows[0])
    natural = [
        14 + max(stringWidth(text, (cell if row else head).fontName, cell.fontSize) for row, text in enumerate(column))
        for column in zip(*block.rows, strict=True)
    ]
    excess = sum(natural) - _LINE_PT
    if excess <= 0:
        return [width * _LINE_PT / sum(natural) for width in natural]
    above_fair = sum(max(0.0, width - fair) for width in natural)
    return [width - max(0.0, width - fair) * excess / above_fair for width in natural]


def _signatures(block: Signatures, look: Look) -> Any:
    plain = _style(look, "signature", spaceAfter=0)
    bold = _style(look, "party", spaceAfter=0, fontName=look.bold)
    names = [Paragraph(_markup(column[0], look), bold) for column in block.columns]
    lines = [
        [
            Spacer(1, 13 * mm),
            HRFlowable("85%", 0.6, color=colors.black, hAlign="LEFT", spaceAfter=3),
            *(Paragraph(_markup(line, look), plain) for line in column[1:]),
        ]
        for column in block.columns
    ]
    table = TableFlowable([names, lines], colWidths=[_LINE_PT / len(names)] * len(names))
    table.setStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
    return KeepTogether([Spacer(1, 5 * mm), table])
