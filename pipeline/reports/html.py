"""index.html: the page that people open; the only importer of jinja2."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import jinja2

from pipeline.domain import RunResult, Severity
from pipeline.reports.json_report import totals
from pipeline.reports.names import document_name
from pipeline.reports.presentation import (
    QUOTE_LABELS,
    counted,
    coverage,
    moment,
    money,
    needing_attention,
    notices,
    one_line,
    paragraphs,
    register,
    remark,
    tally,
    unchecked_quotes,
)
from pipeline.text import printable


def render(result: RunResult, with_pages: bool = False) -> str:
    """One self-contained page: no script, nothing loaded. ``with_pages`` links each document's Markdown page."""
    rows = register(result)
    names = {d.path: document_name(d.path) for d in result.documents}
    return _TEMPLATE.render(
        result=result,
        totals=totals(result),
        notices=notices(result),
        attention=needing_attention(result),
        register=rows,
        unchecked=unchecked_quotes(risk for _, risk in rows),
        unopened=sum(d.pages is None and not d.is_unopened for d in result.documents),
        severities=list(Severity),
        anchors={path: f"d-{name.rpartition('-')[2]}" for path, name in names.items()},
        pages={path: f"documents/{quote(name)}.md" for path, name in names.items()} if with_pages else {},
    )


def _printable(value: Any) -> Any:
    """Nothing reaches the page unprintable, whether or not the template asks for a filter."""
    return printable(value) if isinstance(value, str) else value


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "line": one_line,
        "paragraphs": paragraphs,
        "coverage": coverage,
        "remark": remark,
        "tally": tally,
        "counted": counted,
        "money": money,
        "moment": moment,
    }
    environment.globals["quote_labels"] = QUOTE_LABELS
    return environment.get_template("index.html.j2")


_TEMPLATE = _template()
