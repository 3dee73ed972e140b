"""How results are put to people: order, words and units, the same in every format."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum
from itertools import takewhile

from pipeline.domain import (
    Change,
    ChunkState,
    DocumentResult,
    DocumentStatus,
    FieldValue,
    PageRange,
    QuoteCheck,
    Risk,
    RunResult,
    RunStatus,
    Severity,
    Spending,
)
from pipeline.text import moment, printable, shortened

QUOTE_LABELS = {
    QuoteCheck.VERIFIED: "word for word on this page",
    QuoteCheck.PAGE_CORRECTED: "word for word; the model named another page",
    QuoteCheck.ALTERED: "differs from the page",
    QuoteCheck.NOT_FOUND: "not found in the document",
    QuoteCheck.NOT_CHECKABLE: "the page has no text to check against",
}


STUCK_AFTER_RUNS = 5
"""A document that so many runs in a row could not read whole needs a person."""

_STUCK_NAMED = 3
_REMARKS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """What a reader must know before anything else. ``kind`` is rules, stopped, stuck or incomplete."""

    kind: str
    text: str


def notices(result: RunResult) -> list[Notice]:
    """Why this report is less than a model's reading of every page; empty when it is just that."""
    found = []
    if result.reads_with_rules:
        found.append(Notice("rules", rules_notice("these documents")))
    if result.run.status is RunStatus.STOPPED:
        because = one_line(result.run.stopped_because or "the reason is not known")
        found.append(Notice("stopped", f"The run stopped before its work was done: {because}"))
    elif result.run.status is RunStatus.RUNNING:
        found.append(Notice("stopped", "The run is still under way, or was killed: this is what it had so far."))
    stuck = [d for d in needing_attention(result) if d.unfinished_runs >= STUCK_AFTER_RUNS]
    if stuck:
        names = ", ".join(f"{shortened(one_line(d.path), 60)} ({d.unfinished_runs} runs)" for d in stuck[:_STUCK_NAMED])
        more = f" and {len(stuck) - _STUCK_NAMED:,} more" if len(stuck) > _STUCK_NAMED else ""
        found.append(Notice("stuck", f"Not fully read in {STUCK_AFTER_RUNS} runs in a row or more: {names}{more}."))
    if any(d.status is not DocumentStatus.DONE for d in result.documents):
        found.append(Notice("incomplete", _incomplete(result)))
    elif result.run.status is RunStatus.INCOMPLETE:
        found.append(Notice("incomplete", "This report is incomplete."))
    return found


def rules_notice(what: str) -> str:
    """That no model read ``what``, and in which languages no risk found means anything."""
    return f"Built-in rules, not a language model, read {what}. They know English, German and Chinese."


def _incomplete(result: RunResult) -> str:
    unread = sum(len(r) for d in result.documents for r in d.missing_pages)
    failed_to_open = len(not_openable(result))
    unopened = sum(d.is_unopened for d in result.documents)
    unfinished = sum(d.status is not DocumentStatus.DONE for d in result.documents)
    details = [f"{counted(unread, 'page')} not read"] if unread else []
    if failed_to_open:
        details.append(f"{counted(failed_to_open, 'file')} could not be opened")
    if unopened:
        details.append(f"{counted(unopened, 'file')} not opened yet")
    detail = f" ({'; '.join(details)})" if details else ""
    of_all = f"{unfinished:,} of {counted(len(result.documents), 'document')}"
    return f"This report is incomplete: {of_all} not fully read{detail}."


def needing_attention(result: RunResult) -> list[DocumentResult]:
    """The documents that are not done: failed ones first, then partial ones, each sorted by path."""
    return [
        d for status in (DocumentStatus.FAILED, DocumentStatus.PARTIAL) for d in result.documents if d.status is status
    ]


def not_openable(result: RunResult) -> list[DocumentResult]:
    """The documents that cannot be opened."""
    return [d for d in needing_attention(result) if d.pages is None and not d.is_unopened]


def to_mend(result: RunResult) -> list[DocumentResult]:
    """Those of which something cannot be read before the file is another, whatever command is tried."""
    return [d for d in needing_attention(result) if d.is_damaged or (d.pages is None and not d.is_unopened)]


def to_try_again(result: RunResult) -> list[DocumentResult]:
    """The documents that are not done and of which a command takes something up as they are."""
    return [d for d in needing_attention(result) if d.is_unopened or (d.pages is not None and _has_more(d))]


def _has_more(document: DocumentResult) -> bool:
    """Whether more can be read of a file that was opened."""
    unread = (c for c in document.chunks if c.status in (ChunkState.OPEN, ChunkState.FAILED))
    return not document.is_damaged or any(not c.is_unreadable for c in unread)


def why_unread(document: DocumentResult) -> str:
    """Why a document is not done, in the words of its reason; without one, which pages have no answer."""
    missing = f"no answer for {pages_label(document.missing_pages)}" if document.missing_pages else ""
    return document.reason if document.reason and document.reason.strip() else missing  # reasons name their pages


def taken_up_by(result: RunResult) -> str:
    """``run`` or ``retry``: what was not sent yet is a run's work; retry takes up what failed."""
    unsent = any(d.is_unopened or any(c.status is ChunkState.OPEN for c in d.chunks) for d in result.documents)
    return "run" if unsent else "retry"


def again(result: RunResult) -> str:
    """The command that takes up what was not read, with the endpoint, which may not be the job file's own.

    "" where there is nothing that a command could take up.
    """
    if not to_try_again(result):
        return ""
    return shlex.join(
        ("docpipe", taken_up_by(result), result.argument or result.job, "--endpoint", result.run.endpoint)
    )


MEND = "Files that cannot be opened or are damaged: mend or replace them; the next run reads them."
"""What helps with those of ``to_mend``."""


def worst_first(risks: Iterable[Risk]) -> list[Risk]:
    """By severity, then by page; risks without a page stand last in their severity."""
    return sorted(risks, key=lambda r: (r.severity.rank, r.page is None, r.page or 0))


def register(result: RunResult) -> list[tuple[DocumentResult, Risk]]:
    """Every risk with its document: by severity, then by path, then by page."""
    rows = [(d, r) for d in result.documents for r in worst_first(d.risks)]
    return sorted(rows, key=lambda row: row[1].severity.rank)


def risks_that(change: Change, result: RunResult) -> list[tuple[DocumentResult, Risk]]:
    """The new or the changed risks with their documents, in the order of the register."""
    return [(document, risk) for document, risk in register(result) if risk.change is change]


def gone_risks(result: RunResult) -> list[tuple[DocumentResult, Risk]]:
    """What was reported before and is not now, in the order of the register."""
    rows = [(d, r) for d in result.documents for r in worst_first(d.gone_risks)]
    return sorted(rows, key=lambda row: row[1].severity.rank)


def documents_that(change: Change, result: RunResult) -> list[DocumentResult]:
    """The new or the changed files, sorted by path."""
    return [document for document in result.documents if document.change is change]


def recovered_documents(result: RunResult) -> list[DocumentResult]:
    """The documents that were not fully read before and are now, sorted by path."""
    return [document for document in result.documents if document.recovered]


def news(result: RunResult) -> str:
    """What differs from the run that this one is compared with: ``3 new high risks in 2 documents; 1 risk gone``.

    Or ``nothing new since 2026-03-02 02:41 UTC``, or that there is nothing to compare with.
    """
    compared = result.compared
    if compared is None:
        return "nothing to compare with yet"
    counts = [
        (len(risks_that(Change.CHANGED, result)), "risk", "changed"),
        (len(gone_risks(result)), "risk", "gone"),
        (len(documents_that(Change.NEW, result)), "new document", ""),
        (len(documents_that(Change.CHANGED, result)), "document", "changed"),
        (len(compared.removed), "document", "removed"),
        (len(recovered_documents(result)), "document", "now fully read"),
    ]
    parts = [_new(rows)] if (rows := risks_that(Change.NEW, result)) else []
    parts += [f"{counted(number, noun)} {what}".rstrip() for number, noun, what in counts if number]
    if not parts:
        so_far = "" if all(d.status is DocumentStatus.DONE for d in result.documents) else " in what was read,"
        parts.append(f"nothing new{so_far} since {moment(compared.finished_at)}")
    if not compared.same_request:
        parts.append("read with another model or prompt than before")
    return "; ".join(parts)


def _new(rows: Sequence[tuple[DocumentResult, Risk]]) -> str:
    """``3 new high risks in 2 documents``, ``4 new risks (1 critical, 3 low) in 1 document``."""
    counts = Counter(risk.severity for _, risk in rows)
    documents = counted(len({document.path for document, _ in rows}), "document")
    if len(counts) == 1:
        return f"{counted(len(rows), f'new {rows[0][1].severity} risk')} in {documents}"
    severities = ", ".join(f"{counts[severity]:,} {severity}" for severity in Severity if counts[severity])
    return f"{counted(len(rows), 'new risk')} ({severities}) in {documents}"


def tally(document: DocumentResult) -> list[tuple[Severity, int]]:
    """How many risks of each severity, worst first, without the severities that do not occur."""
    counts = Counter(r.severity for r in document.risks)
    return [(severity, counts[severity]) for severity in Severity if counts[severity]]


def quote_label(risk: Risk) -> str:
    """Whether the quote stands where the model says, in words."""
    if risk.quote_check is None:
        return "not checked" if risk.quote.strip() else "no quote"
    if risk.named_page is None:
        return QUOTE_LABELS[risk.quote_check]
    found = "word for word" if risk.quote_check is QuoteCheck.PAGE_CORRECTED else QUOTE_LABELS[risk.quote_check]
    return f"{found}; the model named page {risk.named_page}"


IN_THE_LAST_RUN = "In the last run"


def was(risk: Risk) -> str:
    """``high, page 3`` of a risk that has changed, as it was in the last run; "" for any other."""
    if risk.before is None:
        return ""
    page = "page unknown" if risk.before.page is None else f"page {risk.before.page}"
    return f"{risk.before.severity}, {page}"


def before(risk: Risk) -> str:
    """``In the last run: high, page 3``; "" for a risk that has not changed."""
    return f"{IN_THE_LAST_RUN}: {was(risk)}" if risk.before else ""


def document_change(document: DocumentResult) -> str:
    """``new``, ``changed``, ``recovered`` where it is read in full now and was not before, or none of these."""
    return ", ".join(filter(None, (document.change, "recovered" if document.recovered else "")))


def unchecked_quotes(risks: Iterable[Risk]) -> int:
    """How many quotes were not looked for on their page."""
    return sum(1 for r in risks if r.quote and r.quote_check is None)


def coverage(document: DocumentResult) -> str:
    """``18 of 20 pages read; missing: 3-4``."""
    if document.pages is None:
        return f"no page read: the file {'was not opened yet' if document.is_unopened else 'could not be opened'}"
    read = f"{document.pages_covered:,} of {counted(document.pages, 'page')} read"
    return f"{read}; missing: {ranges(document.missing_pages)}" if document.missing_pages else read


def remark(document: DocumentResult) -> str:
    """How it was opened where that was out of the ordinary, and what was sent in the place of pages; "" for most."""
    notes = [c.reason for c in document.chunks if c.status is ChunkState.ANSWERED and c.reason]
    more = len(notes) - _REMARKS_SHOWN
    words = "; ".join(notes[:_REMARKS_SHOWN]) + (f"; and {counted(more, 'page')} more" if more > 0 else "")
    return " ".join(f"{part[:1].upper()}{part[1:]}." for part in (document.note, words) if part)


def pages_read(result: RunResult) -> str:
    """``80 of 80 read``, and how many files nobody knows the pages of: ``; 1 file could not be opened``."""
    covered = sum(document.pages_covered for document in result.documents)
    unopened = len(not_openable(result))
    without = f"; {counted(unopened, 'file')} could not be opened" if unopened else ""
    return f"{covered:,} of {sum(document.pages or 0 for document in result.documents):,} read{without}"


def field_label(name: str) -> str:
    """``Total amount`` for ``total_amount``."""
    return name.replace("_", " ").strip().capitalize()


def field_items(field: FieldValue) -> list[str]:
    """The value as texts, one unless it is a list: ``1,200.5``, ``yes``; none where there is no value.

    The texts of a document or a model among them are as they came.
    """
    match field.value:
        case None:
            return []
        case bool():
            return ["yes" if field.value else "no"]
        case int() | float():
            return [f"{field.value:,.15g}"]
        case str():
            return [field.value]
        case items:
            return list(items)


def ranges(pages: Iterable[PageRange]) -> str:
    """``3-4, 7``."""
    return ", ".join(map(str, pages))


def pages_label(pages: Sequence[PageRange]) -> str:
    """``page 7``, ``pages 3-4, 7``."""
    return pages[0].label if len(pages) == 1 else f"pages {ranges(pages)}"


def counted(number: int, noun: str) -> str:
    """``1 page``, ``1,200 pages``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def money(usd: float | None) -> str:
    """``$0.0123``; a price that is not known is said to be unknown."""
    return "unknown" if usd is None else f"${usd:,.4f}"


def spent(spending: Spending) -> str:
    """``$0.0123``, or what is known of it: ``at least $0.0123``; ``unknown`` where nothing is."""
    if spending.cost_usd is None and spending.known_usd:
        return f"at least {money(spending.known_usd)}; {counted(spending.unpriced, 'request')} of unknown cost"
    return money(spending.cost_usd)


def one_line(text: str) -> str:
    """Document or model text on one line: runs of blanks become one, the rest is made printable."""
    return printable(" ".join(text.split()))


def sentence(text: str) -> str:
    """A reason on a line of its own, as people write it: with a capital letter and a period."""
    line = one_line(text)
    return f"{line[:1].upper()}{line[1:]}{'' if line[-1:] in ('', *'.!?…') else '.'}"


def paragraphs(text: str) -> list[str]:
    """The lines of document or model text that are not blank, each made printable."""
    return [one_line(line) for line in text.splitlines() if line.strip()]


class Side(Enum):
    """Where words stand: in both texts or in one of them."""

    BOTH = "both"
    QUOTE = "quote"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Words:
    """Printable words on one line, with the blank after the last one where there is one, or where the text ends."""

    text: str
    side: Side


# Scripts that put no blanks between words (Thai, Lao, Khmer, Chinese, Japanese) are compared letter by letter.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"(?:[{_UNSPACED}]|[^ {_UNSPACED}]+) ?")
# Comparing takes time with the cube of the words at worst: 0.15 s for 300 each.
_MAX_COMPARED = 300
_TYPOGRAPHIC = str.maketrans("‘’‚‛′“”„‟″‐‑‒–—―−", "'" * 5 + '"' * 5 + "-" * 7)


def difference(quote: str, found: str) -> list[Words]:
    """How the words of the document, ``found``, differ from ``quote``, from beginning to end.

    The texts of ``BOTH`` and ``DOCUMENT`` one after the other are ``found``, those of ``BOTH`` and ``QUOTE`` say what
    the quote says; what replaces words comes after them. Words that differ in the form of a quotation mark or a
    dash, or by a ligature, are the same. With more than 300 words from the first to the last that differ, all of
    these count as different.
    """
    old, new = _WORD.findall(f"{one_line(quote)} "), _WORD.findall(f"{one_line(found)} ")
    old_keys, new_keys = list(map(_key, old)), list(map(_key, new))
    start = _same_at_start(old_keys, new_keys)
    end = _same_at_start(old_keys[start:][::-1], new_keys[start:][::-1])
    old_keys, new_keys = old_keys[start : len(old) - end], new_keys[start : len(new) - end]
    changes: Sequence[tuple[str, int, int, int, int]]
    if max(len(old_keys), len(new_keys)) > _MAX_COMPARED:
        changes = [("replace", 0, len(old_keys), 0, len(new_keys))]
    else:
        changes = SequenceMatcher(None, old_keys, new_keys, autojunk=False).get_opcodes()
    runs = [Words("".join(new[:start]), Side.BOTH)]
    for kind, old_from, old_to, new_from, new_to in changes:
        if kind == "equal":
            runs.append(Words("".join(new[start + new_from : start + new_to]), Side.BOTH))
        else:
            runs.append(Words("".join(old[start + old_from : start + old_to]), Side.QUOTE))
            runs.append(Words("".join(new[start + new_from : start + new_to]), Side.DOCUMENT))
    runs.append(Words("".join(new[len(new) - end :]), Side.BOTH))
    return [run for run in runs if run.text]


def _same_at_start(old: list[str], new: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def _key(word: str) -> str:
    return unicodedata.normalize("NFKC", word.translate(_TYPOGRAPHIC)).strip()
