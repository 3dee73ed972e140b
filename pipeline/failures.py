"""Why a request failed, and what to do about it: classes and retry policy.

The only module that knows tenacity. Sources of statuses, types, codes and wordings: the API's
documentation of errors and rate limits, and error bodies that users have published.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import tenacity

from pipeline.domain import Exchange, Failure, FailureClass
from pipeline.messages import ApiError

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_CLASS_OF_STATUS = {
    401: FailureClass.ACCOUNT,
    402: FailureClass.ACCOUNT,
    403: FailureClass.ACCOUNT,
    404: FailureClass.ACCOUNT,  # the path or the model: the same for every chunk
    408: FailureClass.TRANSIENT,
    409: FailureClass.TRANSIENT,
    413: FailureClass.TOO_LARGE,
    425: FailureClass.TRANSIENT,
    429: FailureClass.TRANSIENT,
}

_CLASS_OF_CODE = {
    "enforced_spend_limit_reached": FailureClass.ACCOUNT,
    "contract_spend_limit_reached": FailureClass.ACCOUNT,
    "ramp_limit_exceeded": FailureClass.TRANSIENT,
    "request_body_too_large_after_decoding": FailureClass.TOO_LARGE,
}

# Of a 400 or a 429 the words decide, matched leniently, for they may change; the first that matches counts.
_CLASS_OF_WORDING = (
    (r"reached your (specified )?api usage limits|workspace api usage limits", FailureClass.ACCOUNT),
    (r"credit balance is too low|insufficient (credit|balance|funds)", FailureClass.ACCOUNT),
    (r"(unknown|invalid|unsupported) model", FailureClass.ACCOUNT),
    (r"model\b.{0,80}\b(not found|not exist|not available)", FailureClass.ACCOUNT),
    (r"pdf pages may be provided|too many (pdf )?pages", FailureClass.TOO_LARGE),
    (r"prompt is too long|exceeds? (the )?context (limit|window)|maximum context length", FailureClass.TOO_LARGE),
    (r"image exceeds .{0,20}maximum|image dimensions exceed", FailureClass.TOO_LARGE),
    (r"request (body )?(is )?too large|exceeds the maximum (allowed )?size", FailureClass.TOO_LARGE),
    (r"could not process (the )?(pdf|image)|pdf specified (is|was)|password protected", FailureClass.DOCUMENT),
)

# What a person can do about trouble with the account, by what its words or its status say; the first that matches.
_ADVICE = (
    (r"usage limits|spend limit", "raise the spend limit or wait until it is reset, then run the job again"),
    (r"credit balance|insufficient|billing", "put the account's billing in order, then run the job again"),
    (r"\bmodel\b", "set [endpoint] model to one that the account may use"),
)
_ADVICE_FOR_STATUS = {
    401: "check the key that the environment holds for this endpoint",
    402: "put the account's billing in order, then run the job again",
    403: "check what the key may do, and that its account may use the model",
    404: "check [endpoint] base_url and model",
}

_OUTPUT_REFUSED = re.compile(r"output_config|output_format|schema is too complex|structured outputs?", re.IGNORECASE)
_FLAKY = re.compile(r"could not process (the )?(pdf|image)", re.IGNORECASE)


def of_status(
    status: int, headers: Mapping[str, str], error: ApiError, exchange: Exchange, now: datetime | None = None
) -> Failure:
    """The failure that an error response stands for. ``headers`` have lower-case names."""
    # A router may give an upstream error a status of its own; the error's type is nearer to the truth.
    effective = _STATUS_OF_TYPE.get(error.type, status) if status >= 500 or status in (200, 400) else status
    kind = _classified(effective, error)
    reason = f"{status} {error.type}: {error.message}" if error.type else f"{status}: {error.message or 'no message'}"
    wait_s = _retry_after_s(headers, now or datetime.now(UTC))
    # The API's own word on whether the same request may work, which its SDK follows too.
    match headers.get("x-should-retry", "").lower():
        case "true" if kind is FailureClass.OURS:
            kind = FailureClass.TRANSIENT
        case "false" if kind is FailureClass.TRANSIENT:
            wait_s = math.inf
    return Failure(
        kind,
        reason,
        exchange,
        retry_after_s=wait_s,
        output_refused=effective == 400 and bool(_OUTPUT_REFUSED.search(error.message)),
        retries_first=2 if effective == 400 and _FLAKY.search(error.message) else 0,
        slow_down=effective in (429, 529),
        rate_limited=effective == 429,
    )


def of_batched(error: ApiError, exchange: Exchange) -> Failure:
    """The failure that an error in the results of a batch stands for; it has no status of its own."""
    status = _STATUS_OF_TYPE.get(error.type, 500)
    return of_status(status, {}, error, replace(exchange, status=status))


def advice(failure: Failure) -> str:
    """What a person can do about trouble with the account, in one line."""
    for pattern, words in _ADVICE:
        if re.search(pattern, failure.reason, re.IGNORECASE):
            return words
    return _ADVICE_FOR_STATUS.get(failure.exchange.status or 0, "look at the account")


def of_trouble(reason: str, exchange: Exchange) -> Failure:
    """A request that got no usable response: a broken connection, a time-out, half a body."""
    return Failure(FailureClass.TRANSIENT, reason, exchange)


def not_this_run(reason: str) -> Failure:
    """Something that waiting will not mend today, such as a file that changed after it was hashed."""
    return Failure(FailureClass.TRANSIENT, reason, retry_after_s=math.inf, elsewhere=True)


def of_lost(reason: str, sent: bool, hold: bool) -> Failure:
    """A request of which nobody will tell how it ended, as when its host died; ``sent``: it may have been answered.

    Then what it cost is unknown, and with ``hold`` it is not sent again but by a person's word. Else it is, as after
    any passing trouble.
    """
    kind = FailureClass.LOST if sent and hold else FailureClass.TRANSIENT
    return Failure(kind, reason, Exchange(sent=sent), elsewhere=True)


def _classified(status: int, error: ApiError) -> FailureClass:
    code = error.code
    if code in _CLASS_OF_CODE:
        return _CLASS_OF_CODE[code]
    if code.startswith("linked_organization_"):
        return FailureClass.ACCOUNT
    if status in (400, 422, 429):
        for pattern, kind in _CLASS_OF_WORDING:
            if re.search(pattern, error.message, re.IGNORECASE):
                return kind
    if status in (403, 404) and not error.type:
        return FailureClass.OURS  # not the API's word: a firewall that dislikes one body, a wrong address
    if status in _CLASS_OF_STATUS:
        return _CLASS_OF_STATUS[status]
    # 2xx and 3xx are no errors of the API: something in between answered.
    return FailureClass.OURS if 400 <= status < 500 else FailureClass.TRANSIENT


def _retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """The wait that the server asks for: ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
            return float(value) * factor
    try:
        due = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):  # no date, or one that no calendar holds
        return None
    if due.tzinfo is None:  # "-0000" means UTC of unknown origin
        due = due.replace(tzinfo=UTC)
    return max(0.0, (due - now).total_seconds())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be with one chunk in one run. Times are in seconds.

    ``max_wait_s`` bounds each wait but one that the server asks for. ``give_up_after_s`` bounds the time
    since the first attempt.
    """

    attempts: int
    first_wait_s: float
    max_wait_s: float
    give_up_after_s: float = 1800.0

    def wait_s(self, attempt: int, elapsed_s: float, failure: Failure) -> float | None:
        """How long to wait before the next attempt; None to leave the chunk for this run.

        ``attempt`` counts from 1; ``elapsed_s`` is the time since the first began.
        """
        asked_s = failure.retry_after_s or 0.0
        if asked_s == math.inf:
            return None
        if asked_s > self.max_wait_s:
            return asked_s if attempt < self.attempts else None
        state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        state.start_time, state.outcome_timestamp = 0.0, elapsed_s
        # Full jitter, so that chunks that failed together do not come back together; above the server's
        # own wait when it named one, which is a floor.
        jitter = tenacity.wait_random_exponential(multiplier=self.first_wait_s, max=self.max_wait_s)
        state.upcoming_sleep = min(asked_s + jitter(state), self.max_wait_s)
        stop = tenacity.stop_after_attempt(self.attempts) | tenacity.stop_before_delay(self.give_up_after_s)
        return None if stop(state) else state.upcoming_sleep
