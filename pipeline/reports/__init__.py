"""The reports of a run: one pure renderer per format, written together.

::

    report.json                always; written last, so it vouches for the rest
    index.html                 html
    documents/NAME.html        html
    documents/NAME.md          markdown
    SUMMARY.md                 markdown
    risks.csv                  csv
    documents.csv              csv
    risks.xlsx                 xlsx
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.domain import DocumentResult, PagePicture, RunResult
from pipeline.reports import csv_report, digest, json_report, links, markdown
from pipeline.reports.files import Staging, naming, staging, written_ns
from pipeline.reports.names import document_name
from pipeline.reports.pages import Draw, Originals, pictures
from pipeline.storage import Url

__all__ = ["FORMATS", "OWNER_BYTES", "Draw", "Originals", "files_of", "load", "owner", "owner_by", "write"]

_FILES = {
    "html": ("index.html",),
    "markdown": ("SUMMARY.md",),
    "csv": ("risks.csv", "documents.csv"),
    "xlsx": ("risks.xlsx",),
}
FORMATS = tuple(_FILES)


OWNER_BYTES = 4096
"""So far from its beginning a report.json says whose it is."""


def owner(folder: Path) -> str | None:
    """The job whose report is in the folder; None where there is none."""
    try:
        with (folder / "report.json").open("rb") as file:
            return owner_by(file.read(OWNER_BYTES))
    except OSError:
        return None


def owner_by(head: bytes) -> str | None:
    """The job whose report.json begins so; None where it is not one."""
    found = re.search(rb'"job": ("(?:[^"\\]|\\.)*")', head)
    try:
        return str(json.loads(found[1])) if found else None
    except ValueError:
        return None


def files_of(report: Path) -> set[str]:
    """Every file, in whatever format, that may belong to this report.json, by its path in the report's folder."""
    pages = {f"documents/{name}{suffix}" for name in _last_report(report).shown.documents for suffix in _PAGES.values()}
    return {"report.json", *(name for names in _FILES.values() for name in names), *pages}


def write(
    result: RunResult,
    folder: Path,
    formats: Collection[str],
    originals: Originals | None = None,
    *,
    csv_bom: bool = True,
    read_at: Url | None = None,
) -> Path:
    """Write report.json and ``formats``, a subset of ``FORMATS``, to ``folder``; return the file to open.

    ``csv_bom`` puts a byte order mark before the CSV files. ``read_at`` is where people read it, if not in ``folder``.

    A kill while rendering leaves the old report whole. Pages of documents that did not change since the
    last report.json are neither drawn nor written again, nor is a workbook of the same documents; pages that it
    lists and this report has not are removed. Without ``originals`` no page has a picture or a link to the
    document. Two writers of one folder at the same time are for the caller to prevent.

    Raises:
        SettingsError: a file cannot be written; the message names it.
    """
    pages_folder = folder / "documents"
    last = _last_report(folder / "report.json")
    if originals is not None:
        result = replace(result, originals=links.way(originals.folder, read_at or folder))
    shown = _shown(json_report.head(result), map(json_report.document, result.documents))
    kinds = [suffix for name, suffix in _PAGES.items() if name in formats]
    dropped = [suffix for suffix in _PAGES.values() if suffix not in kinds]
    with staging(folder, *([pages_folder] if kinds else [])) as staged:
        undrawn = None
        vouched_for = last.vouched_for(pages_folder) if kinds else ()
        if "markdown" in formats:
            _add_markdown(staged, result, pages_folder, _changed(result, shown, last, vouched_for, ".md"))
            staged.add(folder / "SUMMARY.md", [digest.render(result).encode()])
        if "html" in formats:
            draw = originals.draw if originals else None
            changed = {document.path for document, _ in _changed(result, shown, last, vouched_for, ".html")}
            undrawn = _add_pages(staged, result, pages_folder, changed | last.undrawn, draw)
        if "csv" in formats:
            encoding = "utf-8-sig" if csv_bom else "utf-8"
            staged.add(folder / "risks.csv", [csv_report.render(result).encode(encoding)])
            staged.add(folder / "documents.csv", [csv_report.render_documents(result).encode(encoding)])
        if "xlsx" in formats and not (shown == last.shown and _has_workbook(last.vouched_for(folder), formats)):
            staged.add(folder / "risks.xlsx", [_workbook(result, "html" in formats)])
        if "html" in formats:
            staged.add(folder / "index.html", _index(result, formats))
        staged.add(folder / "report.json", json_report.render(result, undrawn))
        # Without its format no file is kept: nothing would keep it in step with the report.
        gone = [
            pages_folder / f"{name}{suffix}"
            for name in last.shown.documents
            for suffix in (dropped if name in shown.documents else _PAGES.values())
        ]
        if last.written_ns:
            gone += [folder / name for format_, names in _FILES.items() if format_ not in formats for name in names]
        staged.publish(gone)
    return folder / ("index.html" if "html" in formats else "report.json")


def _has_workbook(vouched_for: Collection[str], formats: Collection[str]) -> bool:
    """Whether the workbook is there, with the same links: those to HTML pages come and go with the format."""
    return "risks.xlsx" in vouched_for and ("index.html" in vouched_for) == ("html" in formats)


_PAGES = {"markdown": ".md", "html": ".html"}


def _changed(
    result: RunResult, shown: _Shown, last: _LastReport, vouched_for: Collection[str], suffix: str
) -> Iterator[tuple[DocumentResult, str]]:
    """The documents whose page is not there as it should be, with its file's name."""
    same_reader = shown.reader == last.shown.reader
    for document, (name, content) in zip(result.documents, shown.documents.items(), strict=True):
        page = f"{name}{suffix}"
        if not (same_reader and page in vouched_for and content == last.shown.documents.get(name)):
            yield document, page


def _add_markdown(
    staged: Staging, result: RunResult, folder: Path, changed: Iterable[tuple[DocumentResult, str]]
) -> None:
    for document, page in changed:
        staged.add(folder / page, [markdown.render_document(document, result).encode()])


def _add_pages(staged: Staging, result: RunResult, folder: Path, due: Collection[str], draw: Draw | None) -> list[str]:
    """The pages of the documents that are ``due``, one's pictures in memory at a time; those that lack a picture."""
    undrawn = []
    for document in (d for d in result.documents if d.path in due):
        drawn, left_out = pictures(document, draw) if draw else (None, [])
        if drawn is not None and not {r.page for r in document.risks if r.page} <= {*drawn, *left_out}:
            undrawn.append(document.path)
        staged.add(folder / f"{document_name(document.path)}.html", [_page(document, result, drawn, left_out)])
    return undrawn


# The libraries of these two load slowly: they are loaded by the first that renders, or ahead of it by ``load``.


def load() -> None:
    """Load what ``write`` may need, which takes 0.1 s, at a time when nobody waits for it."""
    from pipeline.reports import html, xlsx  # noqa: F401


def _workbook(result: RunResult, with_html: bool) -> bytes:
    from pipeline.reports import xlsx

    with naming(Path(tempfile.gettempdir())):
        return xlsx.render(result, with_html)


def _index(result: RunResult, formats: Collection[str]) -> Iterator[bytes]:
    from pipeline.reports import html

    return (block.encode() for block in html.render(result, formats))


def _page(
    document: DocumentResult,
    result: RunResult,
    drawn: Mapping[int, PagePicture] | None,
    left_out: Collection[int],
) -> bytes:
    from pipeline.reports import html

    return html.render_document(document, result, drawn, left_out).encode()


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a report shows but for when it was made, what that cost and with what it was compared.

    ``reader`` is what a document's page shows of the run (see ``html.render_document``), ``ending`` is what a
    workbook shows besides: how the run ended, what was removed. ``documents`` are hashes of what is shown of each
    by the name of its page, without whether the run sent anything for it.
    """

    reader: tuple[Any, ...]
    ending: tuple[Any, ...]
    documents: Mapping[str, bytes]


def _shown(head: Mapping[str, Any], documents: Iterable[Mapping[str, Any]]) -> _Shown:
    run = head["run"]
    return _Shown(
        (head["title"], run["model"], run["version"], run["reads_with_rules"], run["originals"]),
        (run["status"], run["stopped_because"], (run["compared"] or {}).get("removed", [])),
        {document_name(document["path"]): _hash(document) for document in documents},
    )


def _hash(document: Mapping[str, Any]) -> bytes:
    shown = json_report.line({key: document[key] for key in document if key != "unchanged"})
    return hashlib.sha256(shown.encode("ascii")).digest()


@dataclass(frozen=True, slots=True)
class _LastReport:
    """The report.json in the folder, written at ``written_ns``: nanoseconds since 1970, 0 for none."""

    shown: _Shown
    written_ns: int
    undrawn: frozenset[str]

    def vouched_for(self, folder: Path) -> Collection[str]:
        """The files in ``folder`` that it speaks for.

        A younger one was left by a run that was killed before its report.json.
        """
        return {name for name, file_ns in written_ns(folder).items() if file_ns <= self.written_ns}


def _last_report(path: Path) -> _LastReport:
    """The last report.json, or an empty one where there is none or it is not one of ours."""
    try:
        with path.open("rb") as file:
            head, documents = json_report.parsed(file)
            undrawn = frozenset(head["undrawn"] or ())
            return _LastReport(_shown(head, documents), os.fstat(file.fileno()).st_mtime_ns, undrawn)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _LastReport(_Shown((), (), {}), 0, frozenset())
