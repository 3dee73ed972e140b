"""What becomes of attempts whose host was lost: what it still did is paid for, and must be found."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import joining, publishing
from pipeline.dispatch import Dispatcher, Rules
from pipeline.domain import Answer, Chunk, ChunkState, Exchange, Outcome, PageRange, Payload, Task, Usage
from pipeline.engine import Host, HostLost, Hosts, HostSettings, Join, Prepare, Send, Work, attempt_key
from pipeline.failures import RetryPolicy
from pipeline.file_cache import FileCache, Hashed
from pipeline.host import HostRunner
from pipeline.ledger import Ledger
from pipeline.pdf import Source, is_changed
from pipeline.prices import PriceList
from pipeline.reading import LocalReader
from pipeline.results import Results
from pipeline.sender import Sender
from pipeline.storage import Listed, Url
from tests.conftest import Quiet

ANSWER = Answer({"summary": "S."}, Exchange(200, "req_1", 0.1, "m", Usage(1, 1)))
CHUNK = Chunk("c", "k", PageRange(1, 1))
RULES = Rules("r1", 1, 0, RetryPolicy(1, 0.0, 0.0), True, False, 10, 10, "m", PriceList(1.0, 1.0), None)


@dataclass
class Partitioned:
    """A cluster of one host, out of reach from its first attempt on; it goes on and keeps the outcome."""

    kept: dict[str, Outcome] = field(default_factory=dict)
    reachable: bool = True
    sent: list[str] = field(default_factory=list)

    def open(self) -> Sequence[str]:
        return ()

    def hosts(self) -> Sequence[Host]:
        return [Host("h", 1, 1)]

    async def call(self, host: str, work: Work) -> Any:
        match work:
            case Prepare():
                return Payload(Path("/nowhere"))
            case Send():
                for key in work.recorded:
                    self.kept.pop(key, None)
                self.sent.append(work.attempt)
                self.kept[work.attempt] = ANSWER
                if not self.reachable:
                    raise HostLost("the host h was lost")
                return ANSWER
            case Join():
                if not self.reachable:
                    raise HostLost("the host h is gone", begun=False)
                return self.kept.get(work.attempt)
        raise AssertionError(work)

    async def held(self) -> Mapping[str, str]:
        return dict.fromkeys(self.kept, "h")

    async def rest(self) -> None:
        pass

    def close(self, recorded: Mapping[str, Sequence[str]]) -> None:
        pass


class _Sender(Sender):
    def original(self, chunk: Chunk) -> Any:
        return type("Original", (), {"source": Source("a.pdf", 1, 1)})()


async def _once(tasks: Sequence[Task]) -> AsyncIterator[Sequence[Task]]:
    yield tasks


def night(ledger: Ledger, engine: Partitioned, run: str, holds: bool) -> ChunkState:
    """A run: joins, holds, and sends the chunk if it is due; its state afterwards."""

    async def sent() -> None:
        hosts = Hosts(engine)
        await joining.join(hosts, ledger, run, PriceList(1.0, 1.0), "m", Quiet())
        if holds:
            ledger.hold()
        record = ledger.chunks().get("c")
        if record is None or record.state is ChunkState.OPEN:
            sender = _Sender(hosts, {}, {}, holds)
            rules = replace(RULES, run=run)
            dispatcher = Dispatcher(ledger, rules, sender, lambda *_: (), lambda _: None, lambda *_: None, Quiet())
            await dispatcher.send_all(_once([CHUNK]))

    asyncio.run(sent())
    return ledger.chunks()["c"].state


@pytest.mark.parametrize("holds", [False, True])
def test_the_answer_that_a_host_out_of_reach_kept_is_taken_in_by_the_next_run(tmp_path: Path, holds: bool) -> None:
    """It was paid for: the next run finds it on the host, and nobody sends the chunk again."""
    engine = Partitioned(reachable=False)
    with Ledger.writing(tmp_path / "state.sqlite3") as ledger:
        assert night(ledger, engine, "r1", holds) is not ChunkState.ANSWERED
        engine.reachable = True
        assert night(ledger, engine, "r2", holds) is ChunkState.ANSWERED
        assert len(engine.sent) == 1


def test_a_host_that_is_back_keeps_the_outcome_that_the_driver_did_not_get(tmp_path: Path) -> None:
    """Only what the ledger has may be dropped: of this one it has that nobody knows how it ended."""
    engine = Partitioned(reachable=False)

    async def scene() -> None:
        hosts = Hosts(engine)
        sender = _Sender(hosts, {}, {}, holds=True)
        await sender.send(1, CHUNK, Payload(None, host="h"), True, 10)
        sender.recorded(1, CHUNK)  # as the dispatcher does with every outcome
        engine.reachable = True
        other = Chunk("d", "k", PageRange(2, 2))
        await sender.send(2, other, Payload(None, host="h"), True, 10)

    asyncio.run(scene())
    assert attempt_key(1, "c") in engine.kept


def test_an_outcome_that_was_put_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written and then the folder that names it are flushed, the folder after it has the name."""
    results, flushed = Results(tmp_path / "results"), []
    flush = os.fsync

    def seen(descriptor: int) -> None:
        flush(descriptor)
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), sorted(results.keys())))

    monkeypatch.setattr(os, "fsync", seen)
    results.put("1-c", ANSWER)

    assert flushed == [(False, []), (True, ["1-c"])]
    assert results.get("1-c") == ANSWER


def test_an_answer_that_cannot_be_kept_on_the_host_reaches_the_driver_all_the_same(tmp_path: Path) -> None:
    """It was paid for; a full disk on one host takes neither the answer nor the run."""
    (tmp_path / "results").write_text("no folder can be made here")
    runner = HostRunner(
        cast("HostSettings", type("Settings", (), {"slots": 1})()), None, cast("LocalReader", None), tmp_path / "spool",
        Results(tmp_path / "results"),
    )  # fmt: skip

    async def attempt(work: Send) -> Outcome:
        return ANSWER

    runner._attempt = attempt  # type: ignore[method-assign]
    work = Send("1-c", CHUNK, None, Payload(None), by_schema=True, max_tokens=10)

    async def sent() -> Any:
        return await runner.do(work)

    assert asyncio.run(sent()) == ANSWER


def test_a_copy_that_is_held_stays_the_same_while_another_job_hashes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs over one cache: what one is reading is not taken for changed because the other has brought it too."""

    async def download(url: str, target: Callable[[], Path]) -> None:
        target().write_bytes(b"%PDF-")

    monkeypatch.setattr("pipeline.storage.download", download)

    async def scene() -> bool:
        one, other = FileCache(10**6, tmp_path), FileCache(10**6, tmp_path)
        known: Hashed = await one.hash(Source("s3://b/a.pdf", 5, 0))
        async with one.held(Source("s3://b/a.pdf", 5, 0, known.sha256)) as local:
            await other.hash(Source("s3://b/a.pdf", 5, 0))
            return is_changed(local)

    assert not asyncio.run(scene())


def test_an_attempt_that_a_bug_ended_is_not_called_recorded(tmp_path: Path) -> None:
    """The ledger has no end of it, so a host that keeps its outcome must go on keeping it."""
    recorded: list[int] = []

    class Broken:
        async def prepare(self, task: Task, reduced: bool) -> Payload:
            return Payload(None)

        async def send(self, attempt: int, task: Task, payload: Payload, by_schema: bool, max_tokens: int) -> Outcome:
            raise RuntimeError("a bug")

        def recorded(self, attempt: int, task: Task) -> None:
            recorded.append(attempt)

    with Ledger.writing(tmp_path / "state.sqlite3") as ledger, pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(
            Dispatcher(ledger, RULES, Broken(), lambda *_: (), lambda _: None, lambda *_: None, Quiet()).send_all(
                _once([CHUNK])
            )
        )
    assert recorded == []


def test_a_file_that_the_store_lists_late_stays_this_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that lags behind what was put there does not keep the next report out."""
    (tmp_path / "report.json").write_text('{"job": "j"}')
    file = Listed("report.json", 12, 1, "e")
    listings = [[], [], [file], [file]]
    monkeypatch.setattr("pipeline.storage.listed", lambda folder: listings.pop(0))
    monkeypatch.setattr("pipeline.storage.put", lambda uploads, about: None)
    folder = Url("s3://b/r")
    publishing.publish(tmp_path, folder, "j")
    publishing.publish(tmp_path, folder, "j")
    assert listings == []
