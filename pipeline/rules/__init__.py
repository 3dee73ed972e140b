"""Reading contracts by rules: page texts in, the object that is asked of a model out. No PDF library, no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.rules.dates import key_dates
from pipeline.rules.fields import read_fields
from pipeline.rules.parties import document_type, parties
from pipeline.rules.risks import risks_on, unread_pages
from pipeline.rules.sentences import printed_number, sentences, words
from pipeline.rules.summary import join_summaries, summary

__all__ = ["join_summaries", "read_document", "read_fields"]

_PAGE_CHARACTERS = 100_000  # a dense page has ten thousand; more is an attack on the reader


def read_document(pages: Sequence[str]) -> dict[str, Any]:
    """The contract in ``pages`` as summary, document_type, parties, key_dates and risks.

    ``pages`` holds the text of each page, "" for a page without a text layer; page numbers in the
    result count from 1 within it. Each page is read by itself, so the answer for a page does not depend
    on its neighbours. A quote is the sentence as it stands on the page, line breaks read as spaces.
    """
    read = [page[:_PAGE_CHARACTERS] for page in pages]
    first_text = next((page for page in read if page.strip()), "")
    begins_here = (printed_number(first_text) or 1) == 1
    by_page = [list(sentences(page)) for page in read]
    risks = [
        risk
        for number, (page, on_page) in enumerate(zip(read, by_page, strict=True), 1)
        for risk in risks_on(number, words(page), on_page)
    ]
    kind = document_type(first_text)
    names = parties(first_text) if begins_here else []
    return {
        "summary": summary(by_page, risks, kind, names, begins_here),
        "document_type": kind,
        "parties": names,
        "key_dates": key_dates(by_page),
        "risks": [*unread_pages(pages, _PAGE_CHARACTERS), *risks],
    }
