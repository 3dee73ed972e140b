"""index.html and documents/NAME.html: the pages that people open; the only importer of jinja2.

Each is one file: its style and, in index.html alone, its script stand in it, and its policy names them by hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from pipeline.domain import ChunkState, DocumentResult, PagePicture, QuoteCheck, RunInfo, RunResult, Severity
from pipeline.reports import index_data, links, pages
from pipeline.reports.json_report import totals
from pipeline.reports.news import news
from pipeline.reports.presentation import (
    MEND,
    QUOTE_LABELS,
    again,
    before,
    counted,
    coverage,
    difference,
    field_items,
    field_label,
    money,
    needing_attention,
    not_openable,
    notices,
    one_line,
    paragraphs,
    quote_label,
    ranges,
    register,
    remark,
    rules_notice,
    sentence,
    tally,
    to_mend,
    unchecked_quotes,
)
from pipeline.text import moment, printable

_WORST_SHOWN = 25  # without scripts
_NEWS_SHOWN = 8  # of each kind
_ATTENTION_SHOWN = 200


def render(result: RunResult, formats: Iterable[str] = ()) -> Iterator[str]:
    """The first page, in blocks. ``formats`` are those written beside it, which it names."""
    rows = register(result)
    return _INDEX.generate(
        result=result,
        totals=totals(result),
        notices=notices(result),
        news=news(result),
        news_shown=_NEWS_SHOWN,
        attention=needing_attention(result)[:_ATTENTION_SHOWN],
        unread=len(needing_attention(result)),
        mend=MEND if to_mend(result) else "",
        again=again(result),
        duration=_duration(result.run),
        register=rows[:_WORST_SHOWN],
        risks=len(rows),
        categories=sorted({one_line(risk.category) for _, risk in rows}, key=str.casefold),
        unchecked=unchecked_quotes(risk for _, risk in rows),
        unopened=len(not_openable(result)),
        formats=sorted(formats),
        data=index_data.render(result),
    )


def render_document(
    document: DocumentResult,
    result: RunResult,
    pictures: Mapping[int, PagePicture] | None = None,
    left_out: Iterable[int] = (),
) -> str:
    """The page of one document.

    Of ``result`` it shows the title, the model, the version, the rules notice and the way to the originals.
    ``pictures`` are those of its pages, None where none are made; the pages ``left_out`` have none for want of room.
    """
    unanswered = [c for c in document.chunks if c.status in (ChunkState.FAILED, ChunkState.OPEN)]
    return _DOCUMENT.render(
        document=document,
        result=result,
        sections=pages.sections(document, pictures or {}, left_out, draws=pictures is not None),
        original=partial(links.original_from_page, result, document),
        unanswered=unanswered,
        unchecked=unchecked_quotes(document.risks),
    )


def _duration(run: RunInfo) -> str:
    """``41 min``; "" as long as it is not known."""
    try:
        seconds = (datetime.fromisoformat(run.finished_at) - datetime.fromisoformat(run.started_at)).total_seconds()
    except ValueError:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def _finalized(value: Any) -> Any:
    """Nothing reaches the page unprintable, whether or not the template asks for a filter."""
    is_ours = hasattr(value, "__html__")  # marked as safe by the template, or made by one of its macros
    return printable(value) if isinstance(value, str) and not is_ours else value


def _numbers(document: DocumentResult) -> dict[int, int]:
    """The number of each risk on its document's page, by the identity of the value."""
    return {id(risk): number for number, risk in pages.numbered(document)}


def _risk_url(document: DocumentResult, risk: Any) -> str:
    return f"{links.html_page(document)}#risk-{_numbers(document)[id(risk)]}"


def _policy(style: str, script: str | None) -> str:
    """A content security policy that lets the page's own style and script be, and nothing else."""
    script_source = f"'sha256-{_sha256(script)}'" if script else "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; script-src {script_source}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inlined(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _environment() -> jinja2.Environment:
    style, script = _inlined("report.css"), _inlined("index.js")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "line": one_line,
        "paragraphs": paragraphs,
        "coverage": coverage,
        "remark": remark,
        "sentence": sentence,
        "before": before,
        "tally": tally,
        "counted": counted,
        "field_label": field_label,
        "field_items": field_items,
        "ranges": ranges,
        "money": money,
        "moment": moment,
        "page_url": links.html_page,
    }
    environment.globals |= {
        "quote_label": quote_label,
        "quote_labels": QUOTE_LABELS,
        "check_words": index_data.CHECK_WORDS,
        "checks": list(QuoteCheck),
        "severities": list(Severity),
        "risk_url": _risk_url,
        "difference": difference,
        "rules_notice": rules_notice,
        "style": style,
        "script": script,
        "index_policy": _policy(style, script),
        "document_policy": _policy(style, None),
    }
    return environment


_ENVIRONMENT = _environment()
_INDEX = _ENVIRONMENT.get_template("index.html.j2")
_DOCUMENT = _ENVIRONMENT.get_template("document.html.j2")
