"""risks.csv with one row a risk, documents.csv with one a document, for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

from pipeline.domain import Before, DocumentResult, FieldValue, Risk, RunResult
from pipeline.reports.presentation import field_items, one_line, ranges, register, remark
from pipeline.text import printable

COLUMNS = (
    "document",
    "sha256",
    "status",
    "page",
    "severity",
    "category",
    "title",
    "quote",
    "quote_check",
    "explanation",
    "recommendation",
    "read_by",
    "named_page",
    "found",
    "change",
    "severity_before",
    "page_before",
    "quote_before",
    "id",
    "own_check",
    "note",
)

DOCUMENT_COLUMNS = (
    "document",
    "sha256",
    "status",
    "reason",
    "pages",
    "pages_covered",
    "missing_pages",
    "document_type",
    "read_by",
    "change",
    "note",
)
"""Those of documents.csv before the job's own fields."""

# A spreadsheet that is told, or guesses, another separator cuts a cell of ours there, and what follows is the beginning
# of a cell: of a formula also after blanks and quotation marks. Tabs are no longer in the text, and a cell with commas
# stands in quotation marks.
_AFTER_SEPARATOR = re.compile(r"([;|])([\s\"']*)(?=[=+\-@＝＋－＠﹢﹣﹦﹫−])")


def render(result: RunResult) -> str:
    """The register, worst first, with CRLF line ends; no cell is a formula to a spreadsheet."""
    out = io.StringIO(newline="")
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    read_by = _cell(result.run.model)
    rows.writerows(_row(document, risk, read_by) for document, risk in register(result))
    return out.getvalue()


def render_documents(result: RunResult) -> str:
    """Every document with the job's own fields, by path; as ``render``. Items of a list are set apart by "; "."""
    out = io.StringIO(newline="")
    rows = csv.writer(out)
    rows.writerow([*DOCUMENT_COLUMNS, *(field.name for field in result.fields)])
    read_by = _cell(result.run.model)
    rows.writerows(_document_row(document, read_by) for document in result.documents)
    return out.getvalue()


def _document_row(document: DocumentResult, read_by: str) -> list[str]:
    return [
        _guarded(document.path, printable(document.path)),
        document.sha256 or "",
        document.status,
        _cell(document.reason or ""),
        _number(document.pages),
        _number(document.pages_covered),
        ranges(document.missing_pages),
        _cell(document.document_type),
        read_by,
        document.change or "",
        _cell(remark(document)),
        *map(_value, document.fields),
    ]


def _value(field: FieldValue) -> str:
    match field.value:
        case bool():
            return "true" if field.value else "false"
        case int() | float():  # a sign before digits of our own making begins no formula
            return f"{field.value:.15g}"
        case _:
            return _cell("; ".join(field_items(field)))


def _row(document: DocumentResult, risk: Risk, read_by: str) -> list[str]:
    return [
        _guarded(document.path, printable(document.path)),
        document.sha256 or "",
        document.status,
        _number(risk.page),
        risk.severity,
        _cell(risk.category),
        _cell(risk.title),
        _cell(risk.quote),
        risk.quote_check or "",
        _cell(risk.explanation),
        _cell(risk.recommendation),
        read_by,
        _number(risk.named_page),
        _cell(risk.found),
        risk.change or "",
        *_before(risk.before),
        _cell(risk.id),
        "true" if risk.own_check else "false",
        _cell(remark(document)),
    ]


def _before(before: Before | None) -> tuple[str, str, str]:
    return (before.severity, _number(before.page), _cell(before.quote)) if before else ("", "", "")


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def _cell(text: str) -> str:
    return _guarded(text, one_line(text))


def _guarded(text: str, shown: str) -> str:
    """``shown`` with an apostrophe in front if a spreadsheet might take ``text`` or it for a formula."""
    shown = _AFTER_SEPARATOR.sub(r"\1\2'", shown)
    first = next((c for c in text if unicodedata.category(c)[0] not in "CZ"), "")
    # NFKC folds the full-width and small forms, which some spreadsheets read as the ASCII sign.
    starts_formula = first != "" and unicodedata.normalize("NFKC", first) in ("=", "+", "-", "−", "@")
    return f"'{shown}" if starts_formula or text.startswith(("\t", "\r")) else shown
