"""risks.xlsx as a spreadsheet sees it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from urllib.parse import unquote

import openpyxl
import pytest
from openpyxl.workbook import Workbook

from pipeline.domain import Before, Change, Comparison, DocumentStatus, QuoteCheck, RunResult, Severity
from pipeline.reports import xlsx
from pipeline.reports.names import document_name
from tests import payloads
from tests.report_values import a_document, a_result, a_risk, saying


def opened(result: RunResult, with_html: bool = False) -> Workbook:
    """The workbook, read back."""
    return openpyxl.load_workbook(io.BytesIO(xlsx.render(result, with_html)))


def row(book: Workbook, sheet: str, number: int = 3) -> dict[str, object]:
    """The cells of a row by their labels; the first below the header is 3."""
    return {str(label.value): book[sheet].cell(number, label.column).value for label in book[sheet][2]}


def test_no_text_comes_alive_in_a_workbook() -> None:
    """Of all payloads no cell is a formula or a number, and no link leads anywhere but to our own files."""
    results = [saying(text) for text in payloads.ALL]
    removed = tuple(path for result in results if result.compared for path in result.compared.removed)
    documents = tuple(document for result in results for document in result.documents)

    book = opened(replace(results[0], documents=documents, compared=Comparison("r0", "", removed)), with_html=True)

    cells = [cell for sheet in book for line in sheet.iter_rows(min_row=3) for cell in line if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s", "n"}
    numbers = {(c.parent.title, str(c.parent.cell(2, c.column).value)) for c in cells if c.data_type == "n"}
    counts = {"Pages", "Pages read", "Critical", "High", "Medium", "Low", "Bytes"}
    assert numbers == {("Risks", "Page"), ("Gone", "Page"), *(("Documents", label) for label in counts)}
    targets = {cell.hyperlink.target for cell in cells if cell.hyperlink}
    assert len(targets) > len(payloads.ALL)
    assert all(re.fullmatch(r"(\.\.\\\.\.\\contracts\\|documents\\)[\w.%~\\-]+", target) for target in targets)


def test_a_risk_leads_to_its_page_in_the_original() -> None:
    """By a relative address with the page after it; the cell itself stays a number that can be sorted."""
    path = "vendors/a b#1 契.pdf"
    result = replace(a_result(a_document(path, risks=(a_risk(page=6),))), originals="../../contracts")

    cell = opened(result)["Risks"]["E3"]

    assert cell.value == 6
    assert cell.hyperlink is not None
    assert unquote(str(cell.hyperlink.target)).replace("\\", "/") == f"../../contracts/{path}"
    assert cell.hyperlink.location == "page=6"


@pytest.mark.parametrize(
    ("with_html", "target"),
    [(True, f"documents\\{document_name('a.pdf')}.html"), (False, "..\\docs\\a.pdf")],
)
def test_a_document_leads_to_its_page_of_the_report_where_there_is_one(with_html: bool, target: str) -> None:
    """On both sheets; without HTML pages to the original."""
    book = opened(replace(a_result(a_document("a.pdf", risks=(a_risk(),))), originals="../docs"), with_html)

    assert {cell.hyperlink.target for cell in (book["Risks"]["D3"], book["Documents"]["A3"]) if cell.hyperlink} == {
        target
    }


def test_a_report_that_does_not_know_the_originals_links_none() -> None:
    """No link leads nowhere."""
    book = opened(a_result(a_document(risks=(a_risk(),))))

    assert not [cell for sheet in book for line in sheet.iter_rows() for cell in line if cell.hyperlink]


def test_a_row_says_how_its_quote_stands_and_what_is_new() -> None:
    """The words of the page where they differ, what it was, the page that the model named, and who saw it."""
    altered = replace(
        a_risk(), quote_check=QuoteCheck.ALTERED, found="Fees will rise",
        change=Change.CHANGED, before=Before(Severity.MEDIUM, 4, "Fees are fixed"),
    )  # fmt: skip
    moved = replace(a_risk(page=9), quote_check=QuoteCheck.PAGE_CORRECTED, named_page=6, own_check=True)
    book = opened(a_result(a_document(risks=(altered, moved))))

    first, second = row(book, "Risks", 3), row(book, "Risks", 4)

    assert [first[label] for label in ("Change", "Quote check", "In the document", "In the last run", "Seen by")] == [
        "changed", "differs from the page", "Fees will rise", "medium, page 4\nFees are fixed", "claude-sonnet-5-5",
    ]  # fmt: skip
    assert [second[label] for label in ("Page", "Quote check", "Seen by")] == [
        9, "word for word; the model named page 6", "docpipe's own check",
    ]  # fmt: skip


def test_the_documents_sheet_tells_their_state() -> None:
    """Status, what changed, coverage, reason and counts by severity; a document not read whole stands out."""
    failed = a_document("b.pdf", reason="no answer", status=DocumentStatus.FAILED)
    document = replace(a_document("a.pdf", risks=(a_risk(),)), change=Change.NEW, recovered=True, note="repaired")
    book = opened(a_result(document, failed))

    labels = ("Document", "Status", "Change", "Pages", "Pages read", "High", "Low", "Note")
    assert [row(book, "Documents")[label] for label in labels] == [
        "a.pdf", "done", "new, recovered", 20, 20, 1, 0, "Repaired.",
    ]  # fmt: skip
    assert row(book, "Documents", 4)["Reason"] == "no answer"
    assert book["Documents"]["B4"].font.b
    assert not book["Documents"]["B3"].font.b


def test_what_is_gone_has_a_sheet_of_its_own() -> None:
    """Documents that were removed and risks that are no longer reported; without any, there is no such sheet."""
    document = replace(a_document("a.pdf"), gone_risks=(a_risk("Old"), a_risk("Older", Severity.CRITICAL)))
    result = replace(a_result(document), compared=Comparison("r0", "2026-03-01T02:00:00Z", ("was.pdf",)))

    rows = [line[:4] for line in opened(result)["Gone"].iter_rows(min_row=3, values_only=True)]

    assert rows[0][:2] == ("was.pdf", "document removed")
    assert rows[1:] == [("a.pdf", "risk gone", "critical", "Older"), ("a.pdf", "risk gone", "high", "Old")]
    assert opened(a_result(a_document())).sheetnames == ["Risks", "Documents"]


def test_each_sheet_prints_on_landscape_a4_under_its_header() -> None:
    """One page wide, with the columns that matter."""
    result = replace(a_result(a_document(risks=(a_risk(),))), compared=Comparison("r0", "", ("was.pdf",)))

    for sheet in opened(result):
        assert (sheet.page_setup.orientation, sheet.page_setup.paperSize) == ("landscape", 9)
        assert (sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight) in ((None, 0), (1, 0))
        assert sheet.print_title_rows == "$2:$2"
        last = {"Risks": "J", "Documents": "M", "Gone": "G"}[sheet.title]
        assert str(sheet.print_area).endswith(f"$A$1:${last}$3")


def test_a_sheet_keeps_to_the_limits_of_excel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and links beyond them are left out, the worst risks kept, and the sheet says what it has not."""
    monkeypatch.setattr(xlsx, "MAX_ROWS", 4)
    monkeypatch.setattr(xlsx, "MAX_LINKS", 3)
    risks = tuple(a_risk(severity=severity) for severity in Severity)

    sheet = opened(replace(a_result(a_document(risks=risks)), originals="../docs"))["Risks"]

    assert [cell.value for cell in sheet["A"][2:]] == ["critical", "high"]
    assert "Only 2 of 4 rows fit a sheet: report.json has all." in str(sheet["A1"].value)
    assert sum(bool(cell.hyperlink) for line in sheet.iter_rows() for cell in line) == 3
    assert sheet["E4"].value == 6


def test_a_link_that_is_too_long_for_excel_is_left_out() -> None:
    """The name stays; Excel calls a workbook with an address of more than 2,079 characters damaged."""
    path = "/".join(["契" * 80] * 3) + ".pdf"  # 720 bytes, each of them three characters in an address

    sheet = opened(replace(a_result(a_document(path, risks=(a_risk(),))), originals="../docs"))["Risks"]

    assert sheet["D3"].value == path
    assert sheet["D3"].hyperlink is None
