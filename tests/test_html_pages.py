"""index.html and the documents' pages as they are written: their texts, links and policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline import reports
from pipeline.domain import (
    Comparison,
    DocumentResult,
    KeyDate,
    PagePicture,
    PageRange,
    QuoteCheck,
    RunResult,
    RunStatus,
)
from pipeline.reports import html, markdown, pages
from pipeline.reports.names import document_name
from pipeline.reports.presentation import one_line
from tests import payloads
from tests.report_values import LINE, RUN, a_document, a_night, a_result, a_risk, an_unopened_document, saying

PICTURE = PagePicture(b"RIFF", 800, 1000)


OWN_LINK = re.compile(
    r"#[\w=-]+|documents/([\w%-]*\.html(#risk-\d+)?)?|risks\.csv|\.\./index\.html|(\.\./)+contracts/[\w.~/%-]*(#page=\d+)?"
    r"|data:image/webp;base64,[A-Za-z0-9+/=]+"
)


class Outline(HTMLParser):
    """The tags, attributes, links and text of a page; scripts and styles apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.inlined: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inlined.append((self.cdata_elem, data))
        else:
            self.text += data


def hostile_night(text: str) -> RunResult:
    """``saying`` with a place on the page for every risk."""
    result = saying(text)
    document, *others = result.documents
    risks = tuple(replace(r, boxes=(LINE,)) for r in document.risks)
    return replace(result, documents=(replace(document, risks=risks), *others))


def both_pages(text: str) -> list[Outline]:
    result = hostile_night(text)
    page = html.render_document(result.documents[0], result, {6: PICTURE})
    return [Outline("".join(html.render(result, {"csv"}))), Outline(page)]


@pytest.mark.parametrize("text", payloads.ALL)
def test_nothing_in_a_document_comes_alive_in_html(text: str) -> None:
    """The pages have the very tags and attributes of their templates, and link only where the templates do."""
    plain = "\n".join(["Plain words"] * sum(bool(line.strip()) for line in text.splitlines()))

    for page, expected in zip(both_pages(text), both_pages(plain), strict=True):
        by_slash = [t for t in page.tags if t[0] not in ("wbr", "span", "ins", "del")]
        assert by_slash == [t for t in expected.tags if t[0] not in ("wbr", "span", "ins", "del")]
        assert not {"iframe", "link", "object", "base"} & {t for t, _ in page.tags}
        assert not [name for _, names in page.tags for name in names if name.startswith("on") or name == "style"]
        assert all(OWN_LINK.fullmatch(link) for link in page.links), page.links
        assert one_line(text) in page.text


@pytest.mark.parametrize("text", payloads.ALL)
def test_the_rows_of_the_register_are_data_whatever_they_hold(text: str) -> None:
    """They stand in one element that no text can end, and a program reads back what was said."""
    page = Outline("".join(html.render(hostile_night(text))))

    [data] = [content for tag, content in page.inlined if tag == "script" and content.startswith("{")]
    assert not re.search("[<>&\u2028\u2029]", data)
    assert json.loads(data)["risks"][0][4] == one_line(text)


def test_the_policy_lets_the_page_s_own_style_and_script_be_and_nothing_else() -> None:
    """Both are named by their hashes; no address stands in the pages."""
    result = a_night()
    for page in ("".join(html.render(result)), html.render_document(result.documents[0], result)):
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
        assert policy
        rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
        style, script = Outline(page).inlined[0][1], Outline(page).inlined[-1][1]
        hashed = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (style, script)]
        is_index = "<script" in page

        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["style-src"] == f"'sha256-{hashed[0]}'"
        assert rules["script-src"] == (f"'sha256-{hashed[1]}'" if is_index else "'none'")
        assert rules["img-src"] == "data:"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|unsafe", page)
        assert '<meta name="referrer" content="no-referrer">' in page


def test_html_tells_what_is_missing_and_who_read() -> None:
    """Notices first, then what needs attention: failed before partial, with missing pages, reasons and the command."""
    partial = a_document("a.pdf", risks=(a_risk(),), missing=(PageRange(3, 4),), reason="rate limited")
    run = replace(RUN, status=RunStatus.STOPPED, stopped_because="the budget is reached")

    text = Outline("".join(html.render(a_result(partial, an_unopened_document(), run=run, rules=True)))).text

    places = [
        "Built-in rules, not a language model, read these documents.",
        "The run stopped before its work was done: the budget is reached",
        "This report is incomplete: 2 of 2 documents not fully read (2 pages not read; 1 file could not be opened).",
        "nothing to compare this one with",
        "docpipe retry contracts --endpoint yourouter",
        "Not a PDF.",
        "18 of 20 pages read; missing: 3-4.",
        "Rate limited.",
        "Not checked against the page: 1 quote.",
    ]
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)


def test_html_of_a_complete_run_has_no_notice() -> None:
    """Nothing needs attention, and nothing pretends to."""
    page = "".join(html.render(a_result(a_document(risks=(replace(a_risk(), quote_check=QuoteCheck.VERIFIED),)))))

    assert 'class="notice' not in page
    assert 'id="attention"' not in page
    assert "Not checked against" not in page
    assert "✓ word for word" in page


def test_html_tells_what_is_new_since_the_run_before() -> None:
    """New, changed and gone risks, documents that came, went or were read at last."""
    text = " ".join(Outline("".join(html.render(a_night()))).text.split())

    for words in (
        "Since the run of 2026-03-01 02:41 UTC",
        "1 new risk Critical",
        "1 changed risk High",
        "1 risk no longer reported",
        "Renews itself",
        "1 changed document",
        "1 document read whole now and not then",
        "no longer in the folder away.pdf",
    ):
        assert words.lower() in text.lower(), words
    same = replace(a_result(a_document()), compared=Comparison("r0", "2026-03-01T02:41:00Z"))
    assert "Nothing changed" in "".join(html.render(same))


def test_html_of_nothing_says_so() -> None:
    """An empty folder gives a page that reads as such."""
    text = Outline("".join(html.render(a_result()))).text

    assert "The scan found no documents." in text
    assert "No risks were found" in text


# a document's page


def test_a_page_shows_its_risks_in_page_order_with_their_places_on_the_picture() -> None:
    """A picture once for each page, a rectangle for each line, in the picture's pixels with a small margin."""
    result = a_night()
    page = html.render_document(result.documents[0], result, {2: PICTURE, 6: PICTURE, 9: PICTURE})

    assert re.findall(r"<h3>Page (\w+)", page) == ["2", "6", "9", "11", "unknown"]
    assert page.count("<img") == 3
    assert page.count('<rect x="76.8" y="196.0" width="646.4" height="28.0"/>') == 4
    assert page.count("This page could not be drawn.") == 1  # page 11
    assert "word for word; the model named page 4" in page
    assert "✗ Quote: not found in the document" in page
    assert "? Quote: the page has no text to check against" in page
    assert "Seen by docpipe itself" in page


def test_a_quote_that_differs_shows_the_words_that_do() -> None:
    """Marked by signs, not by colour alone."""
    result = a_night()
    text = " ".join(Outline(html.render_document(result.documents[0], result)).text.split())

    assert "The Supplier may raise [−all−] {+the+} fees." in text


def test_pages_without_an_answer_are_gaps_in_the_strip_and_named() -> None:
    """And so is what was reported before and is not now."""
    result = a_night()
    page = html.render_document(result.documents[1], result)

    assert re.findall(r'<rect class="missing" x="(\d+)" width="(\d+)"', page) == [("2", "2"), ("8", "1")]
    assert "17 of 20 pages read; missing: 3-4, 9" in page
    assert "overloaded (529)" in page
    assert "Renews itself" in page


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("a b/100% #1?.pdf", "../../../docs/a%20b/100%25%20%231%3F.pdf#page=3"),
        ("\udcff:x.PDF", "../../../docs/%FF%3Ax.PDF#page=3"),
        ("scan.TIFF", "../../../docs/scan.TIFF"),
    ],
)
def test_links_to_the_original_lead_there_from_the_report(path: str, url: str, tmp_path: Path) -> None:
    """Relative, percent-encoded byte by byte, at the page where the kind of file has such a thing."""
    result = a_result(replace(a_document(path), key_dates=(KeyDate("1 May", "start", 3),)))
    originals = reports.Originals(tmp_path / "docs", lambda document, pages: {})

    reports.write(result, tmp_path / "reports" / "x", {"html"}, originals)

    page = tmp_path / "reports" / "x" / "documents" / f"{document_name(path)}.html"
    assert url in Outline(page.read_text()).links


def test_pictures_stop_where_the_page_has_no_room_for_more() -> None:
    """Pages are drawn in order until their pictures fill it; the others are named, and not all are drawn in vain."""
    document = a_document(risks=tuple(a_risk(page=page) for page in range(1, 101)))
    asked: list[int] = []

    def draw(document: DocumentResult, wanted: Sequence[int]) -> Mapping[int, PagePicture]:
        asked.extend(wanted)
        return {page: PagePicture(bytes(pages.MOST_PICTURE_BYTES // 10), 8, 8) for page in wanted if page != 2}

    drawn, left_out = pages.pictures(document, draw)

    assert sorted(drawn) == [1, 3, 4, 5, 6, 7, 8]
    assert left_out == list(range(9, 101))
    assert len(asked) < 20
    text = html.render_document(document, a_result(document), drawn, left_out)
    assert text.count("has room for 6 MB") == 92
    assert text.count("could not be drawn") == 1


# what is written again


class Drawer:
    """Draws page 6 of all documents but those that it is told not to, and counts."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.fails = False

    def __call__(self, document: DocumentResult, wanted: Sequence[int]) -> Mapping[int, PagePicture]:
        self.drawn.append(document.path)
        return {} if self.fails else dict.fromkeys(wanted, PICTURE)


def test_pages_that_did_not_change_are_neither_drawn_nor_written_again(tmp_path: Path) -> None:
    """Of many documents only the changed one."""
    documents = [a_document(f"{i}.pdf", risks=(a_risk(),)) for i in range(20)]
    drawer = Drawer()
    originals = reports.Originals(tmp_path / "docs", drawer)
    reports.write(a_result(*documents), tmp_path / "r", {"html"}, originals)
    before = {p: p.stat().st_ino for p in (tmp_path / "r" / "documents").iterdir()}
    drawer.drawn.clear()
    documents[7] = replace(documents[7], summary="Other words")

    reports.write(a_result(*documents, run=replace(RUN, id="r2")), tmp_path / "r", {"html"}, originals)

    assert drawer.drawn == ["7.pdf"]
    after = {p: p.stat().st_ino for p in (tmp_path / "r" / "documents").iterdir()}
    assert [p.name for p in after if after[p] != before[p]] == [f"{document_name('7.pdf')}.html"]


def test_a_page_that_could_not_be_drawn_is_tried_again_by_the_next_report(tmp_path: Path) -> None:
    """What kept it from being drawn may have passed; once it is drawn, no more."""
    drawer = Drawer()
    drawer.fails = True
    originals = reports.Originals(tmp_path / "docs", drawer)
    result = a_result(a_document(risks=(a_risk(),)))
    page = tmp_path / "r" / "documents" / f"{document_name('vendors/msa.pdf')}.html"

    reports.write(result, tmp_path / "r", {"html"}, originals)
    assert "could not be drawn" in page.read_text()
    drawer.fails = False
    for _ in range(2):
        reports.write(result, tmp_path / "r", {"html"}, originals)

    assert "could not be drawn" not in page.read_text()
    assert len(drawer.drawn) == 2


def test_pages_are_written_again_when_the_documents_lie_elsewhere(tmp_path: Path) -> None:
    """Or their links would lead nowhere."""
    result = a_result(a_document())
    page = tmp_path / "r" / "documents" / f"{document_name('vendors/msa.pdf')}.html"
    for folder in ("old", "new"):
        reports.write(result, tmp_path / "r", {"html"}, reports.Originals(tmp_path / folder, Drawer()))

        assert f'href="../../{folder}/vendors/msa.pdf"' in page.read_text()


def test_of_countless_risks_in_one_place_a_hundred_have_labels_apart() -> None:
    """With the cube of their number, a thousand would take half a minute to place."""
    risks = tuple(replace(a_risk(f"Risk {number}"), boxes=(LINE,)) for number in range(200))
    picture = PagePicture(b"", 800, 1131)

    [section] = pages.sections(a_document(risks=risks), {6: picture}, (), draws=True)

    assert len(section.marks) == 200
    assert len({mark.label for mark in section.marks}) == 100


def test_nobody_is_said_to_have_read_what_could_not_be_opened() -> None:
    """Neither page of such a document names the rules as its reader."""
    result = a_result(rules=True)
    for document, is_read in ((an_unopened_document(), False), (a_document(), True)):
        assert ("Built-in rules" in html.render_document(document, result)) is is_read
        assert ("Built-in rules" in markdown.render_document(document, result)) is is_read
