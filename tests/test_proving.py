"""Quotes are looked for in the background of a run, once for each answer, whatever becomes of the run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from pipeline import job, pdf, proving, run
from pipeline.sandbox import Sandbox, SandboxError
from pipeline.serve import Endpoint, running
from tests.conftest import Quiet, Workspace, clause, write_pdf


class Watched(Sandbox):
    """A sandbox that knows which pages were looked at for quotes, and may refuse."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__(1)
        self.refusal = refusal
        self.proven: list[str] = []

    async def call(self, size_bytes: int, function: str, *args: Any) -> Any:
        if function == proving._PROVE:
            self.proven += [str(pages) for pages, _ in args[1]]
            if self.refusal is not None:
                raise self.refusal
        return await super().call(size_bytes, function, *args)


def checks(workspace: Workspace) -> list[str | None]:
    """What report.json says of each quote."""
    documents = json.loads((workspace.reports / "report.json").read_bytes())["documents"]
    return [risk["quote_check"] for document in documents for risk in document["risks"]]


def read(workspace: Workspace, sandbox: Sandbox, watched: Quiet | None = None) -> int:
    with sandbox:
        observer = watched or Quiet()
        return run.run_job(job.load(workspace.job_file), None, run.Options(), sandbox, observer).run.exit_code


def prepare(workspace: Workspace, pages: Sequence[int] = (1, 2, 3)) -> None:
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in pages])
    workspace.write_job(split={"max_pages": 1}, prompt={"synthesis": False})


def forget_proofs(workspace: Workspace, pages: Sequence[int] = (1, 2, 3)) -> None:
    with closing(sqlite3.connect(workspace.ledger)) as database, database:
        delete = "DELETE FROM proofs WHERE chunk IN (SELECT id FROM chunks WHERE first_page = ?)"
        database.executemany(delete, [(page,) for page in pages])


def test_each_answer_is_looked_at_once(workspace: Workspace) -> None:
    """A run proves the quotes of its answers, and the next one has nothing to prove."""
    prepare(workspace)
    first, second = Watched(), Watched()

    assert (read(workspace, first), read(workspace, second)) == (0, 0)

    assert (sorted(first.proven), second.proven) == (["1", "2", "3"], [])
    assert checks(workspace) == ["verified"] * 3


def test_what_finds_no_room_to_wait_is_looked_for_in_the_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy run of any length keeps a bounded number of answers waiting; each is looked at all the same, once."""
    monkeypatch.setattr(proving, "_MOST_WAITING", 0)
    prepare(workspace)
    watched = Watched()

    assert read(workspace, watched) == 0

    assert sorted(watched.proven) == ["1", "2", "3"]
    assert checks(workspace) == ["verified"] * 3


def test_what_a_killed_run_did_not_look_for_is_looked_for_in_the_next(workspace: Workspace) -> None:
    """As the books are after a kill between an answer and its proof; nothing is sent for it."""
    prepare(workspace)
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 1}, prompt={"synthesis": False})
        workspace.run()
        forget_proofs(workspace, [2])
        result = workspace.run()

    assert result.spending.requests == 0
    assert checks(workspace) == ["verified"] * 3


def test_quotes_of_an_older_way_of_looking_are_looked_for_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better prover reaches the answers that are there."""
    prepare(workspace)
    read(workspace, Sandbox(1))
    monkeypatch.setattr(pdf, "PROVER", pdf.PROVER + 1)
    again = Watched()

    read(workspace, again)

    assert sorted(again.proven) == ["1", "2", "3"]


def test_the_report_command_looks_for_what_nobody_looked_for(workspace: Workspace) -> None:
    """Say after a run that was interrupted; a job that never ran has no report."""
    prepare(workspace)
    assert workspace.report() is None
    read(workspace, Sandbox(1))
    forget_proofs(workspace)
    workspace.report()

    assert checks(workspace) == ["verified"] * 3


def test_a_file_that_crashes_whoever_looks_for_quotes_spoils_nothing(workspace: Workspace) -> None:
    """Its answers stand, their quotes are not checkable, and the crash is not repeated every night."""
    prepare(workspace)
    again = Watched()

    assert read(workspace, Watched(SandboxError("reading it crashed the reader"))) == 0
    assert read(workspace, again) == 0

    assert checks(workspace) == ["not_checkable"] * 3
    assert again.proven == []


@pytest.mark.parametrize("function", ["pipeline.inspector:inspect", "pipeline.splitter:cut", proving._PROVE])
def test_a_crash_over_a_file_that_is_being_written_is_not_blamed_on_what_it_was(
    workspace: Workspace, function: str
) -> None:
    """The old bytes come back, say from a backup: they are read as if nothing had been."""

    class Overwritten(Sandbox):
        async def call(self, size_bytes: int, name: str, *args: Any) -> Any:
            if name == function:
                path.touch()
                raise SandboxError("reading it crashed the reader")
            return await super().call(size_bytes, name, *args)

    prepare(workspace)
    path = workspace.docs / "a.pdf"
    facts = path.stat()

    read(workspace, Overwritten(1))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    assert read(workspace, Sandbox(1)) == 0
    assert checks(workspace) == ["verified"] * 3


@pytest.mark.parametrize("trouble", [pdf.SourceChangedError("a.pdf"), PermissionError("no")])
def test_a_file_that_cannot_be_read_any_more_is_looked_at_another_time(
    workspace: Workspace, trouble: Exception
) -> None:
    """Its quotes are not checked yet; nobody says that they are not there."""
    prepare(workspace)

    assert read(workspace, Watched(trouble)) == 0
    assert checks(workspace) == [None] * 3
    assert read(workspace, Watched()) == 0
    assert checks(workspace) == ["verified"] * 3


def test_a_bug_in_the_prover_ends_the_run_and_loses_no_answer(workspace: Workspace) -> None:
    """It is a bug, not trouble with one file; what was paid for is on record."""
    prepare(workspace)
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 1}, prompt={"synthesis": False})
        loaded = job.load(workspace.job_file)
        with Watched(ZeroDivisionError("a bug")) as sandbox, pytest.raises(ZeroDivisionError):
            run.run_job(loaded, "a key of a test", run.Options(), sandbox, Quiet())
        result = workspace.run()

    assert (result.spending.requests, result.run.exit_code) == (0, 0)


class Interrupting(Watched):
    """A sandbox that somebody presses ^C on when it looks for quotes."""

    async def call(self, size_bytes: int, function: str, *args: Any) -> Any:
        if function == proving._PROVE:
            signal.raise_signal(signal.SIGINT)
        return await super().call(size_bytes, function, *args)


def test_interrupted_while_quotes_are_looked_for_the_report_is_written(workspace: Workspace) -> None:
    """The run ends with 130 and says that some were not looked for; the next run looks for the rest."""
    pages = range(1, proving._IN_ONE_CALL + 3)
    prepare(workspace, pages)
    read(workspace, Sandbox(1))
    forget_proofs(workspace, pages)

    watched = Quiet()
    assert read(workspace, Interrupting(), watched) == 130
    assert "stopping: quotes that are being looked for are awaited, the next run looks" in watched.lines[-1]
    assert sorted(map(str, checks(workspace))) == ["None"] * 2 + ["verified"] * proving._IN_ONE_CALL
    assert read(workspace, Watched()) == 0
    assert checks(workspace) == ["verified"] * len(pages)


def test_a_chunk_that_crashes_the_reader_takes_no_other_with_it(workspace: Workspace) -> None:
    """Chunks that are looked at in one call are looked at again one by one; the one to blame is not checkable."""

    class CrashingOverPage2(Watched):
        async def call(self, size_bytes: int, function: str, *args: Any) -> Any:
            if function == proving._PROVE and "2" in [str(pages) for pages, _ in args[1]]:
                raise SandboxError("reading it crashed the reader")
            return await super().call(size_bytes, function, *args)

    prepare(workspace)
    read(workspace, Sandbox(1))
    forget_proofs(workspace)

    assert read(workspace, CrashingOverPage2()) == 0
    assert checks(workspace) == ["verified", "not_checkable", "verified"]
