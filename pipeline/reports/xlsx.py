"""risks.xlsx: the register and the documents as a workbook; the only importer of xlsxwriter."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import xlsxwriter

from pipeline.domain import DocumentResult, Risk, RunResult, Severity
from pipeline.reports.presentation import QUOTE_LABELS, notices, paragraphs, ranges, register
from pipeline.text import printable

MAX_CELL_UNITS = 32_767  # Excel counts UTF-16 units and calls a longer cell damage

_OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
_CREATED = datetime(2000, 1, 1)  # fixed, so that equal results give equal bytes
_HEADER_ROW = 1  # above it stands what the sheet is, and what a reader must know first
_NOT_IN_XML = re.compile("[\ufffe\uffff]")

_RISK_COLUMNS = {
    "Severity": 10,
    "Title": 32,
    "Category": 18,
    "Document": 34,
    "Page": 7,
    "Quote": 50,
    "Quote check": 18,
    "Explanation": 50,
    "Recommendation": 44,
    "Document status": 10,
}
_DOCUMENT_COLUMNS = {
    "Document": 40,
    "Status": 10,
    "Reason": 40,
    "Pages": 8,
    "Pages read": 8,
    "Missing pages": 14,
    "Critical": 8,
    "High": 8,
    "Medium": 8,
    "Low": 8,
    "Type": 24,
    "Parties": 32,
    "Key dates": 40,
    "Summary": 70,
    "SHA-256": 20,
    "Bytes": 12,
}
_FILLS = {
    Severity.CRITICAL: ("#9B1C1C", "#FFFFFF"),
    Severity.HIGH: ("#F8CBAD", "#5C1F00"),
    Severity.MEDIUM: ("#FFF2CC", "#4D3800"),
    Severity.LOW: ("#E2E8F0", "#1E293B"),
}

Cell = str | int | None


def render(result: RunResult) -> bytes:
    """The workbook. Every text is a plain string to the spreadsheet, never a formula, number or link."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, _OPTIONS) as book:
        book.set_properties({"title": _text(result.title), "created": _CREATED})
        title = " ".join([f"{result.title}; read by {result.run.model}.", *(notice.text for notice in notices(result))])
        risks = (_risk_row(d, r) for d, r in register(result))
        badges = {severity.value: book.add_format(_badge(severity)) for severity in Severity}
        _sheet(book.add_worksheet("Risks"), book, title, _RISK_COLUMNS, risks, badges)
        documents = map(_document_row, result.documents)
        _sheet(book.add_worksheet("Documents"), book, title, _DOCUMENT_COLUMNS, documents, {})
    return out.getvalue()


def _badge(severity: Severity) -> dict[str, Any]:
    fill, ink = _FILLS[severity]
    return {"bg_color": fill, "font_color": ink, "bold": True, "valign": "top"}


def _sheet(
    sheet: Any,
    book: Any,
    title: str,
    columns: Mapping[str, int],
    rows: Iterable[Sequence[Cell]],
    first_styles: Mapping[Any, Any],
) -> None:
    """Fill ``sheet``; a row's first cell takes its style from ``first_styles`` if its value has one there."""
    body = book.add_format({"text_wrap": True, "valign": "top"})
    header = book.add_format({"bold": True, "bg_color": "#1F2A44", "font_color": "#FFFFFF", "valign": "top"})
    for number, (label, width) in enumerate(columns.items()):
        sheet.set_column(number, number, width)
        sheet.write_string(_HEADER_ROW, number, label, header)
    sheet.write_string(0, 0, _text(title), book.add_format({"bold": True}))
    last = _HEADER_ROW
    for last, row in enumerate(rows, _HEADER_ROW + 1):
        for number, value in enumerate(row):
            _write(sheet, last, number, value, first_styles.get(value, body) if number == 0 else body)
    sheet.autofilter(_HEADER_ROW, 0, last, len(columns) - 1)
    sheet.freeze_panes(_HEADER_ROW + 1, 0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(_HEADER_ROW)


def _write(sheet: Any, row: int, column: int, value: Cell, style: Any) -> None:
    if isinstance(value, str):
        sheet.write_string(row, column, _text(value), style)
    elif value is None:
        sheet.write_blank(row, column, None, style)
    else:
        sheet.write_number(row, column, value, style)


def _risk_row(document: DocumentResult, risk: Risk) -> list[Cell]:
    return [
        risk.severity.value,
        risk.title,
        risk.category,
        printable(document.path),
        risk.page,
        risk.quote,
        QUOTE_LABELS[risk.quote_check] if risk.quote_check else "not checked",
        risk.explanation,
        risk.recommendation,
        document.status.value,
    ]


def _document_row(document: DocumentResult) -> list[Cell]:
    severities = [r.severity for r in document.risks]
    return [
        printable(document.path),
        document.status.value,
        document.reason,
        document.pages,
        document.pages_covered,
        ranges(document.missing_pages),
        *(severities.count(severity) for severity in Severity),
        document.document_type,
        "\n".join(document.parties),
        "\n".join(f"{k.date}: {k.meaning}" + (f" (page {k.page})" if k.page else "") for k in document.key_dates),
        "\n".join(filter(None, (document.summary, document.summary_note))),
        document.sha256,
        document.size_bytes,
    ]


def _text(text: str) -> str:
    """``text`` as XML and Excel can hold it: printable lines, cut with an ellipsis at the cell's limit."""
    lines = _NOT_IN_XML.sub("\ufffd", "\n".join(paragraphs(text)))
    if len(lines) * 2 <= MAX_CELL_UNITS:
        return lines
    units = lines.encode("utf-16-le")
    if len(units) <= MAX_CELL_UNITS * 2:
        return lines
    return units[: (MAX_CELL_UNITS - 1) * 2].decode("utf-16-le", errors="ignore") + "…"
