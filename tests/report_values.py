"""Results to render: ordinary ones, and ones whose every text is hostile."""

from __future__ import annotations

from pipeline.domain import (
    ChunkResult,
    ChunkState,
    DocumentResult,
    DocumentStatus,
    Expected,
    KeyDate,
    PageRange,
    Risk,
    RunInfo,
    RunResult,
    RunStatus,
    Severity,
    Spending,
    Usage,
)

RUN = RunInfo(
    id="r1",
    started_at="2026-03-02T02:00:00Z",
    finished_at="2026-03-02T02:41:00Z",
    status=RunStatus.COMPLETE,
    exit_code=0,
    endpoint="yourouter",
    model="claude-sonnet-5-5",
    version="1.0.0",
)


def a_risk(text: str = "Fees may rise", severity: Severity = Severity.HIGH, page: int | None = 6) -> Risk:
    """A risk that says ``text`` in every field."""
    return Risk(text, text, severity, page, text, text, text)


def a_document(
    path: str = "vendors/msa.pdf",
    text: str = "Plain words",
    risks: tuple[Risk, ...] = (),
    missing: tuple[PageRange, ...] = (),
    reason: str | None = None,
    status: DocumentStatus | None = None,
    unchanged: bool = False,
) -> DocumentResult:
    """A document of 20 pages in one chunk; partial where pages are missing, unless ``status`` says otherwise."""
    return DocumentResult(
        path=path,
        sha256="ab" * 32,
        size_bytes=1234,
        pages=20,
        status=status or (DocumentStatus.PARTIAL if missing else DocumentStatus.DONE),
        reason=reason,
        missing_pages=missing,
        summary=text,
        summary_note=text,
        document_type=text,
        parties=(text,),
        key_dates=(KeyDate(text, text, 3),),
        risks=risks,
        chunks=(ChunkResult(f"chunk of {path}", PageRange(1, 20), ChunkState.FAILED, 2, reason, "req_1"),),
        unchanged=unchanged,
    )


def an_unopened_document(path: str = "broken.pdf", reason: str = "not a PDF") -> DocumentResult:
    """A failed document whose pages nobody knows."""
    failed = DocumentStatus.FAILED
    return DocumentResult(path, None, 7, None, failed, reason, (), "", None, "", (), (), (), (), False)


def a_result(*documents: DocumentResult, run: RunInfo = RUN, rules: bool = False) -> RunResult:
    """A run over ``documents`` that cost 12 cents of 15 expected."""
    spending = Spending(5, 2, 1, Usage(1000, 200, 30, 4), 0.12, 0.03)
    return RunResult(
        "contracts", "Contract risk review", run, spending, documents, rules, Expected(Usage(1500, 300), 0.15)
    )
