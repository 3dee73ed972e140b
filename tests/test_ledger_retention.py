"""What no file needs any more is removed when it was unused for long enough, and what it cost stays known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.domain import (
    Answer,
    ChunkProof,
    ChunkState,
    Content,
    DocumentStatus,
    Exchange,
    Failure,
    FailureClass,
    PageRange,
    Remembered,
    RunInfo,
    RunStatus,
    SourceFile,
    Spending,
    ToRemember,
    Usage,
)
from pipeline.ledger import Ledger, NewChunk, Settled
from tests.conftest import Workspace, clause, write_pdf

FOLDER = Path("/docs")
FIRST_NIGHT = datetime(2026, 3, 1, 2, tzinfo=UTC)
KEEP_DAYS = 30
EVERYTHING = ("contents", "chunks", "answers", "proofs", "attempts")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.writing(tmp_path / "state.sqlite3") as opened:
        yield opened


def night(number: int) -> datetime:
    return FIRST_NIGHT + timedelta(days=number)


def rows(folder: Path) -> dict[str, int]:
    """How many rows are left of what is kept for a content."""
    database = sqlite3.connect(folder / "state.sqlite3")
    count = "SELECT count(*) FROM {}"
    counts = {name: database.execute(count.format(name)).fetchone()[0] for name in EVERYTHING}
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()
    return counts


def a_run(ledger: Ledger, number: int, contents: Iterable[str] = (), job: str = "job", cost_usd: float = 0.5) -> None:
    """A run on the night with this number, which pays for one answer of each content, at the second try."""
    run = f"{job}-{number}"
    when = night(number).isoformat()
    begun = RunInfo(run, when, "", RunStatus.RUNNING, -1, "custom", "m", "1.0")
    ledger.begin_run(job, begun)
    for content in contents:
        chunk = NewChunk(f"c-{content}", content, PageRange(1, 1))
        ledger.record_contents([Content(content, 10, 1)], "reader")
        trouble = Failure(FailureClass.TRANSIENT, "529", Exchange(529, "q", 1.0))
        answer = Answer({"summary": "S.", "risks": []}, Exchange(200, "q", 1.0, "m", Usage(100, 10)))
        for outcome, state, usd in ((trouble, ChunkState.FAILED, None), (answer, ChunkState.ANSWERED, cost_usd)):
            with ledger.transaction():
                attempt = ledger.begin(chunk, run, when)
                ledger.settle(Settled(attempt, chunk.id, outcome, state, when, usd), run)
        with ledger.transaction():
            ledger.record_proof(chunk.id, ChunkProof(()), 1)
    ended = RunInfo(run, when, when, RunStatus.COMPLETE, 0, "custom", "m", "1.0")
    ledger.finish_run(ended)


def seen(ledger: Ledger, *contents: str | None, job: str = "job") -> None:
    """What the scan of a job finds: files with these contents, None for one that cannot be read."""
    ledger.record_scan(job, FOLDER, [SourceFile(f"{n}.pdf", 1, 1, content) for n, content in enumerate(contents)])


def test_what_was_unused_for_long_enough_is_removed_whole(ledger: Ledger, tmp_path: Path) -> None:
    """On the first night after so many days, not one before; what a file has stays."""
    seen(ledger, "gone", "here")
    a_run(ledger, 0, ["gone", "here"])
    seen(ledger, "here")
    a_run(ledger, 1)

    assert ledger.remove_unused(night(1), KEEP_DAYS) == 0
    assert ledger.remove_unused(night(1 + KEEP_DAYS) - timedelta(seconds=1), KEEP_DAYS) == 0
    assert set(rows(tmp_path).values()) == {2, 4}
    assert ledger.remove_unused(night(1 + KEEP_DAYS), KEEP_DAYS) == 1

    assert rows(tmp_path) == {"contents": 1, "chunks": 1, "answers": 1, "proofs": 1, "attempts": 2}
    assert list(ledger.chunks()) == ["c-here"]


def test_what_removed_requests_cost_stays_known(ledger: Ledger) -> None:
    """Requests, retries, recovered chunks, tokens and dollars over all runs are those from before."""
    a_run(ledger, 0, ["a", "b"], cost_usd=0.5)
    a_run(ledger, 1, ["c"], cost_usd=0.25)
    a_run(ledger, 2)
    before = ledger.spending()
    ledger.remove_unused(night(2), KEEP_DAYS)

    assert ledger.remove_unused(night(40), KEEP_DAYS) == 3

    assert ledger.chunks() == {}
    assert ledger.spending() == before
    assert before == Spending(6, 3, 3, Usage(300, 30), 1.25, 1.25, 1.25, 0)
    a_run(ledger, 50, ["d"])
    assert ledger.spending().requests == 8


def test_an_unknown_cost_stays_unknown(ledger: Ledger) -> None:
    """A request cut off by a kill may have been billed, also after it was removed."""
    with ledger.transaction():
        ledger.begin(NewChunk("c", "k", PageRange(1, 1)), "r0", night(0).isoformat())
    ledger.remove_unused(night(0), KEEP_DAYS)

    assert ledger.remove_unused(night(40), KEEP_DAYS) == 1
    assert (ledger.cut_off_attempts(), ledger.spending().cost_usd, ledger.spending().unpriced) == (0, None, 1)


def test_a_file_that_comes_back_begins_anew(ledger: Ledger) -> None:
    """The days in which it was gone before do not count."""
    a_run(ledger, 0, ["k"])
    a_run(ledger, 1)
    ledger.remove_unused(night(1), KEEP_DAYS)
    seen(ledger, "k")
    ledger.remove_unused(night(20), KEEP_DAYS)
    seen(ledger)

    assert ledger.remove_unused(night(40), KEEP_DAYS) == 0
    assert ledger.remove_unused(night(40 + KEEP_DAYS), KEEP_DAYS) == 1


def test_a_file_of_another_job_keeps_its_content(ledger: Ledger) -> None:
    """Every job in the ledger counts, whenever it ran last."""
    a_run(ledger, 0, ["k"])
    seen(ledger, "k", job="other")
    a_run(ledger, 1)
    ledger.remove_unused(night(1), KEEP_DAYS)

    assert ledger.remove_unused(night(500), KEEP_DAYS) == 0
    assert list(ledger.chunks()) == ["c-k"]


def test_nothing_is_removed_while_a_file_cannot_be_read(ledger: Ledger) -> None:
    """It may hold what would be removed."""
    a_run(ledger, 0, ["k"])
    a_run(ledger, 1)
    ledger.remove_unused(night(1), KEEP_DAYS)
    seen(ledger, None)

    assert ledger.remove_unused(night(500), KEEP_DAYS) == 0
    seen(ledger)
    assert ledger.remove_unused(night(501), KEEP_DAYS) == 1


def test_what_the_last_run_of_a_job_sent_stays(ledger: Ledger) -> None:
    """Its status tells of it, however long ago it was."""
    a_run(ledger, 0, ["k"], job="old")
    a_run(ledger, 1)
    ledger.remove_unused(night(1), KEEP_DAYS)

    assert ledger.remove_unused(night(500), KEEP_DAYS) == 0


def test_what_the_next_report_is_compared_with_stays(ledger: Ledger) -> None:
    """A document that the last report had is not forgotten before one without it."""
    a_run(ledger, 0, ["k"])
    run = RunInfo("job-1", night(1).isoformat(), "", RunStatus.RUNNING, -1, "custom", "m", "1.0")
    ledger.begin_run("job", run)
    had = Remembered("k.pdf", "k", 1, DocumentStatus.DONE, ())
    ledger.finish_run(run, to_remember=ToRemember(False, (had,), ()))
    ledger.remove_unused(night(1), KEEP_DAYS)

    assert ledger.remove_unused(night(500), KEEP_DAYS) == 0


def test_what_is_in_a_batch_stays_until_it_ended(ledger: Ledger, tmp_path: Path) -> None:
    """Its results are paid for; then its requests go with their attempts."""
    a_run(ledger, 0, ["k"])
    a_run(ledger, 1)
    database = sqlite3.connect(tmp_path / "state.sqlite3")
    database.execute("INSERT INTO batches (id, account, begun_at) VALUES ('b', 'a', '')")
    database.execute("INSERT INTO batched VALUES (1, 'b', 'b-1', 10, 1, 0, NULL)")
    database.commit()
    ledger.remove_unused(night(1), KEEP_DAYS)

    assert ledger.remove_unused(night(500), KEEP_DAYS) == 0
    database.execute("UPDATE batches SET ended_at = ''")
    database.commit()
    assert ledger.remove_unused(night(501), KEEP_DAYS) == 1
    assert database.execute("SELECT (SELECT count(*) FROM batched), (SELECT count(*) FROM batches)").fetchone() == (
        0,
        0,
    )
    database.close()


def test_old_runs_go_when_nothing_is_left_of_them(ledger: Ledger, tmp_path: Path) -> None:
    """The last hundred of each job stay, and those that paid for what is still needed."""
    seen(ledger, "here")
    for number in range(105):
        a_run(ledger, number, ["here"] if number == 1 else [])

    ledger.remove_unused(night(200), KEEP_DAYS)

    database = sqlite3.connect(tmp_path / "state.sqlite3")
    kept = [row[0] for row in database.execute("SELECT id FROM runs ORDER BY rowid")]
    database.close()
    assert kept == ["job-1", *(f"job-{number}" for number in range(5, 105))]


def test_an_answer_of_unknown_content_stays(ledger: Ledger) -> None:
    """A salvage may have found an answer without its chunk; nobody can say that no file has it."""
    a_run(ledger, 0, [""])
    a_run(ledger, 1)
    ledger.remove_unused(night(1), KEEP_DAYS)

    assert ledger.remove_unused(night(500), KEEP_DAYS) == 0


@pytest.mark.parametrize(("ledger_settings", "left"), [({}, 2), ({"keep_days": 1}, 1)])
def test_only_a_job_that_says_so_removes_anything(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, ledger_settings: dict[str, object], left: int
) -> None:
    """A run that came to its end removes what its job lets go; the other keeps everything."""
    write_pdf(workspace.docs / "stays.pdf", [clause(1)])
    goes = write_pdf(workspace.docs / "goes.pdf", [clause(2)])
    workspace.write_job(ledger=ledger_settings)
    workspace.run()
    goes.unlink()
    workspace.run()
    workspace.run()  # the last two reports are kept to compare with
    database = sqlite3.connect(workspace.ledger)
    database.execute("UPDATE unused SET since = '2026-01-01T00:00:00.000+00:00'")
    database.commit()

    result = workspace.run()

    assert database.execute("SELECT count(*) FROM answers").fetchone()[0] == left
    database.close()
    assert [document.path for document in result.documents] == ["stays.pdf"]
    assert workspace.run().spending.requests == 0
