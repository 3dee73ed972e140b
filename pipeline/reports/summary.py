"""The end of a run on one screen of a terminal."""

from __future__ import annotations

import textwrap
import unicodedata
from bisect import bisect_right
from itertools import accumulate

from pipeline.domain import DocumentResult, RunResult, RunStatus, Severity
from pipeline.reports.json_report import totals
from pipeline.reports.presentation import (
    counted,
    money,
    needing_attention,
    news,
    notices,
    one_line,
    pages_read,
    spent,
    why_unread,
)
from pipeline.text import printable

COLUMNS = 100
MAX_NAMED = 4
_NOTICE_LINES = {"rules": 1, "stopped": 3, "stuck": 2}
_PATH_COLUMNS = 50

_BOLD, _RED, _YELLOW, _GREEN = "1", "31", "33", "32"
_STATUS_STYLES = {RunStatus.COMPLETE: _GREEN, RunStatus.INCOMPLETE: _YELLOW}


def render(
    result: RunResult, report: str, retry_command: str | None, run_command: str | None = None, color: bool = False
) -> str:
    """At most 25 lines of at most 100 columns, ending with a newline; ``color`` adds ANSI styles.

    ``retry_command`` takes up what is not fully read, ``run_command`` reads files that cannot be opened, or not as a
    whole, once they were mended; None where there is no such document. These and ``report`` are there to be copied,
    so they are never cut.
    """
    status = result.run.status
    lines = [_fit(f"{one_line(result.title)}: {status}")]
    for notice in notices(result):
        if notice.kind != "incomplete":
            lines += [
                _styled(_fit(line), _YELLOW, color)
                for line in textwrap.wrap(notice.text, COLUMNS, max_lines=_NOTICE_LINES[notice.kind], placeholder="…")
            ]
    lines[0] = _styled(lines[0], f"{_BOLD};{_STATUS_STYLES.get(status, _RED)}", color)
    lines += ["", *(line for label, text in _facts(result) for line in _fact(label, text))]
    lines.append(f"{'Report':<11} {printable(report)}")
    if attention := needing_attention(result):
        hints = [f"To try these again: {printable(retry_command)}"] if retry_command else []
        if run_command:
            mend = "Files that cannot be opened or are damaged: mend or replace them, then"
            hints.append(f"{mend} {printable(run_command)}")
        named = MAX_NAMED + 2 - len(hints) - (len(_fact("Changes", news(result))) - 1)
        named -= len(attention) > named  # the line that counts the rest
        lines += ["", _styled("Not fully read", _BOLD, color), *map(_named, attention[:named])]
        if len(attention) > named:
            lines.append(f"  and {len(attention) - named:,} more")
        lines += hints
    return "\n".join(lines) + "\n"


def render_line(result: RunResult, report: str) -> str:
    """The same on one line without its end, for a log: how it ended, the news, what was read and what it cost."""
    t = totals(result)
    rules = " by built-in rules, not a language model" if result.reads_with_rules else ""
    return "; ".join((
        f"{one_line(result.title)}: {result.run.status}",
        news(result),
        f"{t['done']:,} of {counted(t['documents'], 'document')} read{rules}",
        f"cost {spent(result.spending)}",
        f"report {printable(report)}",
    ))  # fmt: skip


def _facts(result: RunResult) -> list[tuple[str, str]]:
    t = totals(result)
    statuses = f"{t['done']:,} done, {t['partial']:,} partial, {t['failed']:,} failed"
    risks = ", ".join(f"{t['risks'][severity]:,} {severity}" for severity in Severity)
    has_cache = t["cache_read_tokens"] or t["cache_write_tokens"]
    cache = f"; cache: {t['cache_read_tokens']:,} read, {t['cache_write_tokens']:,} written" if has_cache else ""
    expected_tokens = expected_cost = ""
    if result.expected is not None:
        usage = result.expected.usage
        expected_tokens = f" (expected: {usage.input_tokens:,} in, {usage.output_tokens:,} out)"
        expected_cost = f"expected: {money(result.expected.cost_usd)}; "
    retries = f"{t['retries']:,} retries, {counted(t['chunks_recovered'], 'chunk')} recovered"
    return [
        ("Documents", f"{t['documents']:,}: {statuses} ({t['unchanged']:,} unchanged)"),
        ("Pages", pages_read(result)),
        ("Risks", f"{sum(t['risks'].values()):,}: {risks}"),
        ("Changes", news(result)),
        ("Quotes", _quotes(t["quotes_verified_share"])),
        ("Tokens", f"{t['input_tokens']:,} in, {t['output_tokens']:,} out{expected_tokens}{cache}"),
        ("Cost", f"{spent(result.spending)} ({expected_cost}{money(t['retry_cost_usd'])} for retries)"),
        ("Requests", f"{t['requests']:,} ({retries})"),
    ]


def _fact(label: str, text: str) -> list[str]:
    """Its line; up to three for what changed, which is what people look for first."""
    wrapped = textwrap.wrap(text, COLUMNS - 12, max_lines=3, placeholder="…") if label == "Changes" else [text]
    return [f"{'' if place else label:<11} {_fit(line, COLUMNS - 12)}" for place, line in enumerate(wrapped)]


def _quotes(verified_share: float | None) -> str:
    return "not checked" if verified_share is None else f"{verified_share:.1%} stand in the document word for word"


def _named(document: DocumentResult) -> str:
    problem = one_line(why_unread(document))
    return _fit(f"  {document.status:<7}  {_fit(printable(document.path), _PATH_COLUMNS)}: {problem}")


def _fit(text: str, columns: int = COLUMNS) -> str:
    """``text`` in at most ``columns`` of a terminal, where wide characters take two; a cut shows as an ellipsis."""
    ends = list(accumulate(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text))
    return text if not ends or ends[-1] <= columns else text[: bisect_right(ends, columns - 1)] + "…"


def _styled(text: str, style: str, color: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if color else text
