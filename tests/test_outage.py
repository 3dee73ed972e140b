"""When an endpoint counts as down."""

from __future__ import annotations

import pytest

from pipeline.domain import Exchange, Failure, FailureClass
from pipeline.failures import RetryPolicy
from pipeline.outage import Outage

DOWN = Failure(FailureClass.TRANSIENT, "529", Exchange(529))


def misses_until_down(outage: Outage, chunks: int) -> int:
    """How many requests for so many chunks, in turn, remain without an answer before the endpoint is down."""
    return next(n for n in range(1, 1000) if outage.not_answered(f"c{n % chunks}", DOWN, float(n)))


@pytest.mark.parametrize(("concurrency", "attempts", "requests"), [(1, 6, 20), (8, 6, 20), (64, 6, 76), (8, 1, 10)])
def test_down_is_who_answers_none_in_flight_and_no_probe(concurrency: int, attempts: int, requests: int) -> None:
    """As many as may be in flight, eight at least, and twice as many probes as one chunk has attempts."""
    assert misses_until_down(Outage(concurrency, RetryPolicy(attempts, 0.0, 60.0)), 100) == requests


def test_any_answer_begins_the_count_anew() -> None:
    """Also one that says that a request is wrong."""
    outage = Outage(1, RetryPolicy(2, 0.0, 60.0))
    assert not any(outage.not_answered(f"c{n}", DOWN, 0.0) for n in range(11))
    outage.answered()
    assert misses_until_down(outage, 100) == 12


def test_silent_is_who_never_answered() -> None:
    """Not who was not asked, and not who has answered once."""
    outage = Outage(1, RetryPolicy(2, 0.0, 60.0))
    assert not outage.is_silent
    outage.not_answered("c1", DOWN, 0.0)
    assert outage.is_silent
    outage.answered()
    outage.not_answered("c2", DOWN, 0.0)
    assert not outage.is_silent


@pytest.mark.parametrize("chunks", [1, 2])
def test_one_or_two_chunks_say_nothing_about_the_endpoint(chunks: int) -> None:
    """Something in them may bring it to its knees."""
    outage = Outage(1, RetryPolicy(2, 1.0, 60.0))
    assert not any(outage.not_answered(f"c{n % chunks}", DOWN, 5.0) for n in range(100))
    assert outage.until_s == 0.0


def test_probes_have_pauses_that_grow() -> None:
    """Up to twice as long from one to the next, by chance shorter, and never longer than the longest wait."""
    longest_s = [0.0] * 12
    for _ in range(200):
        outage = Outage(8, RetryPolicy(7, 1.0, 8.0))
        for number in range(8 + 12):
            outage.not_answered(f"c{number}", DOWN, 0.0)
            if number >= 8:
                longest_s[number - 8] = max(longest_s[number - 8], outage.until_s)
    assert all(0.6 * limit_s < s <= limit_s for s, limit_s in zip(longest_s, [1, 2, 4] + [8] * 9, strict=True))
