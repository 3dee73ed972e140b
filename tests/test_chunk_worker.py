"""One chunk from the file to the outcome: what goes out, what is left behind, what is a value."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pypdf
import pytest

from pipeline import job, messages, offline
from pipeline.chunk_worker import ChunkWorker
from pipeline.client import Client, Handler
from pipeline.domain import (
    Answer,
    Chunk,
    Failure,
    FailureClass,
    MediaType,
    Outcome,
    PageRange,
    Payload,
    Split,
    Synthesis,
)
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.pdf import Original, Source
from pipeline.reading import LocalReader
from pipeline.sandbox import Limits, Sandbox, SandboxError
from pipeline.serve import Endpoint, running
from tests.conftest import KEY, Workspace, clause, noisy_page, write_pdf

PAGES = 5


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(1) as one:
        yield one


@pytest.fixture
def contract(workspace: Workspace) -> Path:
    return write_pdf(workspace.docs / "a.pdf", [clause(number) for number in range(1, PAGES + 1)])


def original_of(path: Path, page_count: int = PAGES, must_be_cut: bool = False) -> Original:
    stat = path.stat()
    return Original(Source(str(path), stat.st_size, stat.st_mtime_ns), page_count, must_be_cut)


def chunk(first: int, last: int) -> Chunk:
    return Chunk(f"id-{first}-{last}", "content", PageRange(first, last))


WHOLE = chunk(1, PAGES)


class Bench:
    """A worker with its spool, at a served endpoint."""

    def __init__(
        self, workspace: Workspace, sandbox: Sandbox, base_url: str, handler: Handler | None = None, **endpoint: object
    ) -> None:
        loaded = job.load(workspace.write_job(base_url, endpoint=endpoint))
        self.spool = workspace.folder / "spool"
        self.spool.mkdir()
        self._client: Callable[[], Client] = lambda: Client(
            base_url, messages.headers(loaded.endpoint, KEY), KEY, timeout_s=30, concurrency=1, handler=handler
        )
        around = messages.largest_body(loaded.endpoint, loaded.prompt)
        self._worker: Callable[[Client], ChunkWorker] = lambda client: ChunkWorker(
            client, LocalReader(sandbox), self.spool, loaded.endpoint, loaded.prompt, self.max_request_bytes, around
        )
        self.max_request_bytes = 30_000_000
        self.around_bytes = around.size_bytes(0)

    def prepare(self, chunk: Chunk, original: Original, reduced: bool = False) -> Payload | Failure | Split:
        async def work() -> Payload | Failure | Split:
            async with self._client() as client:
                return await self._worker(client).prepare(chunk, original, reduced)

        return asyncio.run(work())

    def send(self, chunk: Chunk, original: Original, payload: Payload, by_schema: bool = True) -> Outcome:
        async def work() -> Outcome:
            async with self._client() as client:
                return await self._worker(client).send_chunk(chunk, original, payload, by_schema, max_tokens=8000)

        return asyncio.run(work())

    def synthesize(self, synthesis: Synthesis) -> Outcome:
        async def work() -> Outcome:
            async with self._client() as client:
                return await self._worker(client).send_synthesis(synthesis, by_schema=True, max_tokens=8000)

        return asyncio.run(work())

    def whole_way(self, chunk: Chunk, original: Original) -> Outcome:
        payload = self.prepare(chunk, original)
        assert isinstance(payload, Payload)
        return self.send(chunk, original, payload)

    @property
    def left_behind(self) -> list[Path]:
        return list(self.spool.iterdir())


def sent_file(body: Mapping[str, Any]) -> bytes:
    """The file that a request carried."""
    document, _ = body["messages"][0]["content"]
    return base64.b64decode(document["source"]["data"], validate=True)


def always(kind: FaultKind, **more: Any) -> Endpoint:
    return Endpoint(FaultPlan((FaultRule(Fault(kind, **more), every=1),)), keep_bodies=True)


# --- what goes out


def test_a_whole_file_goes_out_byte_for_byte_as_it_lies_there(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """Nothing is rewritten or copied where nothing must be."""
    before = contract.read_bytes()
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        payload = bench.prepare(WHOLE, original_of(contract))
        assert payload == Payload(contract)
        outcome = bench.send(WHOLE, original_of(contract), payload)
    assert isinstance(outcome, Answer)
    assert sent_file(endpoint.seen[0].body) == before == contract.read_bytes()
    assert bench.left_behind == []


def test_an_encrypted_file_is_sent_decrypted(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """The API takes no encrypted PDF: the endpoint refuses the file as it lies there and takes what is sent."""
    writer = pypdf.PdfWriter(clone_from=contract)
    writer.encrypt("", "owner", algorithm="AES-256")
    protected = workspace.docs / "protected.pdf"
    writer.write(protected)
    original = original_of(protected, must_be_cut=True)
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        refused = bench.send(WHOLE, original, Payload(protected))
        taken = bench.whole_way(WHOLE, original)
    assert isinstance(refused, Failure)
    assert isinstance(taken, Answer)
    assert [risk["page"] for risk in taken.result["risks"]] == [1, 2, 3, 4, 5]
    assert not pypdf.PdfReader(io.BytesIO(sent_file(endpoint.seen[1].body))).is_encrypted


def test_a_range_of_pages_is_cut_and_said(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """The file sent holds these pages alone, and the words beside it say which they are."""
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        outcome = bench.whole_way(chunk(2, 3), original_of(contract))
    assert isinstance(outcome, Answer)
    reader = pypdf.PdfReader(io.BytesIO(sent_file(endpoint.seen[0].body)))
    assert [page.extract_text().split("\n")[0] for page in reader.pages] == ["Page title 2", "Page title 3"]
    _, text = endpoint.seen[0].body["messages"][0]["content"]
    assert "pages 2-3 of a document of 5 pages" in text["text"]
    assert [risk["page"] for risk in outcome.result["risks"]] == [1, 2]  # within the chunk


def test_a_synthesis_is_text_alone(workspace: Workspace, sandbox: Sandbox) -> None:
    """No file goes with it."""
    endpoint = Endpoint(keep_bodies=True)
    summaries = ((PageRange(1, 2), "The first part."), (PageRange(3, 5), "The second part."))
    with running(endpoint) as base_url:
        outcome = Bench(workspace, sandbox, base_url).synthesize(Synthesis("id", "content", summaries))
    assert isinstance(outcome, Answer)
    assert [block["type"] for block in endpoint.seen[0].body["messages"][0]["content"]] == ["text"]
    assert outcome.result["summary"]


def test_no_body_is_larger_than_was_reckoned(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """The room around a file is that of the longest words, asked by schema and in words."""
    original = original_of(contract)
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url, effort="medium", stream=True)
        for by_schema in (True, False):
            payload = bench.prepare(chunk(1, 4), original)
            assert isinstance(payload, Payload)
            assert payload.path
            file_bytes = payload.path.stat().st_size
            bench.send(chunk(1, 4), original, payload, by_schema)
            sent_bytes = int(endpoint.seen[-1].headers["content-length"])
            assert 0 <= bench.around_bytes + -(-file_bytes // 3) * 4 - sent_bytes < (50 if not by_schema else 5000)


# --- what is left behind


@pytest.mark.parametrize(
    "kind",
    [None, FaultKind.OVERLOADED, FaultKind.AUTHENTICATION, FaultKind.DROP, FaultKind.CUT_STREAM, FaultKind.HTML_200],
)
def test_a_spooled_file_is_deleted_once_it_was_sent(
    workspace: Workspace, sandbox: Sandbox, contract: Path, kind: FaultKind | None
) -> None:
    """Whatever came back."""
    with running(always(kind) if kind else Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        payload = bench.prepare(chunk(1, 2), original_of(contract))
        assert isinstance(payload, Payload)
        assert bench.left_behind == [payload.path]
        assert payload.spooled_bytes == bench.left_behind[0].stat().st_size
        outcome = bench.send(chunk(1, 2), original_of(contract), payload)
    assert isinstance(outcome, Failure if kind else Answer)
    assert bench.left_behind == []
    assert contract.exists()


def test_a_spooled_file_is_deleted_when_the_sending_is_cancelled(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """Parts of documents do not stay behind when a run is given up."""
    endpoint = always(FaultKind.SLOW, seconds=3600)
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        payload = bench.prepare(chunk(1, 2), original_of(contract))
        assert isinstance(payload, Payload)

        async def cancelled() -> None:
            async with bench._client() as client:
                sending = bench._worker(client).send_chunk(chunk(1, 2), original_of(contract), payload, True, 8000)
                task = asyncio.create_task(sending)
                while not endpoint.seen:
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(cancelled())
    assert bench.left_behind == []


# --- what is a value


def _replaced(path: Path) -> None:
    write_pdf(path, [clause(99)])


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _vanished(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_replaced, _touched, _vanished, _folder])
@pytest.mark.parametrize("pages", [chunk(1, 2), WHOLE], ids=["cut", "whole"])
def test_a_file_that_is_another_one_by_now_is_left_to_the_next_run(
    workspace: Workspace, sandbox: Sandbox, contract: Path, pages: Chunk, change: Callable[[Path], None]
) -> None:
    """A value, not an exception; nothing of the other file is sent, and no wait in this run would help."""
    original = original_of(contract)
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        change(contract)
        prepared = bench.prepare(pages, original)  # a whole file is looked at when it is sent
        outcome = bench.send(pages, original, prepared) if isinstance(prepared, Payload) else prepared
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.TRANSIENT
    assert outcome.retry_after_s == float("inf")
    assert endpoint.seen == []
    assert bench.left_behind == []


def test_when_a_file_changes_its_twin_is_sent_in_its_place(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """Never the changed bytes under the hash of the twin, though they were made ready."""
    hashed = contract.read_bytes()
    twin = workspace.docs / "b.pdf"
    twin.write_bytes(hashed)
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        payload = bench.prepare(WHOLE, original_of(contract))
        assert isinstance(payload, Payload)
        _replaced(contract)
        outcome = bench.send(WHOLE, original_of(twin), payload)
    assert isinstance(outcome, Answer)
    assert base64.b64decode(endpoint.seen[0].body["messages"][0]["content"][0]["source"]["data"]) == hashed


@pytest.mark.parametrize("change", [_replaced, _touched, _vanished])
def test_a_file_that_changes_while_it_is_sent_is_no_answer_but_its_cost_is_known(
    workspace: Workspace, sandbox: Sandbox, contract: Path, change: Callable[[Path], None]
) -> None:
    """Which bytes were read is unknown, so the answer is dropped; that it was paid for is not."""

    async def change_then_answer(
        method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        change(contract)
        return offline.answer(method, path, headers, body)

    bench = Bench(workspace, sandbox, "http://127.0.0.1", handler=change_then_answer)
    outcome = bench.send(WHOLE, original_of(contract), Payload(contract))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.retry_after_s) == (FailureClass.TRANSIENT, float("inf"))
    assert outcome.exchange.status == 200
    assert outcome.exchange.usage is not None


def test_a_spooled_file_that_is_gone_is_a_value(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """Someone has cleared our folder."""
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        payload = bench.prepare(chunk(1, 2), original_of(contract))
        assert isinstance(payload, Payload)
        assert payload.path
        payload.path.unlink()
        outcome = bench.send(chunk(1, 2), original_of(contract), payload)
    assert isinstance(outcome, Failure)
    assert "could not be read" in outcome.reason


def test_a_spool_that_gives_no_file_back_loses_no_answer(
    workspace: Workspace, sandbox: Sandbox, contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paid for; the file goes at the end of the run, with the folder. So goes one that was cut in vain."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        payload = bench.prepare(chunk(1, 2), original_of(contract))
        monkeypatch.setattr(Path, "unlink", refuse)
        assert isinstance(payload, Payload)
        assert isinstance(bench.send(chunk(1, 2), original_of(contract), payload), Answer)
        bench.max_request_bytes = bench.around_bytes + 1000
        assert isinstance(bench.prepare(chunk(4, 4), original_of(contract)), Failure)


def test_a_spool_that_takes_no_file_is_a_value(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """The disk is full, or the folder is gone."""
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        bench.spool.rmdir()
        outcome = bench.prepare(chunk(1, 2), original_of(contract))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.TRANSIENT
    assert "spooled" in outcome.reason


def test_several_pages_that_are_too_large_are_to_be_split(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """After the pages that fit, which are ready to be sent; a first page too large by itself leaves nothing behind."""
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        bench.max_request_bytes = bench.around_bytes + 1000
        for pages in (chunk(2, 3), WHOLE):
            outcome = bench.prepare(pages, original_of(contract))
            assert isinstance(outcome, Split)
            assert (outcome.after, outcome.payload) == (pages.pages.first, None)
            assert f"page {pages.pages.first} alone is too much for a request of" in outcome.reason
        assert bench.left_behind == []
        two = bench.prepare(chunk(1, 2), original_of(contract))
        assert isinstance(two, Split)
        bench.max_request_bytes = 30_000_000
        whole = bench.prepare(chunk(1, 2), original_of(contract))
        assert isinstance(whole, Payload)
        bench.max_request_bytes = bench.around_bytes + (whole.spooled_bytes + 2) // 3 * 4
        outcome = bench.prepare(WHOLE, replace(original_of(contract), must_be_cut=True))  # so that it must be cut
        assert isinstance(outcome, Split)
        assert (outcome.after, outcome.payload and outcome.payload.spooled_bytes) == (2, whole.spooled_bytes)
        assert "no more than pages 1-2 fit into a request of" in outcome.reason


def test_one_page_that_is_too_large_is_a_named_failure(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """It cannot be made smaller, and says so."""
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        bench.max_request_bytes = bench.around_bytes + 1000
        outcome = bench.prepare(chunk(4, 4), original_of(contract))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.TOO_LARGE
    assert outcome.reason.startswith("page 4 alone makes a request of")
    assert bench.left_behind == []


def test_a_page_that_the_api_took_for_too_large_gets_half_of_its_bytes(workspace: Workspace, sandbox: Sandbox) -> None:
    """Also where it would fit the limit, and is a whole file; the note says what was done."""
    path = noisy_page(workspace.docs / "a.pdf")
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        page = chunk(1, 1)
        assert bench.prepare(page, original_of(path, 1)) == Payload(path)
        payload = bench.prepare(page, original_of(path, 1), reduced=True)
        assert isinstance(payload, Payload)
        outcome = bench.send(page, original_of(path, 1), payload)
    assert 0 < payload.spooled_bytes <= path.stat().st_size / 2
    assert isinstance(outcome, Answer)
    assert outcome.note == payload.note == "page 1 alone was too large: its images were sent smaller"
    assert bench.left_behind == []


def test_where_images_cannot_be_made_smaller_in_time_the_page_is_a_picture(workspace: Workspace) -> None:
    """One way that crashes or hangs does not take the other with it."""
    path = noisy_page(workspace.docs / "a.pdf")

    class Failing(Sandbox):
        async def call(self, size_bytes: int, function: str, *args: object) -> Any:
            if function.endswith("images"):
                raise SandboxError("reading it took more than 61 s")
            return await super().call(size_bytes, function, *args)

    with Failing(1) as failing, running(Endpoint()) as base_url:
        payload = Bench(workspace, failing, base_url).prepare(chunk(1, 1), original_of(path, 1), reduced=True)
    assert isinstance(payload, Payload)
    assert [picture.media_type for picture in payload.pictures] == [MediaType.JPEG]
    assert payload.note == "page 1 alone was too large: it was sent as a picture"


def test_a_page_that_no_way_makes_small_enough_in_time_says_what_the_last_one_met(workspace: Workspace) -> None:
    """A larger limit would help, and the reason tells which."""
    path = noisy_page(workspace.docs / "a.pdf", size=(90, 120))

    class Slow(Sandbox):
        async def call(self, size_bytes: int, function: str, *args: object) -> Any:
            if "reducer" in function:
                self.use(Limits(timeout_s=0.05))
                return await super().call(0, "signal:pause")
            return await super().call(size_bytes, function, *args)

    with Slow(1) as slow, running(Endpoint()) as base_url:
        bench = Bench(workspace, slow, base_url)
        outcome = bench.prepare(chunk(1, 1), original_of(path, 1), reduced=True)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.TOO_LARGE
    assert outcome.reason == (
        "page 1 alone was too large for the API, and cannot be made small enough"
        " (as a picture: reading it took more than 0 s)"
    )


def test_a_process_that_dies_over_a_cut_leaves_no_half_of_it(workspace: Workspace, contract: Path) -> None:
    """What it had written is gone from the spool, whose space the other chunks need."""

    class Dying(Sandbox):
        async def call(self, size_bytes: int, function: str, *args: object) -> Any:
            await super().call(size_bytes, function, *args)
            assert bench.left_behind != []
            return await super().call(size_bytes, "os:abort")

    with Dying(1) as dying, running(Endpoint()) as base_url:
        bench = Bench(workspace, dying, base_url)
        outcome = bench.prepare(chunk(1, 2), original_of(contract))
    assert isinstance(outcome, Failure)
    assert "crashed the reader" in outcome.reason
    assert bench.left_behind == []


def test_the_limit_is_exact(workspace: Workspace, sandbox: Sandbox, contract: Path) -> None:
    """A request of so many bytes is sent, one of a byte more is not."""
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        bench.max_request_bytes = bench.around_bytes + -(-contract.stat().st_size // 3) * 4
        fits = bench.prepare(WHOLE, original_of(contract))
        bench.max_request_bytes -= 1
        rewritten = bench.prepare(WHOLE, original_of(contract))
    assert fits == Payload(contract)
    assert rewritten != Payload(contract)  # cutting may have made it smaller


def test_a_page_that_cannot_be_cut_is_the_documents_fault(workspace: Workspace, sandbox: Sandbox) -> None:
    """A file that turns out to be broken has a reason of one line."""
    broken = workspace.docs / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing of the kind\nstartxref\n0\n%%EOF")
    with running(Endpoint()) as base_url:
        bench = Bench(workspace, sandbox, base_url)
        outcome = bench.prepare(chunk(2, 3), original_of(broken))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.DOCUMENT
    assert outcome.reason
    assert "\n" not in outcome.reason
    assert bench.left_behind == []


def test_pages_that_are_not_there_are_the_documents_fault(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """The books may say more pages than can be cut."""
    with running(Endpoint()) as base_url:
        outcome = Bench(workspace, sandbox, base_url).prepare(chunk(5, 7), original_of(contract, page_count=7))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.DOCUMENT
    assert outcome.reason.startswith("pages 5-7 cannot be cut")


# --- what came back


def test_what_a_stream_had_reported_before_it_broke_off_is_counted(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """Its tokens were billed."""
    with running(always(FaultKind.CUT_STREAM)) as base_url:
        outcome = Bench(workspace, sandbox, base_url, stream=True).whole_way(WHOLE, original_of(contract))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.TRANSIENT
    assert outcome.exchange.status == 200
    assert outcome.exchange.usage is not None
    assert outcome.exchange.usage.input_tokens > 0


@pytest.mark.parametrize("kind", [None, FaultKind.OVERLOADED, FaultKind.BAD_REQUEST, FaultKind.REFUSAL])
def test_an_outcome_names_its_request(
    workspace: Workspace, sandbox: Sandbox, contract: Path, kind: FaultKind | None
) -> None:
    """The id that support asks for, the status and the time it took."""
    with running(always(kind) if kind else Endpoint()) as base_url:
        outcome = Bench(workspace, sandbox, base_url).whole_way(WHOLE, original_of(contract))
    assert outcome.exchange.request_id == "req_offline_000001"
    assert outcome.exchange.status is not None
    assert outcome.exchange.latency_s > 0


def test_a_message_that_does_not_fit_is_no_answer_but_was_paid_for(
    workspace: Workspace, sandbox: Sandbox, contract: Path
) -> None:
    """Its tokens are counted."""
    with running(always(FaultKind.OFF_SCHEMA)) as base_url:
        outcome = Bench(workspace, sandbox, base_url).whole_way(WHOLE, original_of(contract))
    assert isinstance(outcome, Failure)
    assert outcome.exchange.usage is not None
