"""SUMMARY.md and what the Markdown pages say of quotes and changes."""

from __future__ import annotations

from dataclasses import replace

from markdown_it import MarkdownIt

from pipeline.domain import (
    Before,
    Change,
    ChunkState,
    Comparison,
    PageRange,
    QuoteCheck,
    RunResult,
    RunStatus,
    Severity,
)
from pipeline.reports import digest, html, markdown
from tests.report_values import RUN, a_document, a_result, a_risk, an_unopened_document
from tests.test_html_pages import Outline

COMPARED = Comparison("r0", "2026-03-01T02:00:00Z")


def compared(result: RunResult, *removed: str) -> RunResult:
    return replace(result, compared=replace(COMPARED, removed=removed))


def test_the_digest_of_a_night_reads_as_a_mail() -> None:
    """What happened, what is new worst first with its place and quote, what was not read, what to do, what it cost."""
    new = replace(a_risk("Fees may rise"), change=Change.NEW, quote_check=QuoteCheck.VERIFIED)
    changed = replace(a_risk("No cap", Severity.CRITICAL, 9), change=Change.CHANGED, quote="", own_check=True)
    old = a_risk("Known", Severity.CRITICAL)
    first = replace(a_document("new_file.pdf", risks=(new, changed, old)), change=Change.NEW)
    back = replace(a_document("back.pdf"), recovered=True, gone_risks=(a_risk("Went away"),))
    partial = a_document("part.pdf", missing=(PageRange(3, 3),))
    run = replace(RUN, status=RunStatus.INCOMPLETE)

    text = digest.render(compared(a_result(first, back, partial, an_unopened_document(), run=run), "was.pdf"))

    assert (
        text
        == """\
# Contract risk review: incomplete

This report is incomplete: 2 of 4 documents not fully read (1 page not read; 1 file could not be opened).

- Documents: 4: 2 done, 1 partial, 1 failed
- Pages: 59 of 60 read; 1 file could not be opened
- Risks: 3: 2 critical, 1 high, 0 medium, 0 low
- Quotes: 100.0% stand in the document word for word
- Cost: $0.1200 for 5 requests

## New

What changed since the run of 2026-03-01 02:00 UTC: 1 new risk, 1 changed risk, 1 risk gone, 1 new document, \
1 document recovered, 1 document removed.

- **Critical**, changed: No cap··
  new_file.pdf, page 9; seen by docpipe's own check
- **High**, new: Fees may rise··
  new_file.pdf, page 6··
  "Fees may rise" (word for word on this page)

Gone:

- High: Went away (back.pdf)

New documents:

- new_file.pdf

Read in full now, and not before:

- back.pdf

Removed documents:

- was.pdf

## Not fully read

- Failed: broken.pdf: not a PDF
- Partial: part.pdf: no answer for page 3

Files that cannot be opened or are damaged: mend or replace them; the next run reads them.

To try the others again: `docpipe retry contracts --endpoint yourouter`

Read by claude-sonnet-5-5; docpipe 1.0.0; finished 2026-03-02 02:41 UTC
""".replace("·", " ")
    )


def test_the_digest_names_twenty_risks_and_counts_the_rest() -> None:
    """However much is new, it stays a mail."""
    risks = tuple(replace(a_risk(f"Risk {n}"), quote="q " * 900, change=Change.NEW) for n in range(25))
    paths = [f"{n}.pdf" for n in range(12)]

    text = digest.render(compared(a_result(a_document(risks=risks)), *paths))

    assert text.count("**High**, new") == 20
    assert "- and 5 more\n" in text
    assert "- 9.pdf\n- and 2 more\n" in text
    assert len(text) < 10_000


def test_a_digest_says_when_nothing_is_new() -> None:
    """Risks that are as they were are not listed again."""
    text = digest.render(compared(a_result(a_document(risks=(a_risk("Known"),)))))

    assert "Nothing is new or changed since the run of 2026-03-01 02:00 UTC." in text
    assert "Known" not in text
    assert "Not fully read" not in text


def test_nothing_new_is_said_of_what_was_read_alone() -> None:
    """Of a file that could not be opened nobody knows what changed in it."""
    result = compared(a_result(a_document(), an_unopened_document()))

    assert "Nothing is new or changed in what was read since the run of" in digest.render(result)
    assert "Nothing changed in what was read." in "".join(html.render(result))
    assert "the same risks." in "".join(html.render(compared(a_result(a_document()))))


def test_the_first_digest_shows_the_worst() -> None:
    """Without an earlier run nothing is called new."""
    text = digest.render(a_result(a_document(risks=(a_risk("Small", Severity.LOW), a_risk("Big")))))

    assert "no earlier run to compare with" in text
    assert text.index("**High**: Big") < text.index("**Low**: Small")
    assert "None found." in digest.render(a_result(a_document()))


def test_what_was_never_sent_is_a_runs_work() -> None:
    """The digest names run, not retry, which takes failed chunks alone."""
    chunk = replace(a_document().chunks[0], status=ChunkState.OPEN)
    document = replace(a_document(missing=(PageRange(1, 20),)), chunks=(chunk,))

    assert "`docpipe run contracts --endpoint yourouter`" in digest.render(a_result(document))


def test_a_page_marks_where_the_quote_differs() -> None:
    """Words of the quote alone are struck out, words of the page alone are bold, for the eye and for a parser."""
    risk = replace(
        a_risk(), quote="pay (net) in 30 days.", found="pay *net* in 60 days.", quote_check=QuoteCheck.ALTERED
    )

    page = markdown.render_document(a_document(risks=(risk,)), a_result())

    assert "> pay ~~(net)~~ **\\*net\\*** in ~~30~~ **60** days." in page
    shown = MarkdownIt("commonmark").enable("strikethrough").render(page)
    assert "pay <s>(net)</s> <strong>*net*</strong> in <s>30</s> <strong>60</strong> days." in shown


def test_words_that_resemble_a_quote_on_another_page_say_which_one_the_model_named() -> None:
    """A reader who doubts them looks there."""
    risk = replace(a_risk(page=9), named_page=4, quote_check=QuoteCheck.ALTERED, found="Fees must rise")

    document = a_document(risks=(risk,))
    for page in (markdown.render_document(document, a_result()), html.render_document(document, a_result())):
        assert "differs from the page; the model named page 4" in page


def test_a_page_says_what_is_new_and_what_is_gone() -> None:
    """Of the document and of each risk, with who saw it; without a change it says nothing of changes."""
    risk = replace(a_risk(page=9), change=Change.NEW, own_check=True, quote_check=QuoteCheck.PAGE_CORRECTED)
    document = replace(a_document(risks=(replace(risk, named_page=4),)), gone_risks=(a_risk("Old"),), recovered=True)

    page = markdown.render_document(document, a_result())

    assert "**Done**: 20 of 20 pages read. Since the last run: recovered." in page
    check = "quote: word for word; the model named page 4"
    assert f"page 9; {check}; new since the last run; seen by docpipe's own check" in page
    assert "## Gone since the last run\n\n- High: Old (page 6)" in page
    assert "last run" not in markdown.render_document(a_document(risks=(a_risk(),)), a_result())


def test_a_changed_risk_tells_what_it_was() -> None:
    """The mail, the page as text and the page for people have its severity, page and words in the last run."""
    then = Before(Severity.MEDIUM, 4, "Renews for one year.")
    risk = replace(a_risk(), quote="Renews for three years.", change=Change.CHANGED, before=then)
    document = a_document(risks=(risk,))

    text = digest.render(compared(a_result(document)))
    assert '  In the last run: medium, page 4: "Renews for one year."\n' in text
    page = markdown.render_document(document, a_result())
    assert "In the last run: medium, page 4. The quote then and now, with" in page
    assert "> Renews for ~~one year.~~ **three years.**" in page
    shown = " ".join(Outline(html.render_document(document, a_result())).text.split())
    assert "In the last run: medium, page 4. The quote then and now" in shown
    assert "Renews for [−one year.−] {+three years.+}" in shown
    assert "In the last run: medium, page 4" in Outline("".join(html.render(compared(a_result(document))))).text
    same_words = replace(document, risks=(replace(risk, quote=then.quote),))
    assert "In the last run: medium, page 4.\n" in markdown.render_document(same_words, a_result())


def test_no_command_is_named_for_a_file_that_must_be_mended_first() -> None:
    """To try a broken file again as it is costs a reader's time; for a job elsewhere the command has its path.

    A file of which a page is lost and another was refused is for both.
    """
    broken = a_result(an_unopened_document())
    text = digest.render(broken)
    assert "cannot be opened or are damaged: mend or replace them" in text
    assert "again:" not in text
    assert "again:" not in "".join(html.render(broken))
    lacking = replace(a_document(missing=(PageRange(3, 3),)), is_damaged=True)
    refused, lost = lacking.chunks[0], replace(lacking.chunks[0], is_unreadable=True)
    both = digest.render(a_result(replace(lacking, chunks=(refused, lost))))
    assert "mend or replace" in both
    assert "To try the others again: `docpipe retry" in both
    assert "again:" not in digest.render(a_result(replace(lacking, chunks=(lost,))))
    partial = replace(a_result(a_document(missing=(PageRange(3, 3),))), argument="my jobs/x.toml")
    assert "To try these again: `docpipe retry 'my jobs/x.toml' --endpoint yourouter`" in digest.render(partial)
    assert "mend" not in digest.render(partial)
