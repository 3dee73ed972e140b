"""What a run may still spend: each request reserves what it may cost before it leaves and settles it after."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import planner
from pipeline.domain import Task, Usage
from pipeline.prices import PriceList


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request may cost: what was expected, the same by the run's experience, and the most."""

    expected_usd: float = 0.0
    usd: float = 0.0
    most_usd: float = 0.0


class Budget:
    """Keeps a run's spending, with all that is in flight, under ``max_usd``; None means without a limit.

    Requests go side by side only while the most that all of them can cost is covered. Nearer to the limit one
    goes alone, and is taken for what was expected of it times the dearest request so far in relation to what was
    expected of that: setting aside the most would stop a small budget at a fraction of it. So a run spends more
    than its limit by the misjudgement of one request at most. ``batch``: at the price of batches. ``spent_usd`` is
    spent already.
    """

    def __init__(
        self, max_usd: float | None, prices: PriceList, model: str, batch: bool = False, spent_usd: float = 0.0
    ) -> None:
        self._max_usd = max_usd
        self._prices = prices
        self._model = model
        self._batch = batch
        self._spent_usd = spent_usd
        self._held: dict[int, float] = {}  # by the id of the attempt: sums of floats do not come back to zero
        self._dearest = 1.0  # of all requests so far, the cost in relation to what was expected

    @property
    def left_usd(self) -> float | None:
        """What is neither spent nor in flight; None: without a limit."""
        return None if self._max_usd is None else self._max_usd - self._spent_usd - sum(self._held.values())

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
        most_usd = self._usd(planner.most_usage(task, max_tokens))
        return Reservation(expected_usd, expected_usd * self._dearest, most_usd)

    def covers(self, reservation: Reservation) -> bool:
        """Whether so much can be reserved beside what is spent and what is in flight."""
        if self._max_usd is None:
            return True
        left_usd = self._max_usd - self._spent_usd
        if sum(self._held.values()) + reservation.most_usd <= left_usd:
            return True
        return not self._held and reservation.usd <= left_usd

    def hold(self, attempt: int, reservation: Reservation) -> None:
        """A request is about to leave."""
        self._held[attempt] = reservation.most_usd

    def settle(self, attempt: int, reservation: Reservation, cost_usd: float | None, billed: bool) -> None:
        """A request came back. ``billed``: one whose cost is None may have cost the most that it could."""
        del self._held[attempt]
        if cost_usd is None:
            self._spent_usd += reservation.most_usd if billed else 0.0
            return
        self._spent_usd += cost_usd
        if cost_usd and reservation.expected_usd:
            self._dearest = max(self._dearest, cost_usd / reservation.expected_usd)

    def _usd(self, usage: Usage) -> float:
        return self._prices.cost_usd(self._model, replace(usage, batch=self._batch)) or 0.0
