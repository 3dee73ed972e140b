"""The command line as a person or cron meets it: exit codes, what goes where, how fast it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.ledger_file import Lock
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, Workspace, clause, wait_until, write_pdf

HEAVY = ("httpx", "pypdf", "pydantic", "rich", "jinja2", "tenacity", "pebble", "xlsxwriter", "sqlite3", "asyncio")


def test_help_loads_nothing_heavy() -> None:
    """What --help imports is click and our own light modules."""
    code = f"import sys, pipeline.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_help_answers_within_three_tenths_of_a_second() -> None:
    """The best of five starts, so that a busy machine does not decide."""

    def seconds() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pipeline", "--help"], capture_output=True, check=True)
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(5)) < 0.3


def test_a_run_over_what_is_known_loads_nothing_that_sends(workspace: Workspace) -> None:
    """What speaks HTTP takes longer to load than to see that no file has changed."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    workspace.run()
    code = f"""
import sys
from pipeline import cli

if __name__ == "__main__":
    sys.argv = ["docpipe", "run", {str(workspace.job_file)!r}, "--json"]
    print(cli.end(), "httpx" in sys.modules)
"""
    (workspace.folder / "start.py").write_text(code)
    command = [sys.executable, str(workspace.folder / "start.py")]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert out.splitlines()[-1] == "0 False"


def test_a_night_with_news_but_without_trouble_is_one_line_on_stdout(workspace: Workspace) -> None:
    """Without a terminal: new high risks are no trouble, so stderr is silent and cron has nothing to mail."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    first = workspace.docpipe("run", str(workspace.job_file))
    write_pdf(workspace.docs / "b.pdf", ["The Landlord may terminate this Lease at any time for convenience."])
    code, out, err = workspace.docpipe("run", str(workspace.job_file))
    assert (first[0], first[1].count("\n"), first[2]) == (0, 1, "")
    assert (code, err) == (0, "")
    assert out == (
        "job: complete; 1 new high risk in 1 document; 1 new document; "
        "2 of 2 documents read by built-in rules, not a language model; cost $0.0000; "
        f"report {workspace.reports / 'report.json'}\n"
    )


def test_trouble_is_one_line_on_stdout_and_the_reasons_on_stderr(workspace: Workspace) -> None:
    """Without a terminal: what failed, why, and the command to redo it are what cron mails; with --json the same."""
    (workspace.docs / "empty.pdf").write_bytes(b"")
    workspace.write_job()
    code, out, err = workspace.docpipe("run", str(workspace.job_file))
    as_json = workspace.docpipe("retry", str(workspace.job_file), "--json")
    assert (code, out.count("\n")) == (3, 1)
    assert out.startswith("job: incomplete; nothing to compare with yet; 0 of 1 document read")
    assert "empty.pdf: the file is empty" in err
    assert f"mend or replace them, then docpipe run {workspace.job_file}\n" in err
    assert (as_json[0], json.loads(as_json[1])["failed"], "the file is empty" in as_json[2]) == (3, 1, True)


def test_verbose_gives_events_and_the_summary_without_a_terminal(workspace: Workspace) -> None:
    """A complete run says so on stdout; progress stands on stderr."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    code, out, err = workspace.docpipe("run", str(workspace.job_file), "--verbose")
    assert code == 0
    assert "1 done" in out
    assert "Built-in rules, not a language model" in out
    assert "a.pdf, page 1: answered" in err
    assert "answered in" not in out


def test_json_totals_on_stdout(workspace: Workspace) -> None:
    """--json gives the run's totals as in report.json, and nothing else."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    code, out, err = workspace.docpipe("run", str(workspace.job_file), "--json")
    totals = json.loads((workspace.reports / "report.json").read_bytes())["totals"]
    assert (code, err) == (0, "")
    assert json.loads(out) == totals
    assert totals["requests"] == 1


def test_exit_2_for_wrong_usage(workspace: Workspace) -> None:
    """An unknown command or option is wrong usage."""
    assert workspace.docpipe("rum", "x")[0] == 2
    assert workspace.docpipe("run", "x", "--fast")[0] == 2
    assert workspace.docpipe("run")[0] == 2


def test_exit_3_names_what_failed_and_the_command_to_redo_it(workspace: Workspace) -> None:
    """A refused page is for ``retry``; a file that cannot be opened has its reason, and is to be mended first."""
    (workspace.docs / "empty.pdf").write_bytes(b"")
    write_pdf(workspace.docs / "good.pdf", [clause(1)])
    refusal = FaultRule(Fault(FaultKind.REFUSAL), requests=frozenset({1}))
    with running(Endpoint(FaultPlan((refusal,)))) as base_url:
        workspace.write_job(base_url)
        code, _, err = workspace.docpipe("run", str(workspace.job_file))
    assert code == 3
    assert "empty.pdf: the file is empty" in err
    assert f"To try these again: docpipe retry {workspace.job_file}\n" in err
    assert f"mend or replace them, then docpipe run {workspace.job_file}\n" in err


def test_exit_4_for_the_job_file_the_folder_and_a_missing_key(workspace: Workspace) -> None:
    """Each says what is wrong and what to do, on stderr."""
    workspace.job_file.write_text('[source]\nfolder = "docs"\n[split]\nmax_page = 3\n')
    code, out, err = workspace.docpipe("run", str(workspace.job_file))
    assert (code, out) == (4, "")
    assert "max_pages" in err
    workspace.write_job(source={"folder": "nowhere"})
    code, _, err = workspace.docpipe("run", str(workspace.job_file))
    assert code == 4
    assert "nowhere" in err
    workspace.write_job()
    code, _, err = workspace.docpipe("run", str(workspace.job_file), "--endpoint", "yourouter")
    assert code == 4
    assert "YOUROUTER_API_KEY" in err


def test_exit_5_says_in_one_line_that_the_account_is_the_trouble(workspace: Workspace) -> None:
    """The API's own words stand in the summary."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with running(Endpoint(FaultPlan((FaultRule(Fault(FaultKind.AUTHENTICATION), every=1),)))) as base_url:
        workspace.write_job(base_url)
        code, _, err = workspace.docpipe("run", str(workspace.job_file))
    assert code == 5
    assert "401 authentication_error" in err


def test_exit_8_for_a_ledger_that_cannot_be_trusted(workspace: Workspace) -> None:
    """A damaged ledger is named and left as it is."""
    workspace.ledger.write_bytes(b"SQLite format 3\0" + b"garbage " * 1000)
    workspace.write_job()
    before = workspace.ledger.read_bytes()
    code, _, err = workspace.docpipe("run", str(workspace.job_file))
    assert code == 8
    assert str(workspace.ledger) in err
    assert workspace.ledger.read_bytes() == before


def test_salvage_saves_what_can_be_read_and_says_what_it_kept(workspace: Workspace) -> None:
    """A ledger in order is left alone; one that another holds is exit 6; one of which nothing is left is exit 8."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    workspace.run()
    salvage = ("salvage", str(workspace.job_file))
    assert workspace.docpipe(*salvage)[:2] == (0, f"{workspace.ledger} is in order; nothing was done\n")
    with workspace.ledger.open("r+b") as file:  # the last page
        file.seek(-4096, os.SEEK_END)
        file.write(b"garbage " * 512)
    with Lock(workspace.ledger):
        assert workspace.docpipe(*salvage)[0] == 6
    code, out, _ = workspace.docpipe(*salvage)
    assert code == 0
    [kept] = workspace.folder.glob("state.sqlite3.damaged-*")
    assert f"kept    {kept}" in out
    assert workspace.docpipe("run", str(workspace.job_file))[0] == 0
    workspace.ledger.write_bytes(b"SQLite format 3\0" + b"garbage " * 1000)
    assert workspace.docpipe(*salvage)[0] == 8


def test_exit_9_when_the_api_is_down_to_the_end(workspace: Workspace) -> None:
    """Nobody listens on the port."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job("http://127.0.0.1:9", retry={"attempts": 2})
    code, _, err = workspace.docpipe("run", str(workspace.job_file))
    assert code == 9
    assert "no answer" in err


def test_check_says_what_is_wrong(workspace: Workspace) -> None:
    """Everything in order is exit 0; a refused key is exit 5, a dead endpoint 9."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    assert workspace.docpipe("check", str(workspace.job_file))[0] == 0
    workspace.write_job("http://127.0.0.1:9")
    code, out, _ = workspace.docpipe("check", str(workspace.job_file))
    assert code == 9
    assert "WRONG  model" in out
    with running(Endpoint(FaultPlan((FaultRule(Fault(FaultKind.AUTHENTICATION), every=1),)))) as base_url:
        workspace.write_job(base_url)
        assert workspace.docpipe("check", str(workspace.job_file))[0] == 5


def test_plan_sends_and_writes_nothing(workspace: Workspace) -> None:
    """It names each document with the reason, chunks, pages and cost."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(45)])
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        before = sorted(workspace.folder.rglob("*"))
        code, out, _ = workspace.docpipe("plan", str(workspace.job_file))
        assert sorted(workspace.folder.rglob("*")) == before
        workspace.docpipe("run", str(workspace.job_file))
        write_pdf(workspace.docs / "b.pdf", [clause(1)])
        write_pdf(workspace.docs / "a.pdf", [clause(2)])
        (workspace.docs / "c.pdf").write_bytes(b"")
        rows = json.loads(workspace.docpipe("plan", str(workspace.job_file), "--json")[1])
        workspace.docpipe("run", str(workspace.job_file))
        workspace.write_job(base_url, prompt={"instructions": "Something else."})
        again = json.loads(workspace.docpipe("plan", str(workspace.job_file), "--json")[1])
    assert code == 0
    assert "new" in out
    assert "3 chunks    45 pages" in out
    assert {row["path"]: row["why"] for row in rows} == {"a.pdf": "changed", "b.pdf": "new", "c.pdf": "unreadable"}
    assert [row["why"] for row in again] == ["prompt changed", "prompt changed", "unreadable"]


def test_report_writes_the_same_report_again_without_the_documents(workspace: Workspace) -> None:
    """It needs the ledger alone and sends nothing."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    workspace.write_job()
    workspace.docpipe("run", str(workspace.job_file))
    first = (workspace.reports / "report.json").read_bytes()
    (workspace.reports / "report.json").unlink()
    (workspace.docs / "a.pdf").unlink()
    code, _, _ = workspace.docpipe("report", str(workspace.job_file))
    assert code == 0
    assert (workspace.reports / "report.json").read_bytes() == first


def test_status_and_report_of_a_job_that_never_ran(workspace: Workspace) -> None:
    """They say so, and how to begin."""
    workspace.write_job()
    for command in ("status", "report"):
        code, out, _ = workspace.docpipe(command, str(workspace.job_file))
        assert code == 0
        assert "never ran" in out


def test_an_empty_folder_is_said_and_complete(workspace: Workspace) -> None:
    """Nothing to process is reported, not silent."""
    workspace.write_job()
    code, out, err = workspace.docpipe("run", str(workspace.job_file), "--verbose")
    assert code == 0
    assert "0 done" in out
    assert "no file in" in err


def test_a_reader_of_the_output_that_goes_away_does_not_end_the_run(workspace: Workspace) -> None:
    """The run goes on to its report when stderr leads nowhere any more."""
    for number in range(5):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    workspace.write_job()
    read_end, write_end = os.pipe()
    os.close(read_end)
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(workspace.job_file), "--verbose"],
        stdout=subprocess.DEVNULL, stderr=write_end,
    ) as process:  # fmt: skip
        os.close(write_end)
        assert process.wait(timeout=DEADLINE_S) == 0
    assert (workspace.reports / "report.json").exists()


def test_serve_answers_on_a_port_until_it_is_told_to_stop(workspace: Workspace, tmp_path: Path) -> None:
    """The served endpoint works as a custom endpoint of a job, faults and all."""
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nkind = "overloaded"\nrequests = [1]\n')
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with workspace.start("serve", "--port", "0", "--faults", str(script)) as server:
        assert server.stdout is not None
        base_url = server.stdout.readline().split()[-1]
        workspace.write_job(base_url)
        result = workspace.run()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=DEADLINE_S)
    assert result.spending.requests == 2
    assert server.returncode == 0


@pytest.mark.parametrize("rate", ["overloadedd=0.1", "overloaded=2", "overloaded"])
def test_serve_refuses_faults_that_do_not_exist(workspace: Workspace, rate: str) -> None:
    """A wrong fault is a clear error, not a server without faults."""
    code, _, err = workspace.docpipe("serve", "--port", "0", "--rate", rate)
    assert code == 4
    assert "overloaded" in err


def test_workers_are_gone_after_the_run_was_killed(workspace: Workspace) -> None:
    """No process of ours outlives a killed run."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=3600), every=1),)))
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        with workspace.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: len(endpoint.seen) == 1)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            if not children.exists():
                pytest.skip("this kernel does not list the children of a process")
            workers = [int(word) for word in children.read_text().split()]
            process.kill()
            process.communicate(timeout=DEADLINE_S)
    assert workers
    wait_until(lambda: not any(_alive(worker) for worker in workers))


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_report_refuses_when_the_settings_ask_for_other_answers(workspace: Workspace) -> None:
    """Under a changed prompt the last run's report would be empty: the good one stays; status says incomplete."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    workspace.docpipe("run", str(workspace.job_file))
    before = (workspace.reports / "report.json").read_bytes()
    workspace.write_job(prompt={"instructions": "Something else."})
    code, _, err = workspace.docpipe("report", str(workspace.job_file))
    _, status, _ = workspace.docpipe("status", str(workspace.job_file))
    assert code == 4
    assert "run the job" in err
    assert (workspace.reports / "report.json").read_bytes() == before
    assert "incomplete" in status.splitlines()[0]


def test_the_summary_names_the_command_that_goes_on(workspace: Workspace) -> None:
    """What was never sent is for ``run``, and so is a file that was mended; an endpoint by option is named again."""
    for number in range(3):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    workspace.write_job("http://127.0.0.1:9")
    _, _, limited = workspace.docpipe("run", str(workspace.job_file), "--limit", "1", "--endpoint", "offline")
    (workspace.docs / "1.pdf").write_bytes(b"")
    (workspace.docs / "2.pdf").unlink()
    _, _, failed = workspace.docpipe("run", str(workspace.job_file), "--endpoint", "offline")
    assert f"try these again: docpipe run {workspace.job_file} --endpoint offline\n" in limited
    assert "mend" not in limited
    assert f"mend or replace them, then docpipe run {workspace.job_file} --endpoint offline\n" in failed
    assert "try these again" not in failed


def test_a_folder_that_is_suddenly_empty_ends_the_run_before_it_spoils_the_report(workspace: Workspace) -> None:
    """A share that is not mounted is exit 4; the last report stays."""
    path = write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    workspace.docpipe("run", str(workspace.job_file))
    before = (workspace.reports / "report.json").read_bytes()
    path.unlink()
    code, _, err = workspace.docpipe("run", str(workspace.job_file))
    assert code == 4
    assert "not mounted" in err
    assert (workspace.reports / "report.json").read_bytes() == before


def test_a_run_that_never_began_leaves_no_trace(workspace: Workspace) -> None:
    """A missing folder is no run that status would show as under way."""
    workspace.write_job(source={"folder": "nowhere"})
    assert workspace.docpipe("run", str(workspace.job_file))[0] == 4
    assert "never ran" in workspace.docpipe("status", str(workspace.job_file))[1]


def test_answers_of_rules_do_not_stand_for_a_live_model(workspace: Workspace) -> None:
    """A trial against a served endpoint does not keep the model from being asked."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    job_file = str(workspace.job_file)
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        workspace.docpipe("run", job_file)
        trial = json.loads(workspace.docpipe("plan", job_file, "--json")[1])
    live = json.loads(workspace.docpipe("plan", job_file, "--json", "--endpoint", "anthropic")[1])
    assert [(row["why"], row["chunks"]) for row in trial] == [("unchanged", 0)]
    assert [(row["why"], row["chunks"]) for row in live] == [("prompt changed", 1)]


def test_a_run_leaves_nothing_in_the_temporary_folder(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the folder where the worker processes' sockets lie."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    with tempfile.TemporaryDirectory() as temporary:  # the path of a socket must be short
        monkeypatch.setenv("TMPDIR", temporary)
        assert workspace.docpipe("run", str(workspace.job_file))[0] == 0
        assert list(Path(temporary).iterdir()) == []
