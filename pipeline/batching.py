"""Sends what is due in Message Batches, at half the price, and takes their results in, also those of earlier runs.

The second way of sending beside ``dispatch``. On record before a batch leaves: its own id, with which the ids of its
requests at the API begin, and every request. So a batch of which nobody heard whether it arrived is found again among
those that the API lists, and is never paid for twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline import batch_api, message_batches, messages, planner
from pipeline.batch_api import BatchApi, Gone, Unclear
from pipeline.budget import Budget, Reservation
from pipeline.dispatch import Observer, Rules
from pipeline.domain import (
    Answer,
    Chunk,
    ChunkState,
    Exchange,
    Failure,
    FailureClass,
    OpenBatch,
    Outcome,
    Payload,
    Split,
    Synthesis,
    Task,
)
from pipeline.errors import ExitCode
from pipeline.failures import advice, of_lost
from pipeline.fields import ResultField
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.ledger_batches import Batched
from pipeline.message_batches import Batch, Pack
from pipeline.planner import PlannedChunk
from pipeline.text import moment
from pipeline.verdicts import Again, Blameless, Failed, Judge, Parts, Stop, Try
from pipeline.workers import Pool, Wake

_FIRST_PAUSE_S, _PAUSE_GROWTH, _LONGEST_PAUSE_S = 2.0, 1.5, 120.0
_FAILURES_MORE = 8  # an API that does not answer for so many looks, and two for each attempt, is down
_ARRIVES_WITHIN = timedelta(minutes=5)  # a batch that was cut off may still be at work at the API
_CLOCKS_APART = timedelta(hours=1)
_LOST_AFTER = timedelta(hours=25)  # batches expire after 24
RECORDED_AT_ONCE = 200
"""So many results at most are one transaction."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, and a way to let some of it pass, in seconds."""

    now: Callable[[], datetime]
    pause: Callable[[float], Awaitable[None]]


CLOCK = Clock(lambda: datetime.now(UTC), asyncio.sleep)
"""The real one."""


class BatchSender(Protocol):
    """Makes requests ready. Whatever goes wrong is a value."""

    async def prepare(self, task: Task, reduced: bool) -> Payload | Failure | Split:
        """What the task sends; ``reduced``: smaller than what was too large."""

    def pack(
        self, task: Task, payload: Payload, by_schema: bool, max_tokens: int, pack: Pack, custom_id: str
    ) -> bool | Failure:
        """Add the request to a batch; False: it has no room left."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How batches are used.

    ``account`` is a hash of address and key. ``sends``: what is due goes out in batches; else only the results of
    earlier ones are taken in. ``again_in_batch``: so does what a batch brought no answer for, and the summaries of
    wholes. ``wait_s``: for so long results are awaited. ``fingerprint`` is that of the job's requests, ``fields`` are
    its own. ``max_bytes`` bounds a body. ``holds``: what the API tells nothing of is not sent again in this run.
    """

    account: str
    sends: bool
    again_in_batch: bool
    wait_s: float
    fingerprint: str
    fields: tuple[ResultField, ...] = ()
    max_bytes: int = message_batches.MOST_BYTES
    holds: bool = False


@dataclass(frozen=True, slots=True)
class _Request:
    """One request of a batch; ``wanted`` by this run, which else only records what became of it."""

    item: Try
    batched: Batched
    wanted: bool
    reservation: Reservation
    hold: int


@dataclass(slots=True)
class _Pending:
    """A batch that has not ended: its requests without a result, by their ids. ``foreign``: it is none of these."""

    batch: OpenBatch
    requests: dict[str, _Request]
    foreign: set[str] = field(default_factory=set)


class Batcher:
    """One run's batches.

    ``parts``, ``follow_up`` and ``answered`` are those of ``dispatch.Dispatcher``. When ``send_all`` is done, ``again``
    are the tries that are to be sent by themselves, and ``by_schema`` says how.
    """

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        settings: Settings,
        sender: BatchSender,
        api: BatchApi,
        spool: Path,
        parts: Callable[[Chunk, int | None], Sequence[PlannedChunk]],
        follow_up: Callable[[str], Synthesis | None],
        answered: Callable[[Chunk, bool], None],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._settings = settings
        self._sender = sender
        self._api = api
        self._spool = spool
        self._parts = parts
        self._follow_up = follow_up
        self._answered = answered
        self._observer = observer
        self._clock = clock
        self._judge = Judge(rules.retry, rules.by_schema, rules.learns_output, rules.max_tokens, rules.most_tokens)
        self._budget = Budget(rules.max_usd, rules.prices, rules.model, batch=True)
        self._holds = itertools.count()
        self._wake = Wake()
        self._preparing: Pool[Try, Payload | Failure | Split] = Pool(self._prepare, rules.concurrency, self._wake)
        self._todo: deque[Try] = deque()
        self._ready: deque[tuple[Try, Payload]] = deque()
        self._open: list[_Pending] = []
        self._left: Counter[str] = Counter()  # by content, the chunks of this run that are not answered
        self._given: dict[str, Task] = {}
        self._news: list[tuple[Task, Outcome | Split, ChunkState, int]] = []
        self._max_bytes = settings.max_bytes
        self._failures_in_a_row = 0
        self._interrupted = asyncio.Event()
        self.again: list[Try] = []
        self.stop: Stop | None = None

    @property
    def by_schema(self) -> bool:
        """Whether a schema is sent from now on."""
        return self._judge.by_schema

    @property
    def left_usd(self) -> float | None:
        """What the run may still spend; None: without a limit."""
        return self._budget.left_usd

    def interrupt(self) -> None:
        """Wait no longer; batches stay with the API. One that is just leaving is awaited."""
        self._end(Stop(ExitCode.INTERRUPTED, "interrupted; batches go on at the API, the next run takes them in"))
        self._interrupted.set()
        self._wake.set()

    async def send_all(self, due: AsyncIterator[Sequence[Task]]) -> Stop | None:
        """Send the tasks in batches and take results in until there are none to come, or no time to wait for them.

        Raises:
            Exception: a bug in a worker, or what ``due`` raised.
        """
        until = self._clock.now() + timedelta(seconds=self._settings.wait_s)
        try:
            await self._unless_interrupted(self._take(due))
            self._adopt()
            pause_s = _FIRST_PAUSE_S
            while self.stop is None:
                await self._send_due()
                if not self._open or self.stop:
                    break
                if await self._look_round():
                    pause_s = _FIRST_PAUSE_S
                    continue
                left_s = (until - self._clock.now()).total_seconds()
                if left_s <= 0 or self.stop:
                    self._tell_open()
                    break
                await self._unless_interrupted(self._clock.pause(min(pause_s, left_s)))
                pause_s = min(pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)
        except OSError as error:  # a full disk; what was on its way is on record, and the next run finds it
            self._end(Stop(ExitCode.SETTINGS, f"no batch can be written or read in {self._spool}: {error.strerror}"))
        finally:
            await self._preparing.abort()
        return self.stop

    # --- what is to be sent

    async def _take(self, due: AsyncIterator[Sequence[Task]]) -> None:
        async for tasks in due:
            self._give(tasks)
            self._todo.extend(Try(task, self._rules.max_tokens) for task in tasks)
            self._observer.due(tasks)
        self._observer.all_due()

    def _give(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._given[task.id] = task
            if isinstance(task, Chunk):
                self._left[task.content] += 1

    def _adopt(self) -> None:
        """Take over what earlier runs left with the API; what is there is not sent again."""
        there: set[str] = set()
        for batch in self._ledger.open_batches():
            requests = self._ledger.batched(batch.id)
            begun = datetime.fromisoformat(batch.begun_at)
            if batch.account == self._settings.account:
                self._open.append(_Pending(batch, dict(map(self._adopted, requests))))
                self._observer.said(
                    f"{_named(batch)} of {batch.requests} requests is awaited since {moment(batch.begun_at)}"
                )
            elif self._clock.now() - begun > _LOST_AFTER:
                with self._ledger.transaction():
                    self._ledger.end_batch(batch.id, self._now())
                if not self._settings.holds:
                    continue
            else:
                self._observer.said(
                    f"{_named(batch)} is with another endpoint or key: its {batch.requests} requests are left out until"
                    f" {moment((begun + _LOST_AFTER).isoformat())}; a run with that key takes its results in"
                )
            there.update(chunk.id for _, chunk in requests)
        due = [item for item in self._todo if item.task.id not in there]
        self._todo.clear()
        (self._todo if self._settings.sends else self.again).extend(due)

    def _adopted(self, request: tuple[Batched, NewChunk]) -> tuple[str, _Request]:
        batched, chunk = request
        task = self._given.get(chunk.id)
        known: Task = task or (
            Chunk(chunk.id, chunk.content, chunk.pages) if chunk.pages else Synthesis(chunk.id, chunk.content, ())
        )
        item = Try(known, batched.max_tokens, tries=1, by_schema=batched.by_schema, reduced=batched.reduced)
        return batched.custom_id, self._held(item, batched, wanted=task is not None)

    def _held(self, item: Try, batched: Batched, wanted: bool = True) -> _Request:
        reservation, hold = self._budget.reservation(item.task, item.max_tokens), next(self._holds)
        self._budget.hold(hold, reservation)
        return _Request(item, batched, wanted, reservation, hold)

    async def _send_due(self) -> None:
        """Send all that is due, in as few batches as can be; what the budget does not cover yet stays."""
        while (self._todo or self._ready) and self.stop is None:
            name = uuid.uuid4().hex
            with Pack(self._spool / f"batch-{name}", self._max_bytes) as pack:
                requests = await self._fill(pack, name)
                if not requests or self.stop:
                    break
                pack.close()
                await self._post(OpenBatch(name, self._settings.account, self._now(), len(requests)), pack, requests)
        if self._ready and not self._open and self.stop is None:
            item = self._ready[0][0]
            refusal = self._budget.refusal(self._budget.reservation(item.task, item.max_tokens))
            self._end(Stop(ExitCode.BUDGET, refusal))

    async def _fill(self, pack: Pack, name: str) -> list[_Request]:
        """Put into a batch what is due, until it is full, nothing is left, or the budget is used up."""
        requests: list[_Request] = []
        while self.stop is None:
            self._settle_prepared()
            while self._ready:
                item, payload = self._ready[0]
                if not self._budget.covers(self._budget.reservation(item.task, item.max_tokens)):
                    return requests
                item = replace(item, tries=item.tries + 1, by_schema=self._judge.by_schema)
                custom_id = f"{name[:32]}-{len(requests)}"
                put = self._sender.pack(item.task, payload, item.by_schema, item.max_tokens, pack, custom_id)
                if put is False and requests:
                    return requests
                self._ready.popleft()
                if put is True:
                    asked = Batched(custom_id, item.max_tokens, item.by_schema, item.reduced, payload.note)
                    requests.append(self._held(item, asked))
                else:
                    self._settle_unsent(item, put or _too_large_for_a_batch())
                await asyncio.sleep(0)
            while self._preparing.free and self._todo:
                self._preparing.start(self._todo.popleft())
            if not self._preparing.busy:
                break
            await self._wake.wait(None)
        return requests

    async def _prepare(self, item: Try) -> Payload | Failure | Split:
        return await self._sender.prepare(item.task, item.reduced)

    def _settle_prepared(self) -> None:
        for done in self._preparing.collect():
            match done.result:
                case None:
                    raise done.bug or RuntimeError("no result")
                case Payload() as payload:
                    self._ready.append((done.item, payload))
                case outcome:
                    self._settle_unsent(done.item, outcome)

    def _settle_unsent(self, item: Try, outcome: Failure | Split) -> None:
        with self._ledger.transaction():
            state = self._judged(item, outcome)
            self._ledger.record_unsent(_new(item.task), outcome, state)
            self._follow(item.task, state)
        self._news.append((item.task, outcome, state, 0))
        self._tell()

    async def _post(self, batch: OpenBatch, pack: Pack, requests: Sequence[_Request]) -> None:
        """Send a batch: on record before it leaves, and its name before anything else is done."""
        batched, chunks = [r.batched for r in requests], [_new(r.item.task) for r in requests]
        self._ledger.begin_batch(batch, batched, chunks, self._rules.run)
        attempts = {known.custom_id: known for known, _ in self._ledger.batched(batch.id)}
        by_id = {r.batched.custom_id: replace(r, batched=attempts[r.batched.custom_id]) for r in requests}
        pending = _Pending(batch, by_id)
        begun_s = time.monotonic()
        for tries in itertools.count(1):
            match await self._api.create(pack.path):
                case Batch() as created:
                    self._open.append(pending)
                    self._told(pending, created)
                    return
                case Unclear(reason):
                    self._open.append(pending)
                    self._observer.said(f"whether a batch of {len(requests)} requests arrived is not known: {reason}")
                    return
                case Failure() as failure:
                    wait_s = None
                    if failure.kind is FailureClass.TRANSIENT and self.stop is None:
                        wait_s = self._rules.retry.wait_s(tries, time.monotonic() - begun_s, failure)
                    if wait_s is not None:
                        self._observer.said(f"the API takes no batch: {failure.reason}; again in {wait_s:.1f} s")
                        await self._unless_interrupted(self._clock.pause(wait_s))
                    if wait_s is None or self.stop:
                        break
        self._ledger.forget_batch(batch.id)
        for request in requests:
            self._budget.settle(request.hold, request.reservation, None, billed=False)
        self._refused(failure, pack.size_bytes, requests)

    def _refused(self, failure: Failure, size_bytes: int, requests: Sequence[_Request]) -> None:
        """The API does not take a batch: smaller ones may do, else the run ends."""
        match failure.kind:
            case FailureClass.TOO_LARGE:
                self._max_bytes = size_bytes // 2
                self._todo.extend(replace(r.item, tries=r.item.tries - 1) for r in requests)
            case FailureClass.ACCOUNT:
                reason = f"the API refuses the account: {failure.reason}; {advice(failure)}"
                self._end(Stop(ExitCode.ACCOUNT, reason))
            case FailureClass.TRANSIENT:
                self._end(Stop(ExitCode.API_DOWN, f"the API takes no batch: {failure.reason}"))
            case _:
                self._end(Stop(ExitCode.SETTINGS, f"the API refuses batches: {failure.reason}; set batch = false"))

    # --- what the API has

    async def _look_round(self) -> bool:
        """Look at each batch once; whether one has ended, or was found never to have arrived."""
        ended = False
        for pending in list(self._open):
            if self.stop is None:
                ended |= bool(await self._unless_interrupted(self._look(pending)))
        return ended

    async def _look(self, pending: _Pending) -> bool:
        if pending.batch.name is None:
            found = await self._find(pending)
            if found is None:
                return False
            if found is Gone:
                self._never_arrived(pending)
                return True
        match await self._api.look(pending.batch.name or ""):
            case Failure() as failure:
                self._trouble(failure)
                return False
            case Gone():
                self._settle(pending, {}, f"the API does not know {_named(pending.batch)} any more")
                return True
            case Batch() as batch:
                self._failures_in_a_row = 0
                self._told(pending, batch)
                return batch.ended and await self._take_in(pending, batch)

    async def _find(self, pending: _Pending) -> Batch | type[Gone] | None:
        """The batch among those that the API lists; Gone: it never arrived; None: it cannot be told yet.

        A list tells how many requests a batch has, and its results, once it has ended, whose they are.
        """
        begun = datetime.fromisoformat(pending.batch.begun_at)
        listed = await self._api.created_since(begun - _CLOCKS_APART)
        if isinstance(listed, Failure):
            self._trouble(listed)
            return None
        self._failures_in_a_row = 0
        others = pending.foreign | {other.batch.name for other in self._open}
        possible = [b for b in listed if b.id not in others and b.requests == pending.batch.requests]
        for batch in filter(lambda b: b.ended, possible):
            target = self._spool / "found"
            if failure := await self._api.fetch(batch, target):
                self._trouble(failure)
                return None
            first = next(batch_api.results_in(target), None)
            if first and first.custom_id in pending.requests:
                self._told(pending, batch)
                return batch
            pending.foreign.add(batch.id)
        if any(not batch.ended for batch in possible):
            return None
        return Gone if self._clock.now() - begun >= _ARRIVES_WITHIN else None

    def _never_arrived(self, pending: _Pending) -> None:
        self._open.remove(pending)
        self._ledger.forget_batch(pending.batch.id)
        self._observer.said(f"a batch of {pending.batch.requests} requests never arrived: they are sent again")
        again = []
        for request in pending.requests.values():
            self._budget.settle(request.hold, request.reservation, None, billed=False)
            if request.wanted:
                again.append(replace(request.item, tries=request.item.tries - 1))
        (self._todo if self._settings.sends else self.again).extend(again)

    def _told(self, pending: _Pending, batch: Batch) -> None:
        if (batch.id, batch.status) != (pending.batch.name, pending.batch.status):
            pending.batch = replace(pending.batch, name=batch.id, status=batch.status)
            self._ledger.batch_told(pending.batch.id, batch.id, batch.status)
            self._observer.said(f"{_named(pending.batch)} of {pending.batch.requests} requests: {batch.status}")

    def _trouble(self, failure: Failure) -> None:
        """The API does not tell how a batch is getting on."""
        self._failures_in_a_row += 1
        if failure.kind is FailureClass.ACCOUNT:
            reason = f"the API refuses the account: {failure.reason}; {advice(failure)}"
            self._end(Stop(ExitCode.ACCOUNT, reason))
        elif failure.kind is not FailureClass.TRANSIENT:
            self._end(Stop(ExitCode.SETTINGS, f"the API tells nothing of batches: {failure.reason}"))
        elif self._failures_in_a_row >= 2 * self._rules.retry.attempts + _FAILURES_MORE:
            self._end(Stop(ExitCode.API_DOWN, f"the API gives no answer: {failure.reason}"))
        else:
            self._observer.said(f"how the batches are getting on is not known: {failure.reason}")

    def _tell_open(self) -> None:
        for pending in self._open:
            self._observer.said(f"{_named(pending.batch)} is not ready: the next run takes its results in")

    # --- results

    async def _take_in(self, pending: _Pending, batch: Batch) -> bool:
        """Record the results of a batch that has ended; whether that is all of them."""
        target = self._spool / f"results-{pending.batch.id}"
        if failure := await self._api.fetch(batch, target):
            self._trouble(failure)
            return False
        some: dict[str, Outcome] = {}
        for result in batch_api.results_in(target):
            request = pending.requests.get(result.custom_id)
            if request is None:
                continue
            schema = self._schema(request.item.task)
            some[result.custom_id] = batch_api.outcome_of(result, batch, schema, request.batched.note)
            if len(some) == RECORDED_AT_ONCE:
                self._record(pending, some)
                some = {}
                await asyncio.sleep(0)
        begun = datetime.fromisoformat(pending.batch.begun_at)
        if len(pending.requests) > len(some) and self._clock.now() - begun < _LOST_AFTER:
            self._record(pending, some)  # what is paid for must not be asked for again because a list was cut
            self._trouble(of_lost(f"results of {_named(pending.batch)} are missing", sent=True, hold=False))
            return False
        self._settle(pending, some, f"{_named(pending.batch)} has no result for it")
        return True

    def _schema(self, task: Task) -> messages.Schema:
        """What was asked for; of a request from before the settings changed it is not known whether with fields."""
        if isinstance(task, Synthesis):
            return messages.SYNTHESIS_SCHEMA
        as_now = task.id == messages.chunk_id(task.content, task.pages, self._settings.fingerprint)
        return messages.result_schema(self._settings.fields) if as_now else messages.EARLIER_RESULT_SCHEMA

    def _settle(self, pending: _Pending, outcomes: dict[str, Outcome], reason: str) -> None:
        """Record the last results of a batch; what has none has failed for a ``reason``."""
        none = {custom_id: of_lost(reason, sent=True, hold=self._settings.holds) for custom_id in pending.requests}
        self._open.remove(pending)
        self._record(pending, {**none, **outcomes}, ends=True)

    def _record(self, pending: _Pending, outcomes: dict[str, Outcome], ends: bool = False) -> None:
        with self._ledger.transaction():
            for custom_id, outcome in outcomes.items():
                self._record_one(pending.requests.pop(custom_id), outcome)
            if ends:
                self._ledger.end_batch(pending.batch.id, self._now())
        self._tell()

    def _record_one(self, request: _Request, outcome: Outcome) -> None:
        item, wire = request.item, outcome.exchange
        cost_usd = self._rules.prices.cost_usd(wire.model or self._rules.model, wire.usage)
        self._budget.settle(request.hold, request.reservation, cost_usd, billed=wire.may_be_billed)
        if request.wanted:
            state = self._judged(item, outcome)
        else:
            state = ChunkState.ANSWERED if isinstance(outcome, Answer) else ChunkState.OPEN
        settled = Settled(request.batched.attempt, item.task.id, outcome, state, self._now(), cost_usd)
        self._ledger.settle(settled, self._rules.run)
        if request.wanted:
            self._follow(item.task, state)
        self._news.append((item.task, outcome, state, item.tries))

    def _tell(self) -> None:
        """After the transaction: a slow terminal must not hold the ledger."""
        news, self._news = self._news, []
        for task, outcome, state, attempt in news:
            self._observer.settled(task, outcome, state, None, attempt)
            if isinstance(task, Chunk) and state is ChunkState.ANSWERED:
                self._answered(task, True)

    def _judged(self, item: Try, outcome: Outcome | Split) -> ChunkState:
        """The chunk's state from now on."""
        match outcome:
            case Answer():
                self._judge.answered(item)
                return ChunkState.ANSWERED
            case Split():
                return self._halved(item, outcome) or ChunkState.FAILED
            case Failure():
                return self._failed(item, outcome)

    def _failed(self, item: Try, failure: Failure) -> ChunkState:
        match self._judge.verdict(item, failure, time.monotonic()):
            case Again() as again:
                if again.said:
                    self._observer.said(again.said)
                self._later([again.item])
                return ChunkState.OPEN
            case Parts():
                return self._halved(item) or ChunkState.FAILED
            case Blameless(stop):
                self._end(stop)
                return ChunkState.OPEN
            case Failed(stop):
                if stop:
                    self._end(stop)
                return ChunkState.FAILED

    def _halved(self, item: Try, split: Split | None = None) -> ChunkState | None:
        """Put the parts of a chunk in its place; None when it has none. What was never sent is no retry."""
        parts = self._parts(item.task, split.after if split else None) if isinstance(item.task, Chunk) else ()
        if not parts:
            return None
        due = [p.chunk for p in parts if planner.is_due(p.record, failed_only=False) and p.chunk.id not in self._given]
        self._give(due)
        items = [Try(part, self._rules.max_tokens, part_of=item.task.id) for part in due]
        if split is None:
            self._later(items)
            return ChunkState.SPLIT
        if split.payload and due[:1] == [parts[0].chunk] and due[0].pages.last == split.after:
            self._ready.append((items.pop(0), split.payload))
        self._todo.extendleft(reversed(items))
        return ChunkState.SPLIT

    def _follow(self, task: Task, state: ChunkState) -> None:
        """After the state of a task is on record, where the synthesis reads it: send that for the last chunk."""
        if not isinstance(task, Chunk) or state not in (ChunkState.ANSWERED, ChunkState.SPLIT):
            return
        self._left[task.content] -= 1
        if self._left[task.content] == 0 and (synthesis := self._follow_up(task.content)):
            self._later([Try(synthesis, self._rules.max_tokens)])

    def _later(self, items: Iterable[Try]) -> None:
        (self._todo if self._settings.again_in_batch else self.again).extend(items)

    def _end(self, stop: Stop) -> None:
        self.stop = self.stop or stop

    async def _unless_interrupted(self, work: Awaitable[T]) -> T | None:
        """The result, or None as soon as the run is interrupted: then the work is cancelled."""
        task = asyncio.ensure_future(work)
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            interrupted.cancel()
            task.cancel()
            await asyncio.gather(task, interrupted, return_exceptions=True)

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")


def account(base_url: str, key: str | None) -> str:
    """What tells accounts apart without telling the key."""
    return hashlib.sha256(f"account-1\n{base_url}\n{key or ''}".encode()).hexdigest()


def _named(batch: OpenBatch) -> str:
    return f"the batch {batch.name}" if batch.name else "a batch of which it is not known whether it arrived,"


def _too_large_for_a_batch() -> Failure:
    return Failure(FailureClass.TOO_LARGE, "the API takes no batch as large as this request", Exchange(413))


def _new(task: Task) -> NewChunk:
    return NewChunk(task.id, task.content, task.pages if isinstance(task, Chunk) else None)
