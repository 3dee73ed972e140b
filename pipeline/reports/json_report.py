"""report.json: the whole result for programs, schema 1."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from pipeline.domain import (
    Change,
    DocumentResult,
    DocumentStatus,
    OpenBatch,
    QuoteCheck,
    Risk,
    RunResult,
    Severity,
    Spending,
)
from pipeline.reports.presentation import (
    documents_that,
    gone_risks,
    needing_attention,
    recovered_documents,
    risks_that,
)

SCHEMA = 1

_ENCODER = json.JSONEncoder(allow_nan=False)
_DOCUMENTS, _END = ' "documents": [', " ]"  # the lines around those of the documents


def render(result: RunResult, undrawn: Sequence[str] | None = None) -> Iterator[bytes]:
    """The report in ASCII, one document a line, so that it can be searched and compared line by line.

    In blocks: that of a hundred thousand documents is never in memory as a whole.

    ``undrawn`` are the paths of documents of whose HTML pages a picture is missing, None where there are no pages.

    Bytes of a file name that are not UTF-8 are escaped lone surrogates, which ``json.loads`` and
    ``os.fsencode`` turn back into the name on disk.

    Raises:
        ValueError: a cost is not a finite number.
    """
    # The C encoder works only without indent: a tenth of the time with thousands of documents.
    frame = json.dumps({**head(result), "undrawn": undrawn}, indent=1, allow_nan=False).removesuffix("\n}")
    yield f"{frame},\n{_DOCUMENTS}".encode("ascii")
    for number, one in enumerate(result.documents):
        yield f"{',' if number else ''}\n  {line(document(one))}".encode("ascii")
    yield f"\n{_END}\n}}\n".encode("ascii")


def line(document: Mapping[str, Any]) -> str:
    """A document's object as it stands on its line.

    Raises:
        ValueError: a number is not finite.
    """
    return _ENCODER.encode(document)


def parsed(lines: Iterable[bytes]) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """What ``render`` wrote: all but the documents, and these one by one.

    Raises:
        ValueError: the lines are not such a report; the iterator, too, when it comes to the place.
    """
    lines = iter(lines)
    frame = list(takewhile(lambda found: found.rstrip() != _DOCUMENTS.encode(), lines))
    return json.loads(b"".join(frame).rstrip(b",\n") + b"}"), _parsed_documents(lines)


def _parsed_documents(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for found in lines:
        if found.rstrip() == _END.encode():
            return
        yield json.loads(found.rstrip(b",\n"))
    raise ValueError("the report ends before its documents do")


def head(result: RunResult) -> dict[str, Any]:
    """All of the report but its documents and what could not be drawn."""
    run = result.run
    return {
        "schema": SCHEMA,
        "job": result.job,
        "title": result.title,
        "run": {
            "id": run.id,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "status": run.status,
            "exit_code": run.exit_code,
            "endpoint": run.endpoint,
            "model": run.model,
            "version": run.version,
            "stopped_because": run.stopped_because,
            "reads_with_rules": result.reads_with_rules,
            "expected": _expected(result),
            "compared": _compared(result),
            "originals": result.originals,
        },
        "totals": totals(result),
    }


def _expected(result: RunResult) -> dict[str, Any] | None:
    if result.expected is None:
        return None
    usage = result.expected.usage
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": result.expected.cost_usd,
    }


def _compared(result: RunResult) -> dict[str, Any] | None:
    compared = result.compared
    if compared is None:
        return None
    return {
        "run": compared.run,
        "finished_at": compared.finished_at,
        "same_request": compared.same_request,
        "removed": list(compared.removed),
    }


def status(result: RunResult | None, all_runs: Spending, cut_off: int, batches: Sequence[OpenBatch]) -> dict[str, Any]:
    """What ``docpipe status --json`` prints: the last run, None before the first, and what all runs sent."""
    unfinished = needing_attention(result) if result else []
    return {
        "run": head(result)["run"] if result else None,
        "totals": totals(result) if result else None,
        "unfinished": [
            {"path": d.path, "status": d.status, "reason": d.reason, "missing_pages": _missing(d)} for d in unfinished
        ],
        "all_runs": {
            "requests": all_runs.requests,
            "retries": all_runs.retries,
            "input_tokens": all_runs.usage.input_tokens,
            "output_tokens": all_runs.usage.output_tokens,
            "cost_usd": all_runs.cost_usd,
            "known_usd": all_runs.known_usd,
            "unpriced": all_runs.unpriced,
            "cut_off": cut_off,
        },
        "batches": [
            {"name": b.name, "requests": b.requests, "begun_at": b.begun_at, "status": b.status} for b in batches
        ],
    }


def _missing(document: DocumentResult) -> list[list[int]]:
    return [[r.first, r.last] for r in document.missing_pages]


def totals(result: RunResult) -> dict[str, Any]:
    """What all documents and the run's requests add up to, under the names of report.json.

    Pages of a file that could not be opened count 0. A quote that was not looked for counts nowhere in
    ``quotes``; ``quotes_verified_share``, of those that were and could be, is None where there are none.
    A cost of None is unknown. ``changes`` is None when there is no run to compare with.
    """
    documents, spending = result.documents, result.spending
    statuses = Counter(d.status for d in documents)
    severities = Counter(r.severity for d in documents for r in d.risks)
    quotes = Counter(r.quote_check for d in documents for r in d.risks)
    return {
        "documents": len(documents),
        **{status.value: statuses[status] for status in DocumentStatus},
        "unchanged": sum(d.unchanged for d in documents),
        "pages": sum(d.pages or 0 for d in documents),
        "pages_covered": sum(d.pages_covered for d in documents),
        "chunks": len({c.id for d in documents for c in d.chunks}),
        "requests": spending.requests,
        "retries": spending.retries,
        "chunks_recovered": spending.chunks_recovered,
        "input_tokens": spending.usage.input_tokens,
        "output_tokens": spending.usage.output_tokens,
        "cache_read_tokens": spending.usage.cache_read_tokens,
        "cache_write_tokens": spending.usage.cache_write_tokens,
        "cost_usd": spending.cost_usd,
        "retry_cost_usd": spending.retry_cost_usd,
        "known_cost_usd": spending.known_usd,
        "unpriced_requests": spending.unpriced,
        "risks": {severity.value: severities[severity] for severity in Severity},
        "quotes": {check.value: quotes[check] for check in QuoteCheck},
        "quotes_verified_share": _verified_share(quotes),
        "changes": _changes(result),
    }


def _changes(result: RunResult) -> dict[str, Any] | None:
    if result.compared is None:
        return None
    new = Counter(risk.severity for _, risk in risks_that(Change.NEW, result))
    return {
        "new_risks": {severity.value: new[severity] for severity in Severity},
        "changed_risks": len(risks_that(Change.CHANGED, result)),
        "gone_risks": len(gone_risks(result)),
        "new_documents": len(documents_that(Change.NEW, result)),
        "changed_documents": len(documents_that(Change.CHANGED, result)),
        "removed_documents": len(result.compared.removed),
        "recovered_documents": len(recovered_documents(result)),
    }


def _verified_share(quotes: Counter[QuoteCheck | None]) -> float | None:
    checkable = sum(quotes[check] for check in QuoteCheck if check is not QuoteCheck.NOT_CHECKABLE)
    verified = quotes[QuoteCheck.VERIFIED] + quotes[QuoteCheck.PAGE_CORRECTED]
    return round(verified / checkable, 4) if checkable else None


def document(document: DocumentResult) -> dict[str, Any]:
    """One document's object in the report."""
    return {
        "path": document.path,
        "sha256": document.sha256,
        "size_bytes": document.size_bytes,
        "pages": document.pages,
        "status": document.status,
        "reason": document.reason,
        "note": document.note,
        "missing_pages": _missing(document),
        "summary": document.summary,
        "summary_note": document.summary_note,
        "document_type": document.document_type,
        "parties": list(document.parties),
        "key_dates": [{"date": k.date, "meaning": k.meaning, "page": k.page} for k in document.key_dates],
        "fields": {
            f.name: {"type": f.type, "value": f.value, "pages": [[r.first, r.last] for r in f.pages]}
            for f in document.fields
        },
        "risks": [_risk(r) for r in document.risks],
        "gone_risks": [_gone(r) for r in document.gone_risks],
        "chunks": [
            {
                "id": c.id,
                "first_page": c.pages.first,
                "last_page": c.pages.last,
                "status": c.status,
                "attempts": c.attempts,
                "reason": c.reason,
                "request_id": c.request_id,
            }
            for c in document.chunks
        ],
        "unchanged": document.unchanged,
        "unfinished_runs": document.unfinished_runs,
        "change": document.change,
        "recovered": document.recovered,
    }


def _risk(risk: Risk) -> dict[str, Any]:
    return {
        "title": risk.title,
        "category": risk.category,
        "severity": risk.severity,
        "page": risk.page,
        "quote": risk.quote,
        "quote_check": risk.quote_check,
        "named_page": risk.named_page,
        "found": risk.found,
        "boxes": [[round(share, 4) for share in (b.left, b.top, b.right, b.bottom)] for b in risk.boxes],
        "own_check": risk.own_check,
        "id": risk.id,
        "change": risk.change,
        "before": asdict(risk.before) if risk.before else None,
        "explanation": risk.explanation,
        "recommendation": risk.recommendation,
    }


def _gone(risk: Risk) -> dict[str, Any]:
    """What is remembered of a risk that this run did not report."""
    return {
        "id": risk.id,
        "title": risk.title,
        "category": risk.category,
        "severity": risk.severity,
        "page": risk.page,
        "quote": risk.quote,
    }
