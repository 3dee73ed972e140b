"""What may be spent while requests are in flight."""

from __future__ import annotations

import pytest

from pipeline.budget import Budget
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
    return Budget(max_usd, PRICES, "m", MAX_TOKENS)


def test_without_a_limit_everything_is_covered() -> None:
    """And nothing is reserved."""
    endless = budget(None)

    reservation = endless.reservation(chunk(600), MAX_TOKENS)

    assert reservation.usd == 0
    assert endless.covers(reservation)


def test_the_first_request_goes_out_on_what_is_expected_of_it() -> None:
    """A small budget gets somewhere."""
    assert budget(1.0).reservation(chunk(1), MAX_TOKENS).usd == pytest.approx(expected_usd(chunk(1)))


def test_others_are_taken_for_the_dearest_possible_until_one_came_back() -> None:
    """Nobody knows yet what a page comes to: 9,000 tokens of prompt a page, and the whole of max_tokens."""
    books = budget(1.0)
    books.hold(1, books.reservation(chunk(1), MAX_TOKENS))

    assert books.reservation(chunk(2), MAX_TOKENS).usd == pytest.approx((900 + 2 * 9000 + 8000) / 1e6)
    assert books.reservation(chunk(2), 2 * MAX_TOKENS).usd == pytest.approx((900 + 2 * 9000 + 16000) / 1e6)


def test_the_dearest_so_far_is_the_measure_for_the_rest() -> None:
    """A request that cost three times what was expected makes all others reserve as much."""
    books = budget(1.0)
    first = books.reservation(chunk(1), MAX_TOKENS)
    books.hold(1, first)
    books.settle(1, first, 3 * first.expected_usd, billed=True)

    assert books.reservation(chunk(5), MAX_TOKENS).usd == pytest.approx(3 * expected_usd(chunk(5)))

    cheap = books.reservation(chunk(1), MAX_TOKENS)
    books.hold(2, cheap)
    books.settle(2, cheap, 0.0001, billed=True)
    assert books.reservation(chunk(5), MAX_TOKENS).usd == pytest.approx(3 * expected_usd(chunk(5)))


def test_who_may_take_more_than_usual_is_taken_for_the_dearest_possible() -> None:
    """Its answer was cut at the usual length: what the others came to says nothing about it."""
    books = budget(1.0)
    first = books.reservation(chunk(1), MAX_TOKENS)
    books.hold(1, first)
    books.settle(1, first, (4400 + MAX_TOKENS) / 1e6, billed=True)

    assert books.reservation(chunk(1), 2 * MAX_TOKENS).usd == pytest.approx((900 + 9000 + 2 * MAX_TOKENS) / 1e6)


def test_what_is_reserved_and_not_spent_is_free_again() -> None:
    """Ten requests, one after the other, find room for one."""
    books = budget(1.01 * expected_usd(chunk(1)))
    for attempt in range(10):
        reservation = books.reservation(chunk(1), MAX_TOKENS)
        assert books.covers(reservation)
        books.hold(attempt, reservation)
        assert not books.covers(reservation)
        books.settle(attempt, reservation, 0.0, billed=True)


def test_what_may_have_been_billed_counts_as_spent() -> None:
    """An answer that does not say what it cost has cost what was reserved; a refused request nothing."""
    books = budget(2.5 * expected_usd(chunk(1)))
    reservation = books.reservation(chunk(1), MAX_TOKENS)
    books.hold(1, reservation)
    books.settle(1, reservation, None, billed=False)
    assert "does not cover one request" in books.refusal(reservation)
    books.hold(2, reservation)
    books.settle(2, reservation, None, billed=True)
    assert f"${reservation.usd:.4f} is spent" in books.refusal(reservation)


def test_a_synthesis_reserves_by_its_text() -> None:
    """It has no pages."""
    short = Synthesis("s", "c0ffee", ((PageRange(1, 2), "x" * 30),))
    long = Synthesis("l", "c0ffee", ((PageRange(1, 2), "x" * 300_000),))

    costs = [budget(1.0).reservation(task, MAX_TOKENS).usd for task in (short, long)]

    assert costs[1] - costs[0] == pytest.approx(0.1, rel=0.01)
