"""Kill it at any moment: nothing recorded is lost, nothing answered is paid for twice but what was in flight."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, KEY, Workspace, clause, wait_until, write_pdf

CONCURRENCY = 4
DOCUMENTS = 4
PAGES = 6
CHUNKS = DOCUMENTS * PAGES


def prepare(workspace: Workspace, base_url: str, on_lost: str = "retry") -> None:
    for number in range(DOCUMENTS):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number * 100 + page) for page in range(PAGES)])
    workspace.write_job(
        base_url,
        split={"max_pages": 1},
        workers={"concurrency": CONCURRENCY},
        engine={"on_lost": on_lost},
        prompt={"synthesis": False},
    )


def documents_of(report: Path) -> list[dict[str, Any]]:
    """The documents of a report without what tells how often they were sent."""
    documents: list[dict[str, Any]] = json.loads(report.read_bytes())["documents"]
    for document in documents:
        document.pop("unchanged")
        for chunk in document["chunks"]:
            chunk.pop("attempts"), chunk.pop("request_id")
    return documents


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a run that nobody disturbs reports."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    with running(Endpoint()) as base_url:
        prepare(workspace, base_url)
        workspace.run()
    return documents_of(workspace.reports / "report.json")


@pytest.mark.parametrize("requests_before", [0, 1, 9, CHUNKS - 1])
def test_a_killed_run_is_completed_by_the_next(
    workspace: Workspace, undisturbed: list[dict[str, Any]], requests_before: int
) -> None:
    """After SIGKILL the next run gives the report of an undisturbed one and re-sends at most what was in flight."""
    endpoint = Endpoint(latency_s=0.05)
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with workspace.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: workspace.ledger.exists() and len(endpoint.seen) >= requests_before)
            process.kill()
            process.communicate(timeout=DEADLINE_S)
        assert not (workspace.reports / "report.json").exists()
        result = workspace.run()
    times_asked = Counter(seen.sha256 for seen in endpoint.seen)
    assert result.run.exit_code == 0
    assert documents_of(workspace.reports / "report.json") == undisturbed
    assert len(times_asked) == CHUNKS
    assert sum(times_asked.values()) <= CHUNKS + CONCURRENCY


def test_runs_killed_over_and_over_come_to_the_same_end(
    workspace: Workspace, undisturbed: list[dict[str, Any]]
) -> None:
    """However often it is killed, each start goes on where the books stand."""
    endpoint = Endpoint(latency_s=0.02)
    kills = 0
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        while kills < 5:
            seen_before = len(endpoint.seen)
            with workspace.start("run", str(workspace.job_file)) as process:
                enough = seen_before + 3
                wait_until(lambda: len(endpoint.seen) >= enough or process.poll() is not None)  # noqa: B023
                process.kill()
                process.communicate(timeout=DEADLINE_S)
            kills += 1
        result = workspace.run()
    assert result.run.exit_code == 0
    assert documents_of(workspace.reports / "report.json") == undisturbed
    assert len(endpoint.seen) <= CHUNKS + kills * CONCURRENCY


def killed_with_all_in_flight(workspace: Workspace, endpoint: Endpoint, command: str, requests: int) -> set[str]:
    """Kill a process when the endpoint has seen so many requests; the hashes of the last ``CONCURRENCY`` of them."""
    with workspace.start(command, str(workspace.job_file)) as process:
        wait_until(lambda: len(endpoint.seen) >= requests)
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    assert len(endpoint.seen) == requests
    return {seen.sha256 for seen in endpoint.seen[-CONCURRENCY:]}


def test_what_a_kill_cut_off_is_held_until_a_person_sends_it_again(
    workspace: Workspace, undisturbed: list[dict[str, Any]]
) -> None:
    """With ``on_lost = "hold"``: no run sends it, ``retry`` nothing else, and a retry that is killed leaves it held."""
    stuck = {5, 6, 7, 8, CHUNKS + 1, CHUNKS + 2, CHUNKS + 3, CHUNKS + 4}  # of the first process and of the retry
    slow = FaultRule(Fault(FaultKind.SLOW, seconds=3600), requests=frozenset(stuck))
    endpoint = Endpoint(FaultPlan((slow,)))
    with running(endpoint) as base_url:
        prepare(workspace, base_url, on_lost="hold")
        lost = killed_with_all_in_flight(workspace, endpoint, "run", 8)
        result = workspace.run()
        assert len(endpoint.seen) == CHUNKS
        assert lost.isdisjoint(seen.sha256 for seen in endpoint.seen[8:])
        assert killed_with_all_in_flight(workspace, endpoint, "retry", CHUNKS + CONCURRENCY) == lost
        again = [workspace.run().run.exit_code, workspace.run().run.exit_code]
        assert len(endpoint.seen) == CHUNKS + CONCURRENCY
        code, _, err = workspace.docpipe("run", str(workspace.job_file))
        whole = workspace.run(failed_only=True)
    assert (result.run.exit_code, again, code) == (3, [3, 3], 3)
    missing = [document for document in result.documents if document.reason]
    assert sum(len(pages) for document in missing for pages in document.missing_pages) == len(lost) == CONCURRENCY
    for document in missing:
        assert re.search(
            r"page \d: it may have been billed: sent at \d{4}-\d\d-\d\d \d\d:\d\d UTC and cut off before its"
            r" answer; `docpipe retry \S+ --endpoint custom` sends it again",
            str(document.reason),
        )
    assert "it may have been billed" in err
    assert whole.run.exit_code == 0
    assert {seen.sha256 for seen in endpoint.seen[CHUNKS + CONCURRENCY :]} == lost
    assert len(endpoint.seen) == CHUNKS + 2 * CONCURRENCY
    after = documents_of(workspace.reports / "report.json")
    assert [document["summary"] for document in after] == [document["summary"] for document in undisturbed]


def test_an_old_report_outlives_a_killed_run(workspace: Workspace) -> None:
    """A run that is cut leaves the report of the one before as it was."""
    endpoint = Endpoint(latency_s=0.05)
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        workspace.run()
        before = {path: path.read_bytes() for path in workspace.reports.rglob("*") if path.is_file()}
        write_pdf(workspace.docs / "new.pdf", [clause(900 + page) for page in range(PAGES)])
        asked = len(endpoint.seen)
        with workspace.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: len(endpoint.seen) > asked)
            process.kill()
            process.communicate(timeout=DEADLINE_S)
    assert {path: path.read_bytes() for path in workspace.reports.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_loses_no_answer(
    workspace: Workspace, undisturbed: list[dict[str, Any]], number: signal.Signals
) -> None:
    """^C and SIGTERM stop the feeding, await and record what is in flight, and exit 130."""
    endpoint = Endpoint(latency_s=0.1)
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with workspace.start("run", str(workspace.job_file), "--verbose") as process:
            wait_until(lambda: len(endpoint.seen) >= 6)
            process.send_signal(number)
            _, err = process.communicate(timeout=DEADLINE_S)
        answered = sum(seen.answered for seen in endpoint.seen)
        with sqlite3.connect(workspace.ledger) as database:
            (recorded,) = database.execute("SELECT count(*) FROM answers").fetchone()
        database.close()
        stopped = json.loads((workspace.reports / "report.json").read_bytes())
        result = workspace.run()
    assert process.returncode == 130, err
    assert "what is in flight is awaited" in err
    assert 0 < answered < CHUNKS
    assert recorded == answered == len(endpoint.seen) - result.spending.requests
    assert stopped["run"]["status"] == "stopped"
    assert {document["status"] for document in stopped["documents"]} <= {"done", "partial"}
    assert result.run.exit_code == 0
    assert len(endpoint.seen) == CHUNKS
    assert documents_of(workspace.reports / "report.json") == undisturbed


def test_a_second_interrupt_gives_up_what_is_in_flight(workspace: Workspace) -> None:
    """The second ^C ends the process at once, with the same exit code."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=3600), every=1),)))
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with workspace.start("run", str(workspace.job_file), "--verbose") as process:
            assert process.stderr is not None
            wait_until(lambda: len(endpoint.seen) == CONCURRENCY)
            process.send_signal(signal.SIGINT)
            while "what is in flight is awaited" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130


def test_an_interrupt_while_the_program_loads_says_nothing() -> None:
    """There is nothing to say yet; the exit code is that of an interrupt."""
    script = (
        "import sys\n"
        "from pipeline.__main__ import main\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pipeline.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_second_run_of_the_same_job_is_refused_while_one_is_under_way(workspace: Workspace) -> None:
    """Exit 6 names the process that holds the lock; status works all the same."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=3600), every=1),)))
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with workspace.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: len(endpoint.seen) == CONCURRENCY)
            second = workspace.docpipe("run", str(workspace.job_file))
            status = workspace.docpipe("status", str(workspace.job_file))
            process.kill()
            process.communicate(timeout=DEADLINE_S)
    assert second[0] == 6
    assert f"process {process.pid}" in second[2]
    assert status[0] == 0
    assert f"{CONCURRENCY} requests without an end" in status[1]


def test_the_key_is_nowhere_but_in_the_request(workspace: Workspace) -> None:
    """Neither a file nor a line of output holds the key, whether runs succeed or the key is refused."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.AUTHENTICATION), requests=frozenset({3})),)))
    said = ""
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        job_file = str(workspace.job_file)
        for command in ("check", "plan", "run", "run", "status", "report", "retry"):
            _, out, err = workspace.docpipe(command, job_file)
            said += out + err
    assert len(endpoint.seen) >= CHUNKS
    assert KEY not in said
    for path in workspace.folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
