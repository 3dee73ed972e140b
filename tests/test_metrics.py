"""The file for Prometheus: valid, true, whole, and never a reason for a run to end otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import job, metrics, watching
from pipeline.errors import LockedError, SettingsError
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.happenings import End, NullObserver
from pipeline.serve import Endpoint, running
from pipeline.text import printable
from tests.conftest import Workspace, clause, write_pdf
from tests.report_values import a_document, a_night, a_result

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "observability.md").read_text("utf-8")
LABELS = ("class", "status", "kind", "severity")
OVERLOADED_ONCE = FaultPlan((FaultRule(Fault(FaultKind.OVERLOADED), requests=frozenset({1})),))
NO_REQUESTS: Mapping[str, int] = {}


def parsed(content: bytes, name: str = "job") -> dict[str, float]:
    """``metric`` or ``metric value-of-its-label`` to number, read as Prometheus reads it; all are the job's gauges."""
    found: dict[str, float] = {}
    text = content.decode()
    assert text.endswith("\n")
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True), family
        for sample in family.samples:
            assert sample.labels["job"] == name
            assert sample.timestamp is None  # the collector refuses files with timestamps
            own = [value for label, value in sample.labels.items() if label in LABELS]
            key = " ".join([sample.name.removeprefix("docpipe_"), *own])
            assert key not in found
            found[key] = sample.value
    return found


def watched_run(workspace: Workspace) -> list[str]:
    """A run under watch, as the command line watches it; what was said for people about it."""
    said: list[str] = []

    class Shown(NullObserver):
        def said(self, line: str) -> None:
            said.append(line)

    with watching.watched(Shown()) as watch:
        watch.join(watching.of(job.load(workspace.job_file), {}, said.append))
        watch.result = workspace.run(observer=watch)
    return said


def test_the_file_says_what_the_run_did(workspace: Workspace) -> None:
    """Over a socket: an overloaded API, an answer; the numbers are those of the report."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    textfile = workspace.folder / "job.prom"
    with running(Endpoint(OVERLOADED_ONCE)) as base_url:
        workspace.write_job(base_url, metrics={"textfile": "job.prom"})
        assert watched_run(workspace) == []

    found = parsed(textfile.read_bytes())
    assert (found["last_run_exit_code"], found["last_run_documents done"], found["last_run_pages_covered"]) == (0, 1, 2)
    assert (found["last_run_requests answered"], found["last_run_requests transient"]) == (1, 1)
    assert found["last_run_retries"] == 1
    assert found["last_run_tokens input"] > 0
    assert found["last_success_timestamp_seconds"] == found["last_run_timestamp_seconds"]
    assert sum(number for key, number in found.items() if key.startswith("last_run_risks")) == 2
    assert not [key for key in found if "new_risks" in key]  # nothing to compare with
    assert sorted(path.name for path in workspace.folder.glob("*.prom*")) == ["job.prom"]
    assert not list(workspace.folder.glob(".*"))


def test_a_run_that_fails_keeps_the_time_of_the_last_success(workspace: Workspace) -> None:
    """An error before anything is read writes the file too, with its code and without numbers of documents."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job(metrics={"textfile": "job.prom"})
    succeeded_s = datetime.fromisoformat(workspace.run().run.finished_at).timestamp()
    (workspace.docs / "a.pdf").unlink()
    with pytest.raises(SettingsError):
        watched_run(workspace)

    found = parsed((workspace.folder / "job.prom").read_bytes())
    assert found["last_run_exit_code"] == 4
    assert found["last_success_timestamp_seconds"] == succeeded_s < found["last_run_timestamp_seconds"]
    assert not [key for key in found if "documents" in key]


def test_the_command_writes_it_when_the_key_is_missing(workspace: Workspace) -> None:
    """Nothing was begun, and the job's own run never got as far as its ledger."""
    workspace.write_job("http://127.0.0.1:9", endpoint={"api_key_env": "NO_SUCH_KEY"}, metrics={"textfile": "job.prom"})
    code, _, _ = workspace.docpipe("run", str(workspace.job_file))

    found = parsed((workspace.folder / "job.prom").read_bytes())
    assert (code, found["last_run_exit_code"]) == (4, 4)
    assert "last_success_timestamp_seconds" not in found


def test_another_run_writes_its_own(tmp_path: Path) -> None:
    """One that only found the lock taken says nothing about the job."""
    watcher = metrics.Metrics("job", tmp_path / "job.prom", tmp_path / "state.sqlite3", print)
    watcher.ended(End.by(LockedError("another run is under way")))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["missing/job.prom", "a.folder.prom"])
def test_a_file_that_cannot_be_written_changes_nothing(workspace: Workspace, place: str) -> None:
    """The run is complete all the same, one line says what is wrong, and nothing is left behind."""
    (workspace.folder / "a.folder.prom").mkdir()
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job(metrics={"textfile": place})

    (line,) = [line for line in watched_run(workspace) if "metrics" in line]
    assert place in line
    assert not list(workspace.folder.glob(".*"))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "\udcff", "合同", "a}b", "\x1b[2J"])
def test_a_name_breaks_no_line(name: str) -> None:
    """Quotes, backslashes, line ends and bytes that are not UTF-8 in the job's name."""
    content = metrics.render(name, End.with_result(a_night()), NO_REQUESTS, 2.0, 1.0, None)

    assert parsed(content, printable(name))["last_run_exit_code"] == 0


def test_an_unknown_cost_is_absent() -> None:
    """And so not taken for nothing."""
    result = a_result(a_document())
    spending = replace(result.spending, cost_usd=None, unpriced=2)
    unknown = parsed(metrics.render("job", End.with_result(replace(result, spending=spending)), {}, 2.0, 1.0, None))

    assert "last_run_cost_usd" not in unknown
    assert unknown["last_run_unpriced_requests"] == 2


def test_every_metric_is_documented() -> None:
    """The table holds just those that are written, each with its label; the alerts name no other."""
    content = metrics.render("job", End.with_result(a_night()), NO_REQUESTS, 2.0, 1.0, 1.0)
    written = {
        family.name: {label for sample in family.samples for label in sample.labels} - {"job"}
        for family in text_string_to_metric_families(content.decode())
    }
    table = re.findall(r"^\| `(docpipe_\w+)` \| (?:`(\w+)`)? ?\|", PAGE, re.MULTILINE)

    assert {name: {label} - {""} for name, label in table} == written
    assert set(re.findall(r"docpipe_\w+", PAGE)) <= set(written)
