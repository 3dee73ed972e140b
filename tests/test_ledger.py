"""What the ledger keeps, through kills too, and which files it refuses to take for one."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import ledger_file
from pipeline.domain import (
    RULES_MODEL,
    Answer,
    Box,
    Change,
    ChunkProof,
    ChunkRecord,
    ChunkState,
    Content,
    Exchange,
    Failure,
    FailureClass,
    MediaType,
    Outcome,
    PageRange,
    Proof,
    QuoteCheck,
    Risk,
    RunInfo,
    RunStatus,
    Severity,
    SourceFile,
    Spending,
    Split,
    Usage,
)
from pipeline.errors import ExitCode, LedgerError, LockedError
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.ledger_file import Lock
from pipeline.storage import Url

ROOT = Path(__file__).resolve().parents[1]
WHEN = "2026-11-22T02:00:00Z"
FOLDER = Path("/docs")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "job.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.writing(path) as opened:
        yield opened


def begun(ledger: Ledger, chunk: str = "c1", run: str = "r1", content: str = "k1") -> int:
    with ledger.transaction():
        return ledger.begin(NewChunk(chunk, content, PageRange(1, 2)), run, WHEN)


def settled(
    ledger: Ledger, attempt: int, outcome: Outcome, state: ChunkState, cost_usd: float | None = None,
    chunk: str = "c1", run: str = "r1",
) -> None:  # fmt: skip
    with ledger.transaction():
        ledger.settle(Settled(attempt, chunk, outcome, state, WHEN, cost_usd), run)


def tried(
    ledger: Ledger, outcome: Outcome, state: ChunkState, cost_usd: float | None = None, chunk: str = "c1",
    run: str = "r1", content: str = "k1",
) -> None:  # fmt: skip
    """One attempt from its begin to its end."""
    settled(ledger, begun(ledger, chunk, run, content), outcome, state, cost_usd, chunk, run)


USED = Usage(100, 10)


def unsent(ledger: Ledger, outcome: Failure | Split, state: ChunkState, chunk: str = "c1") -> None:
    """What became of a chunk that could not be sent at all."""
    with ledger.transaction():
        ledger.record_unsent(NewChunk(chunk, "k1", PageRange(1, 2)), outcome, state)


def answer(result: Any = None, usage: Usage | None = USED) -> Answer:
    return Answer(result or {"summary": "S."}, Exchange(200, "req_1", 1.5, "model-1", usage))


def trouble(
    status: int | None = 529,
    usage: Usage | None = None,
    kind: FailureClass = FailureClass.TRANSIENT,
    sent: bool = False,
) -> Failure:
    return Failure(kind, "529: Overloaded", Exchange(status, "req_0", 0.1, None, usage, sent=sent))


def a_run(run: str = "r1", started_at: str = WHEN, **more: Any) -> RunInfo:
    facts: dict[str, Any] = {"finished_at": "", "status": RunStatus.RUNNING, "exit_code": -1} | more
    return RunInfo(run, started_at, endpoint="offline", model="m", version="1.0", **facts)


ANSWERED, FAILED, OPEN, SPLIT = ChunkState.ANSWERED, ChunkState.FAILED, ChunkState.OPEN, ChunkState.SPLIT


# --- files and contents


def test_paths_that_are_not_utf8_come_back(ledger: Ledger) -> None:
    """Every name that the scanner may find is found again, quotes, newlines and raw bytes too."""
    names = [os.fsdecode(name) for name in (b"a.pdf", b"\xff\xfe.pdf", b"l\nb'\".pdf", "合同.pdf".encode(), b"x" * 250)]
    files = {name: SourceFile(name, 2**40, 2**62, "ab" * 32) for name in names}
    files["bad.pdf"] = SourceFile("bad.pdf", 0, 0, None, "the file cannot be read")

    ledger.record_scan("j", FOLDER, files.values())

    assert ledger.files("j", FOLDER) == files


def test_files_behind_a_url_come_back_with_their_etag(ledger: Ledger) -> None:
    """They are those of that URL alone; a folder of the same letters is another."""
    file = SourceFile("a ü.pdf", 1, 2, "aa", None, '"0c8b9c"')

    ledger.record_scan("j", Url("s3://bucket/docs"), [file])

    assert ledger.files("j", Url("s3://bucket/docs")) == {"a ü.pdf": file}
    assert ledger.files("j", Path("s3://bucket/docs")) == {}


def test_a_scan_replaces_the_one_before(ledger: Ledger) -> None:
    """What is no longer in the folder is no longer among the files."""
    ledger.record_scan("j", FOLDER, [SourceFile("a.pdf", 1, 1, "aa"), SourceFile("b.pdf", 1, 1, "bb")])
    ledger.record_scan("j", FOLDER, [SourceFile("b.pdf", 2, 2, "cc")])

    assert ledger.files("j", FOLDER) == {"b.pdf": SourceFile("b.pdf", 2, 2, "cc")}


def test_what_one_reader_could_not_open_another_looks_at_again(ledger: Ledger) -> None:
    """Pages once counted stay known; a problem is known only for the version that had it."""
    good = Content("aa", 10, 3, encrypted=True, media_type=MediaType.TIFF)
    bad = Content("bb", 10, None, problem="not a PDF")
    for content in (good, bad):
        ledger.record_contents([content], "pypdf 1")

    assert ledger.contents("pypdf 1") == {"aa": good, "bb": bad}
    assert ledger.contents("pypdf 2") == {"aa": good}

    ledger.record_contents([Content("bb", 10, 7)], "pypdf 2")
    assert ledger.contents("pypdf 1")["bb"].pages == 7


# --- chunks


def test_an_answer_comes_back_as_it_was(ledger: Ledger) -> None:
    """The JSON object with any text, the model, the request and how often it was tried."""
    result = {"summary": "合同 \u2028 'q' \x00", "risks": [{"page": None}, {"page": 10**30}], "key_dates": []}
    tried(ledger, trouble(), OPEN)
    tried(ledger, answer(result), ANSWERED, 0.5)

    assert ledger.full_record("c1") == ChunkRecord(ANSWERED, None, None, 2, "req_1", result, "model-1")
    assert ledger.chunks() == {"c1": ChunkRecord(ANSWERED, model="model-1")}


def test_a_failure_comes_back_with_its_reason(ledger: Ledger) -> None:
    """Class, reason, attempts and the id of the last request."""
    tried(ledger, trouble(kind=FailureClass.OURS), FAILED)

    record = ChunkRecord(FAILED, FailureClass.OURS, "529: Overloaded")
    assert ledger.chunks() == {"c1": record}
    assert ledger.full_record("c1") == ChunkRecord(FAILED, FailureClass.OURS, "529: Overloaded", 1, "req_0")


def test_an_unknown_chunk_is_open(ledger: Ledger) -> None:
    """What the ledger never saw was never sent."""
    assert ledger.full_record("c9") == ChunkRecord(OPEN)


def test_a_split_chunk_was_not_sent(ledger: Ledger) -> None:
    """Halving before sending is no attempt."""
    unsent(ledger, Split("too large"), SPLIT)

    assert ledger.full_record("c1") == ChunkRecord(SPLIT, None, "too large", 0)


def test_an_answer_is_never_undone(ledger: Ledger) -> None:
    """A late failure of the same chunk, or a second answer, does not touch the first."""
    first, second = begun(ledger), begun(ledger)
    third = begun(ledger)
    settled(ledger, first, answer({"summary": "first"}), ANSWERED)
    settled(ledger, second, answer({"summary": "second"}), ANSWERED)
    settled(ledger, third, trouble(), FAILED)

    record = ledger.full_record("c1")
    assert (record.state, record.result, record.failure) == (ANSWERED, {"summary": "first"}, None)


def test_an_unsent_failure_has_its_reason_and_undoes_no_answer(ledger: Ledger) -> None:
    """It is a failure without an attempt; a chunk that was answered stays answered."""
    tried(ledger, answer(), ANSWERED, chunk="c1")
    for chunk in ("c1", "c2"):
        unsent(ledger, Failure(FailureClass.DOCUMENT, "cannot be cut"), FAILED, chunk)

    assert ledger.full_record("c1").state is ANSWERED
    assert ledger.full_record("c2") == ChunkRecord(FAILED, FailureClass.DOCUMENT, "cannot be cut", 0)


def test_an_attempt_in_flight_leaves_its_chunk_open(ledger: Ledger) -> None:
    """Cut off by a kill, it is sent again, and is known to have been under way."""
    ledger.begin_run("j", a_run())
    begun(ledger)

    assert ledger.chunks() == {"c1": ChunkRecord(OPEN)}
    assert ledger.full_record("c1").attempts == 1
    assert ledger.cut_off_attempts() == 1

    # However the run ended: what has no end may have been billed.
    ledger.finish_run(a_run(finished_at=WHEN, status=RunStatus.STOPPED, exit_code=130))
    assert ledger.cut_off_attempts() == 1


def test_contents_are_known_by_what_was_asked(ledger: Ledger) -> None:
    """Ever, and in one run."""
    tried(ledger, answer(), ANSWERED, chunk="c1", run="r1", content="k1")
    tried(ledger, trouble(), FAILED, chunk="c2", run="r2", content="k2")

    assert ledger.answered_contents() == {"k1"}
    assert ledger.contents_sent_in("r2") == {"k2"}


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    """An exception inside takes everything back, and the next transaction works."""

    def interrupted() -> None:
        with ledger.transaction():
            ledger.begin(NewChunk("c1", "k1", None), "r1", WHEN)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert ledger.chunks() == {}
    begun(ledger)
    assert set(ledger.chunks()) == {"c1"}


def test_an_answer_that_json_cannot_spell_is_not_written(ledger: Ledger) -> None:
    """NaN would make the file unreadable for others; nothing of the attempt's end is kept."""
    attempt = begun(ledger)

    with pytest.raises(ValueError, match="not JSON compliant"):
        settled(ledger, attempt, answer({"summary": float("nan")}), ANSWERED)

    assert ledger.full_record("c1").state is OPEN


def proven(ledger: Ledger, proof: ChunkProof, prover: int = 1, chunk: str = "c1") -> None:
    with ledger.transaction():
        ledger.record_proof(chunk, proof, prover)


PROOF = ChunkProof(
    (
        Proof(QuoteCheck.PAGE_CORRECTED, 7, boxes=(Box(0.1, 0.2, 0.3, 0.4), Box(0.0, 0.5, 1.0, 1.0))),
        Proof(QuoteCheck.ALTERED, None, found="合同 \u2028 '; DROP TABLE proofs; --"),
    ),
    planted=(
        Risk("t", "c", Severity.HIGH, 3, "q", "e", "r", QuoteCheck.VERIFIED, 2, "f", (Box(0.0, 0.0, 0.5, 0.5),), True),
        Risk("t", "c", Severity.LOW, None, "q", "e", "r", change=Change.NEW),
    ),
)


def test_a_proof_comes_back_as_it_was(ledger: Ledger) -> None:
    """With its chunk's answer; a later one takes its place."""
    tried(ledger, answer(), ANSWERED)
    assert ledger.full_record("c1").proof is None

    proven(ledger, ChunkProof(()))
    proven(ledger, PROOF)

    assert ledger.full_record("c1").proof == PROOF


def test_what_no_prover_or_another_one_saw_is_unproven(ledger: Ledger) -> None:
    """Answered chunks of pages alone; a synthesis has no quotes."""
    for chunk in ("c1", "c2"):
        tried(ledger, answer(), ANSWERED, chunk=chunk)
    tried(ledger, trouble(), OPEN, chunk="c3")
    with ledger.transaction():
        attempt = ledger.begin(NewChunk("s1", "k1", None), "r1", WHEN)
    settled(ledger, attempt, answer(), ANSWERED, chunk="s1")
    assert ledger.unproven(1) == {"c1", "c2"}

    proven(ledger, PROOF)

    assert ledger.unproven(1) == {"c2"}
    assert ledger.unproven(2) == {"c1", "c2"}


def test_a_new_answer_is_unproven(ledger: Ledger) -> None:
    """A model's takes the place of the rules', whose proof goes; one that does not take it leaves the proof."""
    rules = replace(answer(), exchange=replace(answer().exchange, model=RULES_MODEL))
    tried(ledger, rules, ANSWERED)
    proven(ledger, PROOF)

    tried(ledger, answer(), ANSWERED)
    assert ledger.unproven(1) == {"c1"}
    assert ledger.full_record("c1").proof is None

    proven(ledger, PROOF)
    tried(ledger, answer(), ANSWERED)
    assert ledger.full_record("c1").proof == PROOF


# --- runs and money


def test_the_last_run_is_the_one_that_began_last(ledger: Ledger) -> None:
    """Running or killed, it has no end; finished, it has its status and words."""
    assert ledger.last_run("j") is None
    ledger.begin_run("j", a_run("r1", "2099-11-21T03:00:00Z"))  # a clock that was wrong
    ledger.begin_run("j", a_run("r2", "2026-11-22T03:00:00Z"))
    ledger.begin_run("another", a_run("r3", "2026-11-22T04:00:00Z"))
    assert ledger.last_run("j") == a_run("r2", "2026-11-22T03:00:00Z")

    done = a_run(
        "r2", "2026-11-22T03:00:00Z", finished_at=WHEN, status=RunStatus.STOPPED, exit_code=7, stopped_because="budget"
    )
    ledger.finish_run(done)
    assert ledger.last_run("j") == done


def test_nothing_sent_is_nothing_spent(ledger: Ledger) -> None:
    """An empty ledger knows that it cost 0, which is not unknown."""
    assert ledger.spending() == Spending() == ledger.spending("r1")


def test_retries_and_recovered_chunks_are_counted_with_their_cost(ledger: Ledger) -> None:
    """Requests that were not their chunk's first, what they cost, and which brought the answer after all."""
    tried(ledger, trouble(), OPEN, chunk="c1")
    tried(ledger, trouble(200, Usage(50, 0)), OPEN, 0.25, chunk="c1")
    tried(ledger, answer(usage=Usage(100, 10, 3, 4)), ANSWERED, 0.5, chunk="c1")
    tried(ledger, answer(), ANSWERED, 1.0, chunk="c2")

    assert ledger.spending("r1") == Spending(4, 2, 1, Usage(250, 20, 3, 4), 1.75, 0.75, 1.75)


def test_a_retry_in_a_later_run_is_a_retry(ledger: Ledger) -> None:
    """A run's spending counts its own requests, but knows the chunk's earlier ones."""
    tried(ledger, trouble(), FAILED, chunk="c1", run="r1")
    tried(ledger, answer(), ANSWERED, 0.5, chunk="c1", run="r2")

    assert ledger.spending("r1") == Spending(1, 0, 0, Usage(), 0.0, 0.0)
    assert ledger.spending("r2") == Spending(1, 1, 1, Usage(100, 10), 0.5, 0.5, 0.5)
    assert ledger.spending() == Spending(2, 1, 1, Usage(100, 10), 0.5, 0.5, 0.5)


def test_a_model_asked_for_what_rules_have_answered_is_not_asked_again(ledger: Ledger) -> None:
    """A trial at a served endpoint makes no retries of the live run's requests."""
    tried(ledger, answer(), ANSWERED, 0.0, chunk="c1", run="r1")
    tried(ledger, answer(), ANSWERED, 0.5, chunk="c1", run="r2")

    assert ledger.spending("r2") == Spending(1, 0, 0, Usage(100, 10), 0.5, 0.0, 0.5)


@pytest.mark.parametrize(
    "outcome",
    [answer(usage=None), answer(), trouble(200), trouble(500, Usage(5, 5)), trouble(None, sent=True)],
)
def test_one_unknown_cost_makes_the_sum_unknown(ledger: Ledger, outcome: Outcome) -> None:
    """What may have been billed without a known price is None, never 0; the retries' sum stays known."""
    tried(ledger, answer(), ANSWERED, 0.5, chunk="c1")
    tried(ledger, outcome, OPEN, None, chunk="c2")

    spending = ledger.spending("r1")
    assert (spending.requests, spending.cost_usd, spending.retry_cost_usd) == (2, None, 0.0)
    assert (spending.known_usd, spending.unpriced) == (0.5, 1)


def test_an_unknown_cost_of_a_retry_makes_both_sums_unknown(ledger: Ledger) -> None:
    """A retry is a request too."""
    tried(ledger, trouble(), OPEN)
    tried(ledger, answer(usage=None), ANSWERED, None)

    assert (ledger.spending().cost_usd, ledger.spending().retry_cost_usd) == (None, None)


@pytest.mark.parametrize("outcome", [trouble(None), *(trouble(status, sent=True) for status in (401, 429, 500, 529))])
def test_a_request_without_an_answer_costs_nothing(ledger: Ledger, outcome: Outcome) -> None:
    """A refusal, or a connection that broke before all had left, was not billed."""
    tried(ledger, answer(), ANSWERED, 0.5, chunk="c1")
    tried(ledger, outcome, FAILED, None, chunk="c2")

    assert (ledger.spending("r1").cost_usd, ledger.spending("r1").unpriced) == (0.5, 0)


def test_what_was_never_sent_is_no_request(ledger: Ledger) -> None:
    """A chunk too large or that cannot be cut: neither a request nor a reason to call the next one a retry."""
    unsent(ledger, Split("too large"), SPLIT, chunk="c1")
    unsent(ledger, Failure(FailureClass.DOCUMENT, "page 1 cannot be cut"), FAILED, chunk="c2")
    tried(ledger, answer(), ANSWERED, 0.5, chunk="c2")

    assert ledger.spending() == Spending(1, 0, 0, Usage(100, 10), 0.5, 0.0, 0.5)


# --- the file


def pragma(path: Path, name: str) -> Any:
    database = sqlite3.connect(path)
    try:
        return database.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        database.close()


def test_a_fresh_ledger_is_marked(path: Path) -> None:
    """Its file says whose it is and in which version, and is written ahead."""
    with Ledger.writing(path):
        pass

    assert pragma(path, "application_id") == int.from_bytes(b"docp", "big")
    assert pragma(path, "user_version") >= 1
    assert pragma(path, "journal_mode") == "wal"


def test_opening_again_keeps_everything(path: Path) -> None:
    """Migrations run once."""
    with Ledger.writing(path) as ledger:
        tried(ledger, answer(), ANSWERED)
    version = pragma(path, "user_version")

    for _ in range(2):
        with Ledger.writing(path) as ledger:
            assert ledger.chunks() == {"c1": ChunkRecord(ANSWERED, model="model-1")}
    assert pragma(path, "user_version") == version


def test_a_ledger_has_an_id_of_its_own_that_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made with it, or when an older one is migrated; two ledgers never have the same."""
    all_migrations = ledger_file._MIGRATIONS
    monkeypatch.setattr(ledger_file, "_MIGRATIONS", all_migrations[:10])
    with Ledger.writing(path):
        pass
    monkeypatch.setattr(ledger_file, "_MIGRATIONS", all_migrations)
    ids = []
    for place in (path, path, path.with_name("other")):
        with Ledger.writing(place) as ledger:
            ids.append(ledger.identity())
    with Ledger.reading(path) as ledger:
        ids.append(ledger.identity())

    assert ids[0] == ids[1] == ids[3] != ids[2]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_files_that_were_common_to_jobs_become_those_of_each(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older ledger knew one scan of a folder for all jobs: none of them reads its files again."""
    monkeypatch.setattr(ledger_file, "_MIGRATIONS", (all_migrations := ledger_file._MIGRATIONS)[:7])
    with ledger_file.writing(path) as database:
        database.execute("INSERT INTO files VALUES (?, X'612E706466', 1, 2, 'aa', NULL)", (os.fsencode(FOLDER),))
        for job in ("one", "two"):
            runs = "INSERT INTO runs (id, job, started_at, status, endpoint, model, version, fingerprint)"
            database.execute(f"{runs} VALUES (?, ?, '', 'complete', '', '', '', '')", (job, job))
    monkeypatch.setattr(ledger_file, "_MIGRATIONS", all_migrations)

    with Ledger.writing(path) as ledger:
        ledger.record_scan("two", FOLDER, [])
        known = [ledger.files(job, FOLDER) for job in ("one", "two")]

    assert known == [{"a.pdf": SourceFile("a.pdf", 1, 2, "aa")}, {}]


@pytest.mark.parametrize("name", ["job ?#%41.sqlite3", "合同.sqlite3", os.fsdecode(b"\xff.sqlite3")])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    """Characters that mean something in an address, and bytes that are not UTF-8, are just a name."""
    with Ledger.writing(tmp_path / name) as ledger:
        begun(ledger)
    with Ledger.reading(tmp_path / name) as ledger:
        assert set(ledger.chunks()) == {"c1"}

    assert all(file.name.startswith(name) for file in tmp_path.iterdir())


def test_reading_works_while_another_writes(path: Path, ledger: Ledger) -> None:
    """A reader sees what was committed, also in the middle of a transaction, and blocks nobody."""
    tried(ledger, answer(), ANSWERED, chunk="c1")

    with ledger.transaction():
        ledger.begin(NewChunk("c2", "k2", None), "r1", WHEN)
        with Ledger.reading(path) as reader:
            assert set(reader.chunks()) == {"c1"}

    with Ledger.reading(path) as reader:
        assert set(reader.chunks()) == {"c1", "c2"}


def test_a_reader_cannot_write(path: Path, ledger: Ledger) -> None:
    """``status`` cannot change the ledger by mistake."""

    def write() -> None:
        with Ledger.reading(path) as reader:
            reader.record_scan("j", FOLDER, [])

    with pytest.raises(LedgerError, match="readonly"):
        write()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.touch()])
def test_reading_what_no_run_has_written_is_reading_nothing(tmp_path: Path, make: Any) -> None:
    """Without a file, or with one that a run made a moment ago, everything is empty and nothing is made."""
    path = tmp_path / "job.sqlite3"
    make(path)
    before = sorted(tmp_path.iterdir())

    with Ledger.reading(path) as reader:
        assert (reader.files("j", FOLDER), reader.chunks(), reader.last_run("j")) == ({}, {}, None)

    assert sorted(tmp_path.iterdir()) == before


def opened(path: Path, way: str) -> None:
    with Ledger.writing(path) if way == "writing" else Ledger.reading(path) as ledger:
        ledger.chunks()


def foreign(path: Path, version: int) -> None:
    """A database of another program, which may or may not count its versions."""
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE songs (name TEXT)")
    database.execute(f"PRAGMA user_version = {version}")
    database.close()


@pytest.mark.parametrize("way", ["writing", "reading"])
def test_a_newer_ledger_is_refused(path: Path, way: str) -> None:
    """An older program does not touch what it cannot know."""
    opened(path, "writing")
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 999")
    database.close()

    with pytest.raises(LedgerError, match="newer version") as caught:
        opened(path, way)

    assert caught.value.exit_code is ExitCode.LEDGER
    assert pragma(path, "user_version") == 999


@pytest.mark.parametrize(
    ("way", "version"),
    [
        ("writing", 0),
        ("writing", 1),
        ("reading", 1),
        ("reading", 0),
    ],
)
def test_a_database_of_another_program_is_refused(tmp_path: Path, way: str, version: int) -> None:
    """Whether or not it counts its versions, and its tables stay as they are."""
    path = tmp_path / "songs.sqlite3"
    foreign(path, version)

    with pytest.raises(LedgerError, match="another program's database"):
        opened(path, way)

    assert pragma(path, "user_version") == version


def test_a_database_of_another_program_is_left_as_it_was(tmp_path: Path) -> None:
    """Not one byte of a file that is not ours is changed."""
    path = tmp_path / "songs.sqlite3"
    foreign(path, 0)
    before = path.read_bytes()

    with pytest.raises(LedgerError):
        opened(path, "writing")

    assert path.read_bytes() == before


@pytest.mark.parametrize("way", ["writing", "reading"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, way: str) -> None:
    """Garbage is told with what to do, and left as it was."""
    path = tmp_path / "job.sqlite3"
    garbage = b"title = 'a job file, not a ledger'\n" * 100
    path.write_bytes(garbage)

    with pytest.raises(LedgerError, match=r"damaged.*backup"):
        opened(path, way)

    assert path.read_bytes() == garbage


@pytest.mark.parametrize("way", ["writing", "reading"])
def test_a_folder_in_its_place_is_refused(tmp_path: Path, way: str) -> None:
    """What cannot be opened is told with its path."""
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(tmp_path, way)


# --- kills and locks


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


RECORDER = """
import sys
from pathlib import Path
from pipeline.domain import Answer, ChunkState, Exchange, PageRange, Usage
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.ledger_file import Lock
path, run = Path(sys.argv[1]), sys.argv[2]
with Lock(path), Ledger.writing(path) as ledger:
    number = 0
    while True:
        number += 1
        chunk = f"{run}-{number}"
        with ledger.transaction():
            attempt = ledger.begin(NewChunk(chunk, "k", PageRange(1, 1)), run, "t")
        outcome = Answer({"summary": chunk * 20}, Exchange(200, "q", 0.1, "m", Usage(1, 1)))
        with ledger.transaction():
            ledger.settle(Settled(attempt, chunk, outcome, ChunkState.ANSWERED, "t", 0.1), run)
        print(chunk, flush=True)
"""


def test_answers_survive_a_kill_at_any_moment(path: Path) -> None:
    """Whatever the writer had said to be on record is there after SIGKILL, and the next writer gets the lock."""
    said: list[str] = []
    for run in range(4):
        with child(RECORDER, str(path), f"r{run}") as recorder:
            assert recorder.stdout is not None
            for _ in range(random.randrange(1, 60)):
                said.append(recorder.stdout.readline().strip())
            recorder.send_signal(signal.SIGKILL)
            # The last line may be cut in its middle by the kill.
            said += [line.strip() for line in recorder.stdout if line.endswith("\n")]
        assert recorder.returncode == -signal.SIGKILL

        with Ledger.writing(path) as ledger:
            known = ledger.chunks()
            assert all(known[chunk].state is ANSWERED for chunk in said)
            assert all(ledger.full_record(chunk).result == {"summary": chunk * 20} for chunk in said)
            assert ledger.spending().requests >= len(said)
        assert pragma(path, "integrity_check") == "ok"

    assert len(set(said)) == len(said) >= 4


HOLDER = """
import sys
from pathlib import Path
from pipeline.ledger_file import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_does_not_get_the_lock_until_the_first_was_killed(path: Path) -> None:
    """It is told whose lock it is; a kill leaves nothing behind that must be cleared away."""
    with child(HOLDER, str(path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"process {holder.pid}\b") as caught, Lock(path):
            pass
        assert caught.value.exit_code is ExitCode.LOCKED
        holder.kill()
        holder.wait()

    with Lock(path):
        pass


def test_a_lock_is_free_after_its_block(path: Path) -> None:
    """Also when the block ended in an exception; and held, it keeps out the same process too."""
    with pytest.raises(ZeroDivisionError), Lock(path):
        raise ZeroDivisionError

    with Lock(path):
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), Lock(path):
            pass
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), Lock(path):
            pass  # who was refused has not freed it


def test_a_lock_names_its_present_owner_alone(path: Path) -> None:
    """What an earlier, longer note in the file said is gone."""
    path.parent.mkdir()
    path.with_name(path.name + ".lock").write_text("process 123456789 and more words\n")

    with Lock(path), pytest.raises(LockedError, match=rf"\(process {os.getpid()}\)"), Lock(path):
        pass


LOCKED_OUT = """
import os
from pathlib import Path
from pipeline.errors import LedgerError
from pipeline.ledger_file import Lock
if os.geteuid() == 0:  # permissions do not bind the superuser
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with Lock(Path("state/ledger.sqlite3")):
        print("locked")
except LedgerError as error:
    print(error)
"""


def test_a_folder_that_takes_no_file_is_told_before_anything_begins(tmp_path: Path) -> None:
    """Also where a killed run has left every file that SQLite needs: cut chunks need the folder too."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "ledger.sqlite3.lock").touch()
    (folder / "ledger.sqlite3.lock").chmod(0o666)
    folder.chmod(0o555)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOCKED_OUT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    folder.chmod(0o755)

    assert "state cannot be written" in done.stdout, done.stderr


def test_locks_of_two_ledgers_do_not_meet(tmp_path: Path) -> None:
    """Two jobs may run at once in one folder."""
    with Lock(tmp_path / "a.sqlite3"), Lock(tmp_path / "b.sqlite3"):
        assert {"a.sqlite3.lock", "b.sqlite3.lock"} <= {file.name for file in tmp_path.iterdir()}


def test_a_lock_of_unknown_words_is_shown_safely(path: Path) -> None:
    """What stands in the lock file is text that anyone may have written."""
    with Lock(path):
        path.with_name(path.name + ".lock").write_bytes(b"\x1b[31mred\xff")
        with pytest.raises(LockedError) as caught, Lock(path):
            pass

    assert "\x1b" not in str(caught.value)


def test_a_live_endpoint_may_halve_what_only_rules_have_answered(ledger: Ledger) -> None:
    """The answer of a trial does not keep a chunk from being split or failed; that of a model does."""
    tried(ledger, Answer({"summary": "rules"}, Exchange(200, model="offline-rules-1")), ANSWERED)
    tried(ledger, trouble(), ChunkState.SPLIT)
    assert ledger.full_record("c1").state is ChunkState.SPLIT
    tried(ledger, Answer({"summary": "model"}, Exchange(200, model="claude")), ANSWERED)
    tried(ledger, trouble(), ChunkState.SPLIT)
    record = ledger.full_record("c1")
    assert (record.state, record.result) == (ANSWERED, {"summary": "model"})


def test_an_answer_keeps_what_was_sent_in_the_place_of_its_pages(ledger: Ledger) -> None:
    """It stands where a failed chunk has its reason; an answer to the pages themselves has none."""
    tried(ledger, trouble(), ChunkState.FAILED)
    tried(ledger, replace(answer(), note="page 1 alone was too large"), ANSWERED)
    tried(ledger, answer(), ANSWERED, chunk="c2")
    records = [ledger.full_record(chunk) for chunk in ("c1", "c2")]
    assert [record.state for record in records] == [ANSWERED, ANSWERED]
    assert [record.reason for record in records] == ["page 1 alone was too large", None]
    assert [record.failure for record in records] == [None, None]
