"""The sample documents say what ``tools.sample_docs.truth`` says, and can be made again byte for byte."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from tools.sample_docs import truth
from tools.sample_docs.truth import KnownDocument, KnownRisk

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "sample_docs" / "contracts"
TROUBLE = ROOT / "sample_docs" / "trouble"
RISKS = [(document, risk) for document in truth.DOCUMENTS for risk in document.risks]
WITH_TEXT = [(document, risk) for document, risk in RISKS if document.has_text]


def squeezed(text: str) -> str:
    """``text`` without white space: Chinese lines break inside a sentence and without a blank."""
    return "".join(text.split())


@pytest.fixture(scope="module")
def page_texts() -> dict[str, list[str]]:
    """The squeezed text of every page of every contract."""
    return {
        document.file_name: [squeezed(page.extract_text()) for page in PdfReader(CONTRACTS / document.file_name).pages]
        for document in truth.DOCUMENTS
    }


def made_in(folder: Path, **surroundings: str) -> dict[str, bytes]:
    """What the generator writes into ``folder`` in a process with these environment variables."""
    subprocess.run(
        [sys.executable, "-m", "tools.sample_docs", str(folder)],
        cwd=ROOT, env=os.environ | surroundings, check=True, capture_output=True,
    )  # fmt: skip
    return files_below(folder)


@pytest.fixture(scope="module")
def made_again(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The sample documents as the generator has just written them."""
    return made_in(tmp_path_factory.mktemp("again"), TZ="UTC", PYTHONHASHSEED="0")


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_write_the_same_bytes(made_again: dict[str, bytes], tmp_path: Path) -> None:
    """Neither the time zone nor the hash seed nor a build date in the environment changes a byte."""
    elsewhere = made_in(tmp_path, TZ="Asia/Tokyo", PYTHONHASHSEED="99", SOURCE_DATE_EPOCH="1700000000")

    assert elsewhere == made_again


@pytest.mark.skipif(
    any(version(library) != made_with for library, made_with in truth.MADE_WITH.items()),
    reason="the committed files were made with other versions of the libraries that draw them",
)
def test_the_committed_files_are_what_the_generator_writes(made_again: dict[str, bytes]) -> None:
    """Nobody changed a text or a file without making the other anew."""
    committed = files_below(ROOT / "sample_docs")

    assert sorted(made_again) == sorted(committed)
    assert [name for name, content in made_again.items() if content != committed[name]] == []


def test_the_truth_names_every_file() -> None:
    """No sample document is without known facts."""
    assert {path.name for path in CONTRACTS.iterdir()} == {document.file_name for document in truth.DOCUMENTS}
    for folder, papers in (("invoices", truth.INVOICES), ("reports", truth.REPORTS)):
        assert {path.name for path in (ROOT / "sample_docs" / folder).iterdir()} == {p.file_name for p in papers}
    assert {path.name for path in TROUBLE.iterdir()} == truth.GOOD_TROUBLE.keys() | truth.BAD_TROUBLE


def test_the_sample_documents_are_small() -> None:
    """All together stay below 1.5 MB."""
    assert sum(map(len, files_below(ROOT / "sample_docs").values())) < 1_500_000


@pytest.mark.parametrize("document", truth.DOCUMENTS, ids=lambda document: document.file_name)
def test_page_count_and_encryption_are_as_stated(document: KnownDocument) -> None:
    """Every contract opens without a password; only the protected one is encrypted."""
    reader = PdfReader(CONTRACTS / document.file_name)

    assert len(reader.pages) == document.pages
    assert reader.is_encrypted == document.encrypted


@pytest.mark.parametrize(("document", "risk"), WITH_TEXT, ids=lambda value: getattr(value, "category", None))
def test_a_risk_stands_on_its_page_alone(
    document: KnownDocument, risk: KnownRisk, page_texts: dict[str, list[str]]
) -> None:
    """The fragment is in the text of the page that the truth names, and of no other page."""
    fragment = squeezed(risk.fragment)

    assert [n for n, text in enumerate(page_texts[document.file_name], start=1) if fragment in text] == [risk.page]


def test_the_scan_has_pictures_and_no_text(page_texts: dict[str, list[str]]) -> None:
    """Each page of the scanned contract is one image without a text layer."""
    reader = PdfReader(CONTRACTS / "equipment-rental-scanned.pdf")

    assert page_texts["equipment-rental-scanned.pdf"] == ["", ""]
    assert [len(page.images) for page in reader.pages] == [1, 1]


def test_the_protected_contract_may_be_printed_but_not_copied() -> None:
    """The permissions of the owner password are set as a sender would set them."""
    reader = PdfReader(CONTRACTS / "supply-agreement-owner-protected.pdf")
    permissions = reader.user_access_permissions

    assert permissions is not None
    assert permissions & permissions.PRINT
    assert not permissions & permissions.EXTRACT


def test_the_framework_agreement_has_a_bookmark_for_each_section_and_annex() -> None:
    """Twelve sections and ten annexes, each on the page that the table of contents gives."""
    reader = PdfReader(CONTRACTS / "framework-agreement-with-annexes.pdf")
    contents = squeezed(reader.pages[1].extract_text())
    bookmarks = [entry for entry in reader.outline if not isinstance(entry, list)]

    assert len(bookmarks) == 22
    for entry in bookmarks:
        part, _, subject = str(entry.title).partition(": ")
        page = reader.get_destination_page_number(entry)
        assert page is not None
        assert squeezed(f"{part}{subject}{page + 1}").lower() in contents.lower()


@pytest.mark.parametrize("name", sorted(truth.GOOD_TROUBLE))
def test_an_odd_name_hides_a_good_file(name: str) -> None:
    """The files with odd names have the pages that the truth states."""
    assert len(PdfReader(TROUBLE / name).pages) == truth.GOOD_TROUBLE[name]


@pytest.mark.parametrize("name", sorted(truth.BAD_TROUBLE))
def test_a_broken_file_cannot_be_opened(name: str) -> None:
    """No page can be counted in a locked, cut, empty or foreign file."""
    with pytest.raises(PyPdfError):
        len(PdfReader(io.BytesIO((TROUBLE / name).read_bytes())).pages)
