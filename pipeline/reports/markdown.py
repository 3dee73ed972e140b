"""documents/NAME.md: one document as a page of its own, in CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pipeline.domain import ChunkState, DocumentResult, FieldValue, KeyDate, QuoteCheck, Risk, RunResult
from pipeline.reports.presentation import (
    Side,
    Words,
    before,
    counted,
    coverage,
    difference,
    document_change,
    field_items,
    field_label,
    one_line,
    paragraphs,
    quote_label,
    ranges,
    remark,
    rules_notice,
    sentence,
    unchecked_quotes,
    worst_first,
)
from pipeline.text import printable

# Only what is markup where it stands: "$5", "AT&T" and "file_name" stay readable where the page is read as plain text.
# Readers that know formulas take no dollar before a digit for the end of one.
_MARKUP = re.compile(r"[\\*{}\[\]<>~#|`]|(?<![^\W_])_|_(?![^\W_])|\$(?!\d)|&(?=#?\w+;)")
_LINE_START = re.compile(r"^(?:[-+=:]|\d+(?=[.)](?: |$)))")
_WORDS = re.compile(r"[^\s`|]+|[\s`|]")
# Readers turn these into links although no markup stands around them; no escape stops all readers.
_AUTOLINK = re.compile(r"://|www\.|mailto:|xmpp:|@\S", re.IGNORECASE)


def render_document(document: DocumentResult, result: RunResult) -> str:
    """The page of ``document``. Of ``result`` it shows the title, the model, the version and the rules notice."""
    sections = [
        _head(document, result),
        _summary(document),
        _fields(document),
        _facts(document),
        _risks(document),
        _failures(document),
        _foot(result),
    ]
    return "\n\n".join(block for section in sections for block in section) + "\n"


def escaped(text: str) -> str:
    """``text`` on one line, with nothing in it that Markdown, HTML in it or automatic links would act on."""
    return _escaped_line(one_line(text))


def escaped_name(path: str) -> str:
    """``path`` on one line, escaped as ``escaped`` does it; the blanks within it stay as they are."""
    return _escaped_line(printable(path).strip())  # four blanks at the start of a list item would make it code


def _escaped_line(line: str) -> str:
    words = _WORDS.findall(line) if _AUTOLINK.search(line) else [line]  # word by word takes four times as long
    marked = "".join(f"`{word}`" if _AUTOLINK.search(word) else _MARKUP.sub(r"\\\g<0>", word) for word in words)
    return _LINE_START.sub(lambda m: f"{m[0]}\\" if m[0].isdecimal() else f"\\{m[0]}", marked)


def _head(document: DocumentResult, result: RunResult) -> Iterator[str]:
    yield f"# {escaped_name(document.path)}"
    if result.reads_with_rules and document.pages_covered:
        yield f"**{rules_notice('this document')}**"
    reason = f" {escaped(sentence(document.reason))}" if document.reason else ""
    change = f" Since the last run: {document_change(document)}." if document_change(document) else ""
    yield f"**{document.status.capitalize()}**: {coverage(document)}.{change}{reason}"
    if note := remark(document):
        yield f"*{escaped(note)}*"


def _summary(document: DocumentResult) -> Iterator[str]:
    if document.summary.strip():
        yield "## Summary"
        yield from map(escaped, paragraphs(document.summary))
    if document.summary_note:
        yield f"*{escaped(document.summary_note)}*"


def _fields(document: DocumentResult) -> Iterator[str]:
    if document.fields:
        yield "## Fields"
        yield _table(("Field", "Value", "Pages"), map(_field, document.fields))


def _field(field: FieldValue) -> tuple[str, str, str]:
    return escaped(field_label(field.name)), escaped("; ".join(field_items(field))), ranges(field.pages)


def _facts(document: DocumentResult) -> Iterator[str]:
    facts = [f"- Type: {escaped(document.document_type)}"] if document.document_type.strip() else []
    facts += [f"- Party: {escaped(party)}" for party in document.parties]
    if facts or document.key_dates:
        yield "## Facts"
    if facts:
        yield "\n".join(facts)
    if document.key_dates:
        yield _table(("Date", "Meaning", "Page"), map(_key_date, document.key_dates))


def _key_date(key_date: KeyDate) -> tuple[str, str, str]:
    return escaped(key_date.date), escaped(key_date.meaning), str(key_date.page or "unknown")


def _risks(document: DocumentResult) -> Iterator[str]:
    yield "## Risks"
    if not document.risks:
        yield "None found in the pages read." if document.pages_covered else "No page was read."
    if unchecked := unchecked_quotes(document.risks):
        yield f"*Not checked against the page: {counted(unchecked, 'quote')}.*"
    for risk in worst_first(document.risks):
        yield from _risk(risk)
    if document.gone_risks:
        yield "## Gone since the last run"
        yield "\n".join(map(_gone, worst_first(document.gone_risks)))


def _gone(risk: Risk) -> str:
    page = "" if risk.page is None else f" (page {risk.page})"
    return f"- {risk.severity.capitalize()}: {escaped(risk.title)}{page}"


def _risk(risk: Risk) -> Iterator[str]:
    yield f"### {risk.severity.capitalize()}: {escaped(risk.title)}"
    page = "page unknown" if risk.page is None else f"page {risk.page}"
    check = f"; quote: {quote_label(risk)}" if risk.quote_check else ""
    change = f"; {risk.change} since the last run" if risk.change else ""
    own = "; seen by docpipe's own check" if risk.own_check else ""
    yield f"Category: {escaped(risk.category)}; {page}{check}{change}{own}"
    if risk.quote.strip():
        yield "\n>\n".join(f"> {escaped(line)}" for line in paragraphs(risk.quote))
    if risk.quote_check is QuoteCheck.ALTERED and risk.found.strip():
        yield "The page has ~~words of the quote alone~~ and **words of the page alone**:"
        yield "> " + " ".join(map(_marked, difference(risk.quote, risk.found)))
    if risk.before and risk.before.quote != risk.quote:
        yield f"{before(risk)}. The quote then and now, with ~~words of then alone~~ and **words of now alone**:"
        yield "> " + " ".join(map(_marked, difference(risk.before.quote, risk.quote)))
    elif risk.before:
        yield f"{before(risk)}."
    yield from map(escaped, paragraphs(risk.explanation))
    if risk.recommendation.strip():
        yield f"**Recommendation**: {escaped(risk.recommendation)}"


def _marked(words: Words) -> str:
    # Blanks around the marks: only there do all readers take them for marks whatever the words begin and end with.
    mark = {Side.BOTH: "", Side.QUOTE: "~~", Side.DOCUMENT: "**"}[words.side]
    return f"{mark}{escaped(words.text)}{mark}"


def _failures(document: DocumentResult) -> Iterator[str]:
    unanswered = [c for c in document.chunks if c.status in (ChunkState.FAILED, ChunkState.OPEN)]
    if unanswered:
        yield "## Pages without an answer"
        yield _table(
            ("Pages", "State", "Attempts", "Reason", "Request"),
            (
                (str(c.pages), c.status, str(c.attempts), escaped(c.reason or ""), escaped(c.request_id or ""))
                for c in unanswered
            ),
        )


def _foot(result: RunResult) -> Iterator[str]:
    yield "---"
    yield f"{escaped(result.title)}; read by {escaped(result.run.model)}; docpipe {escaped(result.run.version)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
