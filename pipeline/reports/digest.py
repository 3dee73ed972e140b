"""SUMMARY.md: a run on one screen, to be pasted into a mail; reads well as plain text, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.domain import DocumentResult, Risk, RunResult, Severity
from pipeline.reports.json_report import totals
from pipeline.reports.markdown import escaped, escaped_name
from pipeline.reports.news import News, news
from pipeline.reports.presentation import (
    MEND,
    again,
    before,
    counted,
    needing_attention,
    notices,
    pages_read,
    quote_label,
    register,
    spent,
    to_mend,
    why_unread,
)
from pipeline.text import moment, printable, shortened

MAX_RISKS = 20
MAX_DOCUMENTS = 10
_MAX_QUOTE, _MAX_REASON, _MAX_TITLE = 240, 200, 160

_Row = tuple[DocumentResult, Risk]


def render(result: RunResult) -> str:
    """The digest, ending with a newline: what happened, what is new, what was not read, what it cost."""
    sections = [_head(result), _counts(result), _changes(result), _unread(result), _foot(result)]
    return "\n\n".join(block for section in sections for block in section) + "\n"


def _head(result: RunResult) -> Iterator[str]:
    yield f"# {escaped(result.title)}: {result.run.status}"
    yield from (escaped(notice.text) for notice in notices(result))


def _counts(result: RunResult) -> Iterator[str]:
    t = totals(result)
    risks = ", ".join(f"{t['risks'][severity]:,} {severity}" for severity in Severity)
    share = t["quotes_verified_share"]
    quotes = "not checked" if share is None else f"{share:.1%} stand in the document word for word"
    yield "\n".join([
        f"- Documents: {t['documents']:,}: {t['done']:,} done, {t['partial']:,} partial, {t['failed']:,} failed",
        f"- Pages: {pages_read(result)}",
        f"- Risks: {sum(t['risks'].values()):,}: {risks}",
        f"- Quotes: {quotes}",
        f"- Cost: {spent(result.spending)} for {counted(t['requests'], 'request')}",
    ])  # fmt: skip


def _changes(result: RunResult) -> Iterator[str]:
    found = news(result)
    if result.compared is None or found is None:
        yield "## Risks"
        yield "There is no earlier run to compare with. The worst:" if register(result) else "None found."
        yield from _risks(register(result))
        return
    since = f"since the run of {moment(result.compared.finished_at)}"
    yield "## New"
    if not found:
        so_far = " in what was read" if needing_attention(result) else ""
        yield f"Nothing is new or changed{so_far} {since}."
        return
    yield f"What changed {since}: {_counted_news(found)}."
    yield from _risks(sorted((*found.new_risks, *found.changed_risks), key=lambda row: row[1].severity.rank))
    yield from _named_risks("Gone", found.gone_risks)
    yield from _paths("New documents", (d.path for d in found.new_documents))
    yield from _paths("Changed documents", (d.path for d in found.changed_documents))
    yield from _paths("Read in full now, and not before", (d.path for d in found.recovered))
    yield from _paths("Removed documents", found.removed)


def _counted_news(found: News) -> str:
    counts = [
        (len(found.new_risks), "new risk", ""),
        (len(found.changed_risks), "changed risk", ""),
        (len(found.gone_risks), "risk", " gone"),
        (len(found.new_documents), "new document", ""),
        (len(found.changed_documents), "changed document", ""),
        (len(found.recovered), "document", " recovered"),
        (len(found.removed), "document", " removed"),
    ]
    return ", ".join(f"{counted(number, noun)}{what}" for number, noun, what in counts if number)


def _risks(rows: Iterable[_Row]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield _list((_risk(document, risk) for document, risk in rows[:MAX_RISKS]), len(rows))


def _risk(document: DocumentResult, risk: Risk) -> str:
    label = f"**{risk.severity.capitalize()}**" + (f", {risk.change}" if risk.change else "")
    lines = [f"- {label}: {_short(risk.title, _MAX_TITLE)}", f"  {_place(document, risk)}"]
    if risk.quote.strip():
        lines[1] += "  "  # a line of its own also where Markdown is rendered
        lines.append(f"  {_quoted(risk.quote)} ({quote_label(risk)})")
    if risk.before:
        lines[-1] += "  "
        old = f": {_quoted(risk.before.quote)}" if risk.before.quote != risk.quote else ""
        lines.append(f"  {before(risk)}{old}")
    lines[0] += "  "
    return "\n".join(lines)


def _quoted(quote: str) -> str:
    """Behind its quotation mark a number does not begin a list, and needs no escape."""
    return escaped(f'"{shortened(quote, _MAX_QUOTE)}"')


def _place(document: DocumentResult, risk: Risk) -> str:
    page = "page unknown" if risk.page is None else f"page {risk.page}"
    return f"{escaped_name(document.path)}, {page}" + ("; seen by docpipe's own check" if risk.own_check else "")


def _named_risks(label: str, rows: tuple[_Row, ...]) -> Iterator[str]:
    if rows:
        yield f"{label}:"
        lines = (
            f"- {r.severity.capitalize()}: {_short(r.title, _MAX_TITLE)} ({escaped_name(d.path)})" for d, r in rows
        )
        yield _list(list(lines)[:MAX_DOCUMENTS], len(rows))


def _paths(label: str, paths: Iterable[str]) -> Iterator[str]:
    named = [f"- {escaped_name(path)}" for path in paths]
    if named:
        yield f"{label}:"
        yield _list(named[:MAX_DOCUMENTS], len(named))


def _list(items: Iterable[str], number: int) -> str:
    shown = list(items)
    more = [f"- and {number - len(shown):,} more"] if number > len(shown) else []
    return "\n".join([*shown, *more])


def _unread(result: RunResult) -> Iterator[str]:
    attention = needing_attention(result)
    if not attention:
        return
    yield "## Not fully read"
    yield _list((_problem(document) for document in attention[:MAX_DOCUMENTS]), len(attention))
    if to_mend(result):
        yield MEND
    if command := again(result):
        others = "the others" if to_mend(result) else "these"
        yield f"To try {others} again: {escaped(command) if '`' in command else f'`{printable(command)}`'}"


def _problem(document: DocumentResult) -> str:
    reason = _short(why_unread(document), _MAX_REASON)
    return f"- {document.status.capitalize()}: {escaped_name(document.path)}: {reason}"


def _foot(result: RunResult) -> Iterator[str]:
    run = result.run
    finished = f"; finished {moment(run.finished_at)}" if run.finished_at else ""
    yield f"Read by {escaped(run.model)}; docpipe {escaped(run.version)}{finished}"


def _short(text: str, limit: int) -> str:
    return escaped(shortened(text, limit))
