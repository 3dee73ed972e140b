"""Each thing that would go wrong tonight is found, and says what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import check, job
from pipeline.check import Finding
from pipeline.client import Reply
from pipeline.errors import ExitCode, SettingsError
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.ledger import Ledger
from pipeline.ledger_file import Lock
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, KEY, Workspace, clause, write_pdf

THINGS = [
    "job file", "source folder", "report folder", "ledger", "temporary folder", "sandbox", "price", "key", "model",
]  # fmt: skip
NOBODY = 65534
PRICES = {"input": 1.0, "output": 1.0}


def findings(workspace: Workspace, ahead: timedelta = timedelta(), **environment: str) -> dict[str, Finding]:
    """What a check of the job file finds, by what was tried, on a machine whose clock is ``ahead``."""
    loaded = job.load(workspace.job_file)
    return {one.what: one for one in check.check_job(loaded, environment, lambda: datetime.now(UTC) + ahead)}


def wrong(found: dict[str, Finding]) -> dict[str, ExitCode]:
    return {what: one.exit_code for what, one in found.items() if one.exit_code}


def test_a_job_in_order_is_all_in_order(workspace: Workspace) -> None:
    """Everything is tried, in the order in which a run needs it, and nothing is sent but a greeting."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, prices=PRICES)
        found = findings(workspace, DOCPIPE_TEST_KEY=KEY)
    assert list(found) == THINGS
    assert wrong(found) == {}
    assert "1 files match" in found["source folder"].text
    assert found["key"].text == "from DOCPIPE_TEST_KEY"
    assert "says hello" in found["model"].text
    assert [seen.body["messages"][0]["content"][0]["text"] for seen in endpoint.seen] == ["Hello"]
    assert KEY not in repr(found)
    assert not workspace.reports.exists()


def test_offline_needs_no_key(workspace: Workspace) -> None:
    """The built-in endpoint is asked as any other."""
    workspace.write_job()
    found = findings(workspace)
    assert wrong(found) == {}
    assert found["key"].text == "none needed"


def test_every_trouble_is_found_at_once(workspace: Workspace) -> None:
    """One does not hide the next."""
    workspace.reports.write_text("a file")
    workspace.ledger.write_bytes(b"SQLite format 3\0" + b"garbage " * 1000)
    workspace.write_job(
        "http://127.0.0.1:9", source={"folder": "nowhere"}, endpoint={"model": "m"}, budget={"max_usd": 1.0}
    )
    found = findings(workspace, DOCPIPE_TEST_KEY=KEY)
    assert wrong(found) == {
        "source folder": ExitCode.SETTINGS,
        "report folder": ExitCode.SETTINGS,
        "ledger": ExitCode.LEDGER,
        "price": ExitCode.SETTINGS,
        "model": ExitCode.API_DOWN,
    }


# --- folders


def test_a_folder_that_is_missing_is_named(workspace: Workspace) -> None:
    """With its whole path."""
    workspace.write_job(source={"folder": "nowhere"})
    found = findings(workspace)
    assert wrong(found) == {"source folder": ExitCode.SETTINGS}
    assert str(workspace.folder / "nowhere") in found["source folder"].text


def test_files_that_cannot_be_read_are_counted(workspace: Workspace) -> None:
    """Here a pipe, which waits for ever."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    os.mkfifo(workspace.docs / "pipe.pdf")
    workspace.write_job()
    found = findings(workspace)
    assert wrong(found) == {}
    assert "2 files match, 1 of them cannot be read" in found["source folder"].text


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, unlike ``tmp_path``."""
    folder = Path(tempfile.mkdtemp(prefix="docpipe-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


def findings_of_nobody(job_file: Path) -> dict[str, int]:
    """What is wrong for a user without rights, who may be the one that runs the tests."""
    code = f"""
import asyncio, os, sys
from pathlib import Path
from pipeline import check, job
loaded = job.load(Path(sys.argv[1]))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
for finding in check.check_job(loaded, {{}}):
    print(int(finding.exit_code), finding.what, finding.text, sep="\\t")
    if finding.what == "price":
        break  # the rest starts processes, for which this user may not have the rights
"""
    run = [sys.executable, "-c", code, str(job_file)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[1] for row in rows] == THINGS[:7]
    return {what: int(code) for code, what, _ in rows if code != "0"}


@pytest.mark.parametrize(
    ("mode", "below"),
    [(0o555, ""), (0o555, "deep/er"), (0o000, ""), (0o000, "deep/er")],
)
def test_a_report_folder_that_this_user_cannot_write_is_found(open_folder: Path, mode: int, below: str) -> None:
    """Also where it would have to be made first, and where not even that can be seen."""
    workspace = Workspace(open_folder)
    (workspace.folder / "state").mkdir()
    (workspace.folder / "state").chmod(0o777)
    workspace.write_job(report={"folder": f"reports/{below}"}, ledger={"path": "state/x.sqlite3"})
    workspace.reports.mkdir()
    workspace.reports.chmod(mode)
    assert findings_of_nobody(workspace.job_file) == {"report folder": ExitCode.SETTINGS}


@pytest.mark.parametrize("mode", [0o555, (0o000)])
def test_a_ledger_that_this_user_cannot_write_is_found(open_folder: Path, mode: int) -> None:
    """Its folder takes no file, or cannot even be looked into."""
    workspace = Workspace(open_folder)
    workspace.reports.mkdir()
    workspace.reports.chmod(0o777)
    workspace.write_job(ledger={"path": "state/x.sqlite3"})
    (workspace.folder / "state").mkdir()
    (workspace.folder / "state").chmod(mode)
    assert findings_of_nobody(workspace.job_file) == {"ledger": ExitCode.SETTINGS}


def test_a_source_folder_that_this_user_cannot_read_is_found(open_folder: Path) -> None:
    """Permissions are different from a folder that is not there."""
    workspace = Workspace(open_folder)
    for name in ("reports", "state"):
        (workspace.folder / name).mkdir()
        (workspace.folder / name).chmod(0o777)
    workspace.write_job(ledger={"path": "state/x.sqlite3"})
    workspace.docs.chmod(0o000)
    assert findings_of_nobody(workspace.job_file) == {"source folder": ExitCode.SETTINGS}


def test_a_report_folder_that_is_a_file_is_found(workspace: Workspace) -> None:
    """So is one below a file."""
    (workspace.folder / "file").write_text("")
    for folder in ("file", "file/reports"):
        workspace.write_job(report={"folder": folder})
        found = findings(workspace)
        assert wrong(found) == {"report folder": ExitCode.SETTINGS}
        assert str(workspace.folder / "file") in found["report folder"].text


def test_a_report_folder_of_another_job_is_found(workspace: Workspace) -> None:
    """In the words with which a run refuses it."""
    workspace.write_job()
    workspace.run()
    workspace.job_file = workspace.folder / "other.toml"
    workspace.write_job(ledger={"path": "other.sqlite3"})
    found = findings(workspace)
    with pytest.raises(SettingsError) as refused:
        workspace.run()
    assert wrong(found) == {"report folder": ExitCode.SETTINGS}
    assert found["report folder"].text == str(refused.value)
    assert "holds the report of the job job;" in str(refused.value)


def test_a_full_disk_is_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run fails at its end."""
    workspace.write_job()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 12_000_000))
    found = findings(workspace)
    assert wrong(found) == dict.fromkeys(["report folder", "ledger", "temporary folder"], ExitCode.SETTINGS)
    assert "only 12 MB are free" in found["report folder"].text


# --- ledger


def test_a_ledger_that_another_run_holds_is_found(workspace: Workspace) -> None:
    """Its owner is named."""
    workspace.write_job()
    with Lock(workspace.ledger):
        found = findings(workspace)
    assert wrong(found) == {"ledger": ExitCode.LOCKED}
    assert f"process {os.getpid()}" in found["ledger"].text


def test_a_damaged_ledger_is_found_and_left_alone(workspace: Workspace) -> None:
    """What to do is for a person to decide."""
    workspace.write_job()
    workspace.ledger.write_bytes(b"SQLite format 3\0" + b"garbage " * 1000)
    before = workspace.ledger.read_bytes()
    found = findings(workspace)
    assert wrong(found) == {"ledger": ExitCode.LEDGER}
    assert "restore it from a backup" in found["ledger"].text
    assert workspace.ledger.read_bytes() == before


def test_a_good_ledger_says_when_the_job_last_ran(workspace: Workspace) -> None:
    """To the minute, as the reports do; and a job that never ran, that it is new."""
    workspace.write_job()
    assert "a new one" in findings(workspace)["ledger"].text
    with Ledger.writing(workspace.ledger):
        pass
    assert "a new one" in findings(workspace)["ledger"].text
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    started_at = workspace.run().run.started_at
    assert f"last run {started_at[:10]} {started_at[11:16]} UTC" in findings(workspace)["ledger"].text


# --- price, key, model


@pytest.mark.parametrize(
    ("sections", "exit_code"),
    [
        ({}, None),
        ({"budget": {"max_usd": 1.0}}, ExitCode.SETTINGS),
        ({"budget": {"max_usd": 1.0}, "prices": PRICES}, None),
    ],
    ids=["without a budget", "with a budget", "with a price"],
)
def test_only_a_budget_needs_a_known_price(
    workspace: Workspace, sections: dict[str, Any], exit_code: ExitCode | None
) -> None:
    """Without one an unknown price is said and no trouble; with one it is said as the run says it."""
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, endpoint={"model": "nobody-knows"}, **sections)
        found = findings(workspace, DOCPIPE_TEST_KEY=KEY)
        assert wrong(found) == ({"price": exit_code} if exit_code else {})
        assert ("unknown" in found["price"].text) == ("prices" not in sections)
        if exit_code:
            with pytest.raises(SettingsError) as refused:
                workspace.run()
            assert found["price"].text == str(refused.value)


def test_a_missing_key_is_found_and_nothing_is_sent(workspace: Workspace) -> None:
    """The variable is named."""
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url, prices=PRICES)
        found = findings(workspace, OTHER_KEY=KEY)
    assert wrong(found) == {"key": ExitCode.SETTINGS}
    assert "DOCPIPE_TEST_KEY" in found["key"].text
    assert "model" not in found
    assert endpoint.seen == []


@pytest.mark.parametrize(
    ("kind", "exit_code", "words"),
    [
        (FaultKind.AUTHENTICATION, ExitCode.ACCOUNT, "401 authentication_error"),
        (FaultKind.BILLING, ExitCode.ACCOUNT, "402 billing_error"),
        (FaultKind.MODEL_NOT_FOUND, ExitCode.ACCOUNT, "this model does not exist"),
        (FaultKind.BAD_REQUEST, ExitCode.SETTINGS, "400 invalid_request_error"),
        (FaultKind.OVERLOADED, ExitCode.API_DOWN, "529 overloaded_error"),
        (FaultKind.HTML_200, ExitCode.API_DOWN, "HTML page"),
        (FaultKind.DROP, ExitCode.API_DOWN, "connection"),
    ],
)
def test_a_model_that_does_not_say_hello_is_found(
    workspace: Workspace, kind: FaultKind, exit_code: ExitCode, words: str
) -> None:
    """With the exit code that a run would have, the model, the address and the endpoint's own words."""
    with running(Endpoint(FaultPlan((FaultRule(Fault(kind), every=1),)))) as base_url:
        workspace.write_job(base_url, endpoint={"model": "some-model"}, prices=PRICES)
        found = findings(workspace, DOCPIPE_TEST_KEY=KEY)
    assert wrong(found) == {"model": exit_code}
    assert words in found["model"].text
    assert f"some-model at {base_url}" in found["model"].text


def test_a_pattern_that_matches_nothing_is_named(workspace: Workspace) -> None:
    """It may be a typing error; the other patterns do not hide it."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job(source={"include": ["**/*.PDF", "**/*.tif"]})
    found = findings(workspace)
    assert wrong(found) == {}
    assert found["source folder"].text.endswith("1 files match; nothing matches **/*.tif")


def test_a_folder_that_is_suddenly_empty_is_found(workspace: Workspace) -> None:
    """A run will refuse."""
    path = write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    workspace.run()
    path.unlink()
    found = findings(workspace)
    assert wrong(found) == {"source folder": ExitCode.SETTINGS}
    assert "there were 1 at the last run" in found["source folder"].text


def test_a_large_file_needs_twice_its_size(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever copies of it may lie."""
    workspace.docs.joinpath("big.pdf").touch()
    os.truncate(workspace.docs / "big.pdf", 400_000_000)  # a sparse one
    workspace.write_job()
    free = shutil._ntuple_diskusage(10**12, 10**12, 600_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    found = findings(workspace)
    assert list(wrong(found)) == ["report folder", "ledger", "temporary folder"]
    assert "make room for 800 MB" in found["ledger"].text


def test_a_ledger_with_damage_inside_is_found(workspace: Workspace) -> None:
    """Not only one that does not open."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    workspace.run()
    with workspace.ledger.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"garbage " * 512)
    found = findings(workspace)
    assert wrong(found) == {"ledger": ExitCode.LEDGER}
    assert "docpipe salvage" in found["ledger"].text


def test_an_older_ledger_is_said_and_no_trouble(workspace: Workspace) -> None:
    """The next run migrates it."""
    workspace.write_job()
    with Ledger.writing(workspace.ledger):
        pass
    database = sqlite3.connect(workspace.ledger)
    database.execute("PRAGMA user_version = 3")
    database.close()
    found = findings(workspace)
    assert wrong(found) == {}
    assert "the next run migrates it" in found["ledger"].text


def test_a_folder_for_metrics_that_cannot_be_made_is_found(workspace: Workspace) -> None:
    """The run would end without them."""
    (workspace.folder / "file").write_text("")
    workspace.write_job(metrics={"textfile": "file/docpipe.prom"})
    assert wrong(findings(workspace)) == {"metrics": ExitCode.SETTINGS}


def test_a_sandbox_larger_than_the_machine_is_found(workspace: Workspace) -> None:
    """Such a limit would never hold."""
    workspace.write_job(sandbox={"memory_mb": 1_000_000})
    assert wrong(findings(workspace)) == {"sandbox": ExitCode.SETTINGS}


@pytest.mark.parametrize(("budget", "exit_code"), [({}, None), ({"max_usd": 1.0}, ExitCode.SETTINGS)])
def test_an_old_price_spoils_a_budget(workspace: Workspace, budget: dict[str, object], exit_code: Any) -> None:
    """It is said in any case."""
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, endpoint={"model": "claude-sonnet-5-5"}, budget=budget)
        found = findings(workspace, timedelta(days=3650), DOCPIPE_TEST_KEY=KEY)
    assert "days ago" in found["price"].text
    assert found["price"].exit_code == (exit_code or ExitCode.COMPLETE)


@pytest.mark.parametrize(("minutes", "word"), [(7, "ahead of"), (-7, "behind")])
def test_a_clock_that_is_wrong_is_found(workspace: Workspace, minutes: int, word: str) -> None:
    """By the date that the endpoint's answer carries; four minutes are no matter."""
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, prices=PRICES)
        found = findings(workspace, timedelta(minutes=minutes), DOCPIPE_TEST_KEY=KEY)
        assert wrong(found) == {"clock": ExitCode.SETTINGS}
        assert f"7 minutes {word} the endpoint's" in found["clock"].text
        assert wrong(findings(workspace, timedelta(minutes=minutes * 4 / 7), DOCPIPE_TEST_KEY=KEY)) == {}


@pytest.mark.parametrize("body", [b'{"capabilities": {"pdf_input": {"supported": false}}}', b"[1]", b"<html>", b"{}"])
def test_only_a_model_that_says_so_takes_no_pdfs(body: bytes) -> None:
    """What describes nothing denies nothing."""
    assert check._takes_pdfs(Reply(200, body=body)) == (b"false" not in body)
    assert check._takes_pdfs(Reply(404, body=body))
