"""Chunk answers merged into one result per document: pages of the original, duplicates gone, gaps named. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.domain import (
    ChunkRecord,
    ChunkResult,
    ChunkState,
    Claim,
    Content,
    DocumentResult,
    DocumentStatus,
    FailureClass,
    FieldValue,
    KeyDate,
    PageRange,
    Proof,
    QuoteCheck,
    Risk,
    Severity,
    SourceFile,
)
from pipeline.fields import ResultField
from pipeline.planner import PlannedChunk

_REASONS_SHOWN = 3
_AGAIN: Mapping[FailureClass | None, str] = {
    FailureClass.TRANSIENT: " (the next run tries again)",
    FailureClass.LOST: "; `{retry}` sends it again",
}
_LEAST_ALIKE = 8  # letters of a quote: one word may be in any other
_WORD_FOR_WORD = (QuoteCheck.VERIFIED, QuoteCheck.PAGE_CORRECTED)


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is known of one file.

    ``content`` is None when the file could not be read. The records of ``chunks`` have their results.
    ``synthesis`` is the record of the request that joins the summaries; None when none is wanted.
    ``unchanged``: this run sent nothing for it. ``fields`` are those that the answers were asked for. ``retry`` is
    the command that sends again what failed for good.
    """

    file: SourceFile
    content: Content | None
    chunks: tuple[PlannedChunk, ...]
    synthesis: ChunkRecord | None
    unchanged: bool
    fields: tuple[ResultField, ...] = ()
    retry: str = "docpipe retry"


def merge(reading: Reading) -> DocumentResult:
    """One document's result. It is done only when every page is answered."""
    file, content, chunks = reading.file, reading.content, reading.chunks
    problem = file.problem or (content.problem if content else None)
    pages = content.pages if content else None
    answered = [planned for planned in chunks if planned.record.state is ChunkState.ANSWERED]
    missing = _missing(pages or 0, answered)
    results = [(planned.chunk.pages, planned.record.result or {}) for planned in answered]
    summary, summary_note = _summary(results, reading.synthesis)
    return DocumentResult(
        path=file.path,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        pages=pages,
        status=_status(problem, chunks, answered, missing),
        reason=_reason(problem, chunks, reading.retry) if content or problem else "not opened yet",
        missing_pages=missing,
        summary=summary,
        summary_note=summary_note,
        document_type=next((r["document_type"] for _, r in results if r["document_type"]), ""),
        parties=_parties(results),
        key_dates=_key_dates(results),
        risks=_risks(answered),
        chunks=tuple(
            ChunkResult(
                planned.chunk.id,
                planned.chunk.pages,
                planned.record.state,
                planned.record.attempts,
                planned.record.reason,
                planned.record.request_id,
                _is_unreadable(planned.record),
            )
            for planned in chunks
        ),
        unchanged=reading.unchanged,
        note=content.note if content else None,
        fields=tuple(_field_value(field, results) for field in reading.fields),
        is_damaged=bool(pages and problem) or any(_is_unreadable(planned.record) for planned in chunks),
    )


def _is_unreadable(record: ChunkRecord) -> bool:
    return (record.state, record.failure, record.attempts) == (ChunkState.FAILED, FailureClass.DOCUMENT, 0)


def _status(
    problem: str | None,
    chunks: Sequence[PlannedChunk],
    answered: Sequence[PlannedChunk],
    missing: tuple[PageRange, ...],
) -> DocumentStatus:
    if not chunks and problem is not None:
        return DocumentStatus.FAILED
    if not answered and any(planned.record.state is ChunkState.FAILED for planned in chunks):
        return DocumentStatus.FAILED
    return DocumentStatus.PARTIAL if missing or not chunks or problem is not None else DocumentStatus.DONE


def _missing(pages: int, answered: Iterable[PlannedChunk]) -> tuple[PageRange, ...]:
    covered = {page for planned in answered for page in range(planned.chunk.pages.first, planned.chunk.pages.last + 1)}
    missing: list[PageRange] = []
    for page in range(1, pages + 1):
        if page in covered:
            continue
        if missing and missing[-1].last == page - 1:
            missing[-1] = PageRange(missing[-1].first, page)
        else:
            missing.append(PageRange(page, page))
    return tuple(missing)


def _reason(problem: str | None, chunks: Sequence[PlannedChunk], retry: str) -> str | None:
    reasons = [problem] if problem else []
    for planned in chunks:
        record, where = planned.record, planned.chunk.pages.label
        if record.state is ChunkState.FAILED:
            again = _AGAIN.get(record.failure, "").format(retry=retry)
            because = record.reason or ""
            named = because if because.startswith(f"{where} ") else f"{where}: {because}"
            reasons.append(f"{named}{again}")
        elif record.state is ChunkState.OPEN:
            because = f" ({record.reason})" if record.reason else ""
            reasons.append(f"{where}: not answered yet{because}")
    if not reasons:
        return None
    more = len(reasons) - _REASONS_SHOWN
    return "; ".join(reasons[:_REASONS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


_Results = Sequence[tuple[PageRange, Mapping[str, Any]]]


def _summary(results: _Results, synthesis: ChunkRecord | None) -> tuple[str, str | None]:
    """The summary, and why it is only the summaries of the parts, where that is so."""
    if synthesis is not None and synthesis.result is not None:
        return synthesis.result["summary"], None
    if len(results) < 2:
        return "".join(result["summary"] for _, result in results), None
    joined = "\n\n".join(f"{pages.label.capitalize()}: {result['summary']}" for pages, result in results)
    if synthesis is None or synthesis.state is ChunkState.OPEN:
        return joined, None
    return joined, f"The summaries of the parts could not be turned into one: {synthesis.reason}"


def _original_page(page: int | None, pages: PageRange) -> int | None:
    """The page of the original for a page counted within the chunk; a page that is not there is unknown."""
    return pages.first + page - 1 if page is not None and 1 <= page <= len(pages) else None


def _parties(results: _Results) -> tuple[str, ...]:
    seen = {party.casefold(): party for _, result in reversed(results) for party in reversed(result["parties"])}
    return tuple(dict.fromkeys(seen[p.casefold()] for _, result in results for p in result["parties"]))


def _key_dates(results: _Results) -> tuple[KeyDate, ...]:
    """In page order; the same date with the same meaning stands once, on the first page that has it."""
    dates: dict[object, KeyDate] = {}
    for pages, result in results:
        for item in result["key_dates"]:
            page = _original_page(item["page"], pages)
            dates.setdefault((item["date"], item["meaning"]), KeyDate(item["date"], item["meaning"], page))
    return tuple(dates.values())


def _field_value(field: ResultField, results: _Results) -> FieldValue:
    """The first value by page order; of lists all items, each once in its first spelling."""
    given = [(pages, result["fields"][field.name]) for pages, result in results]
    said = [(pages, value) for pages, value in given if value not in (None, []) and not _is_blank(value)]
    if field.type == "list":
        items = {_squashed(item): item for _, value in reversed(said) for item in reversed(value)}
        in_order = dict.fromkeys(_squashed(item) for _, value in said for item in value)
        items_once = tuple(items[key] for key in in_order if key)
        return FieldValue(field.name, field.type, items_once, tuple(pages for pages, _ in said) if items_once else ())
    if not said:
        return FieldValue(field.name, field.type, None)
    pages, value = said[0]
    return FieldValue(field.name, field.type, value, (pages,))


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def claims(result: Mapping[str, Any], pages: PageRange) -> tuple[Claim, ...]:
    """What the answer for a chunk says stands on which pages of the original, in the order of its risks."""
    return tuple(Claim(_original_page(item["page"], pages), item["quote"]) for item in result["risks"])


def _risks(answered: Sequence[PlannedChunk]) -> tuple[Risk, ...]:
    """Worst first, then by page; what two chunks report of the same words on the same page is one risk."""
    kept: dict[object, Risk] = {}
    for risk in _reported(answered):
        key = risk.own_check, risk.page, risk.category.casefold(), _squashed(risk.quote) or _squashed(risk.title)
        if key not in kept or _weight(risk) < _weight(kept[key]):
            kept[key] = risk
    unknown_page = float("inf")
    return tuple(
        sorted(_told_once(tuple(kept.values())), key=lambda risk: (risk.severity.rank, risk.page or unknown_page))
    )


def _told_once(risks: Sequence[Risk]) -> Iterator[Risk]:
    """Of what docpipe saw itself and the model reported too, in the same words, our own, with the worse severity."""
    own = [risk for risk in risks if risk.own_check]
    worst = {id(risk): risk.severity for risk in own}
    for risk in risks:
        same = None if risk.own_check else next((seen for seen in own if _is_same(seen, risk)), None)
        if same is not None:
            worst[id(same)] = min(worst[id(same)], risk.severity, key=lambda severity: severity.rank)
        elif not risk.own_check:
            yield risk
    yield from (replace(risk, severity=worst[id(risk)]) for risk in own)


def _is_same(own: Risk, risk: Risk) -> bool:
    """Whether a model's risk is one that we saw: of that category, on that page, one quote a part of the other."""
    if (risk.page, risk.category.casefold()) != (own.page, own.category.casefold()):
        return False
    ours, theirs = _letters(own.quote), _letters(risk.quote)
    return len(theirs) >= _LEAST_ALIKE and (theirs in ours or ours in theirs)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def _weight(risk: Risk) -> tuple[bool, int]:
    """Which of two reports of one risk stays: one whose quote stands there, then the worse."""
    return risk.quote_check not in _WORD_FOR_WORD, risk.severity.rank


def _reported(answered: Sequence[PlannedChunk]) -> Iterator[Risk]:
    """Every risk of every answer as its proof has it, and those that docpipe itself saw on the pages."""
    for planned in answered:
        result, proof = planned.record.result or {}, planned.record.proof
        claimed = claims(result, planned.chunk.pages)
        proofs = proof.proofs if proof and len(proof.proofs) == len(claimed) else (None,) * len(claimed)
        for item, claim, proven in zip(result["risks"], claimed, proofs, strict=True):
            risk = Risk(
                title=item["title"],
                category=item["category"],
                severity=Severity(item["severity"]),
                page=claim.page,
                quote=item["quote"],
                explanation=item["explanation"],
                recommendation=item["recommendation"],
            )
            yield _proven(risk, proven) if proven else risk
        yield from proof.planted if proof else ()


def _proven(risk: Risk, proof: Proof) -> Risk:
    """The risk on the page where its quote stands, with what was found of it."""
    return replace(
        risk,
        page=proof.page,
        named_page=risk.page if proof.page != risk.page else None,
        quote_check=proof.check,
        found=proof.found,
        boxes=proof.boxes,
    )


def _squashed(text: str) -> str:
    return "".join(text.split()).casefold()
