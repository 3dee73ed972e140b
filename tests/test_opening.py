"""What is found out when a file is opened reaches the ledger and the reports: the whole path, with real files."""

from __future__ import annotations

import json
from typing import Any

from pipeline import job, pdf, run
from pipeline.domain import Layout
from pipeline.ledger import Ledger
from pipeline.sandbox import Sandbox
from tests.conftest import Quiet, Workspace, clause, write_pdf
from tests.test_run import risks_of


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


class CrashingOnLayouts(Sandbox):
    """A sandbox in which whoever looks at a layout meets a file that crashes the process."""

    async def call(self, size_bytes: int, function: str, *args: object) -> Any:
        if function == "pipeline.splitter:inspect" and len(args) == 1:
            return await super().call(size_bytes, "os:abort")
        return await super().call(size_bytes, function, *args)


def test_a_file_that_crashes_what_looks_at_its_layout_is_read(workspace: Workspace) -> None:
    """Its pages are counted without, so that it is sent and answered like any other."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    workspace.write_job()
    with CrashingOnLayouts() as sandbox:
        result = run.run_job(job.load(workspace.job_file), None, run.Options(), sandbox, Quiet())

    assert (result.run.exit_code, risks_of(result)) == (0, [("K001", 1), ("K002", 2)])
