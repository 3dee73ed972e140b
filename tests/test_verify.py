"""What is wrong with the books is found and said; a file that changed is no damage."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from pipeline import job, verify
from pipeline.ledger_salvage import salvage
from tests.conftest import Workspace, clause, write_pdf


@pytest.fixture
def books(workspace: Workspace) -> Workspace:
    """A job of three documents that were read."""
    for number in range(3):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number), clause(number + 10)])
    workspace.write_job(split={"max_pages": 1}, prompt={"synthesis": False})
    workspace.run()
    return workspace


def verified(workspace: Workspace) -> verify.Verified:
    return verify.verify_job(job.load(workspace.job_file))


def change(ledger: Path, *statements: str) -> None:
    """What a person with another program may do to the ledger."""
    database = sqlite3.connect(ledger)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def test_books_in_order_are_in_order(books: Workspace) -> None:
    """Every file was hashed, and there is nothing to say."""
    assert verified(books) == verify.Verified(3, (), ())


def test_before_the_first_run_all_files_are_new(workspace: Workspace) -> None:
    """An empty ledger is in order."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()

    assert verified(workspace) == verify.Verified(1, (), ("a.pdf is new since the last run",))


def test_files_that_changed_are_named_and_no_damage(books: Workspace) -> None:
    """The next run reads them."""
    write_pdf(books.docs / "0.pdf", [clause(7)])
    (books.docs / "1.pdf").unlink()
    write_pdf(books.docs / "new\n.pdf", [clause(8)])

    assert verified(books) == verify.Verified(
        3,
        (),
        (
            "0.pdf changed since the last run",
            "1.pdf is gone since the last run",
            "new\\n.pdf is new since the last run",
        ),
    )


def test_a_file_that_changed_unnoticed_is_found(books: Workspace) -> None:
    """Its size and time are the same, so that a run takes it for unchanged until it is touched."""
    path = books.docs / "0.pdf"
    facts = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert books.run().spending.requests == 0

    [line] = verified(books).wrong

    assert line.startswith("0.pdf has other bytes")
    assert "touch" in line
    path.touch()
    books.run()
    assert verified(books).wrong == ()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM answers WHERE rowid_of", "1 chunks count as answered and have no answer"),
        ("UPDATE answers SET result = substr(result, 1, 40) WHERE rowid_of", "1 answers are no JSON object"),
        ("UPDATE answers SET result = '[]' WHERE rowid_of", "1 answers are no JSON object"),
        ("UPDATE proofs SET proof = '{' WHERE rowid_of", "1 proofs are no JSON"),
        ("DELETE FROM chunks WHERE id IN (SELECT chunk FROM answers WHERE rowid_of)", "left without its row of chunks"),
        ("UPDATE contents SET scans = ''", "3 contents have facts"),
        ("UPDATE reported SET risks = ''", "1 runs reported what is no JSON"),
    ],
)
def test_rows_that_do_not_fit_are_found_and_salvage_mends_them(books: Workspace, statement: str, words: str) -> None:
    """Each kind by its name; afterwards the next run puts right what was lost."""
    change(books.ledger, statement.replace("rowid_of", "chunk = (SELECT min(chunk) FROM proofs)"))

    found = verified(books)

    assert words in " ".join(found.wrong)
    assert all("salvage" in line for line in found.wrong)
    assert salvage(books.ledger, "T") is not None
    assert books.run().run.exit_code == 0
    assert verified(books).wrong == ()


def test_a_damaged_file_is_found(books: Workspace) -> None:
    """Wherever the damage lies."""
    with books.ledger.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"garbage " * 512)

    assert all("salvage" in line for line in verified(books).wrong)
    assert verified(books).wrong


def test_a_page_that_was_reported_and_has_no_answer_is_found(books: Workspace) -> None:
    """Nothing is damaged, and yet the report says more than the ledger: the next run asks again."""
    second = "first_page = 2 AND content = (SELECT sha256 FROM files WHERE path = x'302e706466')"
    change(
        books.ledger,
        f"UPDATE chunks SET state = 'open' WHERE {second}",  # noqa: S608 - a constant
        "DELETE FROM proofs WHERE chunk IN (SELECT id FROM chunks WHERE state = 'open')",
        "DELETE FROM answers WHERE chunk IN (SELECT id FROM chunks WHERE state = 'open')",
    )

    assert verified(books).wrong == ("0.pdf was reported as done, and no answer has page 2; `docpipe run` asks for it",)
    assert books.run().spending.requests == 1
    assert verified(books).wrong == ()


def test_what_a_salvage_could_not_bring_back_is_a_note(books: Workspace) -> None:
    """The spending is too low, and nothing can be done about it."""
    change(books.ledger, "DELETE FROM attempts")

    assert verified(books).wrong == ()
    [note] = verified(books).notes
    assert note.startswith("6 answers came from requests that are not known")


def test_the_command_ends_with_code_8_when_something_is_wrong(books: Workspace) -> None:
    """And with 0 otherwise; as JSON too. Without --verify the status as JSON."""
    where = str(books.job_file)
    assert books.docpipe("status", where, "--verify")[:2] == (0, "ok     the ledger is in order; 3 files were hashed\n")
    code, out, _ = books.docpipe("status", where, "--json")
    status = json.loads(out)
    assert (code, status["job"], status["run"]["status"], status["all_runs"]["requests"]) == (0, "job", "complete", 6)
    change(books.ledger, "DELETE FROM answers")
    code, out, _ = books.docpipe("status", where, "--verify", "--json")
    assert (code, list(json.loads(out))) == (8, ["job", "files", "wrong", "notes"])
    assert books.docpipe("status", where)[0] == 8
