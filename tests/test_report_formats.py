"""What people open: risks.csv, risks.xlsx and the Markdown pages, with hostile text in every field."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from datetime import datetime

import openpyxl
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pipeline.domain import Before, Change, PageRange, QuoteCheck, RunResult, RunStatus, Severity
from pipeline.reports import csv_report, markdown, xlsx
from pipeline.reports.presentation import one_line
from tests.report_values import RUN, a_document, a_result, a_risk, an_unopened_document

INJECTIONS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style></title></textarea><iframe src=//evil.example>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt; &#60;b&#62;",
    "<!-- hidden",
    "[click](https://evil.example)",
    "![pixel](https://evil.example/p.png)",
    "[ref]: https://evil.example",
    "<https://evil.example>",
    "see https://evil.example/?q=1 or www.evil.example, mail a@evil.example",
    "`https://evil.example`",
    "\\`a@evil.example\\`",
    "|www.evil.example|x|",
    "# Heading",
    "Heading\n===",
    "- item",
    "1. item",
    "2) item",
    "+ item",
    "> quote",
    "```\nfence",
    "~~~ fence",
    "---",
    "***",
    "    indented code",
    "| a | b |",
    "**bold** _it_ ~~gone~~ `code` $x$",
    "trailing backslash \\",
    "a\u202eb\x1b[31m\x00\u2028# x\r- y",
    "\ud800\udcff",
]


def hostile(text: str) -> RunResult:
    """A result that says ``text`` wherever a document, a model or a file name can."""
    risks = tuple(a_risk(text, severity) for severity in Severity)
    path = text.replace("\x00", "").replace("\ud800", "")
    document = replace(a_document(path, text, risks, missing=(PageRange(2, 3),), reason=text), note=text)
    run = replace(RUN, status=RunStatus.STOPPED, stopped_because=text, model=text)
    return replace(a_result(document, an_unopened_document(reason=text), run=run, rules=True), title=text)


# risks.csv


def csv_cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_csv_has_one_row_a_risk_worst_first() -> None:
    """Every column under its name, lines ended by CRLF."""
    checked = replace(a_risk("big"), quote_check=QuoteCheck.VERIFIED, named_page=4, found="big words")
    was = Before(Severity.LOW, None, "=small")
    changed = replace(checked, id="r7", own_check=True, change=Change.CHANGED, before=was)
    risks = (a_risk("small", Severity.LOW, None), changed)

    text = csv_report.render(a_result(replace(a_document("a.pdf", risks=risks), note="repaired")))

    assert text.count("\r\n") == text.count("\n") == 3
    assert next(csv.DictReader(io.StringIO(text, newline=""))) == {
        "document": "a.pdf",
        "sha256": "ab" * 32,
        "status": "done",
        "page": "6",
        "severity": "high",
        "category": "big",
        "title": "big",
        "quote": "big",
        "quote_check": "verified",
        "explanation": "big",
        "recommendation": "big",
        "read_by": "claude-sonnet-5-5",
        "named_page": "4",
        "found": "big words",
        "change": "changed",
        "severity_before": "low",
        "page_before": "",
        "quote_before": "'=small",
        "id": "r7",
        "own_check": "true",
        "note": "Repaired.",
    }
    assert [row[3:5] for row in csv_cells(text)[1:]] == [["6", "high"], ["", "low"]]
    assert csv_cells(text)[2][14:18] == [""] * 4


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'=1"),
        ("\t=1", "'=1"),
        ("\r\n=1", "'=1"),
        ("\x00=1", "'\\x00=1"),
        ("\u200b=1", "'\\u200b=1"),
        ("\u00a0=1", "'=1"),
        ("\tplain", "'plain"),
        ("\rplain", "'plain"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠x", "'＠x"),
        ("﹣1", "'﹣1"),
        ("a;=1", "a;'=1"),
        ("a; \n@x", "a; '@x"),
        ("2 + 2 = 4, a@b", "2 + 2 = 4, a@b"),
        ('say "no", or\nnot', 'say "no", or not'),
        ("", ""),
        ("bell\x07", "bell\\x07"),
    ],
)
def test_no_csv_cell_is_a_formula(text: str, cell: str) -> None:
    """A spreadsheet gets text; what is harmless stays as it is."""
    [_, row] = csv_cells(csv_report.render(a_result(a_document("a.pdf", risks=(a_risk(text),)))))

    assert row[5:8] == [cell] * 3


def test_a_path_in_csv_is_guarded_and_keeps_its_blanks() -> None:
    """Two names that differ in blanks stay different."""
    [_, row] = csv_cells(csv_report.render(a_result(a_document("-a  b\n.pdf", risks=(a_risk(),)))))

    assert row[0] == "'-a  b\\n.pdf"


# risks.xlsx


@pytest.mark.parametrize("text", ["=1+1", "+1", "@x", "https://evil.example", "12", "{=1}", "mailto:a@b", *INJECTIONS])
def test_xlsx_cells_are_strings(text: str) -> None:
    """Read back, no cell is a formula, a number made of text, or a link."""
    book = openpyxl.load_workbook(io.BytesIO(xlsx.render(hostile(text))))

    cells = [c for sheet in book for row in sheet.iter_rows(min_row=3) for c in row if c.value is not None]
    assert {type(c.value) for c in cells if c.data_type == "s"} == {str}
    assert {c.data_type for c in cells} == {"s", "n"}
    assert not any(c.hyperlink for c in cells)
    numbers = {c.column_letter for c in book["Risks"][3] if c.data_type == "n" and c.value is not None}
    assert numbers == {"E"}  # the page


def test_xlsx_sheets_can_be_filtered_and_say_what_they_are() -> None:
    """Both sheets: the notices first, a frozen header with a filter, then the rows, worst risk first."""
    documents = [a_document(f"{i}.pdf", risks=(a_risk(severity=s),)) for i, s in enumerate(reversed(Severity))]

    book = openpyxl.load_workbook(io.BytesIO(xlsx.render(a_result(*documents, rules=True))))

    assert book.sheetnames == ["Risks", "Documents"]
    for sheet in book:
        assert "not a language model" in str(sheet["A1"].value)
        assert sheet.freeze_panes == "A3"
        assert str(sheet.auto_filter.ref).startswith("A2:")
    rows = list(book["Risks"].iter_rows(min_row=3, values_only=True))
    assert [row[0] for row in rows] == ["critical", "high", "medium", "low"]
    assert len({book["Risks"].cell(n, 1).fill.start_color.rgb for n in range(3, 7)}) == 4
    assert book["Documents"]["A3"].value == "0.pdf"
    assert book.properties.created == datetime(2000, 1, 1)  # not the clock's, so that equal results give equal bytes


@pytest.mark.parametrize(
    "text", ["a" * 40_000, "契" * 40_000, "𝐀" * 20_000, "\ufffe" * 40_000], ids=lambda t: f"U+{ord(t[0]):04X}"
)
def test_xlsx_text_is_cut_at_the_limit_of_excel(text: str) -> None:
    """Excel counts UTF-16 units; a longer cell makes it call the file damaged."""
    content = xlsx.render(a_result(a_document(risks=(a_risk(text),))))

    value = str(openpyxl.load_workbook(io.BytesIO(content))["Risks"]["F3"].value)

    assert 32_760 < len(value.encode("utf-16-le")) // 2 <= 32_767
    assert value.endswith("…")


# Markdown

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def flat(text: str) -> list[Token]:
    """Every block and inline token of ``text``."""
    return [token for block in PARSER.parse(text) for token in [block, *(block.children or [])]]


def shape(tokens: list[Token]) -> list[tuple[str, str]]:
    """What the page is made of, without the texts and the code spans in them."""
    return [(t.type, t.tag) for t in tokens if t.type not in ("text", "code_inline")]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_in_a_document_comes_alive_in_markdown(text: str) -> None:
    """The page has the constructs of a page of plain words, and leaves nothing to automatic links."""
    plain = hostile("\n".join(["Plain words"] * sum(bool(line.strip()) for line in text.splitlines())))
    result = hostile(text)

    tokens = flat(markdown.render_document(result.documents[0], result))

    assert shape(tokens) == shape(flat(markdown.render_document(plain.documents[0], plain)))
    texts = [t.content for t in tokens if t.type == "text"]
    assert not [t for t in texts if re.search(r"://|www\.|\S@\S", t)]


@pytest.mark.parametrize("text", ["a|b", "|", "x\\|y", "|www.evil.example|", "`a|b`"])
def test_a_pipe_stays_in_its_table_cell(text: str) -> None:
    """No text moves into the next column, where it would read as something else."""
    document = a_document(text=text)

    tokens = PARSER.parse(markdown.render_document(document, a_result(document)))

    cells = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "td_open"]
    assert ["".join(t.content for t in cell.children or []) for cell in cells[:3]] == [text, text, "3"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_markdown_shows_the_text_as_it_was(text: str) -> None:
    """Escaping is undone by rendering: a reader sees the words of the document."""
    [block] = [t for t in PARSER.parse(f"Words: {markdown.escaped(text)}") if t.type == "inline"]

    shown = "".join(t.content for t in block.children or [])

    assert shown == f"Words: {one_line(text)}"


def test_a_markdown_page_orders_risks_and_names_missing_pages() -> None:
    """Worst first, with page, quote and advice; what was not read is named at the top and in the table."""
    risks = (a_risk("Small", Severity.LOW, None), a_risk("Big", Severity.CRITICAL, 9), a_risk("Next", page=3))
    document = a_document("a/b.pdf", risks=risks, missing=(PageRange(3, 4), PageRange(7, 7)), reason="rate limited")

    page = markdown.render_document(document, a_result(document))

    assert page.startswith("# a/b.pdf\n\n**Partial**: 17 of 20 pages read; missing: 3-4, 7. Rate limited.\n")
    assert re.findall(r"^### (.*)", page, re.MULTILINE) == ["Critical: Big", "High: Next", "Low: Small"]
    assert "Category: Big; page 9\n\n> Big\n\nBig\n\n**Recommendation**: Big" in page
    assert "Category: Small; page unknown" in page
    assert "Not checked against the page: 3 quotes" in page
    assert "| 1-20 | failed | 2 | rate limited | req_1 |" in page
    assert "language model" not in page


def test_a_markdown_page_says_when_rules_read_it() -> None:
    """The notice stands right under the title."""
    document = a_document()

    page = markdown.render_document(document, a_result(document, rules=True))

    assert page.split("\n\n")[1] == (
        "**Built-in rules, not a language model, read this document. They know English, German and Chinese.**"
    )
