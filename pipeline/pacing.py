"""When the next request may begin, and how many may be in flight: one gate for all workers of a run."""

from __future__ import annotations

from pipeline.domain import Failure

_SHORT_PAUSE_S = 0.5  # after "too much" without a time
_LEAST_FAILURES_IN_A_ROW = 3


class Gate:
    """Opens for one request at a time. Times are seconds of one monotonic clock, which the caller reads.

    How many may be in flight is halved when the server gets too much and grows by one with each answer
    (additive increase, multiplicative decrease). A server that answers none is asked one request at a time.
    """

    def __init__(self, concurrency: int, requests_per_minute: int) -> None:
        self._concurrency = concurrency
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_s = self._until_s = 0.0
        self._halved_s = 0.0
        self._failures_in_a_row = 0
        self.slots = concurrency
        """How many requests may be in flight now."""

    def opens_s(self, now_s: float) -> float:
        """Nothing may begin before this time."""
        return max(self._next_s, self._until_s)

    def began(self, now_s: float) -> None:
        """A request begins now."""
        self._next_s = max(self._next_s, now_s) + self._interval_s

    def answered(self, begun_s: float, now_s: float, limit_per_minute: int | None = None) -> None:
        """The endpoint answered a request, if only that it is wrong."""
        self._failures_in_a_row = 0
        self.slots = min(self.slots + 1, self._concurrency)

    def failed(self, failure: Failure, begun_s: float, now_s: float, limit_per_minute: int | None = None) -> None:
        """The endpoint did not answer a request, or gets too much."""
        self._failures_in_a_row += 1
        if failure.slow_down:
            self._until_s = max(self._until_s, now_s + (failure.retry_after_s or _SHORT_PAUSE_S))
            if begun_s >= self._halved_s:  # else it belongs to the burst that was halved already
                self._halved_s = now_s
                self.slots = max(1, self.slots // 2)
        if self._failures_in_a_row >= max(_LEAST_FAILURES_IN_A_ROW, self._concurrency):
            self.slots = 1
