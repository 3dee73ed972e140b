"""risks.xlsx: the register and the documents as a workbook; the only importer of xlsxwriter."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import xlsxwriter

from pipeline.domain import DocumentResult, DocumentStatus, FieldValue, QuoteCheck, Risk, RunResult, Severity
from pipeline.reports import links
from pipeline.reports.presentation import (
    IN_THE_LAST_RUN,
    counted,
    document_change,
    field_items,
    notices,
    paragraphs,
    quote_label,
    ranges,
    register,
    remark,
    was,
    worst_first,
)
from pipeline.text import printable

# What Excel takes ("Excel specifications and limits"); it calls a workbook beyond them damaged.
MAX_CELL_UNITS = 32_767  # UTF-16 units
MAX_ROWS = 1_048_576
MAX_LINKS = 65_530  # on one sheet
_MAX_URL = 2_070  # of 2,079, with what xlsxwriter puts before it

_OPTIONS = {
    "constant_memory": True,  # one row at a time, in order: whole, 100,000 documents would take 1 GB
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
_CREATED = datetime(2000, 1, 1)  # fixed, so that equal results give equal bytes
_HEADER_ROW = 1  # above it stands what the sheet is, and what a reader must know first
_NOT_IN_XML = re.compile("[\ufffe\uffff]")
_A4 = 9

# Label and width in characters. Those before the mark are printed, on one page side by side.
_NOT_PRINTED = "|"
_RISK_COLUMNS = {
    "Severity": 9,
    "Change": 9,
    "Title": 28,
    "Document": 26,
    "Page": 6,
    "Quote": 46,
    "Quote check": 17,
    "In the document": 34,
    "Explanation": 40,
    "Recommendation": 34,
    _NOT_PRINTED: 0,
    IN_THE_LAST_RUN: 34,
    "Category": 17,
    "Seen by": 18,
    "Document status": 10,
}
_DOCUMENT_COLUMNS = {
    "Document": 36,
    "Status": 9,
    "Change": 12,
    "Pages": 7,
    "Pages read": 7,
    "Missing pages": 14,
    "Critical": 8,
    "High": 8,
    "Medium": 8,
    "Low": 8,
    "Reason": 40,
    "Note": 34,
    "Original": 9,
    _NOT_PRINTED: 0,
    "Type": 24,
    "Parties": 32,
    "Key dates": 40,
    "Summary": 70,
    "SHA-256": 20,
    "Bytes": 12,
}
_FIELD_WIDTHS = {"text": 30, "number": 14, "date": 12, "boolean": 10, "list": 36}
_GONE_COLUMNS = {"Document": 36, "What": 18, "Severity": 9, "Title": 32, "Category": 18, "Page": 7, "Quote": 60}
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "link": {"font_color": "#0B57D0", "underline": 1},
    "doubt": {"font_color": "#9B1C1C", "bold": True},
    "new": {"font_color": "#14532D", "bold": True},
    Severity.CRITICAL: {"bg_color": "#9B1C1C", "font_color": "#FFFFFF", "bold": True},
    Severity.HIGH: {"bg_color": "#F8CBAD", "font_color": "#5C1F00", "bold": True},
    Severity.MEDIUM: {"bg_color": "#FFF2CC", "font_color": "#4D3800", "bold": True},
    Severity.LOW: {"bg_color": "#E2E8F0", "font_color": "#1E293B", "bold": True},
}


@dataclass(frozen=True, slots=True)
class _Cell:
    """``style`` is a key of ``_STYLES``; ``url`` a relative address of our own making, "" for none."""

    value: str | float | None
    style: str = ""
    url: str = ""


def render(result: RunResult, with_html: bool = False) -> bytes:
    """The workbook. Every text is a plain string to the spreadsheet, never a formula, number or link.

    Links lead to the originals, and to the documents' HTML pages ``with_html``. The first 65,530 of a
    sheet are kept, and the rows that fit a sheet; the worst risks come first.

    Raises:
        OSError: the folder for temporary files does not take the rows that are written so far.
    """
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, _OPTIONS) as book:
        book.set_properties({"title": _text(result.title), "created": _CREATED})
        styles = {name: book.add_format({**look, "text_wrap": True, "valign": "top"}) for name, look in _STYLES.items()}
        title = " ".join([f"{result.title}; read by {result.run.model}.", *(notice.text for notice in notices(result))])
        found, gone = register(result), list(_gone_rows(result))
        risks = (_risk_row(result, d, r, with_html) for d, r in found)
        documents = (_document_row(result, d, with_html) for d in result.documents)
        _sheet(book, "Risks", title, _RISK_COLUMNS, risks, len(found), styles)
        _sheet(book, "Documents", title, _document_columns(result), documents, len(result.documents), styles)
        if gone:
            _sheet(book, "Gone", title, _GONE_COLUMNS, gone, len(gone), styles)
    return out.getvalue()


def _document_columns(result: RunResult) -> Mapping[str, int]:
    """Those of every job, then those of its own fields under their names, which no other column has."""
    return {**_DOCUMENT_COLUMNS, **{field.name: _FIELD_WIDTHS[field.type] for field in result.fields}}


def _sheet(
    book: Any,
    name: str,
    title: str,
    widths: Mapping[str, int],
    rows: Iterable[Sequence[_Cell]],
    count: int,
    styles: Mapping[str, Any],
) -> None:
    sheet = book.add_worksheet(name)
    columns = [label for label in widths if label != _NOT_PRINTED]
    header = book.add_format({"bold": True, "bg_color": "#1F2A44", "font_color": "#FFFFFF", "valign": "top"})
    for number, label in enumerate(columns):
        sheet.set_column(number, number, widths[label])
    fitting = min(count, MAX_ROWS - _HEADER_ROW - 1)
    if fitting < count:
        title += f" Only {fitting:,} of {counted(count, 'row')} fit a sheet: report.json has all."
    sheet.write_string(0, 0, _text(title), book.add_format({"bold": True}))
    for number, label in enumerate(columns):
        sheet.write_string(_HEADER_ROW, number, label, header)
    links_left = MAX_LINKS
    for row, cells in enumerate(islice(rows, fitting), _HEADER_ROW + 1):
        for column, cell in enumerate(cells):
            linked = 0 < len(cell.url) <= _MAX_URL and links_left > 0
            links_left -= linked
            _write(sheet, row, column, cell, styles["link" if linked else cell.style], linked)
    last = _HEADER_ROW + fitting
    sheet.autofilter(_HEADER_ROW, 0, last, len(columns) - 1)
    sheet.freeze_panes(_HEADER_ROW + 1, 0)
    printed = list(widths).index(_NOT_PRINTED) if _NOT_PRINTED in widths else len(columns)
    _set_up_print(sheet, last, printed)


def _write(sheet: Any, row: int, column: int, cell: _Cell, style: Any, linked: bool) -> None:
    if linked:  # the cell's own text or number is written over the address
        sheet.write_url(row, column, f"external:{cell.url}", style)
    if isinstance(cell.value, str):
        sheet.write_string(row, column, _text(cell.value), style)
    elif cell.value is None:
        sheet.write_blank(row, column, None, style)
    else:
        sheet.write_number(row, column, cell.value, style)


def _set_up_print(sheet: Any, last_row: int, columns: int) -> None:
    sheet.set_landscape()
    sheet.set_paper(_A4)
    sheet.set_margins(left=0.3, right=0.3, top=0.4, bottom=0.5)
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(_HEADER_ROW)
    sheet.print_area(0, 0, last_row, columns - 1)
    sheet.set_footer("&L&A&RPage &P of &N")


def _risk_row(result: RunResult, document: DocumentResult, risk: Risk, with_html: bool) -> list[_Cell]:
    doubtful = risk.quote_check in (QuoteCheck.ALTERED, QuoteCheck.NOT_FOUND)
    return [
        _Cell(risk.severity.value, risk.severity),
        _Cell(risk.change or "", "new"),
        _Cell(risk.title),
        _document_cell(result, document, with_html),
        _Cell(risk.page, url=links.original(result, document, risk.page) if risk.page else ""),
        _Cell(risk.quote),
        _Cell(quote_label(risk), "doubt" if doubtful else ""),
        _Cell(risk.found),
        _Cell(risk.explanation),
        _Cell(risk.recommendation),
        _Cell("\n".join(filter(None, (was(risk), risk.before.quote))) if risk.before else ""),
        _Cell(risk.category),
        _Cell("docpipe's own check" if risk.own_check else result.run.model),
        _Cell(document.status.value),
    ]


def _document_row(result: RunResult, document: DocumentResult, with_html: bool) -> list[_Cell]:
    severities = [r.severity for r in document.risks]
    original = links.original(result, document)
    return [
        _document_cell(result, document, with_html),
        _Cell(document.status.value, "" if document.status is DocumentStatus.DONE else "doubt"),
        _Cell(document_change(document), "new"),
        _Cell(document.pages),
        _Cell(document.pages_covered),
        _Cell(ranges(document.missing_pages)),
        *(_Cell(severities.count(severity)) for severity in Severity),
        _Cell(document.reason),
        _Cell(remark(document)),
        _Cell("open" if original else "", url=original),
        _Cell(document.document_type),
        _Cell("\n".join(document.parties)),
        _Cell(
            "\n".join(f"{k.date}: {k.meaning}" + (f" (page {k.page})" if k.page else "") for k in document.key_dates)
        ),
        _Cell("\n".join(filter(None, (document.summary, document.summary_note)))),
        _Cell(document.sha256),
        _Cell(document.size_bytes),
        *map(_field_cell, document.fields),
    ]


def _field_cell(field: FieldValue) -> _Cell:
    """A number as one, so that it can be summed up; the rest as people read it."""
    if isinstance(field.value, int | float) and not isinstance(field.value, bool):
        return _Cell(field.value)
    return _Cell("\n".join(field_items(field)))


def _document_cell(result: RunResult, document: DocumentResult, with_html: bool) -> _Cell:
    url = links.html_page(document) if with_html else links.original(result, document)
    return _Cell(printable(document.path), url=url)


def _gone_rows(result: RunResult) -> Iterator[list[_Cell]]:
    for path in result.compared.removed if result.compared else ():
        yield [_Cell(printable(path)), _Cell("document removed"), *[_Cell("")] * 5]
    for document in result.documents:
        for risk in worst_first(document.gone_risks):
            yield [
                _Cell(printable(document.path)),
                _Cell("risk gone"),
                _Cell(risk.severity.value, risk.severity),
                _Cell(risk.title),
                _Cell(risk.category),
                _Cell(risk.page),
                _Cell(risk.quote),
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
