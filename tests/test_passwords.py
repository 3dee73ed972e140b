"""Locked files: passwords from the environment open them, and stand nowhere afterwards."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from pipeline import job, pdf, run, splitter
from pipeline.domain import Layout, PageRange
from pipeline.errors import SettingsError
from pipeline.pdf import Inspection, Passwords, PdfError, Source, passwords_of
from pipeline.sandbox import Sandbox
from pipeline.serve import Endpoint, running
from tests.conftest import KEY, Quiet, Workspace, clause, write_pdf

NAME = "CONTRACT_PASSWORDS"
SECRET = "open sesame 4711"
ALGORITHMS = ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"]


def lock(path: Path, password: str, algorithm: str = "AES-256") -> Source:
    """Encrypt a file in its place."""
    writer = PdfWriter(clone_from=io.BytesIO(path.read_bytes()))
    writer.encrypt(password, f"owner of {password}", algorithm=algorithm)
    writer.write(path)
    facts = path.stat()
    return Source(str(path), facts.st_size, facts.st_mtime_ns)


@pytest.fixture(autouse=True)
def _no_passwords() -> object:
    yield
    splitter.use(Passwords())
    splitter._close_held()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_locked_file_opens_with_one_of_the_passwords(tmp_path: Path, algorithm: str) -> None:
    """Whatever the encryption: its pages are counted, seen and cut without it."""
    source = lock(write_pdf(tmp_path / "a.pdf", ["Hello", "There"]), SECRET, algorithm)
    splitter.use(Passwords(NAME, ("wrong", SECRET)))

    assert splitter.inspect(source) == Inspection(2, encrypted=True, layout=Layout((5, 5)))
    splitter.cut(source, PageRange(1, 2), tmp_path / "chunk.pdf")
    assert [page.extract_text().strip() for page in PdfReader(tmp_path / "chunk.pdf").pages] == ["Hello", "There"]
    assert not PdfReader(tmp_path / "chunk.pdf").is_encrypted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_that_none_opens_says_how_many_were_tried(tmp_path: Path, algorithm: str) -> None:
    """The variable is named, and no password."""
    source = lock(write_pdf(tmp_path / "a.pdf", ["Hello"]), SECRET, algorithm)
    splitter.use(Passwords(NAME, ("one", "two")))

    problem = f"a password is needed to open it; none of the 2 in {NAME} opens it"
    assert splitter.inspect(source) == Inspection(None, encrypted=True, problem=problem)
    with pytest.raises(PdfError, match="none of the 2"):
        splitter.cut(source, PageRange(1, 1), tmp_path / "chunk.pdf")


def test_the_owner_password_opens_too(tmp_path: Path) -> None:
    """It is the one that people keep."""
    source = lock(write_pdf(tmp_path / "a.pdf", ["Hello"]), SECRET)
    splitter.use(Passwords(NAME, (f"owner of {SECRET}",)))

    assert splitter.inspect(source).pages == 1


def test_passwords_are_lines() -> None:
    """Blanks inside belong to them; empty lines and repetitions do not count."""
    assert passwords_of(NAME, {NAME: "\n one two \r\n\nthree\none two\n"}) == Passwords(NAME, ("one two", "three"))
    assert passwords_of(None, {NAME: "x"}) == Passwords()


@pytest.mark.parametrize("environment", [{}, {NAME: " \n\n"}, {NAME: "\n".join(map(str, range(101)))}])
def test_no_passwords_or_too_many_are_wrong_settings(environment: dict[str, str]) -> None:
    """The message names the variable."""
    with pytest.raises(SettingsError, match=NAME) as caught:
        passwords_of(NAME, environment)
    assert "99" not in str(caught.value)


def test_a_password_is_in_no_repr() -> None:
    """Neither in that of the value nor in those of what holds it."""
    assert SECRET not in repr([Passwords(NAME, (SECRET,))])


def run_with(workspace: Workspace, *candidates: str) -> list[str | None]:
    """The reasons of a run's documents."""
    with Sandbox() as sandbox:
        passwords = Passwords(NAME if candidates else "", candidates)
        loaded = job.load(workspace.job_file)
        result = run.run_job(loaded, KEY, run.Options(), sandbox, Quiet(), passwords)
    return [document.reason for document in result.documents]


def test_other_passwords_are_tried_on_what_was_locked_and_nothing_is_written(workspace: Workspace) -> None:
    """Locked in one run, read in the next, whole and unencrypted; the password is in no file that was written."""
    lock(write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)]), SECRET)
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        formats = ["html", "markdown", "csv", "xlsx"]
        workspace.write_job(base_url, source={"passwords_env": NAME}, report={"formats": formats})
        locked, opened = run_with(workspace, "wrong one 99"), run_with(workspace, SECRET)

    assert locked == [f"a password is needed to open it; none of the 1 in {NAME} opens it"]
    assert opened == [None]
    (seen,) = endpoint.seen
    sent = base64.b64decode(seen.body["messages"][0]["content"][0]["source"]["data"])
    assert not PdfReader(io.BytesIO(sent)).is_encrypted
    written = [path for path in workspace.folder.rglob("*") if path.is_file()]
    assert len(written) > 5
    for word in (SECRET.encode(), b"wrong one 99"):
        assert [path for path in written if word in path.read_bytes()] == []


def test_a_password_that_is_gone_blames_no_document_for_good(workspace: Workspace) -> None:
    """What was opened before is tried again by the next run, as soon as the password is back."""
    lock(write_pdf(workspace.docs / "a.pdf", [clause(1)]), SECRET)
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, source={"passwords_env": NAME})
        run_with(workspace, SECRET)
        workspace.write_job(base_url, source={"passwords_env": NAME}, prompt={"instructions": "Read again."})
        without, again = run_with(workspace), run_with(workspace, SECRET)

    assert without == ["page 1: a password is needed to open it (the next run tries again)"]
    assert again == [None]


def test_quotes_of_a_file_whose_password_is_gone_are_looked_for_when_it_is_back(workspace: Workspace) -> None:
    """They are not checked yet; nobody says that they cannot be."""
    lock(write_pdf(workspace.docs / "a.pdf", [clause(1)]), SECRET)
    workspace.write_job(source={"passwords_env": NAME})
    checks = []
    for candidates in ((SECRET,), (), (SECRET,)):
        run_with(workspace, *candidates)
        (document,) = json.loads((workspace.reports / "report.json").read_bytes())["documents"]
        checks += [risk["quote_check"] for risk in document["risks"]]
        if candidates and len(checks) == 1:  # as the books are after a kill before the proof
            with closing(sqlite3.connect(workspace.ledger)) as database, database:
                database.execute("DELETE FROM proofs")

    assert checks == ["verified", None, "verified"]


def test_the_whole_program_takes_them_from_the_environment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` and `run` say what is missing with code 4; set, the locked file is read."""
    lock(write_pdf(workspace.docs / "a.pdf", [clause(1)]), SECRET)
    workspace.write_job(source={"passwords_env": NAME})
    path = str(workspace.job_file)

    codes = [workspace.docpipe(command, path)[0] for command in ("check", "run", "plan")]
    monkeypatch.setenv(NAME, f"first\n{SECRET}\n")
    code, out, err = workspace.docpipe("check", path)
    assert (codes, code) == ([4, 4, 4], 0)
    assert f"passwords: 2 from {NAME}" in out
    assert "1 chunks" in workspace.docpipe("plan", path)[1]
    code, out, err = workspace.docpipe("run", path)
    assert (code, SECRET in out + err) == (0, False)
    with sqlite3.connect(workspace.ledger) as ledger:
        assert ledger.execute("SELECT pages, encrypted, reader FROM contents").fetchall() == [(1, 1, pdf.READER)]
