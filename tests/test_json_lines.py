"""A run as events for programs: what each line holds, and what stands in none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import Answer, Chunk, ChunkState, Exchange, Failure, FailureClass, PageRange, Split, Usage
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.happenings import End
from pipeline.json_lines import JsonLines
from pipeline.serve import Endpoint, running
from tests.conftest import KEY, Workspace, clause, write_pdf
from tests.report_values import RUN, a_night
from tests.test_progress import CHUNK, HOSTILE, SYNTHESIS, failure, happenings

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "observability.md").read_text("utf-8")
OVERLOADED_ONCE = FaultPlan((FaultRule(Fault(FaultKind.OVERLOADED), requests=frozenset({1})),))


def events_of(stderr: str) -> list[dict[str, Any]]:
    """The events, each on a line of its own; anything else is an error."""
    assert stderr.isascii()
    return [json.loads(line) for line in stderr.splitlines()]


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return events_of(capsys.readouterr().err)


def documented() -> dict[str, set[str]]:
    """The keys of each event, by the table of the page."""
    table = PAGE.partition("\n| key | in |")[2].partition("\n\n")[0]
    keys: dict[str, set[str]] = {
        event: set() for event in re.findall(r"^\| `(\w+)` \| ", PAGE.partition("| key")[0], re.M)
    }
    for line in table.splitlines()[2:]:
        names, where = (re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:3])
        for event in where or list(keys):
            keys[event] |= set(names)
    return keys


def test_a_run_is_told_event_by_event(workspace: Workspace) -> None:
    """Over a socket: an overloaded API, an answer, the totals; and neither the key nor the document's text."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    with running(Endpoint(OVERLOADED_ONCE)) as base_url:
        workspace.write_job(base_url)
        code, out, err = workspace.docpipe("run", str(workspace.job_file), "--log-format", "json", "--json")

    events = events_of(err)
    by_name = {event["event"]: event for event in events if event["event"] != "attempt_ended"}
    failed, answered = (event for event in events if event["event"] == "attempt_ended")
    assert (code, events[0]["event"], events[-1]["event"]) == (0, "run_started", "run_ended")
    assert {event["job"] for event in events} == {"job"}
    assert len({event["run"] for event in events}) == 1
    assert (by_name["due"]["documents"], by_name["due"]["chunks"], by_name["due"]["pages"]) == (1, 1, 2)
    assert (failed["attempt"], failed["state"], failed["failure"], failed["http_status"]) == (
        1,
        "open",
        "transient",
        529,
    )
    assert failed["again_in_s"] is not None
    assert (answered["attempt"], answered["state"], answered["failure"], answered["http_status"]) == (
        2,
        "answered",
        None,
        200,
    )
    assert (answered["document"], answered["pages"], answered["chunk"]) == ("a.pdf", [1, 2], failed["chunk"])
    assert answered["request_id"]
    assert answered["input_tokens"] > 0
    assert by_name["run_ended"]["totals"] == json.loads(out)
    assert KEY not in err
    assert "sole discretion" not in err


def test_an_error_before_the_run_is_an_event_too(workspace: Workspace) -> None:
    """A wrong job file ends with its code, and stderr holds that one event."""
    workspace.job_file.write_text("[surce]\n")
    code, out, err = workspace.docpipe("run", str(workspace.job_file), "--log-format", "json")

    (event,) = events_of(err)
    assert (code, out) == (4, "")
    assert (event["event"], event["status"], event["exit_code"], event["run"]) == ("run_ended", "stopped", 4, None)
    assert "surce" in event["reason"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_line(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Whatever a file name or a reason holds, a line is ASCII, strict JSON, and its texts are printable."""
    lines = JsonLines()
    lines.found({"content": name})
    for happening in happenings(name):
        lines.settled(*happening)
    lines.said(name)
    lines.ended(End.by(ValueError(name)))

    events = told(capsys)
    assert len(events) == len(happenings(name)) + 2
    texts = [value for event in events for value in event.values() if isinstance(value, str)]
    assert all(text.isprintable() for text in texts)


def test_a_long_text_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    """What a server makes up fills no disk."""
    JsonLines().said("x" * 100_000)

    assert len(told(capsys)[0]["text"]) == 1000


def test_what_was_never_sent_has_no_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a chunk that was halved or given up before its request."""
    lines = JsonLines()
    lines.settled(CHUNK, Split("too large"), ChunkState.SPLIT, None, 0)
    lines.settled(CHUNK, failure("cannot be cut"), ChunkState.FAILED, None, 0)

    assert [(e["attempt"], e["latency_s"], e["reason"]) for e in told(capsys)] == [
        (None, None, "too large"), (None, None, "cannot be cut"),
    ]  # fmt: skip


def test_every_event_and_key_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables hold just those that are written, the same keys whatever happened."""
    lines = JsonLines()
    lines.began("contracts", RUN)
    lines.due([CHUNK, SYNTHESIS])
    lines.all_due()
    answer = Answer({}, Exchange(200, "req_1", 1.0, "m", Usage(1, 2, 3, 4)))
    lines.settled(Chunk("id", "content", PageRange(1, 2)), answer, ChunkState.ANSWERED, None, 1)
    lines.settled(CHUNK, Failure(FailureClass.OURS, "no"), ChunkState.FAILED, None, 1)
    lines.said("words")
    lines.ended(End.with_result(a_night()))
    lines.ended(End.by(KeyboardInterrupt()))

    events = told(capsys)
    assert {event["event"] for event in events} == set(documented())
    assert [set(event) for event in events] == [documented()[event["event"]] for event in events]
