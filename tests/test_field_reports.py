"""A job's own fields in every report: the right value under its name, and nothing alive."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from pipeline import reports
from pipeline.domain import FieldValue, PageRange, RunResult
from pipeline.fields import FieldType, ResultField
from pipeline.reports import csv_report, html, index_data, json_report, markdown, xlsx
from tests import payloads
from tests.report_values import a_document, a_result, an_unopened_document, saying
from tests.test_html_pages import Outline

ONE_PAGE = (PageRange(7, 7),)
VALUES = (
    FieldValue("total_amount", "number", -1234.5, ONE_PAGE),
    FieldValue("paid", "boolean", False, (PageRange(1, 20),)),
    FieldValue("due_date", "date", "2026-04-11", ONE_PAGE),
    FieldValue("sender", "text", "=Hollins | Bray", ONE_PAGE),
    FieldValue("items", "list", ("Roof", "Slates"), (PageRange(1, 20), PageRange(21, 40))),
)
EMPTY = tuple(replace(field, value=() if field.type == "list" else None, pages=()) for field in VALUES)


def invoices() -> RunResult:
    """A document with a value for each type of field, and one that could not be opened."""
    asked = tuple(ResultField(field.name, field.type, f"What {field.name} is") for field in VALUES)
    documents = (
        replace(an_unopened_document("broken.pdf"), fields=EMPTY),
        replace(a_document("good.pdf"), fields=VALUES),
    )
    return replace(a_result(*documents), fields=asked)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_report_json_has_an_object_of_fields_for_each_document() -> None:
    """Under their names and in their types; null and empty lists where nothing is known."""
    broken, good = json.loads(b"".join(json_report.render(invoices())))["documents"]

    assert good["fields"]["total_amount"] == {"type": "number", "value": -1234.5, "pages": [[7, 7]]}
    assert good["fields"]["items"] == {"type": "list", "value": ["Roof", "Slates"], "pages": [[1, 20], [21, 40]]}
    assert [field["value"] for field in broken["fields"].values()] == [None, None, None, None, []]


def test_documents_csv_has_a_row_for_each_document_and_a_column_for_each_field() -> None:
    """Failed documents too; numbers as programs read them, and text that no spreadsheet takes for a formula."""
    broken, good = rows_of(csv_report.render_documents(invoices()))

    assert list(good) == [*csv_report.DOCUMENT_COLUMNS, *(field.name for field in VALUES)]
    assert {name: good[name] for name in (field.name for field in VALUES)} == {
        "total_amount": "-1234.5",
        "paid": "false",
        "due_date": "2026-04-11",
        "sender": "'=Hollins | Bray",
        "items": "Roof; Slates",
    }
    assert (broken["document"], broken["status"], broken["pages"], broken["items"]) == ("broken.pdf", "failed", "", "")


def test_documents_csv_of_a_job_without_fields_lists_the_documents() -> None:
    """The columns are the same for every job."""
    (row,) = rows_of(csv_report.render_documents(a_result(a_document("a.pdf"))))

    assert tuple(row) == csv_report.DOCUMENT_COLUMNS
    assert (row["document"], row["pages"], row["pages_covered"], row["missing_pages"]) == ("a.pdf", "20", "20", "")


def test_the_workbook_adds_a_column_for_each_field() -> None:
    """A number is one to the spreadsheet; the rest is text."""
    sheet = openpyxl.load_workbook(io.BytesIO(xlsx.render(invoices())))["Documents"]
    cells = {str(label.value): sheet.cell(4, label.column) for label in sheet[2]}

    assert [str(label.value) for label in sheet[2]][-5:] == [field.name for field in VALUES]
    assert (cells["total_amount"].value, cells["total_amount"].data_type) == (-1234.5, "n")
    assert (cells["sender"].value, cells["sender"].data_type) == ("=Hollins | Bray", "s")
    assert [cells[name].value for name in ("paid", "due_date", "items")] == ["no", "2026-04-11", "Roof\nSlates"]


def test_the_markdown_page_has_a_table_of_fields() -> None:
    """With the pages; a bar stays in its cell. A job without fields has no such table."""
    result = invoices()

    page = markdown.render_document(result.documents[1], result)

    assert "| Total amount | \\-1,234.5 | 7 |" in page
    assert "| Sender | \\=Hollins \\| Bray | 7 |" in page
    assert "| Items | Roof; Slates | 1-20, 21-40 |" in page
    assert "## Fields" not in markdown.render_document(a_document(), a_result(a_document()))


def test_the_html_page_has_the_fields_and_where_they_come_from() -> None:
    """A page that is known is a link to it; what is not found says so."""
    result = replace(invoices(), originals="../../docs")
    broken, good = (Outline(html.render_document(document, result)).text for document in result.documents)
    shown = " ".join(good.split())

    assert shown.count("page 7") == 3
    assert "Due date2026-04-11" in shown
    assert "ItemsRoofSlates pages 1-20, 21-40" in shown
    assert broken.count("not found") == len(VALUES)


def test_the_list_of_documents_in_html_has_a_column_for_each_field() -> None:
    """Its heads are in the page, its cells in the data, numbers to sort by among them."""
    result = invoices()
    data = json.loads("".join(index_data.render(result)))

    assert data["fields"] == ["Total amount", "Paid", "Due date", "Sender", "Items"]
    assert data["documents"][1][-1] == [
        ["-1,234.5", -1234.5], ["no", False], ["2026-04-11"] * 2, ["=Hollins | Bray"] * 2, ["Roof; Slates"] * 2,
    ]  # fmt: skip
    assert Outline("".join(html.render(result))).tags.count(("th", ("scope", "class", "title"))) == len(VALUES)


@pytest.mark.parametrize("text", payloads.ALL)
def test_hostile_fields_are_plain_text_in_csv_and_markdown(text: str) -> None:
    """No cell of documents.csv is a formula, and the table of fields has the cells of one with plain words."""
    result = saying(text)
    fields: Sequence[tuple[str, FieldType]] = [("said", "text"), ("listed", "list")]

    row = rows_of(csv_report.render_documents(result))[0]
    page = markdown.render_document(result.documents[0], result)
    lines = page[page.index("## Fields") :].splitlines()[2:6]

    assert all(row[name][:1] not in tuple("=+-@\t\r") for name, _ in fields)
    assert [line.replace("\\|", "").count("|") for line in lines] == [4, 4, 4, 4]


def test_a_report_without_csv_keeps_no_documents_csv(tmp_path: Path) -> None:
    """As with every file of a format that is taken out of the job file."""
    reports.write(invoices(), tmp_path, {"csv"})
    assert (tmp_path / "documents.csv").read_bytes().startswith(b"\xef\xbb\xbfdocument,")

    reports.write(invoices(), tmp_path, set())

    assert not (tmp_path / "documents.csv").exists()
