"""When a request may begin: the job's limit, the API's limit found out, waits for all, and an endpoint that is down."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import Failure, FailureClass
from pipeline.pacing import Gate
from tests.rate_limits import (
    FixedWindow,
    Limiter,
    RetryAfter,
    Run,
    SlidingWindow,
    TokenBucket,
    absent,
    exact,
    refusal,
    whole_seconds,
)

unhurried = settings(deadline=None)

PER_MINUTE = 300
PER_S = PER_MINUTE / 60
CHUNKS = 600
ATTEMPTS = 6  # what a job allows a chunk unless it says otherwise

LIMITERS: dict[str, Callable[[], Limiter]] = {
    "no burst": lambda: TokenBucket(PER_MINUTE, 1),
    "burst of 5": lambda: TokenBucket(PER_MINUTE, 5),
    "burst of 60": lambda: TokenBucket(PER_MINUTE, 60),
    "burst of 300": lambda: TokenBucket(PER_MINUTE, 300),
    "fixed window": lambda: FixedWindow(PER_MINUTE),
    "sliding window": lambda: SlidingWindow(PER_MINUTE),
}
CLIENTS = [(latency_s, workers) for latency_s in (0.05, 0.2, 1.0, 2.0) for workers in (8, 16, 64)]
each_limiter = pytest.mark.parametrize("limiter", list(LIMITERS))
each_retry_after = pytest.mark.parametrize("retry_after", [absent, exact, whole_seconds])


def overloaded(retry_after_s: float | None = None) -> Failure:
    return Failure(FailureClass.TRANSIENT, "529", retry_after_s=retry_after_s, slow_down=True)


def no_answer() -> Failure:
    return Failure(FailureClass.TRANSIENT, "connection refused")


def begin(gate: Gate, count: int, now_s: float = 0.0) -> None:
    for _ in range(count):
        gate.began(now_s)


# --- a limit that nobody has told


@each_limiter
@each_retry_after
def test_an_unknown_limit_is_found_out_and_kept(limiter: str, retry_after: RetryAfter) -> None:
    """Ten seconds after the first refusal 95 % of the limit are used, and fewer than 2 % of the requests are refused.

    600 chunks as a whole get 95 % too, but 93 % where a server keeps no unused quota: there each of the
    first waits costs all that it could have let in. No chunk is refused so often that it is given up.
    """
    for latency_s, workers in CLIENTS:
        if workers / latency_s < 1.1 * PER_S:
            continue  # so few cannot reach the limit
        run = Run(Gate(workers, 0), LIMITERS[limiter](), CHUNKS, workers).send(latency_s, retry_after)

        learned_s = min(run.refused_s, default=0.0) + 10
        early = bisect_right(run.let_in_s, learned_s)
        if "window" not in limiter:  # where the rest of a minute pays for what was let in at once
            assert (CHUNKS - early) / (run.let_in_s[-1] - learned_s) > 0.95 * PER_S, (latency_s, workers)
        assert CHUNKS / run.let_in_s[-1] > (0.93 if limiter == "no burst" else 0.95) * PER_S, (latency_s, workers)
        assert sum(at_s > learned_s for at_s in run.refused_s) < 0.02 * len(run.begun_s), (latency_s, workers)
        assert run.most_attempts <= ATTEMPTS, (latency_s, workers)


@pytest.mark.parametrize("per_minute", [20, 60, 1000, 4000])
@pytest.mark.parametrize("burst", [1, 5, 60])
@each_retry_after
def test_other_limits_are_found_out_as_well(per_minute: int, burst: int, retry_after: RetryAfter) -> None:
    """The rate of five minutes is 0.85 of the limit at least, from one request in three seconds to 67 a second."""
    chunks = 5 * per_minute
    run = Run(Gate(64, 0), TokenBucket(per_minute, burst), chunks, 64).send(0.5, retry_after)

    assert chunks / run.let_in_s[-1] > 0.85 * per_minute / 60
    assert len(run.refused_s) < 64 + 20 + 0.01 * chunks


@each_limiter
@each_retry_after
def test_a_limit_in_the_headers_is_kept_from_the_first_refusal_on(limiter: str, retry_after: RetryAfter) -> None:
    """What was in flight then may be refused, and after a burst hardly anything."""
    for workers in (8, 64):
        run = Run(Gate(workers, 0), LIMITERS[limiter](), CHUNKS, workers).send(
            0.2, retry_after, limit_per_minute=PER_MINUTE
        )

        assert CHUNKS / run.let_in_s[-1] > 0.9 * PER_S
        assert len(run.refused_s) <= 2 * workers
        assert sum(at_s > min(run.refused_s) + 10 for at_s in run.refused_s) <= 5


def test_a_limit_in_the_headers_is_never_doubted() -> None:
    """Once it is kept, nothing is refused any more, for an hour."""
    run = Run(Gate(8, 0), TokenBucket(60, 2), 3600, 8).send(0.2, whole_seconds, limit_per_minute=60)

    assert run.refused_s[-1] < 10


def test_a_higher_limit_in_the_headers_does_not_hide_the_jobs_own() -> None:
    """What is refused at the job's pace is refused for another reason, such as tokens: the search begins there."""
    run = Run(Gate(16, 300), TokenBucket(250, 5), CHUNKS, 16).send(0.2, whole_seconds, limit_per_minute=60_000)

    assert len(run.refused_s) <= 8


class _Raised:
    """A bucket whose limit is another from a time on."""

    def __init__(self, at_s: float, before: Limiter, after: Limiter) -> None:
        self._at_s, self._before, self._after = at_s, before, after

    def admit(self, now_s: float) -> float:
        return (self._before if now_s < self._at_s else self._after).admit(now_s)


@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.parametrize("burst", [1, 60])
def test_a_limit_that_rises_is_found_again(times: int, burst: int) -> None:
    """Five minutes after it has become ten times as high, nine tenths of it are used."""
    limiter = _Raised(100.0, TokenBucket(60, burst), TokenBucket(times * 60, burst))
    run = Run(Gate(16, 0), limiter, 460 * times, 16).send(0.2, whole_seconds)

    risen_s = 100.0 + 300.0
    in_a_minute = bisect_right(run.let_in_s, risen_s + 60) - bisect_right(run.let_in_s, risen_s)
    assert run.let_in_s[-1] > risen_s + 60
    assert in_a_minute > 0.9 * times * 60


def test_nothing_is_spaced_as_long_as_nothing_is_refused() -> None:
    """An endpoint without a limit gets all at once; so does one that is overloaded, once its wait is over."""
    gate = Gate(64, 0)
    begin(gate, 64)
    assert gate.opens_s(0.0) <= 0.0

    gate.failed(overloaded(3.0), 0.0, 1.0)
    begin(gate, 8, 4.0)

    assert gate.opens_s(4.0) <= 4.0


# --- the job's own limit


@unhurried
@given(st.integers(1, 3000), st.lists(st.floats(0, 40), min_size=1, max_size=80), st.integers(0, 2**32))
def test_no_more_than_the_limit_begin_in_any_minute(per_minute: int, idle_s: list[float], seed: int) -> None:
    """Whatever the pauses between: a burst is paid for by a longer distance."""
    gate = Gate(8, per_minute)
    begun_s: list[float] = []
    now_s = float(seed % 1000)
    for idle in idle_s:
        now_s += idle
        for _ in range(seed % 50 + 1):
            now_s = max(now_s, gate.opens_s(now_s))
            gate.began(now_s)
            begun_s.append(now_s)

    for number, at_s in enumerate(begun_s):
        assert bisect_right(begun_s, at_s + 60.0) - number <= per_minute


def test_a_worker_that_wakes_late_loses_nothing() -> None:
    """Timers are late by milliseconds; the rate stays within about one in a hundred of the limit."""
    gate = Gate(8, 6000)
    now_s = 0.0
    for _ in range(6000):
        gate.began(now_s)
        now_s = max(now_s, gate.opens_s(now_s)) + 0.003

    assert now_s < 60 * 1.011


def test_requests_of_a_job_with_a_limit_are_spaced_evenly() -> None:
    """After the first two, each waits for its time."""
    gate = Gate(8, 300)
    begun_s = [0.0]
    gate.began(0.0)
    for _ in range(50):
        begun_s.append(max(begun_s[-1], gate.opens_s(begun_s[-1])))
        gate.began(begun_s[-1])

    gaps_s = [later - earlier for earlier, later in itertools.pairwise(begun_s)]
    assert sum(gap_s < 0.1 for gap_s in gaps_s) <= 1
    assert gaps_s[5:] == pytest.approx([60.3 / 300] * 45)


def test_a_wait_of_next_to_nothing_is_no_trouble() -> None:
    """Refused and begun again in one moment, by a clock that has not moved."""
    gate = Gate(4, 0)
    for _ in range(3):
        gate.began(0.0)
        gate.failed(refusal(1e-30), 0.0, 0.0)

    assert 0.0 < gate.opens_s(0.0) < 1.0


def test_an_api_with_less_than_the_jobs_limit_is_followed() -> None:
    """The job says 600 a minute, the API allows 300: the lower one counts."""
    run = Run(Gate(16, 600), TokenBucket(300, 5), CHUNKS, 16).send(0.2, whole_seconds)

    assert len(run.refused_s) < 20
    assert CHUNKS / run.let_in_s[-1] > 0.95 * PER_S


# --- waits


@pytest.mark.parametrize("failure", [refusal, overloaded])
def test_the_wait_that_a_server_asks_for_holds_for_all(failure: Callable[[float], Failure]) -> None:
    """Nothing begins before its end, and a shorter wish does not cut it short."""
    gate = Gate(4, 0)
    begin(gate, 4)

    gate.failed(failure(30.0), 0.0, 1.0)
    gate.failed(failure(5.0), 0.0, 2.0)

    assert gate.opens_s(3.0) == 31.0


def test_a_wait_of_the_same_burst_counts_too() -> None:
    """A second refusal of one burst may ask for more than the first."""
    gate = Gate(4, 0)
    begin(gate, 4)

    gate.failed(refusal(1.0), 0.0, 1.0)
    gate.failed(refusal(20.0), 0.0, 1.0)

    assert gate.opens_s(1.0) == 21.0


def test_without_a_wish_the_wait_is_short_and_grows_while_nothing_gets_through() -> None:
    """Half a second at first, a quarter of a minute at most, and short again after an answer."""
    gate = Gate(4, 0)
    waits_s = []
    now_s = 0.0
    for _ in range(9):
        gate.began(now_s)
        gate.failed(overloaded(), now_s, now_s)
        now_s, before_s = gate.opens_s(now_s), now_s
        waits_s.append(now_s - before_s)
    gate.began(now_s)
    gate.answered(now_s, now_s)
    gate.began(now_s)
    gate.failed(overloaded(), now_s, now_s)

    assert waits_s[0] == gate.opens_s(now_s) - now_s == 0.5
    assert waits_s == sorted(waits_s)
    assert waits_s[-1] == 16.0


def test_an_answer_from_before_a_refusal_does_not_shorten_the_next_wait() -> None:
    """It says nothing about how things are now."""
    gate = Gate(4, 0)
    begin(gate, 2)
    gate.failed(overloaded(), 0.0, 0.1)
    gate.answered(0.0, 0.2)
    gate.began(0.6)
    gate.failed(overloaded(), 0.6, 0.7)

    assert gate.opens_s(0.7) == 0.7 + 1.0


def test_a_wait_after_which_something_is_let_in_is_long_enough() -> None:
    """Answers take their time; that one of two was not refused says so earlier."""
    gate = Gate(4, 0)
    now_s = 0.0
    for _ in range(3):
        begin(gate, 2, now_s)
        gate.failed(refusal(None), now_s, now_s + 0.1)
        assert gate.opens_s(now_s) == now_s + 0.1 + 0.5
        now_s = gate.opens_s(now_s)


def test_a_late_refusal_of_an_old_burst_teaches_nothing_new() -> None:
    """It began before the pace that it would speak against."""
    told, untold = Gate(8, 0), Gate(8, 0)
    for gate in (told, untold):
        begin(gate, 8)
        gate.failed(refusal(1.0), 0.0, 0.1)
        gate.began(1.1)
    told.failed(refusal(None), 0.0, 1.2)
    for gate in (told, untold):
        gate.began(3.0)

    assert told.opens_s(3.0) == untold.opens_s(3.0)


def test_other_trouble_makes_nobody_wait() -> None:
    """A broken connection is its own chunk's matter, whatever its Retry-After."""
    gate = Gate(4, 0)
    begin(gate, 2)

    gate.failed(Failure(FailureClass.TRANSIENT, "503", retry_after_s=9.0), 0.0, 1.0)

    assert gate.opens_s(1.0) <= 1.0
    assert gate.slots == 4


# --- how many in flight


@pytest.mark.parametrize("failure", [refusal, overloaded])
def test_a_burst_of_refusals_halves_the_slots_once(failure: Callable[[float], Failure]) -> None:
    """Those that began before the first of them was known say nothing new; one that begins after it does."""
    gate = Gate(16, 0)
    begin(gate, 16)
    for _ in range(8):
        gate.failed(failure(1.0), 0.0, 0.5)
    assert gate.slots == 8

    gate.began(1.5)
    gate.failed(failure(1.0), 1.5, 1.6)

    assert gate.slots == 4


def test_each_answer_gives_a_slot_back() -> None:
    """One by one, up to the concurrency."""
    gate = Gate(4, 0)
    begin(gate, 4)
    gate.failed(overloaded(), 0.0, 0.1)
    slots = [gate.slots]
    for _ in range(3):
        gate.answered(0.0, 0.2)
        slots.append(gate.slots)

    assert slots == [2, 3, 4, 4]


@unhurried
@given(st.integers(1, 20), st.lists(st.sampled_from("arod"), max_size=60))
def test_there_is_always_a_slot(concurrency: int, fates: list[str]) -> None:
    """From 1 to the concurrency, whatever happens, and the gate opens at some time."""
    gate = Gate(concurrency, 0)
    now_s = 0.0
    for fate in fates:
        now_s = max(now_s, gate.opens_s(now_s))
        gate.began(now_s)
        if fate == "a":
            gate.answered(now_s, now_s)
        else:
            gate.failed({"r": refusal(None), "o": overloaded(), "d": no_answer()}[fate], now_s, now_s)
        assert 1 <= gate.slots <= concurrency
        assert gate.opens_s(now_s) < now_s + 120


# --- an endpoint that is down


@pytest.mark.parametrize("failure", [no_answer, overloaded])
def test_an_endpoint_that_is_down_is_asked_with_one_request_at_a_time(failure: Callable[[], Failure]) -> None:
    """Once as many have failed as were in flight; the first answer lets the slots grow again."""
    gate = Gate(8, 0)
    begin(gate, 8)
    for _ in range(7):
        gate.failed(failure(), 0.0, 1.0)
    assert gate.slots > 1

    gate.failed(failure(), 0.0, 1.0)
    assert gate.slots == 1

    gate.began(2.0)
    gate.failed(failure(), 2.0, 3.0)
    assert gate.slots == 1

    gate.began(4.0)
    gate.answered(4.0, 5.0)
    assert gate.slots == 2


def test_two_failures_in_a_row_are_not_the_end_of_an_endpoint() -> None:
    """However few may be in flight, it takes three."""
    gate = Gate(2, 0)
    slots = []
    for _ in range(3):
        gate.began(0.0)
        gate.failed(no_answer(), 0.0, 1.0)
        slots.append(gate.slots)

    assert slots == [2, 2, 1]


def test_an_answer_between_failures_says_that_the_endpoint_is_up() -> None:
    """The count of failures in a row begins anew."""
    gate = Gate(8, 0)
    for _ in range(10):
        begin(gate, 3)
        gate.failed(no_answer(), 0.0, 1.0)
        gate.failed(no_answer(), 0.0, 1.0)
        gate.answered(0.0, 1.0)
    assert gate.slots == 8

    begin(gate, 8, 2.0)
    for _ in range(8):
        gate.failed(no_answer(), 2.0, 3.0)
    assert gate.slots == 1


def test_an_endpoint_that_refuses_by_rate_is_not_down() -> None:
    """63 of the first 64 refused leave half the slots, not one."""
    gate = Gate(64, 0)
    begin(gate, 64)
    for _ in range(63):
        gate.failed(refusal(1.0), 0.0, 0.1)

    assert gate.slots == 32


class _Shared:
    """Lets in by chance, whatever the pace: a quota that others use too."""

    def __init__(self, refused: float) -> None:
        self._refused = refused
        self._random = random.Random(3).random

    def admit(self, now_s: float) -> float:
        return 0.5 if self._random() < self._refused else 0.0


@pytest.mark.parametrize("refused", [0.02, 0.1])
def test_refusals_that_the_pace_does_not_cause_do_not_end_the_run_in_a_crawl(refused: float) -> None:
    """The pace never falls below half of what a minute has proven to be possible."""
    run = Run(Gate(8, 0), _Shared(refused), 1500, 8).send(1.0, absent)

    assert run.let_in_s[-1] - run.let_in_s[0] < 3600
