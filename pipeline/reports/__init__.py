"""The reports of a run: one pure renderer per format, written together.

::

    report.json                always; written last, so it vouches for the rest
    index.html                 html
    documents/NAME.md          markdown
    risks.csv                  csv
    risks.xlsx                 xlsx
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.domain import RunResult
from pipeline.reports import csv_report, html, json_report, markdown, xlsx
from pipeline.reports.files import Staging, staging, written_ns
from pipeline.reports.names import document_name

FORMATS = ("html", "markdown", "csv", "xlsx")


def owner(folder: Path) -> str | None:
    """The job whose report is in the folder; None where there is none."""
    try:
        with (folder / "report.json").open("rb") as file:
            found = re.search(rb'"job": ("(?:[^"\\]|\\.)*")', file.read(4096))
        return str(json.loads(found[1])) if found else None
    except (OSError, ValueError):
        return None


def write(result: RunResult, folder: Path, formats: Collection[str]) -> Path:
    """Write report.json and ``formats``, a subset of ``FORMATS``, to ``folder``; return the file to open.

    A kill while rendering leaves the old report whole. Pages of documents that did not change since the
    last report.json are not written again; pages that it lists and this report has not are removed.
    Two writers of one folder at the same time are for the caller to prevent.

    Raises:
        SettingsError: a file cannot be written; the message names it.
    """
    with_pages = "markdown" in formats
    pages_folder = folder / "documents"
    last = _last_report(folder)
    with staging(folder, *([pages_folder] if with_pages else [])) as staged:
        if with_pages:
            _add_pages(staged, result, last, pages_folder)
        if "csv" in formats:
            staged.add(folder / "risks.csv", csv_report.render(result).encode("utf-8-sig"))  # Excel needs the BOM
        if "xlsx" in formats:
            staged.add(folder / "risks.xlsx", xlsx.render(result))
        if "html" in formats:
            staged.add(folder / "index.html", html.render(result, with_pages).encode())
        staged.add(folder / "report.json", json_report.render(result))
        # Without this format no page is kept: nothing would keep it in step with the report.
        kept = {document_name(d.path) for d in result.documents} if with_pages else set()
        staged.publish(pages_folder / f"{name}.md" for name in last.documents.keys() - kept)
    return folder / ("index.html" if "html" in formats else "report.json")


@dataclass(frozen=True, slots=True)
class _LastReport:
    """What the report.json in the folder vouches for; ``documents`` go by the name of their page."""

    written_ns: int
    shown: tuple[Any, ...]
    documents: Mapping[str, Mapping[str, Any]]


def _last_report(folder: Path) -> _LastReport:
    """The last report, or an empty one where there is none or it is not one of ours."""
    path = folder / "report.json"
    try:
        report = json.loads(path.read_bytes())
        documents = {document_name(d["path"]): _shown_of(d) for d in report["documents"]}
        return _LastReport(path.stat().st_mtime_ns, _shown_around(report), documents)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _LastReport(0, (), {})


def _add_pages(staged: Staging, result: RunResult, last: _LastReport, folder: Path) -> None:
    same_around = last.shown == _shown_around(json_report.head(result))
    pages_ns = written_ns(folder)
    for document in result.documents:
        name = document_name(document.path)
        # A page younger than the report was left by a run that was killed before its report.json.
        vouched_for = same_around and pages_ns.get(f"{name}.md", last.written_ns + 1) <= last.written_ns
        if not (vouched_for and last.documents.get(name) == _shown_of(json_report.document(document))):
            staged.add(folder / f"{name}.md", markdown.render_document(document, result).encode())


def _shown_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a page shows of its document: all but whether this run sent anything for it."""
    return {key: value for key, value in document.items() if key != "unchanged"}


def _shown_around(report: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a page shows of the run: see ``markdown.render_document``."""
    run = report["run"]
    return report["title"], run["model"], run["version"], run["reads_with_rules"]
