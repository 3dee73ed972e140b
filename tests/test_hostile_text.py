"""Every payload through Markdown, the digest, the CSV and the terminal; XLSX and HTML have tests of their own."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pipeline import cli, job
from pipeline.domain import RunResult, Usage
from pipeline.planner import Why
from pipeline.reports import csv_report, digest, markdown, summary
from pipeline.standing import PlannedDocument
from tests import payloads
from tests.report_values import saying

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SIGNS = "=+-@＝＋－＠﹢﹣﹦﹫−"


def parsed(page: str) -> list[Token]:
    """Every block and inline token."""
    return [token for block in PARSER.parse(page) for token in [block, *(block.children or [])]]


def shape(tokens: list[Token]) -> list[tuple[str, str]]:
    """What a page is made of, without the texts and the code spans in them."""
    return [(t.type, t.tag) for t in tokens if t.type not in ("text", "code_inline")]


def plain(text: str) -> RunResult:
    """A result of harmless words on as many lines as ``text`` has."""
    return saying("\n".join(["Plain words"] * sum(bool(line.strip()) for line in text.splitlines())))


def pages(result: RunResult) -> tuple[str, str]:
    """The Markdown page of the first document, and the digest."""
    return markdown.render_document(result.documents[0], result), digest.render(result)


@pytest.mark.parametrize("text", payloads.ALL)
def test_nothing_comes_alive_in_markdown(text: str) -> None:
    """Page and digest have the constructs of those of plain words, and leave nothing to automatic links."""
    for page, expected in zip(pages(saying(text)), pages(plain(text)), strict=True):
        tokens = parsed(page)

        assert shape(tokens) == shape(parsed(expected))
        assert not [t.content for t in tokens if t.type == "text" and re.search(r"://|www\.|\S@\S", t.content)]
        assert is_harmless(page)


@pytest.mark.parametrize("text", payloads.ALL)
def test_nothing_comes_alive_in_csv(text: str) -> None:
    """No cell is a formula, cut at commas or by a spreadsheet that takes semicolons, bars or tabs for separators."""
    content = csv_report.render(saying(text))

    assert is_harmless(content.replace("\r\n", "\n"))
    for separator in ",;|\t":
        cells = [cell for row in csv.reader(io.StringIO(content, newline=""), delimiter=separator) for cell in row]
        assert not [cell for cell in cells if cell.strip()[:1] in tuple(SIGNS)]


@pytest.mark.parametrize("text", payloads.ALL)
def test_nothing_steers_the_terminal(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Summary, status and plan show every character that could as an escape."""
    path = tmp_path / "x.toml"
    path.write_text('[source]\nfolder = "docs"')
    loaded = job.load(path)
    result = saying(text)

    cli._show_summary(loaded, "x", None, result)
    cli._show_plan(loaded, [PlannedDocument(result.documents[0].path, Why.NEW, text, 1, 2, Usage(), None)], False)

    assert is_harmless(capsys.readouterr().out)
    assert is_harmless(re.sub(r"\x1b\[[\d;]*m", "", summary.render(result, text, text, color=True)))


def is_harmless(shown: str) -> bool:
    """Whether ``shown`` has no control, format or unassigned character but line feeds, and can be written as UTF-8."""
    categories = {unicodedata.category(character) for character in shown.replace("\n", "")}
    return not categories & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
