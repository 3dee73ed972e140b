"""Limited endpoints and a run that sends to them, event by event on a clock of their own: nothing sleeps.

Times are seconds from the start of the run.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.domain import Exchange, Failure, FailureClass
from pipeline.pacing import Gate

_REFUSAL_S = 0.05  # needs no model, only the way there and back
_NETWORK_S = 0.002  # so much later, at most, than without a network
_TIMER_S = 0.001  # so much later, at most, than the loop wanted to wake
_LATENCY_SPREAD = 0.1


def refusal(retry_after_s: float | None) -> Failure:
    return Failure(
        FailureClass.TRANSIENT,
        "429",
        Exchange(429),
        retry_after_s=retry_after_s,
        slow_down=True,
        rate_limited=True,
    )


class Limiter(Protocol):
    def admit(self, now_s: float) -> float:
        """0 lets a request in; else the time until there is room."""


class TokenBucket:
    """Tokens come at an even rate, and up to ``burst`` are kept."""

    def __init__(self, per_minute: float, burst: int) -> None:
        self.per_minute = per_minute
        self._burst = self._tokens = float(burst)
        self._at_s = 0.0

    def admit(self, now_s: float) -> float:
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self.per_minute / 60)
        self._at_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) * 60 / self.per_minute
        self._tokens -= 1
        return 0.0


class FixedWindow:
    """So many in each minute of the clock."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = self._count = 0

    def admit(self, now_s: float) -> float:
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        if self._count >= self._per_minute:
            return (minute + 1) * 60 - now_s
        self._count += 1
        return 0.0


class SlidingWindow:
    """So many in any minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._recent: deque[float] = deque()

    def admit(self, now_s: float) -> float:
        while self._recent and self._recent[0] <= now_s - 60:
            self._recent.popleft()
        if len(self._recent) >= self._per_minute:
            return self._recent[0] + 60 - now_s
        self._recent.append(now_s)
        return 0.0


RetryAfter = Callable[[float], float | None]


def absent(wait_s: float) -> float | None:
    return None


def exact(wait_s: float) -> float | None:
    return wait_s


def whole_seconds(wait_s: float) -> float | None:
    return float(math.ceil(wait_s))


@dataclass(frozen=True, slots=True)
class _Request:
    attempt: int
    begun_s: float
    refused_for_s: float  # 0: let in


class Run:
    """Sends chunks through a gate until all are answered; one that was refused comes again, as in a real run."""

    def __init__(self, gate: Gate, limiter: Limiter, chunks: int, concurrency: int) -> None:
        self.begun_s: list[float] = []
        self.let_in_s: list[float] = []
        self.refused_s: list[float] = []
        self.most_attempts = 0
        self._gate, self._limiter = gate, limiter
        self._fresh, self._concurrency = chunks, concurrency
        self._again: list[tuple[float, int]] = []  # when, attempts made
        self._flying: list[tuple[float, int, _Request]] = []  # when it ends, order
        self._random = random.Random(1).random
        self._now_s = 0.0

    def send(
        self,
        latency_s: float,
        retry_after: RetryAfter = exact,
        limit_per_minute: int | None = None,
    ) -> Run:
        """``limit_per_minute``: what the endpoint's headers say."""
        while self._fresh or self._again or self._flying:
            while (attempt := self._next_attempt()) is not None:
                self._begin(attempt, latency_s)
            self._sleep()
            while self._flying and self._flying[0][0] <= self._now_s:
                self._settle(heapq.heappop(self._flying)[2], retry_after, limit_per_minute)
        return self

    def _next_attempt(self) -> int | None:
        if len(self._flying) >= self._gate.slots or self._gate.opens_s(self._now_s) > self._now_s:
            return None
        if self._again and self._again[0][0] <= self._now_s:
            return heapq.heappop(self._again)[1] + 1
        if not self._takes_fresh():
            return None
        self._fresh -= 1
        return 1

    def _takes_fresh(self) -> bool:
        return self._fresh > 0 and len(self._again) < self._concurrency

    def _begin(self, attempt: int, latency_s: float) -> None:
        self._gate.began(self._now_s)
        wait_s = self._limiter.admit(self._now_s)
        took_s = latency_s * (1 + _LATENCY_SPREAD * (2 * self._random() - 1))
        if wait_s:
            took_s = min(_REFUSAL_S, latency_s)
        ends_s = self._now_s + took_s + self._random() * _NETWORK_S
        self.begun_s.append(self._now_s)
        (self.refused_s if wait_s else self.let_in_s).append(self._now_s)
        self.most_attempts = max(self.most_attempts, attempt)
        heapq.heappush(self._flying, (ends_s, len(self.begun_s), _Request(attempt, self._now_s, wait_s)))

    def _sleep(self) -> None:
        times = [self._flying[0][0]] if self._flying else []
        if len(self._flying) < self._gate.slots and (self._again or self._takes_fresh()):
            due_s = self._now_s if self._takes_fresh() else self._again[0][0]
            times.append(max(due_s, self._gate.opens_s(self._now_s)))
        self._now_s = max(min(times), self._now_s) + self._random() * _TIMER_S

    def _settle(self, request: _Request, retry_after: RetryAfter, limit_per_minute: int | None) -> None:
        if not request.refused_for_s:
            self._gate.answered(request.begun_s, self._now_s, limit_per_minute)
            return
        failure = refusal(retry_after(request.refused_for_s))
        self._gate.failed(failure, request.begun_s, self._now_s, limit_per_minute)
        jitter_s = self._random() * min(2.0 ** (request.attempt - 1), 60.0)
        heapq.heappush(self._again, (self._now_s + (failure.retry_after_s or 0.0) + jitter_s, request.attempt))
