"""Message Batches over real sockets: what is sent, what comes back, what a kill at each moment costs."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h11
import pytest

from pipeline import batch_api, batching, message_batches, messages
from pipeline.domain import Answer, DocumentStatus, RunResult, Usage
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.message_batches import Batch, Pack
from pipeline.offline import Reply
from pipeline.offline_batches import Response
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, KEY, Quiet, Workspace, clause, noisy_page, wait_until, write_pdf

DOCUMENTS, PAGES = 3, 2
CHUNKS = DOCUMENTS * PAGES
Respond = Callable[[str, str, bytes, str], Awaitable[Response]]
QUICK: Mapping[str, object] = {"attempts": 3, "first_wait_seconds": 0.001, "max_wait_seconds": 0.01}


class Hurried:
    """A clock on which pauses take no time worth waiting for."""

    def __init__(self) -> None:
        self.passed = timedelta()
        self.pauses: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.passed

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.passed += timedelta(seconds=seconds)
        await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Hurried:
    """No run in this process waits."""
    hurried = Hurried()
    monkeypatch.setattr(batching, "CLOCK", hurried)
    return hurried


def prepare(workspace: Workspace, base_url: str | None, /, on_lost: object = "retry", **endpoint: object) -> None:
    for number in range(DOCUMENTS):
        write_pdf(workspace.docs / f"{number}.pdf", [clause(number * 100 + page) for page in range(PAGES)])
    workspace.write_job(
        base_url,
        endpoint={"batch": True, **endpoint},
        engine={"on_lost": on_lost},
        split={"max_pages": 1},
        prompt={"synthesis": False},
        retry=QUICK,
        prices={"input": 2.0, "output": 10.0},
    )


def run(workspace: Workspace, served: Endpoint, /, **endpoint: object) -> RunResult:
    with running(served) as base_url:
        prepare(workspace, base_url, **endpoint)
        return workspace.run()


def times_paid(endpoint: Endpoint) -> Counter[str]:
    """How often each request was answered."""
    return Counter(seen.sha256 for seen in endpoint.seen if seen.answered)


def on_record(workspace: Workspace, query: str) -> list[tuple[object, ...]]:
    """What the ledger says, also while a run writes it; nothing as long as there is none."""
    if not workspace.ledger.exists():
        return []
    with closing(sqlite3.connect(f"{workspace.ledger.as_uri()}?mode=ro", uri=True)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # its tables are not made yet
            return []


def always(kind: FaultKind, seconds: float = 0.0) -> FaultPlan:
    return FaultPlan((FaultRule(Fault(kind, seconds=seconds), every=1),))


# --- what is sent and what comes back


def test_one_batch_holds_all_chunks_and_costs_half(workspace: Workspace) -> None:
    """The same answers as sent one by one, at half the price."""
    one_by_one, in_a_batch = Endpoint(), Endpoint()
    with running(one_by_one) as base_url:
        prepare(workspace, base_url, batch=False)
        whole = workspace.run()
    workspace.ledger.unlink()
    result = run(workspace, in_a_batch)
    assert len(in_a_batch.batches.created) == 1
    assert len(in_a_batch.seen) == CHUNKS
    assert result.run.exit_code == 0
    assert [d.risks for d in result.documents] == [d.risks for d in whole.documents]
    assert whole.expected
    assert result.expected
    assert whole.expected.cost_usd
    assert result.expected.cost_usd == pytest.approx(whole.expected.cost_usd / 2)


def test_an_answer_of_a_batch_is_billed_at_the_price_of_batches() -> None:
    """Whether its line says so or not."""
    usage = {"input_tokens": 10, "output_tokens": 2}
    message = {"content": [{"type": "text", "text": '{"summary": "S."}'}], "stop_reason": "end_turn", "usage": usage}
    line = json.dumps({"custom_id": "a-0", "result": {"type": "succeeded", "message": message}}).encode()
    result = message_batches.read_result(line)
    assert result
    outcome = batch_api.outcome_of(result, Batch("msgbatch_1", "ended", 1), messages.SYNTHESIS_SCHEMA, "smaller")
    assert isinstance(outcome, Answer)
    assert (outcome.exchange.usage, outcome.note) == (Usage(10, 2, batch=True), "smaller")


def test_the_built_in_endpoint_takes_batches_in_this_process(workspace: Workspace) -> None:
    """No socket, no key."""
    prepare(workspace, None)
    assert workspace.run().run.exit_code == 0


def test_each_result_of_a_batch_names_its_message(workspace: Workspace) -> None:
    """Those who watch are told one for each request, each the first, with the id of its message and of the batch."""
    watched = Quiet()
    with running(Endpoint()) as base_url:
        prepare(workspace, base_url)
        workspace.run(observer=watched)

    wires = [outcome.exchange for outcome in watched.outcomes if isinstance(outcome, Answer)]
    assert len(wires) == len(watched.outcomes) == len({wire.message_id for wire in wires}) == CHUNKS
    assert all((wire.message_id or "").startswith("msg_") for wire in wires)
    assert len({wire.request_id for wire in wires}) == 1


def test_no_request_of_a_batch_asks_for_a_stream(workspace: Workspace) -> None:
    """Though the job does, for what is sent by itself: the API refuses such a batch."""
    endpoint = Endpoint(keep_bodies=True)
    assert run(workspace, endpoint, stream=True, max_tokens=30_000).run.exit_code == 0
    assert [seen.body.get("stream") for seen in endpoint.seen] == [None] * CHUNKS


@pytest.mark.parametrize("kind", [FaultKind.EXPIRED, FaultKind.OVERLOADED, FaultKind.OFF_SCHEMA])
@pytest.mark.parametrize("how", ["live", "batch"])
def test_what_a_batch_brings_no_answer_for_is_sent_again(workspace: Workspace, how: str, kind: FaultKind) -> None:
    """By itself or in another batch, as the job says; the others are not."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(kind), requests=frozenset({2, 5})),)))
    result = run(workspace, endpoint, batch_retry=how)
    assert result.run.exit_code == 0
    assert len(endpoint.batches.created) == (2 if how == "batch" else 1)
    assert len(endpoint.seen) == CHUNKS + 2
    assert set(Counter(seen.sha256 for seen in endpoint.seen).values()) == {1, 2}
    assert result.spending.chunks_recovered == 2


@pytest.mark.parametrize("how", ["live", "batch"])
def test_a_page_that_the_api_cannot_process_is_isolated(workspace: Workspace, how: str) -> None:
    """Halving works as it does for requests sent by themselves."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.INVALID_PDF), text="schedule K003"),)))
    write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, 9)])
    with running(endpoint) as base_url:
        workspace.write_job(base_url, endpoint={"batch": True, "batch_retry": how}, retry=QUICK)
        result = workspace.run()
    (document,) = result.documents
    assert (result.run.exit_code, document.status) == (3, DocumentStatus.PARTIAL)
    assert [str(missing) for missing in document.missing_pages] == ["3"]
    assert set(times_paid(endpoint).values()) == {1}


def test_a_batch_that_would_be_too_large_becomes_several(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds what fits; all are under way at the same time."""
    monkeypatch.setattr("pipeline.sending.MOST_BYTES", 12_000)
    endpoint = Endpoint()
    assert run(workspace, endpoint).run.exit_code == 0
    assert 1 < len(endpoint.batches.created) <= CHUNKS
    assert sum(times_paid(endpoint).values()) == len(endpoint.seen) == CHUNKS


def test_an_account_that_is_refused_ends_the_run(workspace: Workspace) -> None:
    """Nothing is blamed for it, and nothing of it is left in the ledger's open batches."""
    result = run(workspace, Endpoint(always(FaultKind.AUTHENTICATION)))
    assert result.run.exit_code == 5
    assert {d.status for d in result.documents} == {DocumentStatus.PARTIAL}
    assert on_record(workspace, "SELECT id FROM batches WHERE ended_at IS NULL") == []


def test_an_endpoint_without_batches_ends_the_run(workspace: Workspace) -> None:
    """With code 4 and what to do, though the job file could not know."""
    with running(Endpoint()) as base_url:
        prepare(workspace, base_url + "/elsewhere")
        result = workspace.run()
    assert result.run.exit_code == 4
    assert "set batch = false" in str(result.run.stopped_because)
    assert on_record(workspace, "SELECT count(*) FROM batches") == [(0,)]


def test_a_budget_that_covers_no_request_ends_the_run(workspace: Workspace) -> None:
    """Before anything is sent."""
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        workspace.job_file.write_text(workspace.job_file.read_text() + "[budget]\nmax_usd = 0.000001\n")
        assert workspace.run().run.exit_code == 7
    assert endpoint.batches.created == []


@pytest.mark.parametrize("room", ["for some requests", "for none"])
def test_a_disk_that_is_full_when_a_batch_is_written_loses_and_repeats_nothing(workspace: Workspace, room: str) -> None:
    """What could be written is sent, as a whole batch; the rest is named and left to the next run."""
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        prepare_pictures(workspace, base_url)
        with files_of_at_most(1_200_000 if room == "for some requests" else 400_000):
            first = workspace.run()
        sent = len(endpoint.seen)
        assert sent == on_record(workspace, "SELECT count(*) FROM answers")[0][0]
        second = workspace.run()
    assert first.run.exit_code == 3
    assert sent == (2 if room == "for some requests" else 0)
    assert "it could not be read or spooled: File too large" in str(first.documents[-1].reason)
    assert second.run.exit_code == 0
    assert set(times_paid(endpoint).values()) == {1}
    assert len(endpoint.seen) == DOCUMENTS


def test_a_disk_that_is_full_when_results_are_fetched_ends_the_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With code 4 and the place; the next run takes them in, and nothing is sent again."""
    endpoint = Endpoint()
    respond = endpoint.batches.respond

    async def at_length(method: str, target: str, body: bytes, host: str) -> Response:
        status, headers, lines = await respond(method, target, body, host)
        return status, headers, lines + b" " * (800_000 if target.endswith("/results") else 0)

    monkeypatch.setattr(endpoint.batches, "respond", at_length)
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with files_of_at_most(600_000):
            first = workspace.run()
        assert on_record(workspace, "SELECT count(*) FROM answers") == [(0,)]
        second = workspace.run()
    assert first.run.exit_code == 4
    assert f"no batch can be written or read in {workspace.ledger}.spool: " in str(first.run.stopped_because)
    assert (second.run.exit_code, second.spending.requests) == (0, CHUNKS)
    assert len(endpoint.batches.created) == 1
    assert len(endpoint.seen) == CHUNKS


@pytest.mark.parametrize("most", [2, 0])
def test_a_batch_that_the_api_finds_too_large_is_sent_in_smaller_ones(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Down to a request by itself; one that no batch may hold has failed for that reason, and the run ends."""
    endpoint = Endpoint()
    respond = endpoint.batches.respond

    async def up_to_most(method: str, target: str, body: bytes, host: str) -> Response:
        if method == "POST" and len(json.loads(body)["requests"]) > most:
            return 413, {"content-type": "text/html"}, b"<html>too large</html>"
        return await respond(method, target, body, host)

    monkeypatch.setattr(endpoint.batches, "respond", up_to_most)
    result = run(workspace, endpoint)
    assert set(times_paid(endpoint).values()) == ({1} if most else set())
    assert len(endpoint.seen) == (CHUNKS if most else 0)
    assert on_record(workspace, "SELECT count(*) FROM attempts") == [(len(endpoint.seen),)]
    assert result.run.exit_code == (0 if most else 3)
    assert most or all("alone was too large for the API" in str(d.reason) for d in result.documents)


@pytest.mark.parametrize("how", ["in the middle of a line", "after a line", "with the connection"])
def test_a_list_of_results_that_is_cut_is_read_again(workspace: Workspace, how: str) -> None:
    """Its whole lines are on record by then, if it ended as lists end; nothing is sent again."""
    endpoint = CutOnce(how)
    watched = Quiet()
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        result = workspace.run(observer=watched)
    assert endpoint.cut
    assert result.run.exit_code == 0
    assert len(endpoint.batches.created) == 1
    assert len(endpoint.seen) == CHUNKS == len(watched.outcomes)
    assert any(line.startswith("how the batches are getting on is not known: ") for line in watched.lines)


def test_a_body_holds_whole_requests_whatever_the_disk_had_no_room_for(tmp_path: Path) -> None:
    """Each request is in it or not, as it was said, also when there is room again."""
    with Pack(tmp_path / "body", 1_000_000) as pack:
        with files_of_at_most(20_000):
            taken = [added(pack, "large", 30_000), *(added(pack, f"a-{number}", 3_000) for number in range(8))]
        taken.append(added(pack, "b", 3_000))
        pack.close()
        held = json.loads(pack.path.read_bytes())["requests"]
    assert taken == [False] + [True] * 6 + [False] * 2 + [True]
    assert [request["custom_id"] for request in held] == [f"a-{number}" for number in range(6)] + ["b"]
    assert pack.requests == len(held)


# --- batches that take long


def test_a_batch_that_is_not_ready_is_left_to_the_next_run(workspace: Workspace, clock: Hurried) -> None:
    """The run ends incomplete and says why; pauses grow; the next run takes the results in and sends nothing."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=0.6), requests=frozenset({1})),)))
    with running(endpoint) as base_url:
        prepare(workspace, base_url, batch_wait_hours=0.01)
        first = workspace.run()
        _, status, _ = workspace.docpipe("status", str(workspace.job_file))
        prepare(workspace, base_url)
        second = workspace.run()
    assert first.run.exit_code == 3
    assert {d.status for d in first.documents} == {DocumentStatus.PARTIAL}
    assert all(f"in the batch {endpoint.batches.created[0]}" in str(d.reason) for d in first.documents)
    assert f"{endpoint.batches.created[0]}: {CHUNKS} requests since " in status
    assert "in_progress" in status
    assert "cut off" not in status
    assert clock.pauses[:5] == [2.0, 3.0, 4.5, 6.75, 10.125]
    assert sum(clock.pauses[:6]) == pytest.approx(0.01 * 3600, abs=1)
    assert (second.run.exit_code, second.spending.requests) == (0, CHUNKS)
    assert len(endpoint.batches.created) == 1
    assert len(endpoint.seen) == CHUNKS


def test_batches_turned_off_leave_what_is_in_one_alone(workspace: Workspace) -> None:
    """Only what is new goes out by itself; it would be paid twice."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=3600), requests=frozenset({1})),)))
    with running(endpoint) as base_url:
        prepare(workspace, base_url, batch_wait_hours=0)
        workspace.run()
        write_pdf(workspace.docs / "new.pdf", [clause(900)])
        prepare(workspace, base_url, batch=False)
        wait_until(lambda: len(endpoint.seen) == CHUNKS)
        result = workspace.run()
    assert len(endpoint.seen) == CHUNKS + 1
    assert [d.status.value for d in result.documents] == ["partial"] * DOCUMENTS + ["done"]


def test_a_batch_of_another_key_is_left_alone_until_it_has_expired(
    workspace: Workspace, clock: Hurried, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what was in it is sent again."""
    first, second = Endpoint(always(FaultKind.SLOW, seconds=3600)), Endpoint()
    run(workspace, first, batch_wait_hours=0)
    assert run(workspace, second).run.exit_code == 3
    assert second.seen == []
    clock.passed += timedelta(hours=26)
    assert run(workspace, second).run.exit_code == 0
    assert len(second.seen) == CHUNKS


def test_a_batch_that_the_api_forgot_is_sent_again(workspace: Workspace) -> None:
    """The same endpoint, started anew, knows nothing of it."""
    port = _free_port()
    with running(Endpoint(always(FaultKind.SLOW, seconds=3600)), port) as base_url:
        prepare(workspace, base_url, batch_wait_hours=0)
        workspace.run()
    anew = Endpoint()
    with running(anew, port):
        assert workspace.run().run.exit_code == 0
    assert len(anew.seen) == CHUNKS


def test_a_batch_that_the_api_forgot_is_held_where_the_job_says_so(workspace: Workspace) -> None:
    """No run sends it, and retry does."""
    port = _free_port()
    with running(Endpoint(always(FaultKind.SLOW, seconds=3600)), port) as base_url:
        prepare(workspace, base_url, on_lost="hold", batch_wait_hours=0)
        workspace.run()
    anew = Endpoint()
    with running(anew, port) as base_url:
        prepare(workspace, base_url, on_lost="hold")
        assert [workspace.run().run.exit_code for _ in "ab"] == [3, 3]
        assert anew.seen == []
        assert workspace.run(failed_only=True).run.exit_code == 0
    assert len(anew.seen) == CHUNKS


def test_a_batch_of_another_key_is_held_once_it_has_expired(workspace: Workspace, clock: Hurried) -> None:
    """Where the job says so: from the next run on the reason is that it may have been billed."""
    first, second = Endpoint(always(FaultKind.SLOW, seconds=3600)), Endpoint()
    with running(first) as base_url:
        prepare(workspace, base_url, on_lost="hold", batch_wait_hours=0)
        workspace.run()
    clock.passed += timedelta(hours=26)
    with running(second) as base_url:
        prepare(workspace, base_url, on_lost="hold")
        workspace.run()
        result = workspace.run()
        assert second.seen == []
        assert "page 1: it may have been billed: sent at" in str(result.documents[0].reason)
        assert workspace.run(failed_only=True).run.exit_code == 0


# --- kills


def test_killed_before_the_batch_leaves_the_next_run_sends_it(workspace: Workspace, clock: Hurried) -> None:
    """What is on record of it is looked for at the API for five minutes, and is not there."""
    port = _free_port()
    with socket.create_server(("127.0.0.1", port)):  # takes connections, and nobody answers
        prepare(workspace, f"http://127.0.0.1:{port}")
        with workspace.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: bool(on_record(workspace, "SELECT id FROM batches")))
            process.kill()
            process.communicate(timeout=DEADLINE_S)
    endpoint = Endpoint()
    with running(endpoint, port):
        result = workspace.run()
    assert clock.passed >= timedelta(minutes=5) - timedelta(seconds=DEADLINE_S)
    assert (result.run.exit_code, len(endpoint.batches.created)) == (0, 1)
    assert len(endpoint.seen) == CHUNKS
    assert on_record(workspace, "SELECT count(*) FROM attempts") == [(CHUNKS,)]


def test_killed_after_the_batch_was_created_the_next_run_finds_it(workspace: Workspace) -> None:
    """Nobody had heard its name; a list and its own ids tell, also beside a batch of another program."""
    endpoint = Endpoint(latency_s=0.4)
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with workspace.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: bool(endpoint.batches.created))  # answered 0.4 s later
            process.kill()
            process.communicate(timeout=DEADLINE_S)
        assert on_record(workspace, "SELECT name FROM batches") == [(None,)]
        foreign = {"requests": [{"custom_id": f"x{n}", "params": {}} for n in range(CHUNKS)]}
        post(base_url, json.dumps(foreign).encode())
        result = workspace.run()
    assert result.run.exit_code == 0
    assert len(endpoint.batches.created) == 2  # ours once, and the foreign one
    assert sum(times_paid(endpoint).values()) == CHUNKS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_ended_while_waiting_the_next_run_takes_the_results_in(workspace: Workspace, number: signal.Signals) -> None:
    """The batch goes on at the API; ^C ends the wait at once with code 130, and says so."""
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=1.0), requests=frozenset({1})),)))
    with running(endpoint) as base_url:
        prepare(workspace, base_url)
        with workspace.start("run", str(workspace.job_file), "--verbose") as process:
            wait_until(lambda: on_record(workspace, "SELECT count(*) FROM batches WHERE name IS NOT NULL") == [(1,)])
            process.send_signal(number)
            _, err = process.communicate(timeout=DEADLINE_S)
        assert ("stopping: batches go on at the API" in err) == (number is signal.SIGINT)
        assert process.returncode == (130 if number is signal.SIGINT else -9)
        result = workspace.run()
    assert result.run.exit_code == 0
    assert len(endpoint.batches.created) == 1
    assert len(endpoint.seen) == CHUNKS


def test_killed_while_results_are_recorded_the_next_run_records_the_rest(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two transactions, where nobody reads what is told of the first; the answers of that one stay."""
    pages = batching.RECORDED_AT_ONCE + 3
    endpoint = Endpoint(read_pdf=False)
    monkeypatch.setattr(endpoint.batches, "respond", ended_at_once(endpoint))
    long = "a" * 240  # 200 lines with such a path are more than a pipe holds
    write_pdf(workspace.docs / long / f"{long}.pdf", [clause(page) for page in range(pages)])
    with running(endpoint) as base_url:
        workspace.write_job(
            base_url, endpoint={"batch": True}, split={"max_pages": 1}, prompt={"synthesis": False}, retry=QUICK
        )
        with workspace.start("run", str(workspace.job_file), "--verbose") as process:
            assert process.stderr is not None
            said = b""
            while b"requests: ended" not in said:  # byte by byte, so that no buffer takes in more of it
                byte = os.read(process.stderr.fileno(), 1)
                assert byte, said
                said += byte
            wait_until(lambda: on_record(workspace, "SELECT count(*) > 0 FROM answers") == [(1,)])
            process.kill()
            process.communicate(timeout=DEADLINE_S)
        assert on_record(workspace, "SELECT count(*) FROM answers") == [(batching.RECORDED_AT_ONCE,)]
        result = workspace.run()
    assert (result.run.exit_code, result.spending.requests) == (0, 3)
    assert len(endpoint.batches.created) == 1
    assert len(endpoint.seen) == pages


def test_neither_key_nor_address_stands_in_the_ledger(workspace: Workspace) -> None:
    """An account is a hash of both."""
    with running(Endpoint()) as base_url:
        prepare(workspace, base_url)
        workspace.run()
        ((account,),) = on_record(workspace, "SELECT account FROM batches")
    assert KEY not in str(account)
    assert base_url not in str(account)
    assert account == batching.account(base_url, KEY) != batching.account(base_url, "another")


def prepare_pictures(workspace: Workspace, base_url: str) -> None:
    """Requests of some 410 KB each."""
    for number in range(DOCUMENTS):
        noisy_page(workspace.docs / f"{number}.pdf", size=(300 + number, 340))
    workspace.write_job(base_url, endpoint={"batch": True}, prompt={"synthesis": False}, retry=QUICK)


def added(pack: Pack, custom_id: str, size_bytes: int) -> bool:
    """Whether there was room on the disk."""
    try:
        pack.add(custom_id, [b'"', b"x" * size_bytes, b'"'])
    except OSError:
        return False
    return True


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond that, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class CutOnce(Endpoint):
    """Cuts the first list of results off."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.cut = False
        self._how = how

    async def _about_batches(self, wire: Any, head: h11.Request) -> bool:
        target = head.target.decode()
        if self.cut or not target.endswith("/results"):
            return await super()._about_batches(wire, head)
        self.cut = True
        await wire.body(head, 0)
        _, headers, lines = await self.batches.respond("GET", target, b"", "")
        if self._how == "with the connection":
            await wire.send_half(Reply(200, headers, lines), lambda: None)
            return False
        whole_lines = len(b"".join(lines.splitlines(keepends=True)[:2]))
        kept = lines[: whole_lines + (40 if self._how == "in the middle of a line" else 0)]
        return bool(await wire.send(Reply(200, headers, kept), lambda: None))


def ended_at_once(endpoint: Endpoint) -> Respond:
    """How the endpoint responds when it has done all requests of a batch before it says that it has them."""
    respond = endpoint.batches.respond

    async def when_ended(method: str, target: str, body: bytes, host: str) -> Response:
        reply = await respond(method, target, body, host)
        if method == "POST":
            created = f"{target}/{json.loads(reply[2])['id']}"
            while b'"ended"' not in (await respond("GET", created, b"", host))[2]:
                await asyncio.sleep(0.002)
        return reply

    return when_ended


def post(base_url: str, body: bytes) -> None:
    host, _, port = base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            "POST /v1/messages/batches HTTP/1.1\r\nhost: x\r\nx-api-key: another\r\nanthropic-version: 2023-06-01\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        while connection.recv(65536):
            pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
