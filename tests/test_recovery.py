"""What becomes of failures over real sockets: each class, the bad page, cut answers, nights in a row."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.domain import ChunkState, DocumentStatus, FailureClass, PageRange, RunResult
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.serve import Endpoint, running
from tests.conftest import Workspace, clause, write_pdf

PAGES = 41
QUICK: Mapping[str, object] = {"attempts": 3, "first_wait_seconds": 0.001, "max_wait_seconds": 0.01}


def bad_page(number: int, kind: FaultKind = FaultKind.COULD_NOT_PROCESS) -> FaultPlan:
    """The API stumbles over whatever holds this page of ``clause``."""
    return FaultPlan((FaultRule(Fault(kind), text=f"schedule K{number:03}"),))


def always(kind: FaultKind) -> FaultPlan:
    return FaultPlan((FaultRule(Fault(kind), every=1),))


def first_only(kind: FaultKind) -> FaultPlan:
    return FaultPlan((FaultRule(Fault(kind), requests=frozenset({1})),))


def run(workspace: Workspace, served: Endpoint, /, **sections: Mapping[str, object]) -> RunResult:
    with running(served) as base_url:
        workspace.write_job(base_url, **({"retry": QUICK} | sections))
        return workspace.run()


def pages_with_risks(result: RunResult) -> list[int]:
    return sorted(r.page or 0 for d in result.documents for r in d.risks if r.category == "price-escalation")


@pytest.mark.parametrize("max_pages", [20, 41], ids=["three chunks", "one chunk"])
@pytest.mark.parametrize("bad", [1, 17, 23, 41])
def test_the_page_that_the_api_cannot_process_is_the_only_one_missing(
    workspace: Workspace, bad: int, max_pages: int
) -> None:
    """A document of 41 pages loses one page and nothing else, for at most 2 log2(41) + 3 requests more."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, PAGES + 1)])
    endpoint = Endpoint(bad_page(bad))
    result = run(workspace, endpoint, split={"max_pages": max_pages}, prompt={"synthesis": False})
    (document,) = result.documents
    assert (result.run.exit_code, document.status) == (3, DocumentStatus.PARTIAL)
    assert document.missing_pages == (PageRange(bad, bad),)
    assert pages_with_risks(result) == [page for page in range(1, PAGES + 1) if page != bad]
    assert f"page {bad}: 400 invalid_request_error: Could not process PDF" in str(document.reason)
    assert len(endpoint.seen) - math.ceil(PAGES / max_pages) <= 2 * math.log2(PAGES) + 3


def test_a_chunk_that_was_split_is_never_sent_again(workspace: Workspace) -> None:
    """Not by the next run, and ``retry`` sends the bad page alone."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 9)])
    run(workspace, Endpoint(bad_page(5)))
    again, mended = Endpoint(bad_page(5)), Endpoint(keep_bodies=True)
    assert run(workspace, again).run.exit_code == 3
    assert again.seen == []
    with running(mended) as base_url:
        workspace.write_job(base_url, retry=QUICK)
        result = workspace.run(failed_only=True)
    assert result.run.exit_code == 0
    assert pages_with_risks(result) == list(range(1, 9))
    assert len(mended.seen) == 2  # the page, and the summary of the whole
    assert "pages 5 of a document of 8 pages" in json.dumps(mended.seen[0].body)


@pytest.mark.parametrize("kind", [FaultKind.REQUEST_TOO_LARGE, FaultKind.TOO_MANY_PAGES, FaultKind.PROMPT_TOO_LONG])
def test_what_is_too_large_is_answered_in_halves(workspace: Workspace, kind: FaultKind) -> None:
    """In the same run, and nothing is missing."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 9)])
    endpoint = Endpoint(first_only(kind))
    result = run(workspace, endpoint, prompt={"synthesis": False})
    assert result.run.exit_code == 0
    assert pages_with_risks(result) == list(range(1, 9))
    assert len(endpoint.seen) == 3


def test_parts_that_were_answered_before_are_not_paid_again(workspace: Workspace) -> None:
    """Other limits make one chunk of them, and that is halved."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 9)])
    run(workspace, Endpoint(), split={"max_pages": 4})
    endpoint = Endpoint(first_only(FaultKind.REQUEST_TOO_LARGE))
    result = run(workspace, endpoint, split={"max_pages": 8})
    assert len(endpoint.seen) == 1
    assert result.run.exit_code == 0
    assert pages_with_risks(result) == list(range(1, 9))


def test_the_summary_of_the_whole_follows_though_no_part_is_left_to_send(workspace: Workspace) -> None:
    """All parts were answered before, under other limits and without a summary."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 9)])
    run(workspace, Endpoint(), split={"max_pages": 4}, prompt={"synthesis": False})
    endpoint = Endpoint(first_only(FaultKind.REQUEST_TOO_LARGE))
    result = run(workspace, endpoint, split={"max_pages": 8})
    assert len(endpoint.seen) == 2
    assert result.documents[0].summary_note is None


def test_a_part_that_two_chunks_share_is_paid_once(workspace: Workspace) -> None:
    """Chunks that overlap by half have one: in the run that halves them, and in one that goes on after it."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 16)])
    settings: dict[str, Mapping[str, object]] = {
        "split": {"max_pages": 10, "overlap_pages": 5},
        "prompt": {"synthesis": False},
    }
    ends = [FaultRule(Fault(FaultKind.REQUEST_TOO_LARGE), text=f"schedule K{n:03}", times=1) for n in (1, 15)]
    refused = FaultRule(Fault(FaultKind.REFUSAL), every=1)
    endpoint, again = Endpoint(FaultPlan((*ends, refused))), Endpoint()
    assert run(workspace, endpoint, **settings).run.exit_code == 3
    assert len(endpoint.seen) == 2 + 3  # 1-5, 6-10, 11-15
    with running(again) as base_url:
        workspace.write_job(base_url, **settings)
        assert pages_with_risks(workspace.run(failed_only=True)) == list(range(1, 16))
    assert len(again.seen) == 3


def test_an_answer_that_was_cut_gets_room_for_twice_as_much(workspace: Workspace) -> None:
    """The same pages with max_tokens doubled; the cut answer's tokens are on the bill."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    endpoint = Endpoint(first_only(FaultKind.MAX_TOKENS), keep_bodies=True)
    result = run(workspace, endpoint, endpoint={"max_tokens": 3000})
    assert result.run.exit_code == 0
    assert [seen.body["max_tokens"] for seen in endpoint.seen] == [3000, 6000]
    assert (result.spending.requests, result.spending.chunks_recovered) == (2, 1)
    assert [chunk.pages for chunk in result.documents[0].chunks] == [PageRange(1, 2)]


# The class of every fault that is answered with an error, and what becomes of two pages that always meet it.
ALWAYS = {
    FaultKind.RATE_LIMIT: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.OVERLOADED: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.SERVER_ERROR: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.BAD_GATEWAY: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.ROUTER_500_HIDING_529: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.DROP: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.CUT_STREAM: (3, "failed", FailureClass.TRANSIENT),
    FaultKind.STREAM_ERROR: (9, "failed", FailureClass.TRANSIENT),
    FaultKind.CLEAN_CUT: (3, "failed", FailureClass.TRANSIENT),
    FaultKind.HTML_200: (3, "failed", FailureClass.TRANSIENT),
    FaultKind.OFF_SCHEMA: (3, "failed", FailureClass.TRANSIENT),
    FaultKind.NOT_JSON: (3, "failed", FailureClass.TRANSIENT),
    FaultKind.EMPTY: (3, "failed", FailureClass.TRANSIENT),
    FaultKind.REQUEST_TOO_LARGE: (3, "failed", FailureClass.TOO_LARGE),
    FaultKind.TOO_MANY_PAGES: (3, "failed", FailureClass.TOO_LARGE),
    FaultKind.PROMPT_TOO_LONG: (3, "failed", FailureClass.TOO_LARGE),
    FaultKind.CONTEXT_LIMIT: (3, "failed", FailureClass.TOO_LARGE),
    FaultKind.MAX_TOKENS: (3, "failed", FailureClass.TOO_LARGE),
    FaultKind.COULD_NOT_PROCESS: (3, "failed", FailureClass.DOCUMENT),
    FaultKind.INVALID_PDF: (3, "failed", FailureClass.DOCUMENT),
    FaultKind.PASSWORD: (3, "failed", FailureClass.DOCUMENT),
    FaultKind.AUTHENTICATION: (5, "open", FailureClass.ACCOUNT),
    FaultKind.BILLING: (5, "open", FailureClass.ACCOUNT),
    FaultKind.PERMISSION: (5, "open", FailureClass.ACCOUNT),
    FaultKind.MODEL_NOT_FOUND: (5, "open", FailureClass.ACCOUNT),
    FaultKind.SPEND_LIMIT: (5, "open", FailureClass.ACCOUNT),
    FaultKind.USAGE_LIMITS: (5, "open", FailureClass.ACCOUNT),
    FaultKind.REFUSAL: (3, "failed", FailureClass.REFUSAL),
    FaultKind.BAD_REQUEST: (3, "failed", FailureClass.OURS),
}


@pytest.mark.parametrize("kind", ALWAYS, ids=lambda kind: str(kind))
def test_each_fault_has_its_class_and_its_end(workspace: Workspace, kind: FaultKind) -> None:
    """Exit code, state and class of a document of one page that never meets anything else."""
    exit_code, state, failure = ALWAYS[kind]
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    streamed = {"stream": kind is FaultKind.CUT_STREAM}
    result = run(workspace, Endpoint(always(kind)), endpoint=streamed, retry={**QUICK, "attempts": 2})
    assert result.run.exit_code == exit_code
    (document,) = result.documents
    assert {chunk.status for chunk in document.chunks} == {ChunkState(state)}
    assert ledger_failures(workspace) == {failure.value}
    if exit_code == 5:
        assert document.status is DocumentStatus.PARTIAL
        assert str(result.run.stopped_because).startswith("the API refuses the account: ")
        assert "; " in str(result.run.stopped_because)  # and what to do
    else:
        assert document.status is DocumentStatus.FAILED


def ledger_failures(workspace: Workspace) -> set[str]:
    database = sqlite3.connect(workspace.ledger)
    try:
        return {row[0] for row in database.execute("SELECT failure FROM chunks WHERE state != 'split'")}
    finally:
        database.close()


def test_every_fault_but_those_that_end_well_is_in_the_table() -> None:
    """A new fault needs its row."""
    assert set(FaultKind) - set(ALWAYS) == {FaultKind.OUTPUT_REFUSED, FaultKind.SLOW, FaultKind.EXPIRED}


def test_a_document_that_fails_night_after_night_is_named_at_the_top(workspace: Workspace) -> None:
    """From the fifth run in a row on; a run that was stopped does not count, and a good one ends the row."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    in_a_row = []
    for night in range(6):
        write_pdf(workspace.docs / f"b{night}.pdf", [clause(10 + night)])
        plan = always(FaultKind.AUTHENTICATION) if night == 3 else bad_page(1, FaultKind.SERVER_ERROR)
        result = run(workspace, Endpoint(plan))
        in_a_row.append(result.documents[0].unfinished_runs)
    assert in_a_row == [1, 2, 3, 3, 4, 5]
    assert {document.unfinished_runs for document in result.documents[1:]} == {0}
    _, out, _ = workspace.docpipe("report", str(workspace.job_file))
    assert "Not fully read in 5 runs in a row or more: a.pdf (5 runs)." in out.splitlines()
    assert run(workspace, Endpoint()).documents[0].unfinished_runs == 0
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    assert run(workspace, Endpoint(bad_page(1))).documents[0].unfinished_runs == 1


def test_a_document_that_fails_alone_night_after_night_is_named_too(workspace: Workspace) -> None:
    """With nothing else to send the run cannot know that the API is up, but it has come to its end."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    results = [run(workspace, Endpoint(always(FaultKind.SERVER_ERROR))) for _ in range(5)]
    assert {result.run.exit_code for result in results} == {9}
    assert [result.documents[0].unfinished_runs for result in results] == [1, 2, 3, 4, 5]
    _, out, _ = workspace.docpipe("report", str(workspace.job_file))
    assert "Not fully read in 5 runs in a row or more: a.pdf (5 runs)." in out.splitlines()


def test_a_chunk_that_is_put_off_says_what_the_api_wants(workspace: Workspace) -> None:
    """Its document is partial for that reason, and the plan does not take it for asked with another prompt."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    write_pdf(workspace.docs / "b.pdf", [clause(2)])
    later = Fault(FaultKind.RATE_LIMIT, retry_after_s=40.0)
    result = run(workspace, Endpoint(FaultPlan((FaultRule(later, text="schedule K001"),))))
    put_off = result.documents[0]
    assert (result.run.exit_code, put_off.status) == (3, DocumentStatus.PARTIAL)
    assert "page 1: not answered yet (429 rate_limit_error" in str(put_off.reason)
    _, out, _ = workspace.docpipe("plan", str(workspace.job_file), "--json")
    assert [row["why"] for row in json.loads(out)] == ["new", "unchanged"]


def test_a_document_that_was_not_tried_is_not_blamed(workspace: Workspace) -> None:
    """Runs with a limit leave the others alone, however many."""
    for name in "abc":
        write_pdf(workspace.docs / f"{name}.pdf", [clause(ord(name))])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, retry=QUICK)
        workspace.run(limit=1)
        result = workspace.run(limit=1)
    assert [(d.status, d.unfinished_runs) for d in result.documents] == [("done", 0), ("done", 0), ("partial", 0)]


def test_what_a_run_expects_to_spend_is_what_the_plan_says(workspace: Workspace) -> None:
    """Chunks and summaries of the whole; and the report has it beside what was spent."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 8)])
    write_pdf(workspace.docs / "b.pdf", [clause(9)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 3})
        _, out, _ = workspace.docpipe("plan", str(workspace.job_file), "--json")
        result = workspace.run()
        again = workspace.run()
    planned = json.loads(out)
    report: dict[str, Any] = json.loads((workspace.reports / "report.json").read_bytes())
    assert result.expected is not None
    assert result.spending.requests == 5
    for kind in ("input_tokens", "output_tokens"):
        assert sum(row["usage"][kind] for row in planned) == getattr(result.expected.usage, kind)
    assert sum(row["cost_usd"] for row in planned) == pytest.approx(result.expected.cost_usd)
    assert again.expected is None
    assert report["run"]["expected"] is None
