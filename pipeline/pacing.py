"""When the next request may begin and how many may be in flight: one gate for all workers of a run.

Three rules, each for what the others cannot see. ``slots`` halves when the server gets too much and grows by
one for each answer, as TCP's congestion window does; with no answer at all it is one. A wait that the server
asks for holds for everybody. And requests are spaced: by the job's own limit, or by the pace that is learned
from refusals when the API's limit is not known.

Times are seconds of one monotonic clock, which the caller reads.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from pipeline.domain import Failure

_WINDOW_S = 60.1
"""A minute, and a tenth of a second for requests that overtake each other on their way."""

_CATCH_UP_S = 0.5
"""How much of the job's own pace a late worker may make up for, at most, and no more than one request: timers
are late by milliseconds, and what is made up for lengthens all distances."""

_FIRST_WAIT_S = 0.5
"""The wait after a refusal without Retry-After. At 300 a minute two or three requests are let in after it."""

_MAX_WAIT_S = 16.0
"""Up to here that wait doubles while all is refused: a quota of a minute, used up, is asked for 8 times."""

_FEWEST_FAILURES = 3
"""So many failures in a row, at least, before an endpoint counts as down: one alone may be its chunk's own."""

_FIRST_GUESS = 3.0
"""The first pace, in what was let in until the first wait was over. That is too little if the server keeps no
unused quota: of a wait of a second it then lets in one request, whatever the limit."""

_TOWARDS_REFUSED = 0.4
"""Where between the two bounds the next pace lies, by ratio. Below the middle: too fast costs a wait."""

_MARGIN = 0.98
"""The share of the refused pace that is held. Timers and the network shift requests by some hundredths of
the distance between them."""

_APPROACH = 1.5
"""How long the pace takes to come near the refused one, in lengths of the last cycle, and a second at least.
Where the lower bound was right, it is refused sooner than that, and not much above."""

_HOLD_S = 120.0
"""How long a refusal is remembered. Then the pace grows until the next: a limit may have risen."""

_DOUBTED_S = 60.0
"""After that the pace grows by e in this time: a limit ten times as high is found within five minutes."""

_MINUTE_S = 60.0
_PROVEN_SHARE = 0.5
"""Of the best minute's answers, what is held to be within the limit: a server that keeps unused quota keeps no more
than a minute's worth, so half of what came in a minute is not due to that. The pace never falls below: refusals may
have other reasons than it, such as a quota shared with others, and would lower it again and again."""

_PROVEN_FOR_S = 3600.0
"""How long that is believed: it falls by e in this time."""

_COUNTED_S = 30.0
"""Beyond the pace that was refused, what is let in is counted over so long at most: before, it was slower."""


class Gate:
    """Shared by all requests of a run.

    Args:
        concurrency: The most requests in flight.
        requests_per_minute: The most that begin in any minute; 0 is whatever the API allows.
    """

    def __init__(self, concurrency: int, requests_per_minute: int) -> None:
        self._concurrency = self._slots = concurrency
        per_minute = requests_per_minute or math.inf
        self._catch_up_s = min(_CATCH_UP_S, 60.0 / per_minute)
        # A minute's worth and the catching up fit into a minute together: the limit holds for any 60 seconds.
        self._interval_s = (_WINDOW_S + self._catch_up_s) / per_minute
        self._due_s = self._floor_s = self._cut_s = -math.inf
        self._pace = _Pace(per_minute / 60.0)
        self._wait_s = _FIRST_WAIT_S
        self._failed_in_a_row = self._down_after = 0

    @property
    def slots(self) -> int:
        """How many requests may be in flight now, from 1 to the concurrency."""
        return self._slots

    def opens_s(self, now_s: float) -> float:
        """Nothing may begin before this time; not after ``now_s``: something may begin at once."""
        return max(self._floor_s, self._due_s, self._pace.due_s)

    def began(self, now_s: float) -> None:
        """A request begins."""
        self._due_s = max(self._due_s, now_s - self._catch_up_s) + self._interval_s
        self._pace.began(now_s)

    def answered(self, begun_s: float, now_s: float, limit_per_minute: int | None = None) -> None:
        """The endpoint answered a request that had begun at ``begun_s``, usably or not.

        ``limit_per_minute``: of requests, as its headers say.
        """
        self._pace.told(limit_per_minute)
        self._pace.answered(now_s)
        self._failed_in_a_row = 0
        self._slots = min(self._slots + 1, self._concurrency)
        if begun_s >= self._cut_s:
            self._wait_s = _FIRST_WAIT_S

    def failed(self, failure: Failure, begun_s: float, now_s: float, limit_per_minute: int | None = None) -> None:
        """A request failed in a way that may pass: no connection, 5xx, 429, 529.

        Any wait that the server asks for with 429 or 529 is kept, however long.
        """
        self._pace.told(limit_per_minute)
        if failure.rate_limited:
            self._pace.refused(begun_s)
        else:
            self._note_failure()
        if not failure.slow_down:
            return
        if begun_s >= self._cut_s:  # what began before is of a burst that was answered for
            self._cut_s = now_s
            if failure.rate_limited and self._pace.lets_in:
                self._wait_s = _FIRST_WAIT_S
            self._slots = max(1, self._slots // 2)
            self._floor_s = max(self._floor_s, now_s + (failure.retry_after_s or self._wait_s))
            self._wait_s = min(self._wait_s * 2, _MAX_WAIT_S)
        self._floor_s = max(self._floor_s, now_s + (failure.retry_after_s or 0.0))

    def _note_failure(self) -> None:
        """Ask with one request at a time once as many have failed in a row as were allowed in flight.

        Up to then it may be one moment's trouble. A 429 does not count: an endpoint that says it is not down.
        """
        if not self._failed_in_a_row:
            self._down_after = max(self._slots, _FEWEST_FAILURES)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._down_after:
            self._slots = 1


@dataclass(frozen=True, slots=True)
class _Cycle:
    """From the end of one wait to the next refusal.

    ``let_in`` requests began since ``since_s`` and were not refused, until one was at the pace ``refused_per_s``.
    """

    let_in: int
    since_s: float
    refused_per_s: float


class _Pace:
    """The pace that a server allows whose limit is not known: infinite until it refuses something.

    A refusal finds the quota used up. So from one to the next, waits included, no more was let in than the limit
    allows; and the pace that was refused is more than it allows. The limit lies between: the next pace is drawn
    from both and grows towards the upper. Where the server keeps unused quota for bursts the lower bound is
    right, where it keeps none the upper one; each cycle brings them closer and takes longer.
    """

    def __init__(self, job_limit_per_s: float) -> None:
        self.due_s = -math.inf
        self._job_limit_per_s = self._limit_per_s = job_limit_per_s
        self._per_s = self._refused_per_s = math.inf
        self._let_in = 0
        self._since_s: float | None = None
        self._refused_s = 0.0
        self._was_refused = False
        self.lets_in = True
        self._last: _Cycle | None = None
        self._grown_s = self._approach_s = 0.0
        self._answers_s: deque[float] = deque()  # of the last minute
        self._proven_per_s = 0.0

    def told(self, limit_per_minute: int | None) -> None:
        """The server names its limit."""
        if limit_per_minute is not None and limit_per_minute > 0:
            self._limit_per_s = min(limit_per_minute / 60, self._job_limit_per_s)

    def began(self, now_s: float) -> None:
        """A request begins."""
        if self._since_s is None:
            self._since_s = now_s
        if self._was_refused:
            self._learn(now_s)
        else:
            self._grow(now_s)
        self._let_in += 1
        self.due_s = now_s + 1 / self._per_s

    def answered(self, now_s: float) -> None:
        """A request was let in, and answered now."""
        self._answers_s.append(now_s)
        while self._answers_s[0] <= now_s - _MINUTE_S:
            self._answers_s.popleft()
        self._proven_per_s = max(self._proven_per_s, len(self._answers_s) * _PROVEN_SHARE / _MINUTE_S)

    def refused(self, begun_s: float) -> None:
        """A request that had begun at ``begun_s`` got a 429."""
        if self._since_s is not None and begun_s >= self._since_s:
            self._let_in -= 1
            self._was_refused = True

    def _learn(self, now_s: float) -> None:
        """Draw the next pace from the cycle that ends with this begin, when its refusals are all known."""
        assert self._since_s is not None  # noqa: S101 - something began before it was refused
        self.lets_in = self._let_in > 0
        if self.lets_in or self._last is None:
            self._last = _Cycle(self._let_in, self._since_s, self._per_s)
        # Else nothing was let in since the wait: it was too short, and the cycle before has not ended yet.
        cycle = self._last
        length_s = max(now_s - cycle.since_s, 0.001)  # a server may ask for a wait of next to nothing
        lower = max(cycle.let_in, 1) / length_s
        upper = max(cycle.refused_per_s, lower)
        if upper == math.inf:
            self._per_s = _FIRST_GUESS * lower
        else:
            self._per_s = min(lower * (upper / lower) ** _TOWARDS_REFUSED, _MARGIN * upper)
        if upper > self._limit_per_s:
            upper = self._limit_per_s
            self._per_s = _MARGIN * upper
        self._proven_per_s *= math.exp(-length_s / _PROVEN_FOR_S)
        self._per_s = max(self._per_s, min(self._proven_per_s, _MARGIN * self._limit_per_s))
        self._refused_per_s = upper
        self._approach_s = max(_APPROACH * length_s, 1.0)
        self._let_in, self._since_s, self._was_refused = 0, now_s, False
        self._grown_s = self._refused_s = now_s

    def _grow(self, now_s: float) -> None:
        """Come nearer to the pace that was refused, and beyond it when that is long ago."""
        if self._per_s == math.inf or self._since_s is None:
            return
        passed_s = min(now_s - self._grown_s, 1.0)  # what was not tried was not let in
        self._grown_s = now_s
        if now_s - self._refused_s > _HOLD_S:
            if _MARGIN * self._per_s > self._refused_per_s and now_s - self._since_s > _COUNTED_S:
                self._let_in, self._since_s = 0, now_s
            self._per_s = min(self._per_s * (1 + passed_s / _DOUBTED_S), _MARGIN * self._limit_per_s)
        else:
            gap = min(_MARGIN * self._refused_per_s - self._per_s, self._per_s)
            self._per_s += max(0.0, gap) * min(passed_s / self._approach_s, 1.0)
