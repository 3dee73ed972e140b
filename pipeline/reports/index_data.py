"""The rows of index.html as JSON for its script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.domain import DocumentResult, FieldValue, QuoteCheck, Risk, RunResult
from pipeline.reports.names import document_name
from pipeline.reports.pages import numbered
from pipeline.reports.presentation import coverage, field_items, field_label, one_line, remark, sentence, tally
from pipeline.text import printable

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

CHECK_WORDS = {
    QuoteCheck.VERIFIED: "✓ word for word",
    QuoteCheck.PAGE_CORRECTED: "✓ on another page than named",
    QuoteCheck.ALTERED: "≠ differs",
    QuoteCheck.NOT_FOUND: "✗ not found",
    QuoteCheck.NOT_CHECKABLE: "? no text to check",
}
"""How ``QUOTE_LABELS`` read where there is little room, each with a sign before it."""


def render(result: RunResult) -> Iterator[str]:
    r"""An object of lists, which the script names: shorter than objects, and as plain; in blocks.

    No character in it means anything to HTML, so it may stand in a script element: ``<`` is ``\u003c``.
    """
    risks = (
        _risk(place, number, risk)
        for place, document in enumerate(result.documents)
        for number, risk in numbered(document)
    )
    yield f'{{"checks":{_json([[check, CHECK_WORDS[check]] for check in QuoteCheck])},'
    yield f'"fields":{_json([field_label(field.name) for field in result.fields])},"documents":['
    yield from _listed(map(_document, result.documents))
    yield '],"risks":['
    yield from _listed(risks)
    yield "]}"


def _listed(rows: Iterable[list[Any]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield f"{',' if number else ''}{_json(row)}"


def _json(value: list[Any]) -> str:
    return _ENCODER.encode(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _document(document: DocumentResult) -> list[Any]:
    return [
        printable(document.path),
        f"documents/{document_name(document.path)}.html",
        document.status,
        document.pages or 0,
        document.pages_covered,
        [[r.first, r.last] for r in document.missing_pages],
        coverage(document),
        sentence(document.reason or ""),
        one_line(remark(document)),
        one_line(document.document_type),
        one_line(document.summary),
        dict(tally(document)),
        document.change or "",
        document.recovered,
        [_field(field) for field in document.fields],
    ]


def _field(field: FieldValue) -> list[Any]:
    """What the cell says, and what it is sorted by."""
    text = one_line("; ".join(field_items(field)))
    return [text, field.value if isinstance(field.value, int | float) else text]


def _risk(document: int, number: int, risk: Risk) -> list[Any]:
    return [
        document,
        number,
        risk.severity,
        risk.page or 0,
        one_line(risk.title),
        one_line(risk.category),
        one_line(risk.quote),
        list(QuoteCheck).index(risk.quote_check) if risk.quote_check else -1,
        risk.change or "",
        risk.own_check,
        one_line(risk.explanation),
        one_line(risk.recommendation),
    ]
