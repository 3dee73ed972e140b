"""What may be spent while requests are in flight."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget import Budget, Reservation
from pipeline.domain import Chunk, PageRange, Synthesis
from pipeline.planner import expected_usage
from pipeline.prices import PriceList

PRICES = PriceList(1.0, 1.0)  # a dollar for a million tokens of either kind
MAX_TOKENS = 8000


def chunk(pages: int) -> Chunk:
    return Chunk(f"1-{pages}", "c0ffee", PageRange(1, pages))


def expected_usd(task: Chunk) -> float:
    usage = expected_usage(task)
    return (usage.input_tokens + usage.output_tokens) / 1e6


def budget(max_usd: float | None) -> Budget:
    return Budget(max_usd, PRICES, "m")


def test_without_a_limit_everything_is_covered() -> None:
    """And nothing is reserved."""
    endless = budget(None)

    reservation = endless.reservation(chunk(600), MAX_TOKENS)

    assert reservation.usd == 0
    assert endless.covers(reservation)


def most_usd(pages: int, max_tokens: int = MAX_TOKENS) -> float:
    """9,000 tokens of prompt a page, and the whole of ``max_tokens``."""
    return (900 + 9000 * pages + max_tokens) / 1e6


def test_a_small_budget_gets_somewhere() -> None:
    """One request at a time goes out on what is expected of it where the most that it can cost is not covered."""
    books = budget(1.01 * expected_usd(chunk(1)))
    for attempt in range(10):
        reservation = books.reservation(chunk(1), MAX_TOKENS)
        assert books.covers(reservation)
        books.hold(attempt, reservation)
        assert not books.covers(reservation)
        books.settle(attempt, reservation, 0.0, billed=True)


def test_requests_go_side_by_side_while_the_most_that_they_can_cost_is_covered() -> None:
    """Three at most for a budget of three and a half; then one alone for each that came back cheaper."""
    books = budget(3.5 * most_usd(2))
    for attempt in range(3):
        reservation = books.reservation(chunk(2), MAX_TOKENS)
        assert books.covers(reservation)
        books.hold(attempt, reservation)
    assert not books.covers(books.reservation(chunk(2), MAX_TOKENS))

    books.settle(0, reservation, expected_usd(chunk(2)), billed=True)
    assert books.covers(books.reservation(chunk(2), MAX_TOKENS))
    assert not books.covers(books.reservation(chunk(2), 20 * MAX_TOKENS))


def test_the_dearest_so_far_is_the_measure_for_who_goes_alone() -> None:
    """A request that cost three times what was expected makes all others count for as much."""
    books = budget(1.0)
    first = books.reservation(chunk(1), MAX_TOKENS)
    for attempt, cost_usd in enumerate((3 * first.expected_usd, 0.0001)):
        books.hold(attempt, first)
        books.settle(attempt, first, cost_usd, billed=True)

        assert books.reservation(chunk(5), MAX_TOKENS).usd == pytest.approx(3 * expected_usd(chunk(5)))


def test_what_may_have_been_billed_counts_as_the_most() -> None:
    """An answer that does not say what it cost has cost the most that it could; a refused request nothing."""
    books = budget(1.0)
    reservation = books.reservation(chunk(1), MAX_TOKENS)
    books.hold(1, reservation)
    books.settle(1, reservation, None, billed=False)
    assert "does not cover one request" in books.refusal(reservation)
    books.hold(2, reservation)
    books.settle(2, reservation, None, billed=True)
    assert f"${most_usd(1):.4f} is spent" in books.refusal(reservation)


@given(
    st.floats(0.001, 0.5),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 9), st.floats(0.0, 1.0) | st.none()), max_size=60),
)
def test_spending_exceeds_the_limit_by_one_misjudged_request_at_most(
    max_usd: float, concurrency: int, requests: list[tuple[int, float | None]]
) -> None:
    """Whatever each costs up to the most that it can, and however many are in flight; None: nobody knows."""
    books = budget(max_usd)
    in_flight: deque[tuple[int, Reservation, float | None]] = deque()
    spent_usd, misjudged_usd = 0.0, 0.0

    def come_back() -> float:
        attempt, reservation, cost_usd = in_flight.popleft()
        books.settle(attempt, reservation, cost_usd, billed=True)
        return reservation.most_usd if cost_usd is None else cost_usd

    for attempt, (pages, share) in enumerate(requests):
        reservation = books.reservation(chunk(pages), MAX_TOKENS)
        while in_flight and (len(in_flight) == concurrency or not books.covers(reservation)):
            spent_usd += come_back()
            reservation = books.reservation(chunk(pages), MAX_TOKENS)
        if not books.covers(reservation):
            break
        books.hold(attempt, reservation)
        in_flight.append((attempt, reservation, None if share is None else share * reservation.most_usd))
        misjudged_usd = max(misjudged_usd, reservation.most_usd - reservation.usd)
    while in_flight:
        spent_usd += come_back()

    assert spent_usd <= max_usd + misjudged_usd + 1e-9


def test_a_synthesis_reserves_by_its_text() -> None:
    """It has no pages."""
    short = Synthesis("s", "c0ffee", ((PageRange(1, 2), "x" * 30),))
    long = Synthesis("l", "c0ffee", ((PageRange(1, 2), "x" * 300_000),))

    costs = [budget(1.0).reservation(task, MAX_TOKENS).usd for task in (short, long)]

    assert costs[1] - costs[0] == pytest.approx(0.1, rel=0.01)
