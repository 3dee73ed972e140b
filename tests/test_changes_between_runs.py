"""What is new, over real PDFs and a real ledger from run to run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import job, run
from pipeline.domain import Change, DocumentStatus, Memory, Remembered, RunResult, RunStatus, ToRemember
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.ledger import Ledger
from pipeline.reports.presentation import news
from pipeline.serve import Endpoint, running
from tests.conftest import Workspace, clause, write_pdf
from tests.report_values import RUN

NOTICE = "The Supplier may terminate this Agreement for convenience upon {} days' written notice."


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.execute(query))


def reported(workspace: Workspace) -> list[tuple[str, str]]:
    """The rows that remember reports: path, and the run from which on it was so."""
    found = rows(
        workspace.ledger, "SELECT p.path, p.run FROM reported p JOIN runs r ON r.id = p.run ORDER BY 1, r.rowid"
    )
    return [(os.fsdecode(path), identity) for path, identity in found]


def marks(result: RunResult) -> dict[str, tuple[Change | None, list[Change | None]]]:
    return {document.path: (document.change, [risk.change for risk in document.risks]) for document in result.documents}


def ids(result: RunResult) -> dict[str, list[str]]:
    return {document.path: [risk.id for risk in document.risks] for document in result.documents}


def again(workspace: Workspace) -> RunResult:
    """The last run's result as ``docpipe report`` gives it."""
    result = workspace.report()
    assert result is not None
    return result


def write(workspace: Workspace, name: str, *pages: str) -> Path:
    return write_pdf(workspace.docs / name, pages)


def test_a_second_run_has_nothing_new_and_writes_nothing_down(workspace: Workspace) -> None:
    """All ids stay, the first has nothing to compare with, and a run like the last one adds no row."""
    for name in ("a.pdf", "b.pdf"):
        write(workspace, name, clause(ord(name[0])), NOTICE.format(30))
    workspace.write_job()
    first = workspace.run()
    written = reported(workspace)
    second = workspace.run()

    assert news(first) == "nothing to compare with yet"
    assert news(second) == f"nothing new since {first.run.finished_at[:16].replace('T', ' ')} UTC"
    assert ids(second) == ids(first)
    assert written == reported(workspace) == [("a.pdf", first.run.id), ("b.pdf", first.run.id)]


def test_changed_new_removed_and_renamed_files_are_told_apart(workspace: Workspace) -> None:
    """And what ``report`` and ``status`` say afterwards is what the run said, to the byte."""
    write(workspace, "changed.pdf", NOTICE.format(30), clause(1))
    write(workspace, "renamed.pdf", clause(2))
    write(workspace, "removed.pdf", clause(3))
    write(workspace, "same.pdf", clause(4))
    workspace.write_job()
    first = workspace.run()
    write(workspace, "changed.pdf", NOTICE.format(90), "Page title\nNothing to see.", clause(5))
    (workspace.docs / "renamed.pdf").rename(workspace.docs / "other-name.pdf")
    (workspace.docs / "removed.pdf").unlink()
    write(workspace, "new.pdf", clause(6))
    second = workspace.run()
    report = (workspace.reports / "report.json").read_bytes()
    from_ledger, status = again(workspace), run.status_job(job.load(workspace.job_file)).result

    assert marks(second) == {
        "changed.pdf": (Change.CHANGED, [Change.CHANGED, Change.CHANGED]),
        "new.pdf": (Change.NEW, [Change.NEW]),
        "other-name.pdf": (None, [None]),
        "same.pdf": (None, [None]),
    }
    assert news(second) == (
        "1 new medium risk in 1 document; 2 risks changed; 1 new document; 1 document changed; 1 document removed"
    )
    assert second.compared is not None
    assert second.compared.removed == ("removed.pdf",)
    assert ids(second)["other-name.pdf"] == ids(first)["renamed.pdf"]
    assert ids(second)["changed.pdf"] == ids(first)["changed.pdf"]
    assert (workspace.reports / "report.json").read_bytes() == report
    assert status is not None
    assert (from_ledger.documents, from_ledger.compared) == (second.documents, second.compared)
    assert (status.documents, status.compared) == (second.documents, second.compared)
    assert json.loads(report)["totals"]["changes"]["new_risks"]["medium"] == 1

    third = workspace.run()
    assert news(third).startswith("nothing new since")
    assert ids(third) == ids(second)


def test_a_clause_that_was_taken_out_is_gone_for_one_run(workspace: Workspace) -> None:
    """The report shows it once, with its words; the next run has forgotten it."""
    write(workspace, "a.pdf", clause(1), NOTICE.format(30))
    workspace.write_job()
    workspace.run()
    write(workspace, "a.pdf", clause(1), "Page title\nNothing to see.")
    second, third = workspace.run(), workspace.run()

    assert [risk.quote for risk in second.documents[0].gone_risks] == [NOTICE.format(30)]
    assert news(second) == "1 risk gone; 1 document changed"
    assert third.documents[0].gone_risks == ()


def test_a_file_that_breaks_and_is_repaired_has_nothing_new_but_that(workspace: Workspace) -> None:
    """For as many nights as it takes."""
    path = write(workspace, "a.pdf", clause(1), NOTICE.format(30))
    whole = path.read_bytes()
    workspace.write_job()
    first = workspace.run()
    path.write_bytes(b"not a PDF")
    broken, still = workspace.run(), workspace.run()
    path.write_bytes(whole)
    repaired = workspace.run()

    assert broken.documents[0].status is DocumentStatus.FAILED
    assert news(broken) == "1 document changed"
    assert news(still).startswith("nothing new in what was read, since")
    assert news(repaired) == "1 document changed; 1 document now fully read"
    assert ids(repaired) == ids(first)


def test_documents_that_a_limit_left_out_are_new_when_they_are_read(workspace: Workspace) -> None:
    """And those that were read before lose nothing by it."""
    write(workspace, "a.pdf", clause(1))
    write(workspace, "b.pdf", clause(2))
    workspace.write_job()
    workspace.run(limit=1)
    second = workspace.run()
    write(workspace, "a.pdf", clause(1), "Page title\nNothing to see.")
    write(workspace, "b.pdf", clause(2), "Page title\nNothing to see.")
    limited, rest = workspace.run(limit=1), workspace.run()

    assert news(second) == "1 new medium risk in 1 document; 1 document now fully read"
    assert news(limited) == "2 documents changed"
    assert news(rest) == "1 document now fully read"


def test_a_stopped_run_is_compared_but_nothing_is_compared_with_it(workspace: Workspace) -> None:
    """What it did not come to is neither gone nor new, and the next run is compared with the one before it."""
    write(workspace, "a.pdf", clause(1))
    write(workspace, "b.pdf", clause(2))
    write(workspace, "same.pdf", clause(4))
    refused = FaultPlan((FaultRule(Fault(FaultKind.AUTHENTICATION), every=1),))
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        first = workspace.run()
    write(workspace, "a.pdf", clause(1), clause(3))
    (workspace.docs / "b.pdf").unlink()
    before = reported(workspace)
    with running(Endpoint(refused)) as base_url:
        workspace.write_job(base_url)
        stopped = workspace.run()
    assert reported(workspace) == before
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        third = workspace.run()

    assert stopped.run.status is RunStatus.STOPPED
    for result in (stopped, third):
        assert result.compared is not None
        assert (result.compared.run, result.compared.removed) == (first.run.id, ("b.pdf",))
    assert marks(stopped) == {"a.pdf": (Change.CHANGED, []), "same.pdf": (None, [None])}
    assert stopped.documents[0].gone_risks == ()
    assert marks(third) == {"a.pdf": (Change.CHANGED, [None, Change.NEW]), "same.pdf": (None, [None])}


def test_a_run_by_rules_between_two_by_a_model_hides_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is compared with the last one of its kind, and the first of its kind with none."""
    write(workspace, "a.pdf", clause(1))
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        with monkeypatch.context() as served:
            served.setattr("pipeline.offline.RULES_MODEL", "a-model")  # what the endpoint calls itself
            model = workspace.run()
        write(workspace, "b.pdf", clause(2))
        workspace.write_job()
        rules = workspace.run()
        workspace.write_job(base_url)
        with monkeypatch.context() as served:
            served.setattr("pipeline.offline.RULES_MODEL", "a-model")
            later = workspace.run()

    assert [result.reads_with_rules for result in (model, rules, later)] == [False, True, False]
    assert rules.compared is None
    assert later.compared is not None
    assert later.compared.run == model.run.id
    assert marks(later) == {"a.pdf": (None, [None]), "b.pdf": (Change.NEW, [Change.NEW])}


def test_another_prompt_is_named_beside_what_it_changed(workspace: Workspace) -> None:
    """The documents are the same, and the difference may be the reader's."""
    write(workspace, "a.pdf", clause(1))
    workspace.write_job()
    workspace.run()
    workspace.write_job(prompt={"instructions": "Only penalties."})

    assert news(workspace.run()).endswith("; read with another model or prompt than before")


# the ledger

NOTHING: Sequence[Remembered] = ()


def one(path: str, sha256: str) -> Remembered:
    return Remembered(path, sha256, 3, DocumentStatus.DONE, ())


def ended(
    ledger: Ledger, name: str, documents: Sequence[Remembered], removed: Sequence[str] = (), job_name: str = "j"
) -> Memory | None:
    """A run that remembers; what it was compared with."""
    info = replace(RUN, id=name)
    ledger.begin_run(job_name, info)
    ledger.finish_run(info, (), ToRemember(False, tuple(documents), tuple(removed)))
    return ledger.memory_before(job_name, name, False)


def known(memory: Memory | None) -> dict[str, str | None]:
    return {path: document.sha256 for path, document in memory.documents.items()} if memory else {}


def test_the_ledger_knows_what_the_run_before_reported_and_forgets_older_ones(tmp_path: Path) -> None:
    """A row holds until a younger one of its path; what only older runs needed is removed."""
    path = tmp_path / "l.sqlite3"
    with Ledger.writing(path) as ledger:
        assert ended(ledger, "r1", [one("a", "1"), one("b", "1"), one("\udcff", "1")]) is None
        assert known(ended(ledger, "r2", [one("a", "2")], ["b"])) == {"a": "1", "b": "1", "\udcff": "1"}
        assert known(ended(ledger, "r3", [one("a", "3"), one("b", "3")])) == {"a": "2", "\udcff": "1"}
        assert known(ended(ledger, "r4", NOTHING)) == {"a": "3", "b": "3", "\udcff": "1"}
        ended(ledger, "other job", [one("a", "x")], job_name="other")
        assert known(ended(ledger, "r5", NOTHING)) == {"a": "3", "b": "3", "\udcff": "1"}

    left = rows(path, "SELECT run, path FROM reported WHERE job = 'j' ORDER BY run")
    assert left == [("r1", b"\xff"), ("r3", b"a"), ("r3", b"b")]


def test_a_ledger_from_before_reports_were_remembered_has_nothing_to_compare_with(workspace: Workspace) -> None:
    """Not everything is new because an older version remembered nothing."""
    write(workspace, "a.pdf", clause(1))
    workspace.write_job()
    workspace.run()
    with closing(sqlite3.connect(workspace.ledger)) as database:
        database.executescript("DELETE FROM reported; UPDATE runs SET by_rules = NULL")  # as migrated
    second, third = workspace.run(), workspace.run()

    assert (second.compared, marks(second)) == (None, {"a.pdf": (None, [None])})
    assert third.compared is not None


def test_a_kill_before_a_run_is_finished_leaves_what_was_remembered(tmp_path: Path) -> None:
    """SIGKILL with everything written and not committed: the run has no end, and memory is that of the one before."""
    path = tmp_path / "l.sqlite3"
    with Ledger.writing(path) as ledger:
        ended(ledger, "r1", [one("a", "1")])
    script = """
import os, pathlib, signal, sys
from dataclasses import replace
from pipeline.domain import DocumentStatus, Remembered, ToRemember
from pipeline.ledger import Ledger
from tests.report_values import RUN
def killed():
    yield Remembered("b", "2", 3, DocumentStatus.DONE, ())
    os.kill(os.getpid(), signal.SIGKILL)
with Ledger.writing(pathlib.Path(sys.argv[1])) as ledger:
    ledger.begin_run("j", replace(RUN, id="r2"))
    ledger.finish_run(replace(RUN, id="r2"), (), ToRemember(False, killed(), ("a",)))
"""
    root = Path(__file__).parents[1]
    child = subprocess.run([sys.executable, "-c", script, path], env={**os.environ, "PYTHONPATH": str(root)})

    assert child.returncode == -signal.SIGKILL
    with Ledger.writing(path) as ledger:
        assert known(ended(ledger, "r3", NOTHING)) == {"a": "1"}
