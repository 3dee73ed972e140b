"""Items in lazily, results out as they finish, never more than so many at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.workers import Feed, Finished, Pool, Wake

T = TypeVar("T")

unhurried = settings(deadline=None)


def counted(drawn: list[int]) -> Iterator[int]:
    """Endless fresh items; ``drawn`` shows which were asked for."""
    for number in itertools.count(1):
        drawn.append(number)
        yield number


def fed(fresh: Iterator[T], waiting_limit: int) -> Feed[T]:
    """A feed of fresh items."""
    feed: Feed[T] = Feed(waiting_limit)
    feed.add(fresh)
    return feed


def test_what_is_added_later_comes_after_what_is_there() -> None:
    """Also where the first were all given out before."""
    feed = fed(iter("a"), 9)
    feed.add(iter("bc"))
    assert [feed.take(0.0) for _ in range(4)] == ["a", "b", "c", None]
    assert feed.due_s() is None

    feed.add(iter("d"))
    assert feed.due_s() == 0.0
    assert [feed.take(0.0), feed.take(0.0)] == ["d", None]


def test_fresh_items_are_drawn_one_by_one() -> None:
    """A folder of a million chunks is never in memory: what is not taken is not made."""
    drawn: list[int] = []
    feed = fed(counted(drawn), 3)
    assert drawn == []

    assert [feed.take(0.0), feed.take(0.0)] == [1, 2]
    assert drawn == [1, 2]


def test_what_was_put_first_and_what_is_due_comes_before_fresh_items() -> None:
    """First, then those whose time has come by their time, then fresh ones."""
    feed = fed(iter(["fresh"]), 9)
    feed.later("due late", 5.0)
    feed.later("due early", 4.0)
    feed.later("not due", 11.0)
    feed.first("first")

    assert [feed.take(10.0) for _ in range(5)] == ["first", "due early", "due late", "fresh", None]
    assert feed.due_s() == 11.0
    assert feed.take(11.0) == "not due"


def test_what_was_put_first_last_comes_first() -> None:
    """Halves of halves are sent before what waits behind them."""
    feed: Feed[str] = Feed(9)
    for item in ("b", "a"):
        feed.first(item)

    assert [feed.take(0.0), feed.take(0.0)] == ["a", "b"]


def test_items_of_the_same_time_come_in_their_order() -> None:
    """Items need no order of their own."""
    feed: Feed[object] = Feed(9)
    items = [object(), {}, None.__class__, object()]
    for item in items:
        feed.later(item, 1.0)

    assert [feed.take(1.0) for _ in items] == items


def test_an_item_that_is_put_off_holds_no_fresh_one_back() -> None:
    """It is given out when its time has come, and counts as waiting at no time."""
    feed = fed(iter(["a", "b", "c"]), 1)
    feed.put_off("much later", 3600.0)
    assert feed.take(0.0) == "a"
    feed.later("soon", 10.0)
    assert feed.take(0.0) is None
    assert [feed.take(10.0), feed.take(10.0)] == ["soon", "b"]
    assert [feed.take(3600.0), feed.take(3600.0)] == ["much later", "c"]
    assert feed.due_s() is not None  # whether there is more fresh is not known yet
    assert (feed.take(3600.0), feed.due_s()) == (None, None)


def test_no_fresh_item_while_too_many_wait() -> None:
    """An endpoint that fails everything is not sent the whole folder once over."""
    drawn: list[int] = []
    feed = fed(counted(drawn), 2)
    feed.later(-1, 50.0)
    assert feed.take(0.0) == 1
    feed.later(-2, 60.0)

    assert feed.take(0.0) is None
    assert feed.due_s() == 50.0
    assert drawn == [1]

    assert feed.take(50.0) == -1
    assert feed.take(50.0) == 2


def test_due_says_when_something_may_be_there() -> None:
    """At once, at a time, or never."""
    feed = fed(iter(["fresh"]), 9)
    assert feed.due_s() == 0.0
    feed.take(0.0)
    assert feed.take(0.0) is None
    assert feed.due_s() is None
    feed.later("x", 7.0)
    assert feed.due_s() == 7.0
    feed.first("y")
    assert feed.due_s() == 0.0


def test_a_stopped_feed_gives_nothing_out() -> None:
    """Whatever waits, and whatever is put in after."""
    feed = fed(iter([1, 2]), 9)
    feed.first(3)
    feed.later(4, 0.0)

    feed.stop()
    feed.first(5)

    assert feed.stopped
    assert feed.take(99.0) is None
    assert feed.due_s() is None


@unhurried
@given(st.integers(0, 30), st.integers(1, 5), st.data())
def test_every_item_is_given_out_once_whatever_is_put_back(count: int, limit: int, data: st.DataObject) -> None:
    """Items put first or back for later any number of times come out until they are done, each once, none lost."""
    feed, done, now_s = fed(iter(range(count)), limit), [], 0.0
    put_back = data.draw(st.lists(st.sampled_from(["done", "first", "later"]), max_size=60))
    while (due_s := feed.due_s()) is not None:
        now_s = max(now_s, due_s)
        item = feed.take(now_s)
        if item is None:  # the fresh ones had come to their end
            continue
        match put_back.pop() if put_back else "done":
            case "first":
                feed.first(item)
            case "later":
                feed.later(item, now_s + 1.0)
            case _:
                done.append(item)

    assert sorted(done) == list(range(count))


# --- the pool


class Gates:
    """Work that waits for a word for each item, and notes how many were at work at once."""

    def __init__(self) -> None:
        self.at_work = self.most = 0
        self._gates: dict[int, asyncio.Event] = {}
        self._begun: dict[int, asyncio.Event] = {}

    def open(self, item: int) -> None:
        self._gates.setdefault(item, asyncio.Event()).set()

    async def begun(self, item: int) -> None:
        await self._begun.setdefault(item, asyncio.Event()).wait()

    async def work(self, item: int) -> str:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self._begun.setdefault(item, asyncio.Event()).set()
        try:
            await self._gates.setdefault(item, asyncio.Event()).wait()
        finally:
            self.at_work -= 1
        if item < 0:
            raise ValueError(f"bug {item}")
        return f"result {item}"


def a_pool(gates: Gates, size: int) -> tuple[Pool[int, str], Wake]:
    wake = Wake()
    return Pool(gates.work, size, wake), wake


async def finished(pool: Pool[int, str], wake: Wake) -> list[Finished[int, str]]:
    """What has finished after the next wake."""
    await wake.wait(None)
    return pool.collect()


async def all_finished(pool: Pool[int, str], wake: Wake) -> list[Finished[int, str]]:
    found: list[Finished[int, str]] = []
    while pool.busy:
        found += await finished(pool, wake)
    return found


def test_a_result_comes_with_its_item() -> None:
    """In the order in which they finish, not in which they began."""

    async def trial() -> None:
        gates = Gates()
        pool, wake = a_pool(gates, 2)
        assert not pool.busy
        pool.start(1)
        pool.start(2)
        assert (pool.busy, pool.free) == (True, 0)
        gates.open(2)
        assert await finished(pool, wake) == [Finished(2, "result 2")]
        gates.open(1)
        assert await finished(pool, wake) == [Finished(1, "result 1")]
        assert (pool.busy, pool.free) == (False, 2)

    asyncio.run(trial())


def test_what_finishes_while_others_are_settled_is_not_lost() -> None:
    """A result of work that began before the last batch was handed out is in the next one."""

    async def trial() -> None:
        gates = Gates()
        pool, wake = a_pool(gates, 3)
        for item in (1, 2, 3):
            pool.start(item)
        await gates.begun(3)
        gates.open(1)
        first = await finished(pool, wake)
        gates.open(2)  # while the caller settles the first batch
        gates.open(3)
        rest = await all_finished(pool, wake)

        assert [done.item for done in first] == [1]
        assert sorted(done.item for done in rest) == [2, 3]

    asyncio.run(trial())


def test_what_finished_and_was_not_collected_keeps_the_pool_busy() -> None:
    """A loop that asks for ``busy`` before it ends leaves no result behind."""

    async def trial() -> None:
        gates = Gates()
        pool, wake = a_pool(gates, 1)
        pool.start(1)
        gates.open(1)
        await wake.wait(None)
        assert (pool.busy, pool.free) == (True, 1)
        assert pool.collect() == [Finished(1, "result 1")]
        assert not pool.busy
        assert pool.collect() == []

    asyncio.run(trial())


@pytest.mark.parametrize("size", [1, 3, 50])
def test_never_more_than_the_size_are_at_work(size: int) -> None:
    """A caller that keeps to ``free`` has ``size`` at work, and gets each result exactly once."""

    async def trial() -> None:
        gates, waiting = Gates(), list(range(40))
        running: list[int] = []
        found: list[Finished[int, str]] = []
        pool, wake = a_pool(gates, size)
        while waiting or pool.busy:
            while waiting and pool.free:
                running.append(waiting.pop(0))
                pool.start(running[-1])
            for item in running:
                await gates.begun(item)
            if running:
                gates.open(running.pop(0))
            found += await finished(pool, wake)

        assert sorted(done.item for done in found) == list(range(40))
        assert gates.most == min(size, 40)

    asyncio.run(trial())


def test_a_bug_is_handed_out_and_the_others_finish() -> None:
    """An exception of the work is a result with its item; nothing else is cut off."""

    async def trial() -> None:
        gates = Gates()
        pool, wake = a_pool(gates, 3)
        for item in (1, -2, 3):
            pool.start(item)
        gates.open(-2)
        (bad,) = await finished(pool, wake)
        assert pool.free == 1
        gates.open(1)
        gates.open(3)
        rest = await all_finished(pool, wake)

        assert (bad.item, bad.result) == (-2, None)
        assert isinstance(bad.bug, ValueError)
        assert sorted(rest, key=lambda done: done.item) == [Finished(1, "result 1"), Finished(3, "result 3")]

    asyncio.run(trial())


def test_a_time_out_and_a_wake_bring_nothing_and_lose_nothing() -> None:
    """The caller may look at its clock in between; the result comes later all the same."""

    async def trial() -> None:
        gates = Gates()
        pool, wake = a_pool(gates, 1)
        pool.start(1)
        await wake.wait(0)
        assert pool.collect() == []
        wake.set()
        assert await finished(pool, wake) == []
        gates.open(1)
        assert await finished(pool, wake) == [Finished(1, "result 1")]

    asyncio.run(trial())


def test_a_wake_before_the_wait_is_not_missed() -> None:
    """What happened since the last wait ends the next one at once, and only that one."""

    async def trial() -> None:
        wake = Wake()
        wake.set()
        await wake.wait(None)
        second = asyncio.ensure_future(wake.wait(None))
        for _ in range(5):  # turns of the loop: more than a wait takes to end
            await asyncio.sleep(0)
        assert not second.done()
        wake.set()
        await second

    asyncio.run(trial())


def test_two_pools_wake_one_loop() -> None:
    """Whichever finishes something, the loop over both looks at both."""

    async def trial() -> None:
        gates, wake = Gates(), Wake()
        left, right = Pool(gates.work, 1, wake), Pool(gates.work, 1, wake)
        left.start(1)
        right.start(2)
        for item, pool in ((2, right), (1, left)):
            gates.open(item)
            await wake.wait(None)
            assert pool.collect() == [Finished(item, f"result {item}")]

    asyncio.run(trial())


def test_abort_ends_what_runs_and_keeps_what_finished() -> None:
    """Every task has ended when it returns; a cancelled one gives no result."""

    async def trial() -> None:
        gates = Gates()
        pool, wake = a_pool(gates, 3)
        for item in (1, 2, 3):
            pool.start(item)
        await gates.begun(3)
        gates.open(2)
        await wake.wait(None)
        await pool.abort()

        assert gates.at_work == 0
        assert [done.item for done in pool.collect()] == [2]
        assert (pool.busy, pool.free) == (False, 3)

    asyncio.run(trial())


def test_abort_of_an_idle_pool_does_nothing() -> None:
    """There is nothing to wait for."""

    async def trial() -> None:
        pool, _ = a_pool(Gates(), 1)
        await pool.abort()
        assert pool.free == 1

    asyncio.run(trial())
