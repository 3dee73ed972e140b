"""The built-in rules on whole PDFs: the sample contracts, whose facts are known, and files that are no contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline import splitter
from pipeline.domain import PageRange
from pipeline.pdf import Source
from pipeline.rules import read_document
from tools.sample_docs import truth
from tools.sample_docs.truth import KnownDocument

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "sample_docs" / "contracts"
NO_CONTRACTS = sorted(
    path
    for path in (ROOT.parent / "shared" / "corpus" / "benign").glob("*.pdf")
    if not path.name.startswith("company-contracts__")
)
WITH_TEXT = [document for document in truth.DOCUMENTS if document.has_text]

# Real clauses that the sample contracts hold besides those that were planted.
ALSO_THERE = {
    ("office-lease.pdf", 3, "price-escalation", "in proportion to the change in the consumer price index"),
    ("wartungsvertrag-de.pdf", 3, "liability", "Haftung auf den vorhersehbaren, typischen Schaden begrenzt"),
    ("采购合同-zh.pdf", 3, "liability", "亦不承担任何赔偿责任"),
}
FACTS = {
    "nda-mutual.pdf": (
        "Mutual non-disclosure agreement",
        ["HALVORSEN OPTICS LIMITED", "MARROWBECK ANALYTICS PLC"],
        {("14 March 2025", "signature")},
    ),
    "services-agreement.pdf": (
        "Master services agreement",
        ["QUARRYBANK UTILITIES PLC", "TESSEL & CRANE CONSULTING LIMITED"],
        {
            ("10 February 2025", "signature"),
            ("18 November 2024", "date of the proposal"),
            ("1 March 2025", "effective date"),
        },
    ),
    "framework-agreement-with-annexes.pdf": (
        "Framework agreement",
        ["SKERRYWICK FERRIES GROUP PLC", "ALTMOOR TECHNICAL SERVICES LIMITED"],
        {
            ("7 November 2024", "signature"),
            ("30 August 2024", "date of the offer"),
            ("1 January 2025", "effective date"),
            ("31 March 2025", "The transition from the former suppliers is completed by 31 March 2025"),
            ("31 December 2026", "end of fixed prices"),
            ("1 January 2027", "price review"),
            ("30 October 2024", "… conditions were agreed in the final negotiations on 29 and 30 October 2024"),
            ("1 June 2025", "The Provider opens a base with at least six technicians on Sulvay by 1 June 2025"),
            ("31 December 2024", "The stock of ticket machine parts that the Customer holds on 31 December 2024"),
            ("20 September 2024", "date of the letter of intent"),
        },
    ),
    "office-lease.pdf": (
        "Lease of office premises",
        ["LANTERNHOUSE ESTATES DAC", "PELICAN & THORNE ARCHITECTS LIMITED"],
        {
            ("2 September 2024", "signature"),
            ("1 October 2024", "effective date"),
            ("20 August 2024", "date of the schedule"),
        },
    ),
    "software-licence-saas.pdf": (
        "Software licence and cloud subscription terms",
        ["CINDERQUILL SOFTWARE INC.", "TAMARISK FREIGHT B.V."],
        {("1 May 2025", "effective date"), ("11 April 2025", "signature"), ("16 April 2025", "signature")},
    ),
    "wartungsvertrag-de.pdf": (
        "Wartungsvertrag",
        ["Brückhäuser Frischelogistik GmbH", "Kühlwerk Süßmilch & Söhne AG"],
        {("1. April 2025", "effective date"), ("17. März 2025", "signature")},
    ),
    "采购合同-zh.pdf": (
        "设备采购合同",
        ["云岭恒川饮料有限公司", "北辰砺石机械制造股份有限公司"],
        {("2025 年 7 月 28 日", "signature")},
    ),
    "supply-agreement-owner-protected.pdf": (
        "Supply agreement",
        ["GREYWETHER MALTINGS LIMITED", "DOVECOTE BREWING COMPANY LIMITED"],
        {("20 January 2025", "signature"), ("22 January 2025", "signature"), ("1 February 2025", "effective date")},
    ),
}


def squeezed(text: str) -> str:
    return "".join(text.split())


def texts(path: Path, folder: Path, most: int = 60) -> tuple[str, ...]:
    """The texts of the first pages of a file as the offline endpoint gets them: cut, decrypted, parsed again."""
    stat, target = path.stat(), folder / "cut.pdf"
    pages = PageRange(1, min(most, len(PdfReader(path).pages)))
    splitter.cut(Source(str(path), stat.st_size, stat.st_mtime_ns), pages, target)
    return splitter.page_texts(target.read_bytes())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """The page texts of every contract that has any."""
    folder = tmp_path_factory.mktemp("cut")
    return {document.file_name: texts(CONTRACTS / document.file_name, folder) for document in WITH_TEXT}


@pytest.fixture(scope="module")
def results(pages: dict[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """What the rules read in each contract, taken whole."""
    return {name: read_document(page_texts) for name, page_texts in pages.items()}


def places(document: KnownDocument) -> Iterator[tuple[str, int, str, str]]:
    """Page, category and words of the planted risks, and of those that are there besides."""
    yield from ((document.file_name, risk.page, risk.category, risk.fragment) for risk in document.risks)
    yield from (place for place in ALSO_THERE if place[0] == document.file_name)


@pytest.mark.parametrize("document", WITH_TEXT, ids=lambda document: document.file_name)
def test_every_planted_risk_is_found_and_nothing_else(
    document: KnownDocument, results: dict[str, dict[str, Any]]
) -> None:
    """Each known risk is reported on its page, in its category, with its words as quote; no other is."""
    reported = [
        (risk["page"], risk["category"], squeezed(risk["quote"])) for risk in results[document.file_name]["risks"]
    ]
    known = [(page, category, squeezed(fragment)) for _, page, category, fragment in places(document)]

    def is_same(found: tuple[int, str, str], planted: tuple[int, str, str]) -> bool:
        return found[:2] == planted[:2] and planted[2] in found[2]

    assert [risk for risk in known if not any(is_same(found, risk) for found in reported)] == []
    assert [found for found in reported if not any(is_same(found, risk) for risk in known)] == []


@pytest.mark.parametrize("name", sorted(FACTS))
def test_type_parties_and_dates_are_what_a_reader_would_write_down(
    name: str, results: dict[str, dict[str, Any]]
) -> None:
    """The title in its own words, the names alone, each date with its meaning, once."""
    kind, parties, dates = FACTS[name]
    found = results[name]

    assert (found["document_type"], found["parties"]) == (kind, parties)
    assert sorted((date["date"], date["meaning"]) for date in found["key_dates"]) == sorted(dates)


def test_every_quote_stands_on_its_page(pages: dict[str, tuple[str, ...]], results: dict[str, dict[str, Any]]) -> None:
    """White space apart, a quote is a part of the text of the page that the risk names."""
    for name, result in results.items():
        for risk in result["risks"]:
            assert squeezed(risk["quote"]) in squeezed(pages[name][risk["page"] - 1]), (name, risk)


@pytest.mark.parametrize("size", [1, 7, 20])
def test_the_risks_of_a_page_do_not_depend_on_the_chunk(
    size: int, pages: dict[str, tuple[str, ...]], results: dict[str, dict[str, Any]]
) -> None:
    """However a document is cut, its pages have the same risks."""
    for name, whole in pages.items():
        by_chunk = [
            {**risk, "page": risk["page"] + begin}
            for begin in range(0, len(whole), size)
            for risk in read_document(whole[begin : begin + size])["risks"]
        ]
        assert by_chunk == results[name]["risks"], name


def test_a_summary_is_of_a_few_whole_sentences(results: dict[str, dict[str, Any]]) -> None:
    """It begins with the type and the parties, holds more than that and ends with a full stop."""
    for name, result in results.items():
        summary = result["summary"]
        assert summary.startswith(result["document_type"]), name
        assert all(party.rstrip(".") in summary for party in result["parties"]), name
        assert summary[-1] in ".。", name
        assert 100 < len(summary) <= 1_200, name


@pytest.mark.skipif(not NO_CONTRACTS, reason="the collection of PDFs is not there")
def test_what_is_no_contract_has_no_clauses(tmp_path: Path) -> None:
    """Papers, tables and test files raise no false alarm; a page without text is still named."""
    found = {
        path.name: {risk["category"] for risk in read_document(texts(path, tmp_path, most=9))["risks"]}
        for path in NO_CONTRACTS
    }

    assert {name: categories for name, categories in found.items() if categories - {"unreadable"}} == {}
