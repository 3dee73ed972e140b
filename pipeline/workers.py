"""The worker pool: items in lazily, results out as they finish, never more than so many at once.

Knows no domain type. Times are seconds of one monotonic clock, which the caller reads.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Feed(Generic[T]):
    """Items that wait for a worker: those put first, those whose time has come, then fresh ones.

    Fresh items are drawn one by one, in the order in which they were added, and only while fewer than
    ``waiting_limit`` wait to be tried again: an endpoint that fails everything must not be sent the whole
    folder once over. What is put off does not count: its time may not come, and the others must not wait
    for that.
    """

    def __init__(self, waiting_limit: int) -> None:
        self._fresh: deque[Iterator[T]] = deque()
        self._waiting_limit = waiting_limit
        self._first: list[T] = []
        self._later: list[tuple[float, int, T]] = []
        self._put_off: list[tuple[float, int, T]] = []
        self._order = itertools.count()  # items themselves need no order
        self.stopped = False

    def add(self, fresh: Iterator[T]) -> None:
        """More fresh items, after those that are there."""
        self._fresh.append(fresh)

    def first(self, item: T) -> None:
        """Give this item out before all others."""
        self._first.append(item)

    def later(self, item: T, at_s: float) -> None:
        """Give this item out again, not before a time."""
        heapq.heappush(self._later, (at_s, next(self._order), item))

    def put_off(self, item: T, at_s: float) -> None:
        """As ``later``, but with no claim that fresh items wait for it."""
        heapq.heappush(self._put_off, (at_s, next(self._order), item))

    def stop(self) -> None:
        """Give nothing out any more."""
        self.stopped = True

    def take(self, now_s: float) -> T | None:
        """The next item, or None when there is none at this time."""
        if self.stopped:
            return None
        if self._first:
            return self._first.pop()
        for waiting in (self._later, self._put_off):
            if waiting and waiting[0][0] <= now_s:
                return heapq.heappop(waiting)[2]
        while self._fresh and len(self._later) < self._waiting_limit:
            for item in self._fresh[0]:
                return item
            self._fresh.popleft()
        return None

    def due_s(self) -> float | None:
        """When an item may be there to take, 0 for at once; None when time alone brings none."""
        if self.stopped:
            return None
        if self._first or (self._fresh and len(self._later) < self._waiting_limit):
            return 0.0
        return min((waiting[0][0] for waiting in (self._later, self._put_off) if waiting), default=None)


@dataclass(frozen=True, slots=True)
class Finished(Generic[T, R]):
    """An item and its result, or the exception that the work raised: a bug, for trouble is a value."""

    item: T
    result: R | None
    bug: Exception | None = None


class Wake:
    """What a loop over several pools waits for: something finished, or somebody wants its attention."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """End the wait."""
        self._event.set()

    async def wait(self, timeout_s: float | None) -> None:
        """Return once ``set`` was called since the last wait, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()
        await asyncio.sleep(0)  # lets what finished in the same moment come along


class Pool(Generic[T, R]):
    """Runs ``work`` for at most ``size`` items at once and sets ``wake`` whenever one has finished."""

    def __init__(self, work: Callable[[T], Awaitable[R]], size: int, wake: Wake) -> None:
        self._work = work
        self._size = size
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: list[Finished[T, R]] = []

    @property
    def free(self) -> int:
        """How many more items may start."""
        return self._size - len(self._tasks)

    @property
    def busy(self) -> bool:
        """Whether an item is at work, or has finished and was not collected."""
        return bool(self._tasks or self._finished)

    def start(self, item: T) -> None:
        """Begin the work for an item; the caller keeps to ``free``."""
        task = asyncio.create_task(self._run(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def collect(self) -> list[Finished[T, R]]:
        """What finished since the last call."""
        finished, self._finished = self._finished, []
        return finished

    async def abort(self) -> None:
        """Cancel everything that runs and wait until it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, item: T) -> None:
        try:
            finished = Finished(item, await self._work(item))
        except Exception as error:  # noqa: BLE001 - the caller drains the others before it raises this
            finished = Finished(item, None, error)
        self._finished.append(finished)  # the list of this moment, not of the one before the await
        self._wake.set()
