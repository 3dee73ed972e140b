"""Sends what is due and decides what becomes of each outcome: on record, again later, halved, or the end.

One thread: workers return values, and only this loop writes the ledger. Each turn of the loop is one
transaction: what finished is settled and what begins is noted, so that a kill at any moment loses no
answer that was recorded and at most what was in flight.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pipeline import planner
from pipeline.domain import Answer, Chunk, ChunkState, Failure, FailureClass, Outcome, Payload, Split, Synthesis, Task
from pipeline.errors import ExitCode
from pipeline.failures import CoolDown, Pacer, RetryPolicy
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.prices import PriceList
from pipeline.workers import Feed, Finished, Pool, Wake

_REFUSED_REQUESTS_IN_A_ROW = 3
_GIVEN_UP_IN_A_ROW = 8  # or as many as are in flight, if that is more
_SPOOLED_AHEAD_BYTES = 200_000_000


class Sender(Protocol):
    """Makes attempts. Whatever goes wrong is a value."""

    async def prepare(self, task: Task) -> Payload | Failure | Split:
        """What the task sends, made ready ahead of its turn."""

    async def send(self, task: Task, payload: Payload, by_schema: bool) -> Outcome:
        """One attempt, asked by schema or in words; the payload is used up by it."""


class Observer(Protocol):
    """Is told what happens; must not fail."""

    def sending(self, tasks: Sequence[Task], names: Mapping[str, str]) -> None:
        """Told what is due, before the first request. ``names``: a path for each content."""

    def settled(self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None) -> None:
        """An attempt ended; ``again_in_s`` says when the next one may begin, where there is one."""

    def said(self, line: str) -> None:
        """Something that a person may want to know."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a run sends. ``learns_output``: asks in words once the endpoint has refused a schema."""

    run: str
    concurrency: int
    requests_per_minute: int
    retry: RetryPolicy
    by_schema: bool
    learns_output: bool
    model: str
    prices: PriceList
    max_usd: float | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Why sending ended early, and the exit code for it."""

    exit_code: ExitCode
    reason: str


@dataclass(frozen=True, slots=True)
class _Item:
    """A task on its way.

    ``tries`` were made in this run, the first at ``since_s``; ``attempt`` is the number of the last in the
    ledger. ``payload`` is there from when it is ready until it is sent.
    """

    task: Task
    tries: int = 0
    since_s: float = 0.0
    attempt: int = 0
    by_schema: bool = True
    payload: Payload | None = None
    reserved_usd: float = 0.0


class Dispatcher:
    """One run's sending.

    ``follow_up`` is asked for the synthesis of a content when the last chunk of it that this run sends
    was answered.
    """

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        sender: Sender,
        follow_up: Callable[[str], Synthesis | None],
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._sender = sender
        self._follow_up = follow_up
        self._observer = observer
        self._by_schema = rules.by_schema
        self._schema_works = False
        self._cool_down = CoolDown()
        self._pacer = Pacer(rules.requests_per_minute)
        self._wake = Wake()
        # As many chunks are cut ahead as are in flight: when all answers come at once, the next are ready.
        self._preparing: Pool[_Item, Payload | Failure | Split] = Pool(self._prepare, rules.concurrency, self._wake)
        self._ready: deque[_Item] = deque()
        self._sending: Pool[_Item, Outcome] = Pool(self._send, rules.concurrency, self._wake)
        self._feed: Feed[_Item] = Feed(iter(()), rules.concurrency)
        self._left: Counter[str] = Counter()
        self._spent_usd = self._reserved_usd = 0.0
        self._in_flight = 0
        self._answers = self._given_up_in_a_row = self._refused_in_a_row = 0
        self._news: list[tuple[Task, Outcome | Split, ChunkState, float | None]] = []
        self._bug: Exception | None = None
        self.stop: Stop | None = None

    def interrupt(self) -> None:
        """Send nothing more; what is in flight is awaited and recorded."""
        self._end(Stop(ExitCode.INTERRUPTED, "interrupted; what was in flight is recorded, the next run goes on"))

    async def send_all(self, tasks: Sequence[Task]) -> Stop | None:
        """Send the tasks until all are settled or the run must stop; then why.

        Cancelled, it gives up what is in flight.

        Raises:
            Exception: a bug in a worker, after everything else in flight was recorded.
        """
        self._left.update(task.content for task in tasks if isinstance(task, Chunk))
        self._feed = Feed((_Item(task) for task in tasks), self._rules.concurrency)
        try:
            self._turn()
            while self._preparing.busy or self._sending.busy or self._wait_s() is not None:
                await self._wake.wait(self._wait_s())
                self._turn()
        finally:
            self._feed.stop()
            await self._preparing.abort()
            await self._sending.abort()
            self._turn()  # what came in at the last moment
        if self._bug is not None:
            raise self._bug
        if self.stop is None and self._answers == 0 and self._given_up_in_a_row:
            self.stop = Stop(ExitCode.API_DOWN, "the API gave no answer to the end; the next run tries again")
        return self.stop

    def _turn(self) -> None:
        """Settle what finished and begin what may begin, in one transaction."""
        begun: list[_Item] = []
        self._news.clear()
        with self._ledger.transaction():
            for sent in self._sending.collect():
                self._settle_sent(sent)
            for prepared in self._preparing.collect():
                self._settle_prepared(prepared)
            while len(begun) < self._sending.free and (item := self._next_ready()):
                begun.append(self._begin(item))
        for item in begun:  # on record before it leaves
            self._sending.start(item)
        for task, outcome, state, again_in_s in self._news:  # a slow terminal must not hold the ledger
            self._observer.settled(task, outcome, state, again_in_s)
        while self._has_room() and (item := self._feed.take(time.monotonic())):
            self._preparing.start(item)

    def _has_room(self) -> bool:
        spooled_bytes = sum(item.payload.spooled_bytes for item in self._ready if item.payload)
        return self._preparing.free > len(self._ready) and spooled_bytes < _SPOOLED_AHEAD_BYTES

    def _next_ready(self) -> _Item | None:
        """The next item to send, if one may begin now."""
        if self._feed.stopped or not self._ready or time.monotonic() < self._gate_s():
            return None
        cost_usd = self._estimated_usd(self._ready[0].task)
        if self._is_over_budget(cost_usd):
            if not self._in_flight:
                left = f"${self._rules.max_usd:g} with ${self._spent_usd:.4f} spent"
                reason = f"the budget does not cover the next request (about ${cost_usd:.4f}; {left})"
                self._end(Stop(ExitCode.BUDGET, f"{reason}; a run with a new budget goes on"))
            return None
        self._reserved_usd += cost_usd
        return replace(self._ready.popleft(), reserved_usd=cost_usd)

    def _is_over_budget(self, cost_usd: float) -> bool:
        """Whether a request may not begin now; what is in flight may yet turn out cheaper than was reserved."""
        limit_usd = self._rules.max_usd
        return limit_usd is not None and self._spent_usd + self._reserved_usd + cost_usd > limit_usd

    def _waits_for_money(self) -> bool:
        """Whether only a result in flight can make room in the budget; with none the next turn ends the run."""
        return bool(self._in_flight) and self._is_over_budget(self._estimated_usd(self._ready[0].task))

    def _gate_s(self) -> float:
        """Nothing may begin before this time, whoever waits."""
        return max(self._cool_down.until_s, self._pacer.next_s)

    def _begin(self, item: _Item) -> _Item:
        now_s = time.monotonic()
        self._pacer.took(now_s)
        self._in_flight += 1
        attempt = self._ledger.begin(_new(item.task), self._rules.run, _now())
        since_s = item.since_s or now_s
        return replace(item, attempt=attempt, tries=item.tries + 1, since_s=since_s, by_schema=self._by_schema)

    def _wait_s(self) -> float | None:
        """How long until something can begin; None while only a result can change that."""
        times = []
        if self._ready and self._sending.free and not self._feed.stopped and not self._waits_for_money():
            times.append(self._gate_s())
        if self._has_room() and (due_s := self._feed.due_s()) is not None:
            times.append(due_s)
        return max(0.0, min(times) - time.monotonic()) if times else None

    async def _prepare(self, item: _Item) -> Payload | Failure | Split:
        return await self._sender.prepare(item.task)

    async def _send(self, item: _Item) -> Outcome:
        return await self._sender.send(item.task, item.payload or Payload(None), item.by_schema)

    def _settle_prepared(self, done: Finished[_Item, Payload | Failure | Split]) -> None:
        match done.result:
            case None:
                self._stop_for_bug(done.bug)
            case Payload() as payload:
                self._ready.append(replace(done.item, payload=payload))
            case outcome:
                state, again_in_s = self._judged(done.item, outcome)
                self._ledger.record_unsent(_new(done.item.task), outcome, state)
                self._news.append((done.item.task, outcome, state, again_in_s))

    def _settle_sent(self, done: Finished[_Item, Outcome]) -> None:
        item, outcome = done.item, done.result
        self._reserved_usd -= item.reserved_usd
        self._in_flight -= 1
        if outcome is None:
            self._stop_for_bug(done.bug)
            return
        state, again_in_s = self._judged(item, outcome)
        cost_usd = self._rules.prices.cost_usd(outcome.exchange.model or self._rules.model, outcome.exchange.usage)
        unknown_usd = item.reserved_usd if outcome.exchange.status == 200 else 0.0  # billed, but not said how much
        self._spent_usd += unknown_usd if cost_usd is None else cost_usd
        self._ledger.settle(Settled(item.attempt, item.task.id, outcome, state, _now(), cost_usd), self._rules.run)
        if state is ChunkState.ANSWERED and isinstance(item.task, Chunk):
            self._chunk_answered(item.task)  # after the answer is on record: the synthesis reads it there
        self._news.append((item.task, outcome, state, again_in_s))

    def _judged(self, item: _Item, outcome: Outcome | Split) -> tuple[ChunkState, float | None]:
        """The chunk's state from now on, and when it is tried again in this run."""
        match outcome:
            case Answer():
                return self._answered(item), None
            case Split():
                return self._halved(item) or ChunkState.FAILED, None
            case Failure():
                return self._failed(item, outcome)

    def _stop_for_bug(self, bug: Exception | None) -> None:
        self._bug = self._bug or bug
        self._feed.stop()

    def _answered(self, item: _Item) -> ChunkState:
        self._answers += 1
        self._schema_works = self._schema_works or item.by_schema
        self._given_up_in_a_row = self._refused_in_a_row = 0
        return ChunkState.ANSWERED

    def _chunk_answered(self, chunk: Chunk) -> None:
        self._left[chunk.content] -= 1
        if self._left[chunk.content] == 0 and (synthesis := self._follow_up(chunk.content)):
            self._feed.first(_Item(synthesis))

    def _halved(self, item: _Item) -> ChunkState | None:
        """Put the halves of a chunk in its place; None when it has none."""
        parts = planner.halves(item.task, self._rules.fingerprint) if isinstance(item.task, Chunk) else None
        if parts is None:
            return None
        self._left[item.task.content] += 1
        for part in reversed(parts):
            self._feed.first(_Item(part))
        return ChunkState.SPLIT

    def _failed(self, item: _Item, failure: Failure) -> tuple[ChunkState, float | None]:
        """The chunk's state after a failure, and when it is tried again in this run."""
        if self._is_about_output(item, failure):
            return ChunkState.OPEN, self._ask_in_words(item, failure)
        if failure.kind is FailureClass.ACCOUNT:
            self._end(Stop(ExitCode.ACCOUNT, f"the API refuses the account: {failure.reason}"))
            return ChunkState.OPEN, None
        wait_s = self._wait_before_retry_s(item, failure)
        if wait_s is not None:
            now_s = time.monotonic()
            self._cool_down.note(failure, now_s, wait_s)
            self._feed.later(item, now_s + wait_s)
            return ChunkState.OPEN, wait_s
        if failure.kind in (FailureClass.TOO_LARGE, FailureClass.DOCUMENT) and (state := self._halved(item)):
            return state, None
        if failure.kind is FailureClass.TRANSIENT and self._feed.stopped:
            return ChunkState.OPEN, None  # cut short by the end of the run, not tried to the end
        self._given_up(item, failure)
        return ChunkState.FAILED, None

    def _is_about_output(self, item: _Item, failure: Failure) -> bool:
        """Whether asking in words would help: the schema was refused, or seems to have been dropped silently.

        Once an answer has come by schema, one that is not JSON is the model's own slip.
        """
        dropped = failure.kind is FailureClass.TRANSIENT
        may_help = failure.output_refused and item.by_schema and self._rules.learns_output
        return may_help and not (dropped and self._schema_works)

    def _ask_in_words(self, item: _Item, failure: Failure) -> float:
        if self._by_schema:
            self._by_schema = False
            self._observer.said(
                f"the endpoint does not take output_config; asking in words from now on ({failure.reason})"
            )
        self._feed.first(replace(item, tries=item.tries - 1))
        return 0.0

    def _wait_before_retry_s(self, item: _Item, failure: Failure) -> float | None:
        if self._feed.stopped:
            return None
        if failure.kind is not FailureClass.TRANSIENT and max(item.tries, 1) > failure.retries_first:
            return None
        return self._rules.retry.wait_s(item.tries, time.monotonic() - item.since_s, failure)

    def _given_up(self, item: _Item, failure: Failure) -> None:
        # An answer that does not fit, or a file that changed, says nothing about the endpoint.
        no_answer = failure.exchange.status != 200 and item.tries and failure.retry_after_s != math.inf
        if failure.kind is FailureClass.TRANSIENT and no_answer:
            self._given_up_in_a_row += 1
            if self._given_up_in_a_row >= max(self._rules.concurrency, _GIVEN_UP_IN_A_ROW):
                self._end(Stop(ExitCode.API_DOWN, f"the API gives no answer: {failure.reason}"))
        if failure.kind is FailureClass.OURS:
            self._refused_in_a_row += 1
            if self._answers == 0 and self._refused_in_a_row >= _REFUSED_REQUESTS_IN_A_ROW:
                self._end(Stop(ExitCode.SETTINGS, f"the API refuses every request: {failure.reason}"))

    def _end(self, stop: Stop) -> None:
        self.stop = self.stop or stop
        self._feed.stop()
        self._wake.set()

    def _estimated_usd(self, task: Task) -> float:
        if isinstance(task, Chunk):
            usage = planner.estimate([task]).usage
        else:
            usage = planner.estimate_text(sum(len(text) for _, text in task.summaries))
        return self._rules.prices.cost_usd(self._rules.model, usage) or 0.0


def _new(task: Task) -> NewChunk:
    return NewChunk(task.id, task.content, task.pages if isinstance(task, Chunk) else None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
