"""index.html and the documents' pages in a browser: Chromium without a window, driven by Playwright.

Skipped where there is no Chromium: ``apt-get install chromium`` on Debian and Ubuntu.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from pipeline import reports
from pipeline.domain import FieldValue, PagePicture, QuoteCheck, RunResult, Severity
from pipeline.fields import ResultField
from pipeline.reports.names import document_name
from pipeline.reports.presentation import one_line
from tests.report_values import LINE, NEXT_LINE, a_document, a_night, a_result, a_risk, an_unopened_document
from tests.test_html_pages import hostile_night

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `apt-get install chromium` lets these tests run")

PAYLOADS = [
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 1</script>",
    "<img src=https://evil.example/i onerror='window.ran = 1'>",
    '"><svg/onload="window.ran = 1">',
    "' autofocus onfocus='window.ran = 1",
    "</style></title></textarea><iframe srcdoc='<script>parent.ran = 1</script>'>",
    "<svg><use href='https://evil.example/s.svg#a'/><animate onbegin='window.ran = 1'/></svg>",
    "javascript:window.ran=1",
    "<a href='javascript:window.ran=1' autofocus>x</a><base href='https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/c><style>@import 'https://evil.example/d'</style>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "\u2028window.ran=1//<!--<script>",
    "{{constructor.constructor('window.ran=1')()}} ${window.ran=1}",
    "__proto__",
]
SIZE = (800, 1000)


@dataclass
class Seen:
    """What a page did that it should not."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests. It ends with this file: Playwright keeps an event loop, and others start their own."""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=CHROMIUM, args=flags) as browser:
            yield browser


def watched(context: BrowserContext) -> Seen:
    """Let nothing out of the files, and remember what wanted to."""
    seen = Seen()
    context.set_offline(True)
    context.on("request", lambda request: seen.requests.append(request.url))
    context.on("console", lambda line: seen.errors.append(line.text) if line.type in ("error", "warning") else None)
    context.on("weberror", lambda error: seen.errors.append(str(error.error)))
    return seen


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test if anything left the files or went wrong."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce") as context:
        seen = watched(context)
        yield context.new_page()
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    assert seen.errors == []


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report with news."""
    return written(a_night(), tmp_path_factory.mktemp("night"))


def written(result: RunResult, folder: Path) -> Path:
    Image.new("RGB", SIZE, "white").save(out := io.BytesIO(), "WEBP")
    picture = PagePicture(out.getvalue(), *SIZE)
    originals = reports.Originals(folder, lambda document, pages: dict.fromkeys(pages, picture))
    reports.write(result, folder, {"html"}, originals)
    return folder


def opened(page: Page, folder: Path, fragment: str = "") -> None:
    page.goto(f"{(folder / 'index.html').as_uri()}{fragment}")


def opened_document(page: Page, folder: Path, path: str) -> None:
    page.goto((folder / "documents" / f"{document_name(path)}.html").as_uri())


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"#register tbody td:nth-child({number})").all_inner_texts()


def test_the_register_is_filtered_and_the_view_can_be_passed_on(page: Page, night: Path) -> None:
    """What is chosen stands in the address; opened anew, it shows the same rows."""
    opened(page, night)
    status = page.locator("#register [role=status]")
    assert status.inner_text() == "6 risks"

    page.get_by_label("Critical").check()
    assert status.inner_text() == "1 risk (of 6)"
    assert page.url.endswith("#severity=critical")
    page.get_by_label("Critical").uncheck()
    page.locator("select[name=check]").select_option("not_found")
    page.locator("input[name=q]").fill("SUPPLIER msa")
    assert status.inner_text() == "1 risk (of 6)"
    page.goto("about:blank")
    page.goto(f"{(night / 'index.html').as_uri()}#q=SUPPLIER+msa&check=not_found")
    assert status.inner_text() == "1 risk (of 6)"
    page.locator("input[name=q]").fill("nowhere")
    assert status.inner_text() == "No risk fits"
    page.locator("#register [type=reset]").click()
    assert status.inner_text() == "6 risks"
    assert "#" not in page.url


def test_the_news_lead_to_their_rows(page: Page, night: Path) -> None:
    """A link of the news chooses them in the register."""
    opened(page, night)

    page.get_by_text("Show them in the register").first.click()

    assert page.locator("#register [role=status]").inner_text() == "1 risk (of 6)"
    assert "Liability without a limit" in page.locator("#register tbody").inner_text()


def test_the_register_is_sorted_by_its_headers(page: Page, night: Path) -> None:
    """Worst first at the beginning; each header says how it sorts, to a screen reader too."""
    opened(page, night)
    header = page.locator("#register th", has_text="Page")
    severities = [words.split()[0].lower() for words in column(page, 1)]
    assert severities == ["critical", "high", "high", "high", "high", "low"]
    assert page.locator("#register th", has_text="Severity").get_attribute("aria-sort") == "descending"

    header.locator("button").click()
    assert column(page, 5) == ["2", "6", "6", "9", "11", "unknown"]
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").click()
    assert column(page, 5) == ["unknown", "11", "9", "6", "6", "2"]
    assert header.get_attribute("aria-sort") == "descending"


def test_all_of_it_can_be_done_from_the_keyboard(page: Page, night: Path) -> None:
    """Tab reaches a way past the head first, then every control; focus shows."""
    opened(page, night)

    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the risks"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("name") == "q"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#register [role=status]").inner_text() == "1 risk (of 6)"
    page.locator("#register th button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#register th", has_text="Risk").get_attribute("aria-sort") == "ascending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_risk_leads_from_the_register_to_its_place_on_the_page(page: Page, night: Path) -> None:
    """The document's page opens at the risk, and the highlight lies where the quote stands."""
    opened(page, night)
    page.get_by_role("link", name="Liability without a limit").last.click()
    page.wait_for_url("**/documents/*.html#risk-1")

    assert "Liability without a limit" in page.locator(":target").inner_text()
    picture = page.locator("img").first.bounding_box()
    marks = [box for box in (m.bounding_box() for m in page.locator(".mark rect").all()[:2]) if box]
    assert picture
    assert picture["width"] / picture["height"] == pytest.approx(SIZE[0] / SIZE[1], abs=0.01)
    for mark, box in zip(marks, (LINE, NEXT_LINE), strict=True):
        shares = (
            (mark["x"] - picture["x"]) / picture["width"],
            (mark["y"] - picture["y"]) / picture["height"],
            (mark["x"] + mark["width"] - picture["x"]) / picture["width"],
            (mark["y"] + mark["height"] - picture["y"]) / picture["height"],
        )
        assert shares == pytest.approx((box.left, box.top, box.right, box.bottom), abs=0.008)
    for number in (2, 3):  # both quote the same words
        page.locator(".mark text").nth(number - 1).click()
        assert page.url.endswith(f"#risk-{number}")


def test_hostile_words_run_nothing_and_fetch_nothing(page: Page, tmp_path: Path) -> None:
    """In every text, of a document, a model or a file name, on both pages; the words are shown as they are."""
    nights = {payload: hostile_night(payload) for payload in PAYLOADS}
    documents = tuple(night.documents[0] for night in nights.values())
    folder = written(replace(nights[PAYLOADS[0]], documents=documents), tmp_path)

    opened(page, folder)
    page.get_by_label("Critical").check()
    page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    shown = page.locator("#register .title").all_inner_texts()
    assert sorted(shown) == sorted(map(one_line, PAYLOADS))
    assert page.evaluate("window.ran") is None
    for payload, document in zip(PAYLOADS, documents, strict=True):
        opened_document(page, folder, document.path)
        assert page.locator(".risk h4").first.inner_text() == one_line(payload)
        assert page.evaluate("window.ran") is None


def callers(server: socket.socket) -> Iterator[socket.socket]:
    """The connections that were opened: Chromium opens one for a frame before it asks the policy, and says nothing."""
    with suppress(BlockingIOError):
        while True:
            with server.accept()[0] as connection:
                yield connection


def test_the_policy_holds_where_escaping_failed(browser: Browser, tmp_path: Path) -> None:
    """Markup that got into the file all the same neither runs nor fetches, nor does what a script would make of it."""
    index = written(a_night(), tmp_path) / "index.html"
    with socket.create_server(("127.0.0.1", 0)) as server, browser.new_context() as context:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        bad = f"<script>window.ran = 1</script><img src={address} onerror='window.ran = 1'>"
        bad += f"<svg onload='window.ran = 1'></svg><iframe src={address}></iframe><script src={address}></script>"
        index.write_text(index.read_text("utf-8").replace("</main>", f"{bad}</main>"), "utf-8")
        page = context.new_page()
        page.goto(index.as_uri())

        assert page.evaluate("window.ran") is None
        assert page.locator("#register tbody tr").count() == 6  # its own script does run
        tried = "() => { try { document.body.innerHTML = '<p>'; } catch (error) { return error.name; } }"
        assert page.evaluate(tried) == "TypeError"
        context.close()
        assert not any(connection.recv(1) for connection in callers(server))


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_scrolls_sideways(width: int, page: Page, tmp_path: Path) -> None:
    """On a phone too, and with words that have no end."""
    endless = "W" * 300
    result = a_night()
    many = tuple(ResultField(f"field{number}", "text", "x") for number in range(12))
    values = tuple(FieldValue(field.name, field.type, endless) for field in many)
    documents = (*result.documents, hostile_night(endless).documents[0])
    documents = tuple(replace(document, fields=values) for document in documents)
    folder = written(replace(result, documents=documents, fields=many), tmp_path)
    page.set_viewport_size({"width": width, "height": 800})

    opened(page, folder)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for path in (endless, "leases/old.pdf"):
        opened_document(page, folder, path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_of_many_risks_a_page_at_a_time_is_shown_and_a_print_says_how_many_it_leaves_out(
    page: Page, tmp_path: Path
) -> None:
    """A print has a thousand rows with their reasons open; after it the page is as before."""
    risks = tuple(replace(a_risk(page=number), quote_check=QuoteCheck.VERIFIED) for number in range(1, 1101))
    opened(page, written(a_result(a_document(risks=risks[:3]), a_document("b.pdf", risks=risks)), tmp_path), "#page=2")
    status, rows = page.locator("#register [role=status]"), page.locator("#register tbody tr")
    assert status.inner_text() == "51 to 100 of 1,103 risks"

    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert rows.count() == 1000
    assert status.inner_text() == "1 to 1,000 of 1,103 risks. 103 are not printed: choose fewer"
    assert page.locator("#register details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert status.inner_text() == "51 to 100 of 1,103 risks"
    page.get_by_label("Pages of the register").get_by_text("Previous").click()
    assert status.inner_text() == "1 to 50 of 1,103 risks"


def test_a_print_has_the_rows_and_not_the_controls(page: Page, night: Path) -> None:
    """On paper there is nothing to press."""
    opened(page, night)

    page.emulate_media(media="print")

    assert not page.locator("#register form").is_visible()
    assert not page.locator("nav").first.is_visible()
    assert page.locator("#register tbody tr").first.is_visible()


def test_without_scripts_the_essentials_are_there(browser: Browser, tmp_path: Path) -> None:
    """Counts, news, failures and the worst risks, as in a mail program's preview."""
    result = a_night()
    folder = written(replace(result, documents=(*result.documents, an_unopened_document("b.pdf", "locked"))), tmp_path)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        opened(page, folder)
        text = page.locator("body").inner_text()

    for words in (
        "Liability without a limit",
        "6 of 6 risks, worst first",
        "Not a PDF.",
        "Locked.",
        "1 new risk",
        "2026-03",
    ):
        assert words in text
    assert "Show all" not in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_on_their_ground_by_day_and_by_night(browser: Browser, night: Path, scheme: str) -> None:
    """At least 4.5 to 1, which WCAG 2.2 asks of text (1.4.3), for every text of both pages."""
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        page = context.new_page()
        opened(page, night)
        faint = page.evaluate(FAINT_TEXTS)
        opened_document(page, night, "vendors/msa.pdf")
        faint += page.evaluate(FAINT_TEXTS)

    assert faint == []


FAINT_TEXTS = """() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (colour) => parts(colour).slice(0, 3)
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *:not(svg *):not(script):not(option)")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
    .map((e) => [e.textContent.slice(0, 40), getComputedStyle(e).color, ground(e)])
    .filter(([, ink, paper]) => {
      const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05) < 4.5;
    });
}"""


def test_severities_sort_by_weight_and_pages_by_number(page: Page, tmp_path: Path) -> None:
    """Not by their letters."""
    risks = tuple(a_risk("x", severity, number) for number, severity in zip((10, 9, 100, 1), Severity, strict=True))
    opened(page, written(a_result(a_document(risks=risks)), tmp_path), "#sort=severity")
    assert [words.lower() for words in column(page, 1)] == ["low", "medium", "high", "critical"]

    opened(page, tmp_path, "#sort=page")
    page.reload()
    assert column(page, 5) == ["1", "9", "10", "100"]


def test_documents_sort_by_a_field_and_a_number_by_its_size(page: Page, tmp_path: Path) -> None:
    """Not by its letters; what has no value comes before, and the view can be passed on."""
    asked = (ResultField("sender", "text", "x"), ResultField("total", "number", "x"))
    documents = tuple(
        replace(
            a_document(f"{total}.pdf"), fields=(FieldValue("sender", "text", "A"), FieldValue("total", "number", total))
        )
        for total in (1000, 9.5, 200, None)
    )
    opened(page, written(replace(a_result(*documents), fields=asked), tmp_path))
    page.get_by_role("button", name="Total").last.click()
    assert page.locator("#list tbody td:last-child").all_inner_texts() == ["", "9.5", "200", "1,000"]

    page.reload()
    assert page.locator("#list tbody td:last-child").all_inner_texts() == ["", "9.5", "200", "1,000"]
