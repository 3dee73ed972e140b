"""Sends what is due and does what each outcome calls for: on record, again later, in parts, or the end.

One thread: workers return values, and only this loop writes the ledger. Each turn of the loop is one
transaction: what finished is settled and what begins is noted, so that a kill at any moment loses no
answer that was recorded and at most what was in flight.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pipeline import planner
from pipeline.budget import Budget, Reservation
from pipeline.domain import (
    Answer,
    Chunk,
    ChunkState,
    Failure,
    FailureClass,
    Outcome,
    Payload,
    RunInfo,
    Split,
    Synthesis,
    Task,
)
from pipeline.errors import ExitCode
from pipeline.failures import RetryPolicy
from pipeline.happenings import End
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.outage import Outage
from pipeline.pacing import Gate
from pipeline.planner import PlannedChunk
from pipeline.prices import PriceList
from pipeline.verdicts import Again, Blameless, Failed, Judge, Parts, Stop, Try
from pipeline.workers import Feed, Finished, Pool, Wake

_SPOOLED_AHEAD_BYTES = 200_000_000
_TAKEN_AHEAD = 10_000  # tasks: memory must not grow with the folder
_NOTHING = Reservation()


class Sender(Protocol):
    """Makes attempts. Whatever goes wrong is a value."""

    async def prepare(self, task: Task, reduced: bool) -> Payload | Failure | Split:
        """What the task sends, made ready ahead of its turn; ``reduced``: smaller than what was too large."""

    async def send(self, attempt: int, task: Task, payload: Payload, by_schema: bool, max_tokens: int) -> Outcome:
        """One attempt, by its number in the ledger, asked by schema or in words; the payload is used up by it."""

    def recorded(self, attempt: int, task: Task) -> None:
        """The outcome of an attempt is on disk, and need not be kept elsewhere."""


class Observer(Protocol):
    """Is told what happens; must not fail."""

    def began(self, job: str, run: RunInfo) -> None:
        """Told of the run, before anything else of it but what was said."""

    def found(self, names: Mapping[str, str]) -> None:
        """Told a path of each content, before anything of it is due."""

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more that is to be sent, before it is."""

    def all_due(self) -> None:
        """Told that no more is due than it was told of; what is sent after all are parts and summaries."""

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """An attempt ended; ``again_in_s`` says when the next one may begin, where there is one.

        ``attempt`` is its number among those of the task in this run that count, from 1; 0: nothing was sent.
        """

    def said(self, line: str) -> None:
        """Something that a person may want to know."""

    def ended(self, end: End) -> None:
        """Told last of all, whatever the end, and also when an exception came before anything began."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a run sends. Of ``max_usd`` it has spent ``spent_usd`` before it sends anything.

    ``learns_output``: asks in words once the endpoint has refused a schema. ``most_tokens`` bounds the
    ``max_tokens`` of a request that is made anew because its answer did not fit.
    """

    run: str
    concurrency: int
    requests_per_minute: int
    retry: RetryPolicy
    by_schema: bool
    learns_output: bool
    max_tokens: int
    most_tokens: int
    model: str
    prices: PriceList
    max_usd: float | None
    spent_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class _Item(Try):
    """A task on its way.

    Its last try began at ``begun_s``, as ``attempt`` in the ledger. ``payload`` is there from when it is
    ready until it is sent.
    """

    begun_s: float = 0.0
    attempt: int = 0
    payload: Payload | None = None
    reservation: Reservation = _NOTHING


class Dispatcher:
    """One run's sending.

    ``parts`` is asked for the chunks that take the place of one, cut after a page or in the middle, and
    ``follow_up`` for the synthesis of a content when the last chunk of it that this run sends was answered.
    ``answered`` is told of each chunk whose answer is on record, and whether more requests wait for their turn.
    """

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        sender: Sender,
        parts: Callable[[Chunk, int | None], Sequence[PlannedChunk]],
        follow_up: Callable[[str], Synthesis | None],
        answered: Callable[[Chunk, bool], None],
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._sender = sender
        self._parts = parts
        self._follow_up = follow_up
        self._answered = answered
        self._observer = observer
        self._judge = Judge(rules.retry, rules.by_schema, rules.learns_output, rules.max_tokens, rules.most_tokens)
        self._gate = Gate(rules.concurrency, rules.requests_per_minute)
        self._outage = Outage(rules.concurrency, rules.retry)
        self._budget = Budget(rules.max_usd, rules.prices, rules.model, spent_usd=rules.spent_usd)
        self._wake = Wake()
        # As many chunks are cut ahead as are in flight: when all answers come at once, the next are ready.
        self._preparing: Pool[_Item, Payload | Failure | Split] = Pool(self._prepare, rules.concurrency, self._wake)
        self._ready: deque[_Item] = deque()
        self._sending: Pool[_Item, Outcome] = Pool(self._send, rules.concurrency, self._wake)
        self._feed: Feed[_Item] = Feed(rules.concurrency)
        self._expects_more = True
        self._unsent = 0  # tasks that were taken and whose turn has not come
        self._has_few = asyncio.Event()
        self._left: Counter[str] = Counter()  # by content, the chunks of this run that are not answered
        self._given: set[str] = set()  # the ids of all its chunks
        self._in_flight = 0
        self._news: list[tuple[Task, Outcome | Split, ChunkState, float | None, int]] = []
        self._bug: Exception | None = None
        self.stop: Stop | None = None

    def interrupt(self) -> None:
        """Send nothing more; what is in flight is awaited and recorded."""
        self._end(Stop(ExitCode.INTERRUPTED, "interrupted; what was in flight is recorded, the next run goes on"))

    async def send_all(self, due: AsyncIterator[Sequence[Task]], again: Sequence[Try] = ()) -> Stop | None:
        """Send the tasks as they come until all are settled or the run must stop; then why.

        ``again`` were tried in this run by other means, and go on from there.

        ``due`` gives the tasks of whole contents at a time; a run that must stop asks it for no more.
        Cancelled, it gives up what is in flight.

        Raises:
            Exception: a bug in a worker, or what ``due`` raised, after everything else in flight was recorded.
        """
        self._give([item.task for item in again if isinstance(item.task, Chunk)])
        self._feed.add(_Item(t.task, t.max_tokens, t.part_of, t.tries, t.rejections, reduced=t.reduced) for t in again)
        taking = asyncio.create_task(self._take(due))
        try:
            while self._is_at_work():
                await self._wake.wait(self._wait_s())
                self._turn()
        finally:
            self._feed.stop()
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            await self._preparing.abort()
            await self._sending.abort()
            self._turn()  # what came in at the last moment
        if self._bug is not None:
            raise self._bug
        if self.stop is None and self._outage.is_silent:
            self.stop = Stop(ExitCode.API_DOWN, "the API gave no answer to the end; the next run tries again")
        return self.stop

    async def _take(self, due: AsyncIterator[Sequence[Task]]) -> None:
        try:
            is_any = False
            async for tasks in due:
                is_any = True
                self._give([task for task in tasks if isinstance(task, Chunk)])
                self._unsent += len(tasks)
                self._feed.add(self._fresh(tasks))
                self._observer.due(tasks)
                self._wake.set()
                self._has_few.clear()
                if self._unsent > _TAKEN_AHEAD:  # files are opened faster than their chunks are sent
                    await self._has_few.wait()
            if is_any:  # else this goes on with what another way of sending has told
                self._observer.all_due()
        except Exception as error:  # noqa: BLE001 - what is in flight is awaited before this is raised
            self._stop_for_bug(error)
        self._expects_more = False
        self._wake.set()

    def _fresh(self, tasks: Sequence[Task]) -> Iterator[_Item]:
        for task in tasks:
            self._unsent -= 1
            if self._unsent <= _TAKEN_AHEAD:
                self._has_few.set()
            yield _Item(task, self._rules.max_tokens)

    def _is_at_work(self) -> bool:
        waits = self._expects_more and not self._feed.stopped
        return waits or self._preparing.busy or self._sending.busy or self._wait_s() is not None

    def _turn(self) -> None:
        """Settle what finished and begin what may begin, in one transaction."""
        begun: list[_Item] = []
        self._news.clear()
        sent = self._sending.collect()
        with self._ledger.transaction():
            for done in sent:
                self._settle_sent(done)
            for prepared in self._preparing.collect():
                self._settle_prepared(prepared)
            while self._in_flight < self._gate.slots and (item := self._next_ready()):
                begun.append(self._begin(item))
        for item in begun:  # on record before it leaves
            self._sending.start(item)
        for done in sent:
            if done.result is not None:  # of a bug nothing is on record
                self._sender.recorded(done.item.attempt, done.item.task)
        for task, outcome, state, again_in_s, attempt in self._news:  # a slow terminal must not hold the ledger
            self._observer.settled(task, outcome, state, again_in_s, attempt)
            if isinstance(task, Chunk) and state is ChunkState.ANSWERED:
                self._answered(task, self._has_more())
        while self._has_room() and (item := self._feed.take(time.monotonic())):
            self._preparing.start(item)

    def _has_more(self) -> bool:
        return bool(self._ready) or self._preparing.busy or self._feed.due_s() is not None

    def _has_room(self) -> bool:
        spooled_bytes = sum(item.payload.spooled_bytes for item in self._ready if item.payload)
        return self._preparing.free > len(self._ready) and spooled_bytes < _SPOOLED_AHEAD_BYTES

    def _next_ready(self) -> _Item | None:
        """The next item to send, if one may begin now."""
        if self._feed.stopped or not self._ready or time.monotonic() < self._opens_s():
            return None
        item = self._ready[0]
        reservation = self._budget.reservation(item.task, item.max_tokens)
        if not self._budget.covers(reservation):
            if not self._in_flight:  # else a result may yet make room
                self._end(Stop(ExitCode.BUDGET, self._budget.refusal(reservation)))
            return None
        return replace(self._ready.popleft(), reservation=reservation)

    def _waits_for_money(self) -> bool:
        """Whether only a result in flight can make room in the budget; with none the next turn ends the run."""
        item = self._ready[0]
        return bool(self._in_flight) and not self._budget.covers(self._budget.reservation(item.task, item.max_tokens))

    def _opens_s(self) -> float:
        """Nothing may begin before this time, whoever waits."""
        return max(self._gate.opens_s(time.monotonic()), self._outage.until_s)

    def _begin(self, item: _Item) -> _Item:
        now_s = time.monotonic()
        self._gate.began(now_s)
        self._in_flight += 1
        attempt = self._ledger.begin(_new(item.task), self._rules.run, _now())
        self._budget.hold(attempt, item.reservation)
        return replace(
            item,
            attempt=attempt,
            tries=item.tries + 1,
            since_s=item.since_s or now_s,
            begun_s=now_s,
            by_schema=self._judge.by_schema,
        )

    def _wait_s(self) -> float | None:
        """How long until something can begin; None while only a result can change that.

        What the API wants later than the longest wait is not awaited: unless other work takes that long,
        it is left to the next run.
        """
        now_s, times = time.monotonic(), []
        may_send = self._in_flight < self._gate.slots and not self._feed.stopped
        if self._ready and may_send and not self._waits_for_money():
            times.append(self._opens_s())
        due_s = self._feed.due_s() if self._has_room() else None
        if due_s is not None and due_s <= now_s + self._rules.retry.max_wait_s:
            times.append(due_s)
        return max(0.0, min(times) - now_s) if times else None

    async def _prepare(self, item: _Item) -> Payload | Failure | Split:
        return await self._sender.prepare(item.task, item.reduced)

    async def _send(self, item: _Item) -> Outcome:
        payload = item.payload or Payload(None)
        return await self._sender.send(item.attempt, item.task, payload, item.by_schema, item.max_tokens)

    def _settle_prepared(self, done: Finished[_Item, Payload | Failure | Split]) -> None:
        match done.result:
            case None:
                self._stop_for_bug(done.bug)
            case Payload() as payload:
                self._ready.append(replace(done.item, payload=payload))
            case outcome:
                state, again_in_s = self._judged(done.item, outcome)
                self._ledger.record_unsent(_new(done.item.task), outcome, state)
                self._follow(done.item.task, state)
                self._news.append((done.item.task, outcome, state, again_in_s, 0))

    def _settle_sent(self, done: Finished[_Item, Outcome]) -> None:
        item, outcome = done.item, done.result
        self._in_flight -= 1
        if outcome is None:
            self._stop_for_bug(done.bug)
            return
        wire = outcome.exchange
        cost_usd = self._rules.prices.cost_usd(wire.model or self._rules.model, wire.usage)
        self._budget.settle(item.attempt, item.reservation, cost_usd, billed=wire.may_be_billed)
        self._hear(item, outcome)
        state, again_in_s = self._judged(item, outcome)
        ended_at = None if _may_be_answered_yet(outcome) else _now()
        self._ledger.settle(Settled(item.attempt, item.task.id, outcome, state, ended_at, cost_usd), self._rules.run)
        self._follow(item.task, state)
        self._news.append((item.task, outcome, state, again_in_s, item.tries))

    def _judged(self, item: _Item, outcome: Outcome | Split) -> tuple[ChunkState, float | None]:
        """The chunk's state from now on, and when it is tried again in this run."""
        match outcome:
            case Answer():
                self._judge.answered(item)
                return ChunkState.ANSWERED, None
            case Split():
                return self._halved(item, outcome) or ChunkState.FAILED, None
            case Failure():
                return self._failed(item, outcome)

    def _stop_for_bug(self, bug: Exception | None) -> None:
        self._bug = self._bug or bug
        self._feed.stop()

    def _give(self, chunks: Sequence[Chunk]) -> None:
        self._left.update(chunk.content for chunk in chunks)
        self._given.update(chunk.id for chunk in chunks)

    def _follow(self, task: Task, state: ChunkState) -> None:
        """After the state of a task is on record, where the synthesis reads it: send that for the last chunk."""
        if not isinstance(task, Chunk) or state not in (ChunkState.ANSWERED, ChunkState.SPLIT):
            return
        self._left[task.content] -= 1
        if self._left[task.content] == 0 and (synthesis := self._follow_up(task.content)):
            self._feed.first(_Item(synthesis, self._rules.max_tokens))

    def _halved(self, item: _Item, split: Split | None = None) -> ChunkState | None:
        """Put the parts of a chunk in its place; None when it has none.

        A part may be known already: to another chunk that overlaps, or from a run with other limits.
        """
        parts = self._parts(item.task, split.after if split else None) if isinstance(item.task, Chunk) else ()
        if not parts:
            return None
        due = [p.chunk for p in parts if planner.is_due(p.record, failed_only=False) and p.chunk.id not in self._given]
        self._give(due)
        items = [_Item(part, self._rules.max_tokens, part_of=item.task.id) for part in due]
        if split and split.payload and due[:1] == [parts[0].chunk] and due[0].pages.last == split.after:
            self._ready.append(replace(items.pop(0), payload=split.payload))
        for smaller in reversed(items):
            self._feed.first(smaller)
        return ChunkState.SPLIT

    def _hear(self, item: _Item, outcome: Outcome) -> None:
        """What an outcome says about the endpoint; one that does not answer to the end ends the run."""
        wire, now_s = outcome.exchange, time.monotonic()
        if isinstance(outcome, Failure) and outcome.elsewhere and wire.status is None:
            return
        if not isinstance(outcome, Failure) or _is_answer(outcome):
            self._outage.answered()
            self._gate.answered(item.begun_s, now_s, wire.requests_per_minute)
        else:
            # A chunk may be asked to wait for hours, or for good; all others try their luck after the longest wait.
            asked_s = outcome.retry_after_s if outcome.retry_after_s != math.inf else None
            failure = replace(outcome, retry_after_s=asked_s and min(asked_s, self._rules.retry.max_wait_s))
            self._gate.failed(failure, item.begun_s, now_s, wire.requests_per_minute)
            if self._outage.not_answered(item.task.id, failure, now_s):
                self._end(Stop(ExitCode.API_DOWN, f"the API gives no answer: {outcome.reason}"))

    def _failed(self, item: _Item, failure: Failure) -> tuple[ChunkState, float | None]:
        """The chunk's state after a failure, and when it is tried again in this run."""
        match self._judge.verdict(item, failure, time.monotonic()):
            case Again() as again:
                return ChunkState.OPEN, self._again_in_s(again)
            case Parts():
                return self._halved(item) or ChunkState.FAILED, None
            case Blameless(stop):
                self._end(stop)
                return ChunkState.OPEN, None
            case Failed(stop):
                # What the end of the run cuts short was not tried to the end.
                cut_short = failure.kind is FailureClass.TRANSIENT and self._feed.stopped
                if stop:
                    self._end(stop)
                return ChunkState.OPEN if cut_short else ChunkState.FAILED, None

    def _again_in_s(self, again: Again[_Item]) -> float | None:
        """Put an item where it waits for its next try; how long it will, None when the run ends before."""
        if again.said:
            self._observer.said(again.said)
        if self._feed.stopped:
            return None
        if again.wait_s is None:
            self._feed.first(again.item)
            return 0.0
        due_s, longest_s = time.monotonic() + again.wait_s, self._rules.retry.max_wait_s
        if again.wait_s <= longest_s:
            self._feed.later(again.item, due_s)
            return again.wait_s
        self._feed.put_off(again.item, due_s)
        self._observer.said(
            f"a chunk is put off: the API wants it in {again.wait_s:.0f} s, and max_wait_seconds is {longest_s:g};"
            " it goes out then, or with the next run"
        )
        return None

    def _end(self, stop: Stop) -> None:
        self.stop = self.stop or stop
        self._feed.stop()
        self._wake.set()


def _is_answer(failure: Failure) -> bool:
    """Whether an endpoint that fails so is there: it says that a request is wrong, or sends what is of no use.

    Not where it is too busy, also when it says so only after it has begun to answer.
    """
    return failure.kind is not FailureClass.TRANSIENT or (failure.exchange.status == 200 and not failure.slow_down)


def _may_be_answered_yet(outcome: Outcome) -> bool:
    """Whether it was lost with its host, which may have kept an answer: the attempt has no end."""
    return isinstance(outcome, Failure) and outcome.elsewhere and outcome.exchange.may_be_billed


def _new(task: Task) -> NewChunk:
    return NewChunk(task.id, task.content, task.pages if isinstance(task, Chunk) else None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
