"""What is found out when a file is opened reaches the ledger and the reports: the whole path, with real files."""

from __future__ import annotations

import base64
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from pipeline import job, opening, pdf, run
from pipeline.domain import Layout, QuoteCheck
from pipeline.ledger import Ledger
from pipeline.reports import presentation
from pipeline.sandbox import Limits, Sandbox
from pipeline.serve import Endpoint, running
from pipeline.splitter import page_texts
from pipeline.standing import Standing
from tests.conftest import Quiet, Workspace, clause, write_pdf
from tests.test_run import risks_of

SAMPLES = Path(__file__).resolve().parents[1] / "sample_docs"


def test_what_is_on_the_pages_is_recorded(workspace: Workspace) -> None:
    """The ledger has the layout, found out once; a page that nobody wrote on has no characters."""
    write_pdf(workspace.docs / "a.pdf", ["Hello", ""])
    workspace.write_job()

    workspace.run()

    with Ledger.reading(workspace.ledger) as ledger:
        (content,) = ledger.contents(pdf.READER).values()
    assert content.layout == Layout((5, 0))


def test_what_was_out_of_the_ordinary_is_in_every_report(workspace: Workspace) -> None:
    """Two readers that count a file's pages differently are named where its status stands; other files say nothing."""
    path = write_pdf(workspace.docs / "odd.pdf", [clause(1), clause(2)])
    path.write_bytes(path.read_bytes().replace(b"/Count 2", b"/Count 5"))
    write_pdf(workspace.docs / "plain.pdf", [clause(3)])
    workspace.write_job(report={"formats": ["html", "markdown"]})

    assert workspace.run().run.exit_code == 0

    note = "pypdf counts 2 pages, pdfium 5"
    odd, plain = json.loads((workspace.reports / "report.json").read_bytes())["documents"]
    assert (odd["pages"], odd["note"], plain["note"]) == (2, note, None)
    pages = [page.read_text("utf-8") for page in (workspace.reports / "documents").glob("*.md")]
    assert sorted(page.count(f"P{note[1:]}.") for page in pages) == [0, 1]
    assert (workspace.reports / "index.html").read_text("utf-8").count(f"P{note[1:]}.") == 1


def test_what_was_written_into_a_form_is_read_like_the_rest(workspace: Workspace) -> None:
    """The rules find a risk in a field, and its quote stands on its page."""
    canvas = Canvas(str(workspace.docs / "form.pdf"), invariant=1)
    canvas.drawString(60, 780, "Order form. What is agreed stands in the field below.")
    terms = clause(7).split("\n")[1]
    canvas.acroForm.textfield(name="terms", value=terms, x=60, y=700, width=480, height=20, fontSize=9, maxlen=500)
    canvas.save()
    workspace.write_job()

    (document,) = workspace.run().documents

    assert [(risk.page, risk.quote, risk.quote_check) for risk in document.risks] == [(1, terms, QuoteCheck.VERIFIED)]


def test_a_file_that_was_cut_off_is_partial_with_its_lost_pages_named(workspace: Workspace) -> None:
    """What is whole is read, as a file that any reader opens; the rest is missing until somebody mends the file."""
    shutil.copy(SAMPLES / "trouble" / "truncated.pdf", workspace.docs)
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, report={"formats": ["html"]})
        codes = [workspace.run().run.exit_code for _ in range(2)]
        _, status, _ = workspace.docpipe("status", str(workspace.job_file))

    (document,) = json.loads((workspace.reports / "report.json").read_bytes())["documents"]
    assert codes == [3, 3]
    assert (document["status"], document["missing_pages"]) == ("partial", [[2, 2]])
    assert document["note"] == "truncated: 1 of 2 pages readable"
    assert document["reason"] == "page 2 cannot be read: its content is missing"
    assert f"mend or replace them, then docpipe run {workspace.job_file}\n" in status
    assert "docpipe retry" not in status + (workspace.reports / "index.html").read_text("utf-8")
    (seen,) = endpoint.seen
    sent = base64.b64decode(seen.body["messages"][0]["content"][0]["source"]["data"])
    assert len(page_texts(sent)) == 1


def test_a_repaired_file_is_sent_repaired_and_one_without_its_page_tree_is_never_done(workspace: Workspace) -> None:
    """Broken bytes are left to no other reader; that pages may be missing is a reason even if all are answered."""
    whole = write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)]).read_bytes()
    (workspace.docs / "a.pdf").write_bytes(whole.replace(b"startxref", b"startxxxx"))
    (workspace.docs / "b.pdf").write_bytes(whole.replace(b"/Pages", b"/Paged").replace(b"startxref", b"startxxxx"))
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        result = workspace.run()

    assert presentation.to_mend(result) == [result.documents[1]]
    assert presentation.again(result) == ""
    assert risks_of(result) == [("K001", 1), ("K001", 1), ("K002", 2), ("K002", 2)]
    assert [(d.status, d.missing_pages, d.note, d.reason) for d in result.documents] == [
        ("done", (), "repaired: the file's index was damaged", None),
        ("partial", (), None, "repaired: 2 of 2 pages readable; whether there were more is not known"),
    ]


class Limited(Sandbox):
    """A sandbox that keeps the limits it was given."""

    limits: Limits | None = None

    def use(self, limits: Limits, before: tuple[str, object] | None = None) -> None:
        self.limits = limits
        super().use(limits, before)


def test_files_are_opened_within_the_limits_of_the_job(workspace: Workspace) -> None:
    """Memory, time and processor time are those of the job file."""
    workspace.write_job(sandbox={"memory_mb": 700, "timeout_seconds": 8.5, "cpu_seconds": 4.5})
    with Limited(1) as sandbox:
        run.run_job(job.load(workspace.job_file), None, run.Options(), sandbox, Quiet())

    assert sandbox.limits == Limits(memory_bytes=700_000_000, timeout_s=8.5, cpu_s=4.5)


class CrashingOnLayouts(Sandbox):
    """A sandbox in which whoever looks at a layout meets a file that crashes the process."""

    async def call(self, size_bytes: int, function: str, *args: object) -> Any:
        if function == opening._INSPECT and len(args) == 1:
            return await super().call(size_bytes, "os:abort")
        return await super().call(size_bytes, function, *args)


def test_a_file_that_crashes_what_looks_at_its_layout_is_read(workspace: Workspace) -> None:
    """Its pages are counted without, so that it is sent and answered; the report says that nobody checked the count."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    workspace.write_job()
    with CrashingOnLayouts() as sandbox:
        result = run.run_job(job.load(workspace.job_file), None, run.Options(), sandbox, Quiet())

    assert (result.run.exit_code, risks_of(result)) == (0, [("K001", 1), ("K002", 2)])
    assert result.documents[0].note == "not checked with a second reader: reading it crashed the reader (exit code -6)"


def test_an_interrupt_before_the_first_file_is_open_ends_the_run_as_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While what is due is being looked for and what sends is being loaded; the next run does the work."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    records = Standing.records

    def interrupted(self: Standing) -> Any:
        signal.raise_signal(signal.SIGINT)
        return records(self)

    monkeypatch.setattr(Standing, "records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workspace.run()
    monkeypatch.undo()

    status = run.status_job(job.load(workspace.job_file))
    assert status.result is not None
    assert (status.result.run.exit_code, status.result.run.stopped_because) == (130, "interrupted")
    assert workspace.run().run.exit_code == 0
