"""Where the files lie that a report leads to, as relative addresses from the report's folder."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pipeline.domain import DocumentResult, RunResult
from pipeline.reports.names import document_name

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff")


def way(originals: Path, report: Path) -> str:
    """``RunResult.originals`` for documents in the folder ``originals`` and a report in the folder ``report``."""
    return Path(os.path.relpath(originals, report)).as_posix()


def original(result: RunResult, document: DocumentResult, page: int | None = None) -> str:
    """The address of the document itself, opened at ``page`` where its reader knows how; "" if it is not known.

    ``#page=N`` is what browsers and PDF readers understand (RFC 8118, section 3); images have no such thing.
    """
    if not result.originals:
        return ""
    at_page = f"#page={page}" if page and not document.path.lower().endswith(_IMAGE_SUFFIXES) else ""
    return _address(f"{result.originals}/{document.path}") + at_page


def html_page(document: DocumentResult) -> str:
    """The address of the document's own page in HTML."""
    return f"documents/{_address(document_name(document.path))}.html"


def _address(path: str) -> str:
    return quote(os.fsencode(path))
