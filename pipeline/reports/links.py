"""Where the files lie that a report leads to, as relative addresses from the report's folder."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pipeline.domain import DocumentResult, RunResult
from pipeline.reports.names import document_name
from pipeline.storage import Url, is_url

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff")


def way(originals: Path | Url, report: Path | Url) -> str:
    """``RunResult.originals`` for documents in the folder ``originals`` and a report in the folder ``report``.

    A browser opens what a web server has; of a bucket it knows nothing, nor from there of a disk.
    """
    if isinstance(originals, Url):
        return "" if originals.is_listable else originals.address
    if isinstance(report, Url):
        return ""
    return Path(os.path.relpath(originals, report)).as_posix()


def original(result: RunResult, document: DocumentResult, page: int | None = None) -> str:
    """The address of the document itself, opened at ``page`` where its reader knows how; "" if it is not known.

    ``#page=N`` is what browsers and PDF readers understand (RFC 8118, section 3); images have no such thing.
    """
    if not result.originals:
        return ""
    at_page = f"#page={page}" if page and not document.path.lower().endswith(_IMAGE_SUFFIXES) else ""
    folder = result.originals if is_url(result.originals) else _address(result.originals)
    return f"{folder}/{_address(document.path)}{at_page}"


def original_from_page(result: RunResult, document: DocumentResult, page: int | None = None) -> str:
    """The same as it is from the document's own page."""
    address = original(result, document, page)
    return address if not address or is_url(address) else f"../{address}"


def html_page(document: DocumentResult) -> str:
    """The address of the document's own page in HTML."""
    return f"documents/{_address(document_name(document.path))}.html"


def _address(path: str) -> str:
    return quote(os.fsencode(path))
