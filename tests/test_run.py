"""The whole straight path over real sockets, real PDFs and real SQLite."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pipeline import job, opening, prices, run
from pipeline.domain import RULES_MODEL, ChunkState, DocumentStatus, PageRange, RunResult
from pipeline.errors import SettingsError
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.ledger import Ledger
from pipeline.pdf import Source
from pipeline.reading import Reader
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, Workspace, clause, noisy_page, write_pdf

PAGES = 23


def risks_of(result: RunResult) -> list[tuple[str, int | None]]:
    """``(K-number, page)`` of every reported price escalation."""
    return sorted(
        (risk.quote.split("schedule ")[1][:4], risk.page)
        for document in result.documents
        for risk in document.risks
        if risk.category == "price-escalation"
    )


def report_of(workspace: Workspace) -> dict[str, Any]:
    """report.json without what differs from run to run."""
    report: dict[str, Any] = json.loads((workspace.reports / "report.json").read_bytes())
    for document in report["documents"]:
        document.pop("unchanged")
        for chunk in document["chunks"]:
            chunk.pop("attempts"), chunk.pop("request_id")
    return {"documents": report["documents"], "pages": report["totals"]["pages_covered"]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("max_pages", [1, 2, 5, 10, 22, 100])
def test_each_known_risk_is_reported_once_on_its_page(workspace: Workspace, max_pages: int, stream: bool) -> None:
    """At every chunk size, streamed or not, each page's own risk stands once, on its original page."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, PAGES + 1)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, endpoint={"stream": stream}, split={"max_pages": max_pages})
        result = workspace.run()
    assert result.run.exit_code == 0
    assert risks_of(result) == [(f"K{number:03}", number) for number in range(1, PAGES + 1)]


def test_overlapping_chunks_report_no_risk_twice(workspace: Workspace) -> None:
    """Pages that two chunks hold have their risks once."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, PAGES + 1)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 6, "overlap_pages": 2})
        result = workspace.run()
    assert risks_of(result) == [(f"K{number:03}", number) for number in range(1, PAGES + 1)]


def test_a_second_run_sends_nothing_and_reports_the_same(workspace: Workspace) -> None:
    """What is answered is neither sent nor changed by a second run, and neither are those who answered."""
    for name in "abc":
        write_pdf(workspace.docs / f"{name}.pdf", [clause(ord(name)), clause(1)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 1})
        first = workspace.run()
        before = report_of(workspace)
        second = workspace.run()
    assert (first.spending.requests, second.spending.requests) == (6 + 3, 0)  # chunks and syntheses
    assert report_of(workspace) == before
    assert (first.run.model, second.run.model) == (RULES_MODEL, RULES_MODEL)
    assert all(document.unchanged for document in second.documents)


def test_twenty_copies_cost_one(workspace: Workspace) -> None:
    """Twins share the answers of their content, and each is in the report."""
    write_pdf(workspace.docs / "0.pdf", [clause(1), clause(2)])
    for number in range(1, 20):
        shutil.copy(workspace.docs / "0.pdf", workspace.docs / f"{number}.pdf")
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        result = workspace.run()
    assert len(endpoint.seen) == 1
    assert len(result.documents) == 20
    assert all(len(document.risks) == 2 for document in result.documents)


def test_a_moved_file_costs_nothing_and_a_changed_one_only_itself(workspace: Workspace) -> None:
    """Answers belong to contents, not to names."""
    for name in "abc":
        write_pdf(workspace.docs / f"{name}.pdf", [clause(ord(name))])
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        workspace.run()
        (workspace.docs / "deep").mkdir()
        (workspace.docs / "a.pdf").rename(workspace.docs / "deep" / "renamed.pdf")
        moved = workspace.run()
        write_pdf(workspace.docs / "b.pdf", [clause(999)])
        changed = workspace.run()
    assert moved.spending.requests == 0
    assert [document.path for document in moved.documents] == ["b.pdf", "c.pdf", "deep/renamed.pdf"]
    assert changed.spending.requests == 1
    assert [document.path for document in changed.documents if not document.unchanged] == ["b.pdf"]


def test_a_removed_file_leaves_the_report_and_stays_in_the_ledger(workspace: Workspace) -> None:
    """Its row and its page go, no other page is written; brought back later, under whatever name, it costs nothing."""
    for name in "abc":
        write_pdf(workspace.docs / f"{name}.pdf", [clause(ord(name))])
    kept = workspace.folder / "kept.pdf"
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        workspace.run()
        pages = {page.name: page.stat().st_ino for page in (workspace.reports / "documents").iterdir()}
        (workspace.docs / "b.pdf").rename(kept)
        without = workspace.run()
        left = {page.name: page.stat().st_ino for page in (workspace.reports / "documents").iterdir()}
        kept.rename(workspace.docs / "back.pdf")
        back = workspace.run()
    assert [document.path for document in without.documents] == ["a.pdf", "c.pdf"]
    assert [document["path"] for document in report_of(workspace)["documents"]] == ["a.pdf", "back.pdf", "c.pdf"]
    assert left.items() < pages.items()
    assert {name[0] for name in left} == {"a", "c"}
    assert (without.spending.requests, back.spending.requests) == (0, 0)
    assert [document.status for document in back.documents] == [DocumentStatus.DONE] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": {"model": "another"}},
        {"endpoint": {"effort": "high"}},
        {"prompt": {"instructions": "Only penalties."}},
    ],
    ids=["model", "effort", "prompt"],
)
def test_a_changed_request_is_sent_again(workspace: Workspace, change: dict[str, dict[str, object]]) -> None:
    """Another model, effort or prompt asks for every document anew, and going back costs nothing."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        workspace.run()
        workspace.write_job(base_url, **change)
        changed = workspace.run()
        workspace.write_job(base_url)
        back = workspace.run()
    assert (changed.spending.requests, back.spending.requests) == (1, 0)


MIXED_FAULTS = {
    FaultKind.RATE_LIMIT: 0.05,
    FaultKind.OVERLOADED: 0.05,
    FaultKind.SERVER_ERROR: 0.05,
    FaultKind.BAD_GATEWAY: 0.04,
    FaultKind.ROUTER_500_HIDING_529: 0.03,
    FaultKind.DROP: 0.05,
    FaultKind.CUT_STREAM: 0.04,
    FaultKind.CLEAN_CUT: 0.03,
    FaultKind.HTML_200: 0.02,
    FaultKind.OFF_SCHEMA: 0.02,
    FaultKind.EMPTY: 0.02,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_every_document_completes_while_two_requests_in_five_fail(workspace: Workspace, stream: bool) -> None:
    """Mixed transient failures of 40 % cost retries and nothing else."""
    assert sum(MIXED_FAULTS.values()) == pytest.approx(0.4)
    for number in range(5):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number * 10 + page) for page in range(5)])
    endpoint = Endpoint(FaultPlan(rates=MIXED_FAULTS, seed=3))
    with running(endpoint) as base_url:
        workspace.write_job(
            base_url,
            endpoint={"stream": stream, "output": "json_schema"},
            split={"max_pages": 1},
            retry={"attempts": 20, "first_wait_seconds": 0.005, "max_wait_seconds": 0.05},
            prompt={"synthesis": False},
        )
        result = workspace.run()
    assert result.run.exit_code == 0
    assert {document.status for document in result.documents} == {DocumentStatus.DONE}
    assert len(risks_of(result)) == 25
    assert result.spending.retries > 5
    assert result.spending.chunks_recovered > 5
    assert sum(seen.answered and seen.fault is None for seen in endpoint.seen) == 25


@pytest.mark.parametrize(
    "kind", [FaultKind.AUTHENTICATION, FaultKind.BILLING, FaultKind.SPEND_LIMIT, FaultKind.USAGE_LIMITS]
)
def test_account_trouble_stops_the_run_and_blames_no_document(workspace: Workspace, kind: FaultKind) -> None:
    """Within the requests in flight the run ends with exit 5; a later one with a good key completes it."""
    concurrency = 4
    for number in range(12):
        write_pdf(workspace.docs / f"{number:02}.pdf", [clause(number)])
    settings: dict[str, Any] = {"workers": {"concurrency": concurrency}}
    trouble = Endpoint(FaultPlan((FaultRule(Fault(kind), requests=frozenset(range(6, 100))),)))
    with running(trouble) as base_url:
        workspace.write_job(base_url, **settings)
        stopped = workspace.run()
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, **settings)
        finished = workspace.run()
    assert stopped.run.exit_code == 5
    assert len(trouble.seen) <= 5 + concurrency
    assert {document.status for document in stopped.documents} == {DocumentStatus.DONE, DocumentStatus.PARTIAL}
    assert finished.run.exit_code == 0
    assert finished.spending.requests == 12 - sum(seen.answered for seen in trouble.seen)


def test_a_refused_output_config_is_learned_once(workspace: Workspace) -> None:
    """An endpoint without structured output gets the schema in words, after at most one refusal a worker."""
    for number in range(12):
        write_pdf(workspace.docs / f"{number:02}.pdf", [clause(number)])
    endpoint = Endpoint(structured_output=False)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, workers={"concurrency": 3})
        result = workspace.run()
    assert result.run.exit_code == 0
    assert len(risks_of(result)) == 12
    assert len(endpoint.seen) <= 12 + 3


def test_a_chunk_over_the_byte_limit_ends_after_what_fits(workspace: Workspace) -> None:
    """No request exceeds max_request_mb, each page is cut once, and all are delivered."""
    noise = random.Random(1)
    filler = ["\n".join(noise.randbytes(60).hex() for _ in range(10 if number else 90)) for number in range(6)]
    write_pdf(workspace.docs / "a.pdf", [f"{clause(number)}\n{filler[number]}" for number in range(6)])
    endpoint = Endpoint(keep_bodies=True)
    limit_mb = 0.0186  # holds the heavy first page with one of the others
    with running(endpoint) as base_url:
        workspace.write_job(base_url, split={"max_request_mb": limit_mb})
        result = workspace.run()
    assert result.run.exit_code == 0
    assert len(risks_of(result)) == 6
    with sqlite3.connect(workspace.ledger) as database:
        split = database.execute("SELECT first_page, last_page, split_after FROM chunks WHERE state = 'split'")
        assert split.fetchall() == [(1, 3, 2)]
    database.close()
    assert [c.pages for c in result.documents[0].chunks] == [PageRange(1, 2), PageRange(3, 3), PageRange(4, 6)]
    sent = [len(json.dumps(seen.body, separators=(",", ":"))) for seen in endpoint.seen]
    assert max(sent) <= limit_mb * 1e6


IMAGES, PICTURE = "its images were sent smaller", "it was sent as a picture"


def sent_smaller(workspace: Workspace, page: int, how: str) -> None:
    """One page of the only document was sent smaller, and every report that shows documents says so."""
    note = f"page {page} alone was too large: {how}"
    (document,) = report_of(workspace)["documents"]
    assert (document["status"], document["reason"], document["missing_pages"]) == ("done", None, [])
    assert [(c["first_page"], c["status"]) for c in document["chunks"] if c["reason"] == note] == [(page, "answered")]
    assert [c["reason"] for c in document["chunks"] if c["reason"] != note] == [None] * (len(document["chunks"]) - 1)
    (markdown,) = (workspace.reports / "documents").glob("*.md")
    assert f"*P{note[1:]}.*" in markdown.read_text("utf-8")
    assert f"P{note[1:]}." in (workspace.reports / "index.html").read_text("utf-8")


def test_a_page_of_large_images_is_sent_with_smaller_ones(workspace: Workspace) -> None:
    """Its risks are found in its text as ever, no request exceeds the limit, and the next run has nothing to do."""
    noisy_page(workspace.docs / "a.pdf", pages=3, noisy=2, size=(3000, 4000))
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, split={"max_request_mb": 3}, report={"formats": ["markdown", "html"]})
        result, again = workspace.run(), workspace.run()
    assert (result.run.exit_code, again.spending.requests) == (0, 0)
    assert risks_of(result) == [(f"K{number:03}", number) for number in (1, 2, 3)]
    assert max(len(json.dumps(seen.body, separators=(",", ":"))) for seen in endpoint.seen) <= 3e6
    sent_smaller(workspace, 2, IMAGES)


def test_a_page_whose_images_cannot_be_made_smaller_is_sent_as_a_picture(workspace: Workspace) -> None:
    """The rules cannot read it, and say so on its page; the other pages are as they were."""
    noisy_page(workspace.docs / "a.pdf", pages=3, noisy=2, inline=True, size=(450, 600))
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, split={"max_request_mb": 0.7}, report={"formats": ["markdown", "html"]})
        result = workspace.run()
    assert result.run.exit_code == 0
    assert [page for _, page in risks_of(result)] == [1, 3]
    assert [risk.page for risk in result.documents[0].risks if risk.category == "unreadable"] == [2]
    kinds = [seen.body["messages"][0]["content"][0]["type"] for seen in endpoint.seen]
    assert sorted(kinds) == ["document", "document", "image", "text"]  # the last asks for the summary of the whole
    sent_smaller(workspace, 2, PICTURE)


def test_a_page_that_the_api_takes_for_too_large_is_sent_again_in_half_of_the_bytes(workspace: Workspace) -> None:
    """A limit of its own that nobody knew: one more request, and the page is answered."""
    noisy_page(workspace.docs / "a.pdf")
    refusal = FaultRule(Fault(FaultKind.REQUEST_TOO_LARGE), requests=frozenset({1}))
    endpoint = Endpoint(FaultPlan((refusal,)), keep_bodies=True)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, report={"formats": ["markdown", "html"]})
        result = workspace.run()
    assert result.run.exit_code == 0
    assert risks_of(result) == [("K001", 1)]
    first, second = (len(seen.body["messages"][0]["content"][0]["source"]["data"]) for seen in endpoint.seen)
    assert second <= first / 2
    sent_smaller(workspace, 1, IMAGES)


def test_a_page_that_cannot_be_made_small_enough_has_a_named_failure(workspace: Workspace) -> None:
    """The page is missing and named; the other pages are there."""
    noisy_page(workspace.docs / "a.pdf", pages=3, noisy=2)
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_request_mb": 0.1})
        result = workspace.run()
    (document,) = result.documents
    assert result.run.exit_code == 3
    assert document.status is DocumentStatus.PARTIAL
    assert [str(pages) for pages in document.missing_pages] == ["2"]
    assert document.reason is not None
    assert "page 2 alone makes a request of" in document.reason
    assert [page for _, page in risks_of(result)] == [1, 3]


def test_a_document_of_several_chunks_gets_one_summary(workspace: Workspace) -> None:
    """One text-only request joins the chunk summaries; it is recorded and not sent again."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 7)])
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        workspace.write_job(base_url, split={"max_pages": 2})
        first = workspace.run()
        second = workspace.run()
    blocks = [[block["type"] for block in seen.body["messages"][0]["content"]] for seen in endpoint.seen]
    assert blocks == [["document", "text"]] * 3 + [["text"]]
    assert first.documents[0].summary == second.documents[0].summary != ""
    assert first.documents[0].summary_note is None


def test_a_failed_synthesis_leaves_the_joined_summaries_and_says_so(workspace: Workspace) -> None:
    """The document stays done; the report says that its summary is that of the parts."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 5)])
    with running(Endpoint(FaultPlan((FaultRule(Fault(FaultKind.REFUSAL), requests=frozenset({3})),)))) as base_url:
        workspace.write_job(base_url, split={"max_pages": 2}, workers={"concurrency": 1})
        result = workspace.run()
    (document,) = result.documents
    assert (result.run.exit_code, document.status) == (0, DocumentStatus.DONE)
    assert "Pages 1-2:" in document.summary
    assert "Pages 3-4:" in document.summary
    assert document.summary_note is not None
    assert "refused" in document.summary_note


def test_a_refused_chunk_is_final_until_retry(workspace: Workspace) -> None:
    """The next run leaves it alone, ``retry`` takes it up, and nothing else is sent by either."""
    for number in range(3):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    with running(Endpoint(FaultPlan((FaultRule(Fault(FaultKind.REFUSAL), requests=frozenset({2})),)))) as base_url:
        workspace.write_job(base_url, workers={"concurrency": 1})
        first = workspace.run()
        again = workspace.run()
        write_pdf(workspace.docs / "new.pdf", [clause(77)])
        retried = workspace.run(failed_only=True)
    assert [document.status for document in first.documents].count(DocumentStatus.FAILED) == 1
    assert (first.run.exit_code, again.run.exit_code) == (3, 3)
    assert again.spending.requests == 0
    assert retried.spending.requests == 1
    statuses = {document.path: document.status for document in retried.documents}
    assert statuses == {"0.pdf": "done", "1.pdf": "done", "2.pdf": "done", "new.pdf": "partial"}


def test_transient_failures_to_the_end_are_tried_again_by_the_next_run(workspace: Workspace) -> None:
    """An endpoint that is down ends the run with exit 9; nothing is lost and the next run completes."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with running(Endpoint(FaultPlan(rates={FaultKind.OVERLOADED: 1.0}))) as base_url:
        workspace.write_job(base_url, retry={"attempts": 2})
        down = workspace.run()
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, retry={"attempts": 2})
        up = workspace.run()
    assert (down.run.exit_code, up.run.exit_code) == (9, 0)
    assert up.documents[0].status is DocumentStatus.DONE


def test_a_file_that_changes_after_it_was_hashed_is_not_filed_under_its_old_content(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file replaced between the scan and the request is left to the next run."""
    from pipeline import chunk_worker

    path = write_pdf(workspace.docs / "a.pdf", [clause(1)])
    prepare = chunk_worker.ChunkWorker.prepare

    async def prepare_then_replace(self: Any, chunk: Any, original: Any, reduced: bool) -> Any:
        payload = await prepare(self, chunk, original, reduced)
        write_pdf(path, [clause(2)])
        return payload

    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        with monkeypatch.context() as patch:
            patch.setattr(chunk_worker.ChunkWorker, "prepare", prepare_then_replace)
            changed = workspace.run()
        settled = workspace.run()
    assert changed.documents[0].status is DocumentStatus.FAILED
    assert "changed" in (changed.documents[0].reason or "")
    assert risks_of(settled) == [("K002", 1)]
    assert len(endpoint.seen) == 1


def test_the_limit_sends_for_so_many_documents(workspace: Workspace) -> None:
    """With a limit the rest is reported as not answered yet, never as done."""
    for number in range(4):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        result = workspace.run(limit=1)
    assert [document.status for document in result.documents] == ["done", "partial", "partial", "partial"]
    assert result.run.exit_code == 3


def test_what_failed_before_comes_after_what_is_new(workspace: Workspace) -> None:
    """What always fails must not use up a limit on documents."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    rule = FaultRule(Fault(FaultKind.OFF_SCHEMA), text="K001")
    with running(Endpoint(FaultPlan((rule,)))) as base_url:
        workspace.write_job(base_url, retry={"attempts": 1})
        workspace.run()
        write_pdf(workspace.docs / "b.pdf", [clause(2)])
        result = workspace.run(limit=1)
    assert [document.status for document in result.documents] == ["failed", "done"]


def test_requests_leave_while_other_files_are_opened(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that takes long to open keeps no other one waiting."""
    for number in range(3):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    endpoint = Endpoint()
    inspected = opening._inspected

    async def inspected_late(sha256: str, source: Source, reader: Reader) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            while source.path.endswith("0.pdf") and len(endpoint.seen) < 2:
                await asyncio.sleep(0.001)
        return await inspected(sha256, source, reader)

    monkeypatch.setattr(opening, "_inspected", inspected_late)
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        result = workspace.run()
    assert result.run.exit_code == 0
    assert len(endpoint.seen) == 3
    assert result.expected is not None
    assert result.expected.usage.input_tokens > 3 * 900  # of all three, though two were sent before it was known


def test_odd_names_come_through_to_the_report(workspace: Workspace) -> None:
    """Names with newlines, quotes, 250 bytes or bytes that are not UTF-8 stand in report.json as they are on disk."""
    pdf = write_pdf(workspace.folder / "source.pdf", [clause(1)]).read_bytes()
    names = [
        b"new\nline.pdf",
        b'it\'s "quoted" $(touch x).pdf',
        b"\xff\xfe.PDF",
        b"x" * 246 + b".pdf",
        "合同 ü.pdf".encode(),
    ]
    for name in names:
        Path(os.fsdecode(os.fsencode(workspace.docs) + b"/" + name)).write_bytes(pdf)
    workspace.write_job()
    result = workspace.run()
    report = json.loads((workspace.reports / "report.json").read_bytes())
    assert result.run.exit_code == 0
    assert sorted(os.fsencode(document["path"]) for document in report["documents"]) == sorted(names)


def test_the_built_in_endpoint_gives_the_same_answers_as_the_served_one(workspace: Workspace, tmp_path: Path) -> None:
    """Offline runs go the same way as live ones; only the transport differs."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 6)])
    workspace.write_job(split={"max_pages": 2})
    workspace.run()
    offline = report_of(workspace)
    workspace.ledger.unlink()
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 2}, endpoint={"model": "offline-rules-1"})
        workspace.run()
    assert report_of(workspace) == offline


def test_the_budget_ends_the_run_before_it_is_overspent(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 7 comes while the cost is below the cap, and the next run goes on."""
    monkeypatch.setitem(prices._PRICES, RULES_MODEL, prices.Price(1000, 1000, 0, 0))
    for number in range(10):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number)])
    with running(Endpoint()) as base_url:
        settings: dict[str, Any] = {"endpoint": {"model": RULES_MODEL}, "workers": {"concurrency": 2}}
        workspace.write_job(base_url, budget={"max_usd": 20.0}, **settings)
        capped = workspace.run()
        workspace.write_job(base_url, **settings)
        rest = workspace.run()
    assert capped.run.exit_code == 7
    assert 0 < capped.spending.requests < 10
    assert capped.spending.cost_usd is not None
    assert 10 < capped.spending.cost_usd <= 20
    assert rest.run.exit_code == 0
    assert capped.spending.requests + rest.spending.requests == 10


def test_answers_are_on_disk_one_for_each_chunk(workspace: Workspace) -> None:
    """The ledger has an answer for each answered chunk and an end for each attempt."""
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 6)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, split={"max_pages": 1})
        workspace.run()
    with sqlite3.connect(workspace.ledger) as database:
        states = database.execute("SELECT state, count(*) FROM chunks GROUP BY state").fetchall()
        (answers,) = database.execute("SELECT count(*) FROM answers").fetchone()
        (open_attempts,) = database.execute("SELECT count(*) FROM attempts WHERE ended_at IS NULL").fetchone()
    database.close()
    assert states == [("answered", 6)]
    assert (answers, open_attempts) == (6, 0)


def test_a_retry_that_meets_a_dead_endpoint_keeps_the_better_reason(workspace: Workspace) -> None:
    """What failed for good stays so, with its reason, and is not sent again by every run."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with running(Endpoint(FaultPlan((FaultRule(Fault(FaultKind.REFUSAL), every=1),)))) as base_url:
        workspace.write_job(base_url)
        workspace.run()
    workspace.write_job("http://127.0.0.1:9", retry={"attempts": 2})
    retried = workspace.run(failed_only=True)
    again = workspace.run()
    assert retried.run.exit_code == 9
    assert "refused" in (retried.documents[0].reason or "")
    assert again.spending.requests == 0


def test_a_run_that_a_bug_ends_is_on_record_as_stopped(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a killed run stays without an end in the books."""
    from pipeline import reports

    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()

    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(reports, "write", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        workspace.run()
    status = run.status_job(job.load(workspace.job_file))
    assert status.result is not None
    assert status.result.run.status == "stopped"
    assert status.result.run.stopped_because == "RuntimeError: a bug"


def test_what_stands_in_the_way_of_cutting_ends_the_run_and_blames_no_document(workspace: Workspace) -> None:
    """All chunks that were about to be cut at that time stay open, and nothing is removed."""
    (workspace.folder / "state.sqlite3.spool").write_text("somebody's")
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(6)])
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        workspace.write_job(base_url, split={"max_pages": 1}, workers={"concurrency": 4})
        with pytest.raises(SettingsError, match="the folder for cut chunks cannot be made"):
            workspace.run()

    assert endpoint.seen == []
    assert (workspace.folder / "state.sqlite3.spool").read_text() == "somebody's"
    with Ledger.reading(workspace.ledger) as ledger:
        assert {record.state for record in ledger.chunks().values()} <= {ChunkState.OPEN}


def test_jobs_that_share_a_ledger_do_not_share_files(workspace: Workspace) -> None:
    """The same name, size and time in another folder is another file, and each job has its own last run."""
    folders = [workspace.docs, workspace.folder / "docs2"]
    for number, folder in enumerate(folders):
        path = write_pdf(folder / "same.pdf", [clause(number)])
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert len({(folder / "same.pdf").stat().st_size for folder in folders}) == 1
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        first = workspace.run()
        first_job = workspace.job_file.rename(workspace.folder / "first.toml")
        workspace.write_job(base_url, source={"folder": "docs2"}, report={"folder": "reports2"})
        second = workspace.run()
    last_of_first = run.status_job(job.load(first_job.rename(workspace.folder / "job.toml"))).result
    assert (risks_of(first), risks_of(second)) == ([("K000", 1)], [("K001", 1)])
    assert second.spending.requests == 1
    assert last_of_first is not None  # both jobs are called "job" here; the folder tells their files apart
    assert risks_of(last_of_first) == [("K000", 1)]


def test_jobs_that_look_at_parts_of_one_folder_report_their_own_files(workspace: Workspace) -> None:
    """A narrower job over the same ledger takes no document out of the books of a wider one."""
    for number, name in enumerate(("a", "b")):
        write_pdf(workspace.docs / f"{name}.pdf", [clause(number)])
    wide = workspace.write_job().rename(workspace.folder / "wide.toml")
    narrow = workspace.write_job(source={"include": ["b.pdf"]}, report={"folder": "reports2"})
    for workspace.job_file in (wide, narrow):
        workspace.run()

    results = [run.status_job(job.load(path)).result for path in (wide, narrow)]

    assert [result and [d.path for d in result.documents] for result in results] == [["a.pdf", "b.pdf"], ["b.pdf"]]


def test_documents_that_always_fail_do_not_starve_the_others(workspace: Workspace) -> None:
    """Answers that never fit end in exit 3, not in an API that is taken for down, and the good ones are read."""
    for number in range(8):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number) + ("\nrotten" if number < 5 else "")])
    rule = FaultRule(Fault(FaultKind.OFF_SCHEMA), text="rotten")
    with running(Endpoint(FaultPlan((rule,)))) as base_url:
        workspace.write_job(base_url, workers={"concurrency": 1}, retry={"attempts": 2})
        result = workspace.run()
    assert result.run.exit_code == 3
    assert [document.status for document in result.documents] == ["failed"] * 5 + ["done"] * 3


def test_an_api_that_goes_down_in_the_middle_is_not_sent_the_rest(workspace: Workspace) -> None:
    """After eight given up in a row the run ends with exit 9; what was answered stays, the rest stays open."""
    for number in range(40):
        write_pdf(workspace.docs / f"{number:02}.pdf", [clause(number)])
    down = FaultRule(Fault(FaultKind.SERVER_ERROR), requests=frozenset(range(6, 1000)))
    endpoint = Endpoint(FaultPlan((down,)))
    with running(endpoint) as base_url:
        workspace.write_job(base_url, workers={"concurrency": 2}, retry={"attempts": 1})
        result = workspace.run()
    assert result.run.exit_code == 9
    assert len(endpoint.seen) <= 5 + 8 + 2 + 2  # answered, in a row, probes, in flight at the end
    assert [document.status for document in result.documents].count(DocumentStatus.DONE) == 5
    assert [document.status for document in result.documents].count(DocumentStatus.PARTIAL) >= 25


def test_a_twin_stands_in_for_a_file_that_goes_away(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is read where it still lies."""
    from pipeline import dispatch

    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    for name in ("b.pdf", "c.pdf"):
        shutil.copy(workspace.docs / "a.pdf", workspace.docs / name)
    send_all = dispatch.Dispatcher.send_all

    async def send_all_later(self: Any, *given: Any) -> Any:
        (workspace.docs / "a.pdf").unlink()
        (workspace.docs / "c.pdf").unlink()
        return await send_all(self, *given)

    monkeypatch.setattr(dispatch.Dispatcher, "send_all", send_all_later)
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url)
        result = workspace.run()
    assert result.run.exit_code == 0
    assert result.spending.requests == 1


def test_a_budget_below_one_request_sends_nothing_and_says_so(workspace: Workspace) -> None:
    """The reason names the cost and what to do."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with running(Endpoint()) as base_url:
        workspace.write_job(base_url, budget={"max_usd": 0.000001})
        result = workspace.run()
    assert (result.run.exit_code, result.spending.requests) == (7, 0)
    assert "does not cover one request" in (result.run.stopped_because or "")
    assert "raise it" in (result.run.stopped_because or "")
