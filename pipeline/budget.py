"""What a run may still spend: each request reserves what it may cost before it leaves and settles it after."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import planner
from pipeline.domain import Task, Usage
from pipeline.prices import PriceList


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is held back for one request in flight, and what it was expected to cost."""

    usd: float = 0.0
    expected_usd: float = 0.0


class Budget:
    """Keeps a run's spending, with all that is in flight, under ``max_usd``; None means without a limit.

    How far a request may lie above what was expected of it is learned from the dearest so far. Until one
    has come back, each is taken for the dearest possible; only the very first may go out on its expected
    cost, so that a small budget gets anywhere. One that may take more than the usual ``max_tokens`` will: it
    is taken for the dearest possible always.
    """

    def __init__(self, max_usd: float | None, prices: PriceList, model: str, max_tokens: int) -> None:
        self._max_usd = max_usd
        self._prices = prices
        self._model = model
        self._max_tokens = max_tokens
        self._spent_usd = 0.0
        self._held: dict[int, float] = {}  # by the id of the attempt: sums of floats do not come back to zero
        self._dearest = 0.0  # of all requests so far, the cost in relation to what was expected

    def refusal(self, reservation: Reservation) -> str:
        """Why a request cannot be sent, and what to do, in one line for people."""
        limit = f"max_usd = {self._max_usd or 0.0:g}"
        if not self._spent_usd:
            return f"{limit} does not cover one request, which may cost ${reservation.usd:.4f}: raise it"
        spent = f"${self._spent_usd:.4f} is spent, and the next request may cost ${reservation.usd:.4f}"
        return f"the budget ends here ({limit}): {spent}; the next run goes on with a new one"

    def reservation(self, task: Task, max_tokens: int) -> Reservation:
        """What a request for ``task`` would reserve now; nothing where there is no limit."""
        if self._max_usd is None:
            return Reservation()
        expected_usd = self._usd(planner.expected_usage(task))
        if self._dearest and max_tokens <= self._max_tokens:
            return Reservation(expected_usd * max(self._dearest, 1.0), expected_usd)
        if not self._held and not self._spent_usd:
            return Reservation(expected_usd, expected_usd)
        return Reservation(self._usd(planner.most_usage(task, max_tokens)), expected_usd)

    def covers(self, reservation: Reservation) -> bool:
        """Whether so much can be reserved beside what is spent and what is in flight."""
        return self._max_usd is None or self._spent_usd + sum(self._held.values()) + reservation.usd <= self._max_usd

    def hold(self, attempt: int, reservation: Reservation) -> None:
        """A request is about to leave."""
        self._held[attempt] = reservation.usd

    def settle(self, attempt: int, reservation: Reservation, cost_usd: float | None, billed: bool) -> None:
        """A request came back. ``billed``: one whose cost is None may have cost all that was reserved."""
        del self._held[attempt]
        if cost_usd is None:
            self._spent_usd += reservation.usd if billed else 0.0
            return
        self._spent_usd += cost_usd
        if cost_usd and reservation.expected_usd:
            self._dearest = max(self._dearest, cost_usd / reservation.expected_usd)

    def _usd(self, usage: Usage) -> float:
        return self._prices.cost_usd(self._model, usage) or 0.0
