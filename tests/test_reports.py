"""report.json, the terminal summary, the names of pages, and how all files reach the disk."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import reports
from pipeline.domain import (
    Change,
    ChunkState,
    Comparison,
    DocumentResult,
    DocumentStatus,
    PageRange,
    QuoteCheck,
    RunResult,
    RunStatus,
    Severity,
    Spending,
)
from pipeline.errors import SettingsError
from pipeline.reports import html, json_report, presentation, summary
from pipeline.reports.names import document_name
from pipeline.reports.presentation import news, remark
from tests.report_values import RUN, a_document, a_result, a_risk, an_unopened_document

ODD_PATHS = [
    os.fsdecode(b"folder/\xff\xfe report.pdf"),
    "契" * 83 + ".pdf",  # 253 bytes, as long as a name can be
    "\U0001d400" * 62 + ".pdf",  # letters of four bytes
    "a/../..\\..\\evil\n\x1b[31m.pdf",
    "…",
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def page_of(folder: Path, path: str) -> Path:
    return folder / "documents" / f"{document_name(path)}.md"


# report.json


def test_report_json_has_the_keys_of_schema_1_in_their_order() -> None:
    """Programs find every key of the contract where it is documented."""
    report = json.loads(b"".join(json_report.render(a_result(a_document(risks=(a_risk(),))))))

    assert list(report) == ["schema", "job", "title", "run", "totals", "undrawn", "documents"]
    assert report["schema"] == 1
    assert " ".join(report["run"]) == (
        "id started_at finished_at status exit_code endpoint model version stopped_because reads_with_rules expected"
        " compared originals"
    )
    assert " ".join(report["totals"]) == (
        "documents done partial failed unchanged pages pages_covered chunks requests retries chunks_recovered"
        " input_tokens output_tokens cache_read_tokens cache_write_tokens cost_usd retry_cost_usd known_cost_usd"
        " unpriced_requests risks quotes quotes_verified_share changes"
    )
    assert list(report["totals"]["risks"]) == ["critical", "high", "medium", "low"]
    assert list(report["totals"]["quotes"]) == [
        "verified",
        "page_corrected",
        "altered",
        "not_found",
        "not_checkable",
    ]
    [document] = report["documents"]
    assert " ".join(document) == (
        "path sha256 size_bytes pages status reason note missing_pages summary summary_note document_type parties"
        " key_dates fields risks gone_risks chunks unchanged unfinished_runs change recovered"
    )
    assert " ".join(document["risks"][0]) == (
        "title category severity page quote quote_check named_page found boxes own_check id change before"
        " explanation recommendation"
    )
    assert " ".join(document["chunks"][0]) == "id first_page last_page status attempts reason request_id"
    assert list(document["key_dates"][0]) == ["date", "meaning", "page"]


def test_totals_add_up_documents_pages_chunks_and_quotes() -> None:
    """Twins share a chunk id and are counted once in chunks, each in pages; unknown pages count 0."""
    checked = replace(a_risk(severity=Severity.LOW), quote_check=QuoteCheck.ALTERED)
    first = a_document("a.pdf", risks=(a_risk(), checked), missing=(PageRange(3, 4), PageRange(9, 9)))
    twin = replace(first, path="b.pdf", unchanged=True)

    totals = json_report.totals(a_result(first, twin, an_unopened_document()))

    assert [totals[k] for k in ("documents", "done", "partial", "failed", "unchanged")] == [3, 0, 2, 1, 1]
    assert (totals["pages"], totals["pages_covered"], totals["chunks"]) == (40, 34, 1)
    assert totals["risks"] == {"critical": 0, "high": 2, "medium": 0, "low": 2}
    assert totals["quotes"] == {
        "verified": 0,
        "page_corrected": 0,
        "altered": 2,
        "not_found": 0,
        "not_checkable": 0,
    }
    assert (totals["requests"], totals["cost_usd"], totals["cache_read_tokens"]) == (5, 0.12, 30)


def test_unknown_cost_is_null_in_report_json() -> None:
    """A missing price never turns into zero."""
    result = replace(a_result(), spending=Spending(cost_usd=None, retry_cost_usd=None))

    assert json.loads(b"".join(json_report.render(result)))["totals"]["cost_usd"] is None


@pytest.mark.parametrize("path", ODD_PATHS)
def test_any_file_name_survives_report_json(path: str) -> None:
    """Reading report.json gives back the very bytes of the name on disk."""
    content = b"".join(json_report.render(a_result(a_document(path))))

    assert content.isascii()
    assert content.endswith(b"}\n")
    assert os.fsencode(json.loads(content)["documents"][0]["path"]) == os.fsencode(path)


# names of pages


@given(st.binary(min_size=1, max_size=255).map(os.fsdecode))
def test_page_names_fit_every_file_system(path: str) -> None:
    """Whatever the path: letters, digits and dashes, short enough with suffix, and not hidden."""
    name = document_name(path)

    assert len(os.fsencode(f"{name}.html")) <= 255
    assert all(c == "-" or unicodedata.category(c)[0] in "LN" for c in name)
    assert not name.startswith("-")


def test_paths_that_read_the_same_get_pages_of_their_own() -> None:
    """Folder, capitals, composed letters and undecodable bytes all tell names apart, on any file system."""
    paths = ["a/x.pdf", "b/x.pdf", "a/X.pdf", "a/x.PDF", "é.pdf", "e\u0301.pdf", "\udcff.pdf", "\udcfe.pdf"]

    names = {document_name(p).casefold() for p in paths}

    assert len(names) == len(paths)


def test_a_page_name_reads_like_the_file_name() -> None:
    """Also where the file system takes letters and their accents apart."""
    path = "leases/Mietvertrag Süd (2024).pdf"

    for same in (unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        assert document_name(same).startswith("Mietvertrag-Süd-2024-")


# how the files reach the disk


def test_write_makes_the_formats_asked_for_and_names_the_file_to_open(tmp_path: Path) -> None:
    """report.json is always there; index.html is what to open when it is written."""
    result = a_result(a_document())

    assert reports.write(result, tmp_path / "deep" / "all", reports.FORMATS) == tmp_path / "deep/all/index.html"
    assert reports.write(result, tmp_path / "none", ()) == tmp_path / "none/report.json"

    pages = {f"documents/{document_name('vendors/msa.pdf')}{suffix}" for suffix in (".md", ".html")}
    whole = {"report.json", "index.html", "SUMMARY.md", "risks.csv", "documents.csv", "risks.xlsx", *pages}
    assert set(contents(tmp_path / "deep" / "all")) == whole
    assert set(contents(tmp_path / "none")) == {"report.json"}
    assert (tmp_path / "deep/all/risks.csv").read_bytes().startswith(b"\xef\xbb\xbfdocument,")


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_file_names_are_written_in_every_format(path: str, tmp_path: Path) -> None:
    """No name breaks a format, and index.html links the page by its name on disk."""
    reports.write(a_result(a_document(path, risks=(a_risk(),))), tmp_path, reports.FORMATS)

    assert page_of(tmp_path, path).is_file()
    assert b'href="documents/' in (tmp_path / "index.html").read_bytes()


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    """Reports can be compared and archived by their content."""
    result = a_result(a_document(risks=(a_risk(),)))

    for name in ("one", "two"):
        reports.write(result, tmp_path / name, reports.FORMATS)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_renderer_that_fails_leaves_the_old_report_whole(tmp_path: Path) -> None:
    """Nothing is replaced before everything is rendered, and nothing temporary stays."""
    reports.write(a_result(a_document()), tmp_path, reports.FORMATS)
    before = contents(tmp_path)
    broken = replace(a_result(a_document(text="new")), spending=Spending(cost_usd=float("nan")))

    with pytest.raises(ValueError, match="JSON compliant"):
        reports.write(broken, tmp_path, reports.FORMATS)

    assert contents(tmp_path) == before


def test_a_killed_write_leaves_the_old_report_whole_and_the_next_one_clears_up(tmp_path: Path) -> None:
    """SIGKILL after the other files are rendered: the old files stand; then no stray file is left."""
    reports.write(a_result(a_document()), tmp_path, reports.FORMATS)
    before = contents(tmp_path)
    script = """
import os, pathlib, signal, sys
from tests.report_values import a_document, a_result
from pipeline import reports
reports.json_report.render = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
reports.write(a_result(a_document(text="new")), pathlib.Path(sys.argv[1]), reports.FORMATS)
"""
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(reports.__file__).parents[2])])
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], env={**os.environ, "PYTHONPATH": path})

    assert killed.returncode == -signal.SIGKILL
    left = contents(tmp_path)
    assert before.items() < left.items()
    assert all(Path(name).name.startswith(".") for name in left.keys() - before.keys())

    reports.write(a_result(a_document(text="new")), tmp_path, reports.FORMATS)
    assert contents(tmp_path).keys() == before.keys()


def test_pages_of_vanished_documents_go_and_foreign_files_stay(tmp_path: Path) -> None:
    """Only what the last report.json lists is removed."""
    reports.write(a_result(a_document("a.pdf"), a_document("b.pdf")), tmp_path, {"markdown"})
    foreign = tmp_path / "documents" / "notes.md"
    foreign.write_text("mine")

    reports.write(a_result(a_document("b.pdf")), tmp_path, {"markdown"})

    assert set((tmp_path / "documents").iterdir()) == {page_of(tmp_path, "b.pdf"), foreign}


def test_no_page_is_left_behind_when_pages_are_no_longer_written(tmp_path: Path) -> None:
    """A page that nothing keeps up to date would be taken for current."""
    reports.write(a_result(a_document()), tmp_path, {"markdown"})

    reports.write(a_result(a_document()), tmp_path, ())

    assert not list((tmp_path / "documents").iterdir())


def test_large_reports_are_made_and_read_in_small_blocks() -> None:
    """No block of report.json or index.html grows with the documents, and what is read back is what was written."""
    few, many = (a_result(*(a_document(f"{i}.pdf") for i in range(number))) for number in (2, 500))

    for render in (json_report.render, html.render):
        assert max(map(len, render(many))) < 1.1 * max(map(len, render(few)))
    head, documents = json_report.parsed(io.BytesIO(b"".join(json_report.render(many, ["1.pdf"]))))
    whole = json.loads(b"".join(json_report.render(many, ["1.pdf"])))
    assert {**head, "documents": list(documents)} == whole


def test_a_report_without_its_end_is_none(tmp_path: Path) -> None:
    """One that was cut off by hand or by a full disk vouches for no page: all are written again."""
    reports.write(a_result(*(a_document(f"{i}.pdf") for i in range(3))), tmp_path, {"markdown"})
    before = {page.name: page.stat().st_ino for page in (tmp_path / "documents").iterdir()}
    report = (tmp_path / "report.json").read_bytes()
    (tmp_path / "report.json").write_bytes(report[: report.index(b'"path": "2.pdf"') - 3])

    reports.write(a_result(*(a_document(f"{i}.pdf") for i in range(3))), tmp_path, {"markdown"})

    after = {page.name: page.stat().st_ino for page in (tmp_path / "documents").iterdir()}
    assert all(after[name] != before[name] for name in before)


def test_unchanged_pages_are_not_written_again(tmp_path: Path) -> None:
    """Of many documents only the changed one gets a new page; being unchanged is no change."""
    documents = [a_document(f"{i}.pdf") for i in range(100)]
    reports.write(a_result(*documents), tmp_path, {"markdown"})
    before = {p: p.stat().st_ino for p in (tmp_path / "documents").iterdir()}
    documents = [replace(d, unchanged=True) for d in documents]
    documents[7] = replace(documents[7], summary="Other words")

    reports.write(a_result(*documents, run=replace(RUN, id="r2")), tmp_path, {"markdown"})

    after = {p: p.stat().st_ino for p in (tmp_path / "documents").iterdir()}
    assert {p for p in after if after[p] != before[p]} == {page_of(tmp_path, "7.pdf")}
    assert "Other words" in page_of(tmp_path, "7.pdf").read_text()


@pytest.mark.parametrize(
    "changed",
    [
        a_result(a_document(), rules=True),
        a_result(a_document(), run=replace(RUN, version="1.0.1")),
        a_result(a_document(), run=replace(RUN, model="claude-opus-5-5")),
        replace(a_result(a_document()), title="Other title"),
    ],
    ids=["notice", "version", "model", "title"],
)
def test_a_page_is_written_again_when_what_it_says_of_the_run_changed(changed: RunResult, tmp_path: Path) -> None:
    """The incremental page is the page that a fresh folder would get."""
    reports.write(a_result(a_document()), tmp_path / "old", {"markdown"})

    reports.write(changed, tmp_path / "old", {"markdown"})
    reports.write(changed, tmp_path / "fresh", {"markdown"})

    assert contents(tmp_path / "old") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["missing", "younger"])
def test_a_page_that_the_last_report_does_not_vouch_for_is_written_again(damage: str, tmp_path: Path) -> None:
    """A lost page, or one that a run killed before its report.json left, is not trusted."""
    result = a_result(a_document())
    reports.write(result, tmp_path, {"markdown"})
    page = page_of(tmp_path, "vendors/msa.pdf")
    whole = page.read_bytes()
    if damage == "missing":
        page.unlink()
    else:
        page.write_text("of another run")
        later = (tmp_path / "report.json").stat().st_mtime_ns + 1
        os.utime(page, ns=(later, later))

    reports.write(result, tmp_path, {"markdown"})

    assert page.read_bytes() == whole


def test_an_unchanged_workbook_is_not_written_again(tmp_path: Path) -> None:
    """It shows neither when the run was nor what it sent, and takes longest to write."""
    reports.write(a_result(a_document()), tmp_path, {"xlsx"})
    before = (tmp_path / "risks.xlsx").stat().st_ino

    later = replace(RUN, id="r2", started_at="2027-01-01T00:00:00Z", finished_at="2027-01-01T00:01:00Z")
    reports.write(a_result(a_document(unchanged=True), run=later), tmp_path, {"xlsx"})

    assert (tmp_path / "risks.xlsx").stat().st_ino == before
    assert json.loads((tmp_path / "report.json").read_bytes())["run"]["id"] == "r2"


@pytest.mark.parametrize(
    "changed",
    [
        a_result(a_document(), rules=True),
        a_result(a_document(), run=replace(RUN, model="claude-opus-5-5")),
        a_result(a_document(), run=replace(RUN, status=RunStatus.STOPPED, stopped_because="no money")),
        a_result(a_document(status=DocumentStatus.FAILED)),
        a_result(a_document(), a_document("b.pdf")),
        a_result(),
        replace(a_result(a_document()), title="Other title"),
        replace(a_result(a_document()), originals="../docs"),
        replace(a_result(a_document()), compared=Comparison("r0", "2026-03-01T02:00:00Z", ("was.pdf",))),
    ],
    ids=["notice", "model", "stopped", "failed", "one-more", "one-less", "title", "originals", "removed"],
)
def test_a_workbook_is_written_again_when_what_it_shows_changed(changed: RunResult, tmp_path: Path) -> None:
    """The workbook that was kept is the workbook that a fresh folder would get."""
    reports.write(a_result(a_document()), tmp_path / "old", {"xlsx"})

    reports.write(changed, tmp_path / "old", {"xlsx"})
    reports.write(changed, tmp_path / "fresh", {"xlsx"})

    assert contents(tmp_path / "old") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("formats", [{"xlsx"}, {"xlsx", "html"}])
def test_a_workbook_is_written_again_when_html_comes_or_goes(formats: set[str], tmp_path: Path) -> None:
    """It links the documents' pages where there are some."""
    result = replace(a_result(a_document(risks=(a_risk(),))), originals="../docs")
    for formats_then in ({"xlsx"}, {"xlsx", "html"}):
        reports.write(result, tmp_path / "old", formats_then)

        reports.write(result, tmp_path / "old", formats)
        reports.write(result, tmp_path / "fresh", formats)

        assert contents(tmp_path / "old")["risks.xlsx"] == contents(tmp_path / "fresh")["risks.xlsx"]


def test_the_files_of_a_format_go_with_it(tmp_path: Path) -> None:
    """None is left behind to be taken for current."""
    reports.write(a_result(a_document()), tmp_path, reports.FORMATS)

    reports.write(a_result(a_document()), tmp_path, ())

    assert set(contents(tmp_path)) == {"report.json"}


@pytest.mark.parametrize(("csv_bom", "first"), [(True, b"\xef\xbb\xbfdocument,"), (False, b"document,")])
def test_the_byte_order_mark_of_the_csv_can_be_left_out(csv_bom: bool, first: bytes, tmp_path: Path) -> None:
    """Excel needs it to see UTF-8; some programs take it for a part of the first column's name."""
    reports.write(a_result(), tmp_path, {"csv"}, csv_bom=csv_bom)

    assert (tmp_path / "risks.csv").read_bytes().startswith(first)


def test_a_workbook_is_never_older_than_its_report(tmp_path: Path) -> None:
    """Where workbooks are no longer written, none is left behind to be taken for current, now or later."""
    reports.write(a_result(a_document(text="old")), tmp_path, {"xlsx"})

    reports.write(a_result(a_document(text="new")), tmp_path, ())

    assert set(contents(tmp_path)) == {"report.json"}


@pytest.mark.parametrize("damage", ["missing", "younger"])
def test_a_workbook_that_the_last_report_does_not_vouch_for_is_written_again(damage: str, tmp_path: Path) -> None:
    """A lost workbook, or one that somebody else wrote since, is not trusted."""
    result = a_result(a_document())
    reports.write(result, tmp_path, {"xlsx"})
    workbook = tmp_path / "risks.xlsx"
    whole = workbook.read_bytes()
    if damage == "missing":
        workbook.unlink()
    else:
        workbook.write_bytes(b"of another run")
        later = (tmp_path / "report.json").stat().st_mtime_ns + 1
        os.utime(workbook, ns=(later, later))

    reports.write(result, tmp_path, {"xlsx"})

    assert workbook.read_bytes() == whole


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"documents": [1]}', '{"documents": [{"path": "\\ud800"}]}', "\xff"]
)
def test_a_report_json_that_is_not_ours_is_replaced(content: str, tmp_path: Path) -> None:
    """What cannot be read as the last report counts as none."""
    (tmp_path / "report.json").write_text(content, encoding="latin-1")

    reports.write(a_result(a_document()), tmp_path, {"markdown"})

    assert json.loads((tmp_path / "report.json").read_bytes())["schema"] == 1


def test_files_have_the_permissions_that_the_umask_allows(tmp_path: Path) -> None:
    """People share reports: no file is private to the account that runs the job."""
    before = os.umask(0o027)
    try:
        reports.write(a_result(a_document()), tmp_path, reports.FORMATS)
    finally:
        os.umask(before)

    assert {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()} == {0o640}


@pytest.mark.parametrize("blocked", ["", "documents", "report.json"])
def test_a_write_that_the_system_refuses_names_the_file_and_what_to_do(blocked: str, tmp_path: Path) -> None:
    """A file in the place of a folder, or a folder in the place of a file: exit 4 with one line."""
    folder = tmp_path / "report"
    if blocked == "report.json":
        (folder / blocked).mkdir(parents=True)
    else:
        (folder / blocked).parent.mkdir(parents=True, exist_ok=True)
        (folder / blocked).write_text("in the way")

    with pytest.raises(SettingsError, match=r"cannot write .*report.*docpipe report") as caught:
        reports.write(a_result(a_document()), folder, reports.FORMATS)

    assert str(folder / blocked) in str(caught.value)


# the terminal


def test_of_many_pages_that_were_sent_smaller_three_are_named() -> None:
    """A document of nothing but large scans must not bury its summary."""
    chunk = replace(a_document().chunks[0], status=ChunkState.ANSWERED)
    notes = [f"page {number} alone was too large: it was sent as a picture" for number in range(1, 6)]
    document = replace(a_document(), chunks=tuple(replace(chunk, reason=note) for note in notes))
    assert remark(document) == f"P{'; '.join(notes[:3])[1:]}; and 2 pages more."
    failed = replace(chunk, status=ChunkState.FAILED, reason="413")
    assert remark(replace(document, chunks=(failed, replace(chunk, reason=None)))) == ""


def test_the_summary_says_what_happened_and_what_to_do() -> None:
    """Counts, coverage, risks, money, place, what failed and how to redo it."""
    partial = a_document("p.pdf", risks=(a_risk(),), missing=(PageRange(3, 4),), reason="rate limited")

    shown = summary.render(a_result(partial, an_unopened_document()), "reports/x", "docpipe retry x", "docpipe run x")

    assert "0 done, 1 partial, 1 failed (0 unchanged)" in shown
    assert "18 of 20 read" in shown
    assert "1: 0 critical, 1 high, 0 medium, 0 low" in shown
    assert "5 (2 retries, 1 chunk recovered)" in shown
    assert "reports/x\n" in shown
    assert "partial  p.pdf: rate limited" in shown
    assert "failed   broken.pdf: not a PDF" in shown
    assert "To try these again: docpipe retry x\n" in shown
    assert shown.endswith("Files that cannot be opened or are damaged: mend or replace them, then docpipe run x\n")


def test_the_summary_keeps_to_one_screen_whatever_fails() -> None:
    """25 lines of 100 columns with thousands of failures, long names, wide letters and escapes."""
    failed = DocumentStatus.FAILED
    one = a_document(reason="x\n\r\x9b" * 300, status=failed, missing=(PageRange(1, 20),))
    documents = [replace(one, path=f"{i}\x1b[2J" + "契" * 300, unfinished_runs=7) for i in range(5000)]
    run = replace(RUN, status=RunStatus.STOPPED, stopped_because="\x1b]0;pwned\x07" * 50)

    result = replace(a_result(*documents, run=run, rules=True), title="契" * 500)
    shown = summary.render(result, "r", "docpipe retry x", "docpipe run x")

    lines = shown.splitlines()
    assert len(lines) <= 25
    assert "  and 4,997 more" in lines
    assert all(sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) <= 100 for line in lines)
    assert shown.replace("\n", "").isprintable()


def test_the_last_of_the_unread_is_named_where_a_line_would_count_it() -> None:
    """One more document takes no more room than the words "and 1 more"."""
    unread = [an_unopened_document(f"{number}.pdf") for number in range(5)]

    shown = summary.render(a_result(*unread), "r", "docpipe retry x", "docpipe run x")
    five = [line for line in shown.splitlines() if ".pdf" in line or " more" in line]

    assert [line.split(":")[0].split()[-1] for line in five[:3]] == ["0.pdf", "1.pdf", "2.pdf"]
    assert five[3:] == ["  and 2 more"]
    four = summary.render(a_result(*unread[:4]), "r", "docpipe retry x", "docpipe run x")
    assert "3.pdf" in four
    assert " more" not in four
    assert "0 of 0 read; 4 files could not be opened" in four


def news_of(*documents: DocumentResult, removed: tuple[str, ...] = (), same_request: bool = True) -> str:
    """The line of changes against a run of the night before."""
    compared = Comparison("r0", "2026-03-01T02:41:07Z", removed, same_request)
    result = replace(a_result(*documents), compared=compared)
    line = news(result)
    assert f"Changes {line} Quotes" in " ".join(summary.render(result, "r", "docpipe retry x").split())
    return line


def test_what_is_new_is_one_line() -> None:
    """Risks with their severities and documents first, then what changed and went, then the documents."""
    high, low = (replace(a_risk(severity=s), change=Change.NEW) for s in (Severity.HIGH, Severity.LOW))
    changed = replace(a_risk(), change=Change.CHANGED)
    several = replace(
        a_document("a.pdf", risks=(high, high, changed, a_risk())), gone_risks=(a_risk(),), change=Change.CHANGED
    )
    other = replace(a_document("b.pdf", risks=(low,)), change=Change.NEW, recovered=True)

    assert news_of(replace(several, risks=(high, high))).startswith("2 new high risks in 1 document; 1 risk gone; ")
    assert news_of(several, other, removed=("c.pdf", "d.pdf")) == (
        "3 new risks (2 high, 1 low) in 2 documents; 1 risk changed; 1 risk gone; 1 new document; 1 document changed; "
        "2 documents removed; 1 document now fully read"
    )


def test_nothing_new_says_since_when_and_of_what() -> None:
    """Of what was not read nothing is known, and without a run to compare with there is no nothing."""
    partial = a_document(missing=(PageRange(3, 4),))

    assert news_of(a_document(risks=(a_risk(),))) == "nothing new since 2026-03-01 02:41 UTC"
    assert news_of(a_document(), partial) == "nothing new in what was read, since 2026-03-01 02:41 UTC"
    assert news_of(a_document(), same_request=False) == (
        "nothing new since 2026-03-01 02:41 UTC; read with another model or prompt than before"
    )
    assert news(a_result(a_document())) == "nothing to compare with yet"


def test_report_json_counts_what_is_new_or_says_that_it_is_not_known() -> None:
    """No run to compare with is null, not zero."""
    new = replace(a_risk(), change=Change.NEW)
    result = a_result(replace(a_document(risks=(new, new)), recovered=True, gone_risks=(a_risk(), a_risk())))

    compared = json_report.totals(replace(result, compared=Comparison("r0", "2026-03-01T02:41:07Z", ("gone.pdf",))))

    assert json_report.totals(result)["changes"] is None
    assert compared["changes"] == {
        "new_risks": {"critical": 0, "high": 2, "medium": 0, "low": 0},
        "changed_risks": 0,
        "gone_risks": 2,
        "new_documents": 0,
        "changed_documents": 0,
        "removed_documents": 1,
        "recovered_documents": 1,
    }


def test_the_summary_sets_what_was_expected_beside_what_was_spent() -> None:
    """Tokens and dollars, where anything was sent."""
    shown = summary.render(a_result(), "r", "docpipe retry x")
    nothing_due = summary.render(replace(a_result(), expected=None), "r", "docpipe retry x")

    assert "1,000 in, 200 out (expected: 1,500 in, 300 out); cache: 30 read, 4 written" in shown
    assert "$0.1200 (expected: $0.1500; $0.0300 for retries)" in shown
    assert "expected" not in nothing_due


@pytest.mark.parametrize(("runs", "named"), [(4, False), (5, True), (12, True)])
def test_a_document_that_five_runs_could_not_read_stands_at_the_top(runs: int, named: bool) -> None:
    """Each format begins with its name and how often; before that it is one failure among others."""
    result = a_result(replace(an_unopened_document("vendors/locked.pdf"), unfinished_runs=runs), a_document())

    shown = summary.render(result, "r", "docpipe retry x")
    page = "".join(html.render(result))

    assert (f"in 5 runs in a row or more: vendors/locked.pdf ({runs} runs)" in shown) is named
    assert (f"vendors/locked.pdf ({runs} runs)" in page) is named
    assert not named or shown.index("in a row") < shown.index("Documents")
    assert json.loads(b"".join(json_report.render(result)))["documents"][0]["unfinished_runs"] == runs


@pytest.mark.parametrize(
    ("checks", "share"),
    [
        ((), None),
        ((None, QuoteCheck.NOT_CHECKABLE), None),
        ((QuoteCheck.VERIFIED, QuoteCheck.PAGE_CORRECTED, QuoteCheck.ALTERED, QuoteCheck.NOT_CHECKABLE), 0.6667),
    ],
)
def test_the_share_of_quotes_that_verify_counts_those_that_can(
    checks: tuple[QuoteCheck | None, ...], share: float | None
) -> None:
    """Unknown until quotes are checked; pages without text do not count."""
    risks = tuple(replace(a_risk(), quote_check=check) for check in checks)
    result = a_result(a_document(risks=risks))

    assert json_report.totals(result)["quotes_verified_share"] == share
    assert ("not checked" if share is None else "66.7% stand") in summary.render(result, "r", "docpipe retry x")


def test_the_summary_says_what_stopped_the_run_who_read_and_what_is_unknown() -> None:
    """The rules notice and the reason stand above the counts; an unknown cost is called unknown."""
    run = replace(RUN, status=RunStatus.STOPPED, stopped_because="the budget is reached")
    result = replace(a_result(run=run, rules=True), spending=Spending(cost_usd=None, retry_cost_usd=None))

    shown = summary.render(result, "r", "docpipe retry x")

    assert shown.index("not a language model") < shown.index("Documents")
    assert shown.index("the budget is reached") < shown.index("Documents")
    assert "unknown (expected: $0.1500; unknown for retries)" in shown


def test_a_cost_of_which_a_part_is_known_is_at_least_that() -> None:
    """One request of unknown cost does not hide what all others came to, neither in the summary nor on the page."""
    result = replace(a_result(), spending=Spending(5, cost_usd=None, known_usd=1.25, unpriced=1))

    assert "at least $1.2500; 1 request of unknown cost" in summary.render(result, "r", "docpipe retry x")
    page = "".join(html.render(result))
    assert "<small>at least</small> $1.2500" in page
    assert "Requests of unknown cost" in page
    assert (json_report.totals(result)["known_cost_usd"], json_report.totals(result)["unpriced_requests"]) == (1.25, 1)


def test_a_file_that_nobody_opened_yet_is_not_said_to_be_broken() -> None:
    """A run that stops early, or has a limit, leaves files unopened; they are told from those that cannot be."""
    waiting = replace(an_unopened_document("waiting.pdf", "not opened yet"), status=DocumentStatus.PARTIAL)

    [notice] = presentation.notices(a_result(waiting, an_unopened_document()))

    assert "1 file could not be opened; 1 file not opened yet" in notice.text
    assert presentation.coverage(waiting) == "no page read: the file was not opened yet"


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ((PageRange(3, 3),), "page 3"),
        ((PageRange(3, 4),), "pages 3-4"),
        ((PageRange(1, 1), PageRange(3, 3)), "pages 1, 3"),
    ],
)
def test_the_summary_names_one_page_as_one(missing: tuple[PageRange, ...], named: str) -> None:
    """A page has no plural."""
    shown = summary.render(a_result(a_document("p.pdf", missing=missing)), "r", "docpipe retry x")

    assert f"partial  p.pdf: no answer for {named}\n" in shown


def test_color_adds_styles_and_nothing_else() -> None:
    """Without the escape sequences both summaries are the same text."""
    result = a_result(an_unopened_document(), rules=True)

    plain, colored = (summary.render(result, "r", "docpipe retry x", color=c) for c in (False, True))

    assert "\x1b[" in colored
    assert plain == "".join(part.partition("m")[2] if i else part for i, part in enumerate(colored.split("\x1b[")))
