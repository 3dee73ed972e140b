"""Results to render: ordinary ones, and ones whose every text is hostile."""

from __future__ import annotations

from dataclasses import replace

from pipeline.domain import (
    Before,
    Box,
    Change,
    ChunkResult,
    ChunkState,
    Comparison,
    DocumentResult,
    DocumentStatus,
    Expected,
    FieldValue,
    KeyDate,
    PageRange,
    QuoteCheck,
    Risk,
    RunInfo,
    RunResult,
    RunStatus,
    Severity,
    Spending,
    Usage,
)
from pipeline.fields import ResultField

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


def saying(text: str) -> RunResult:
    """A result that says ``text`` wherever a document, a model, a file name or an earlier run can."""
    before = {Change.CHANGED: Before(Severity.LOW, 2, f"{text} then")}
    risks = tuple(
        replace(
            a_risk(text, severity),
            quote_check=QuoteCheck.ALTERED,
            found=f"{text} more",
            id=text,
            change=change,
            before=before.get(change),
        )
        for severity, change in zip(Severity, (*Change, None, None), strict=True)
    )
    name = text.replace("\x00", "").encode("utf-8", "replace").decode()  # what a file name can be
    document = replace(
        a_document(name, text, risks, missing=(PageRange(2, 3),), reason=text),
        note=text,
        change=Change.NEW,
        recovered=True,
        gone_risks=(a_risk(text),),
        fields=(FieldValue("said", "text", text, (PageRange(1, 20),)), FieldValue("listed", "list", (text, text))),
    )
    run = replace(RUN, status=RunStatus.STOPPED, stopped_because=text, model=text)
    nothing = (FieldValue("said", "text", None), FieldValue("listed", "list", ()))
    unopened = replace(an_unopened_document(reason=text), fields=nothing)
    result = a_result(document, unopened, run=run, rules=True)
    fields = (ResultField("said", "text", text), ResultField("listed", "list", text))
    compared = Comparison("r0", "2026-03-01T02:00:00Z", (name,))
    return replace(result, title=text, compared=compared, originals="../../contracts", fields=fields)


def a_result(*documents: DocumentResult, run: RunInfo = RUN, rules: bool = False) -> RunResult:
    """A run over ``documents`` that cost 12 cents of 15 expected."""
    spending = Spending(5, 2, 1, Usage(1000, 200, 30, 4), 0.12, 0.03)
    return RunResult(
        "contracts", "Contract risk review", run, spending, documents, rules, Expected(Usage(1500, 300), 0.15)
    )


LINE = Box(0.1, 0.2, 0.9, 0.22)
NEXT_LINE = Box(0.1, 0.23, 0.4, 0.25)
_THEN = Before(Severity.MEDIUM, 8, "The Supplier may raise some fees.")


def a_night() -> RunResult:
    """A run with news: risks of each kind of check, a document with gaps, one that could not be opened."""
    risk = Risk(
        "Fees may rise",
        "price",
        Severity.HIGH,
        6,
        "The Supplier may raise all fees.",
        "No cap.",
        "Ask for a cap.",
        id="1",
    )
    verified = replace(risk, quote_check=QuoteCheck.VERIFIED, boxes=(LINE, NEXT_LINE))
    whole = a_document(
        risks=(
            verified,
            replace(verified, title="Liability without a limit", severity=Severity.CRITICAL, page=2, change=Change.NEW),
            replace(verified, quote_check=QuoteCheck.ALTERED, found="The Supplier may raise the fees.", page=6),
            replace(risk, quote_check=QuoteCheck.NOT_FOUND, page=None, severity=Severity.LOW, category="other"),
            replace(
                verified,
                quote_check=QuoteCheck.PAGE_CORRECTED,
                named_page=4,
                page=9,
                change=Change.CHANGED,
                before=_THEN,
            ),
            replace(risk, quote_check=QuoteCheck.NOT_CHECKABLE, page=11, own_check=True),
        )
    )
    gaps = a_document("leases/old.pdf", missing=(PageRange(3, 4), PageRange(9, 9)), reason="overloaded (529)")
    gone = replace(gaps, gone_risks=(replace(risk, title="Renews itself"),), recovered=True, change=Change.CHANGED)
    result = a_result(whole, gone, an_unopened_document())
    return replace(result, compared=Comparison("r0", "2026-03-01T02:41:00Z", ("away.pdf",)))
