"""What can be read of a damaged ledger is saved, whatever is overwritten in it, and the damaged file is kept."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline import ledger_salvage
from pipeline.domain import Answer, ChunkState, Content, Exchange, PageRange, RunInfo, RunStatus, SourceFile, Usage
from pipeline.errors import LedgerError
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.messages import chunk_id
from pipeline.serve import Endpoint, running
from tests.conftest import Workspace, clause, write_pdf

WHEN = "2026-11-22T02:00:00Z"
CONTENTS = 80
PAGE_BYTES = 4096


def filled(path: Path) -> Path:
    """A ledger of three answers for each content, some longer than a page of the file."""
    chance = random.Random(7)
    with Ledger.writing(path) as ledger:
        ledger.begin_run("job", RunInfo("r1", WHEN, "", RunStatus.RUNNING, -1, "custom", "m", "1.0"))
        hashes = [f"{chance.getrandbits(256):064x}" for _ in range(CONTENTS)]
        ledger.record_scan(
            "j", Path("/docs"), [SourceFile(f"{n}.pdf", 1, 1, sha256) for n, sha256 in enumerate(hashes)]
        )
        ledger.record_contents([Content(sha256, 1, 3) for sha256 in hashes], "reader")
        for sha256 in hashes:
            for page in (1, 2, 3):
                pages = PageRange(page, page)
                chunk = chunk_id(sha256, pages, "print")
                text = "".join(chance.choices("abcdefgh ", k=chance.randrange(100, 9000)))
                answer = Answer({"summary": text, "risks": []}, Exchange(200, "q", 1.0, "m", Usage(10, 5)))
                with ledger.transaction():
                    attempt = ledger.begin(NewChunk(chunk, sha256, pages), "r1", WHEN)
                    ledger.settle(Settled(attempt, chunk, answer, ChunkState.ANSWERED, WHEN, 0.5), "r1")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger before it is damaged."""
    return filled(tmp_path_factory.mktemp("whole") / "state.sqlite3")


def answers(path: Path) -> dict[str, str]:
    """Every answer of a ledger in order, by its chunk."""
    database = sqlite3.connect(path)
    found = dict(database.execute("SELECT chunk, result FROM answers").fetchall())
    database.close()
    return found


def reachable(path: Path, ids: Sequence[str]) -> dict[str, str]:
    """The answers that a read of one row at a time still gets out of a damaged ledger, undamaged."""
    found = {}
    database = sqlite3.connect(path)
    for one in ids:
        try:
            row = database.execute("SELECT result FROM answers WHERE chunk = ?", (one,)).fetchone()
            if row and isinstance(json.loads(row[0]), dict):
                found[one] = row[0]
        except (sqlite3.DatabaseError, ValueError):
            continue
    database.close()
    return found


def overwrite(path: Path, pages: Sequence[int], garbage: bytes) -> None:
    """Pages of the file, counted from 1, hold something else."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE_BYTES)
            file.write((garbage * PAGE_BYTES)[:PAGE_BYTES])


def first_pages(path: Path) -> int:
    """How many pages the schema takes, without which nothing can be read."""
    database = sqlite3.connect(path)
    roots = [row[0] for row in database.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0")]
    database.close()
    return int(max(roots))


@pytest.mark.parametrize(
    ("garbage", "count"), [(b"\0", 4), (b"\xff", 1), (b"garbage ", 40), (b"\x0d\0\0\0\5", 150), (b"\0", 150)]
)
def test_no_answer_that_can_be_read_is_lost(whole: Path, tmp_path: Path, garbage: bytes, count: int) -> None:
    """Whichever pages are overwritten: what a read row by row reaches is in the new ledger, word for word."""
    path = tmp_path / "state.sqlite3"
    shutil.copyfile(whole, path)
    before = answers(whole)
    pages = path.stat().st_size // PAGE_BYTES
    chosen = random.Random(count).sample(range(first_pages(path) + 1, pages + 1), count)
    overwrite(path, chosen, garbage)
    damaged = path.read_bytes()
    still = reachable(path, list(before))

    saved = ledger_salvage.salvage(path, "T")

    assert saved is not None
    assert saved.kept_as == tmp_path / "state.sqlite3.damaged-T"
    assert saved.kept_as.read_bytes() == damaged
    after = reachable(path, list(before))
    assert still.items() <= after.items() <= before.items()
    with Ledger.writing(path) as ledger:
        answered = {c for c, record in ledger.chunks().items() if record.state is ChunkState.ANSWERED}
    assert answered == set(after)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(("-wal", "-shm"))) == [
        "state.sqlite3", "state.sqlite3.damaged-T",
    ]  # fmt: skip


def test_the_next_run_pays_for_lost_answers_alone(workspace: Workspace) -> None:
    """The rest is found again, and the reports are complete."""
    for number in range(30):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        workspace.run()
        before = answers(workspace.ledger)
        bytes_now = workspace.ledger.read_bytes()
        leaves = [n // PAGE_BYTES + 1 for n in range(0, len(bytes_now), PAGE_BYTES)
                  if b'{"summary":' in bytes_now[n : n + PAGE_BYTES]]  # fmt: skip
        overwrite(workspace.ledger, leaves[1:4], b"garbage ")

        saved = ledger_salvage.salvage(workspace.ledger, "T")
        kept = reachable(workspace.ledger, list(before))
        endpoint.seen.clear()
        result = workspace.run()

    assert saved is not None
    assert 0 < len(kept) < len(before) == 30
    assert len(endpoint.seen) == len(before) - len(kept)
    assert result.run.exit_code == 0


def test_what_lay_in_the_log_is_saved_too(whole: Path, tmp_path: Path) -> None:
    """A kill leaves answers in the file beside; it is kept under the damaged ledger's name."""
    path, log = tmp_path / "state.sqlite3", tmp_path / "state.sqlite3-wal"
    shutil.copyfile(whole, tmp_path / "other")
    database = sqlite3.connect(tmp_path / "other", isolation_level=None)
    database.execute("PRAGMA wal_autocheckpoint = 0")
    chunk = "0" * 64
    database.execute("INSERT INTO chunks (id, content, state) VALUES (?, 'k', 'answered')", (chunk,))
    database.execute("INSERT INTO answers VALUES (?, '{}', 'm', NULL, 'r1')", (chunk,))
    shutil.copyfile(tmp_path / "other", path)
    shutil.copyfile(tmp_path / "other-wal", log)
    database.close()
    overwrite(path, [path.stat().st_size // PAGE_BYTES], b"garbage ")
    lay_there = log.read_bytes()

    assert ledger_salvage.salvage(path, "T") is not None

    assert not log.exists()
    assert (tmp_path / "state.sqlite3.damaged-T-wal").read_bytes() == lay_there
    assert reachable(path, [chunk]) == {chunk: "{}"}


def test_a_ledger_in_order_is_left_alone(whole: Path) -> None:
    """There is nothing to save."""
    before = whole.read_bytes()

    assert ledger_salvage.salvage(whole, "T") is None
    assert whole.read_bytes() == before


def test_an_answer_of_which_the_chunk_is_lost_is_found_by_its_id(whole: Path, tmp_path: Path) -> None:
    """What is not known of it, its pages and its content, nobody needs to find it."""
    path = tmp_path / "state.sqlite3"
    shutil.copyfile(whole, path)
    database = sqlite3.connect(path)
    [(root,)] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'chunks'")
    database.close()
    overwrite(path, [root], b"garbage ")

    saved = ledger_salvage.salvage(path, "T")

    assert saved is not None
    assert saved.damaged == ("chunks",)
    assert reachable(path, list(answers(whole))) == answers(whole)
    with Ledger.reading(path) as ledger:
        assert {record.state for record in ledger.chunks().values()} == {ChunkState.ANSWERED}


@pytest.mark.parametrize(("table", "stays"), [("answers", True), ("identity", False)])
def test_a_ledger_that_was_saved_is_the_same_ledger(whole: Path, tmp_path: Path, table: str, stays: bool) -> None:
    """So that what is held elsewhere for it is found; where its own id cannot be read it gets another."""
    path = tmp_path / "state.sqlite3"
    shutil.copyfile(whole, path)
    with Ledger.reading(path) as ledger:
        before = ledger.identity()
    database = sqlite3.connect(path)
    roots = [root for (root,) in database.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = ?", (table,))]
    database.close()
    overwrite(path, roots, b"garbage ")

    saved = ledger_salvage.salvage(path, "T")

    assert saved is not None
    assert saved.rows["identity"] == 1
    with Ledger.reading(path) as ledger:
        assert (ledger.identity() == before) is stays


@pytest.mark.parametrize("garbage", [b"garbage ", b"\0"])
def test_a_ledger_of_which_nothing_can_be_read_is_left_alone(whole: Path, tmp_path: Path, garbage: bytes) -> None:
    """Without its first page nothing can be found; the message says what is left to do."""
    path = tmp_path / "state.sqlite3"
    shutil.copyfile(whole, path)
    overwrite(path, [1], garbage)
    before = path.read_bytes()

    with pytest.raises(LedgerError):
        ledger_salvage.salvage(path, "T")

    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.sqlite3"]


def test_no_ledger_is_said(tmp_path: Path) -> None:
    """Nothing is made in its place."""
    with pytest.raises(LedgerError, match="there is no ledger"):
        ledger_salvage.salvage(tmp_path / "state.sqlite3", "T")
    assert list(tmp_path.iterdir()) == []
