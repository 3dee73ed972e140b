"""Is the endpoint down? Told from the requests in a row that it did not answer."""

from __future__ import annotations

from pipeline.domain import Failure
from pipeline.failures import RetryPolicy

_DISTINCT_CHUNKS = 3  # fewer may themselves be why there is no answer
_AT_LEAST_IN_A_ROW = 8  # where fewer are in flight, so many failures in a row may still be chance


class Outage:
    """Watches for an endpoint that answers nobody.

    As many requests in a row as may be in flight are no more than one moment of trouble. Those after them
    are probes, with a pause before each that grows as between the attempts for one chunk. After twice as
    many as one chunk has attempts the endpoint is down: even one that fails three requests in five, by
    chance, comes to that once in 30,000 requests. Times are seconds of one monotonic clock.
    """

    def __init__(self, concurrency: int, retry: RetryPolicy) -> None:
        self._in_a_row = max(concurrency, _AT_LEAST_IN_A_ROW)
        self._retry = retry
        self._chunks: list[str] = []
        self._has_answered = False
        self.until_s = 0.0
        """Nothing is to be sent before this time."""

    @property
    def is_silent(self) -> bool:
        """Whether there were requests, and it answered none of them."""
        return bool(self._chunks) and not self._has_answered

    def answered(self) -> None:
        """The endpoint is there: it answered something, if only that a request is wrong."""
        self._chunks.clear()
        self._has_answered = True

    def not_answered(self, chunk: str, failure: Failure, now_s: float) -> bool:
        """The endpoint did not answer for a chunk; whether it is down."""
        self._chunks.append(chunk)
        probes = len(self._chunks) - self._in_a_row
        if probes <= 0 or len(set(self._chunks)) < _DISTINCT_CHUNKS:
            return False
        self.until_s = now_s + (self._retry.wait_s(min(probes, self._retry.attempts - 1), 0.0, failure) or 0.0)
        return probes >= 2 * self._retry.attempts
