"""Which class each refusal of the API belongs to, and how long to wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import Exchange, Failure, FailureClass
from pipeline.failures import RetryPolicy, advice, not_this_run, of_lost, of_status, of_trouble
from pipeline.messages import ApiError

unhurried = settings(deadline=None)

TRANSIENT, TOO_LARGE, DOCUMENT = FailureClass.TRANSIENT, FailureClass.TOO_LARGE, FailureClass.DOCUMENT
ACCOUNT, OURS = FailureClass.ACCOUNT, FailureClass.OURS
EXCHANGE = Exchange(400, "req_1")
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def failure(
    status: int, kind: str = "", message: str = "", code: str = "", headers: dict[str, str] | None = None
) -> Failure:
    return of_status(status, headers or {}, ApiError(kind, message, code), EXCHANGE, NOW)


INVALID = "invalid_request_error"
PDF = "messages.0.content.0.pdf.source.base64.data: "


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, INVALID, OURS),
        (401, "authentication_error", ACCOUNT),
        (402, "billing_error", ACCOUNT),
        (403, "permission_error", ACCOUNT),
        (404, "not_found_error", ACCOUNT),
        (405, "", OURS),
        (408, "", TRANSIENT),
        (409, "conflict_error", TRANSIENT),
        (413, "request_too_large", TOO_LARGE),
        (413, "", TOO_LARGE),
        (422, "", OURS),
        (425, "", TRANSIENT),
        (429, "rate_limit_error", TRANSIENT),
        (429, "", TRANSIENT),
        (500, "api_error", TRANSIENT),
        (502, "", TRANSIENT),
        (503, "", TRANSIENT),
        (504, "timeout_error", TRANSIENT),
        (520, "", TRANSIENT),
        (529, "overloaded_error", TRANSIENT),
        (599, "a_type_of_tomorrow", TRANSIENT),
        (302, "", TRANSIENT),
        (200, "", TRANSIENT),
    ],
)
def test_the_class_of_each_status(status: int, kind: str, expected: FailureClass) -> None:
    """Statuses alone, as the API's documentation and routers have them."""
    assert failure(status, kind).kind is expected


@pytest.mark.parametrize(
    ("status", "kind", "message", "code", "expected"),
    [
        (400, INVALID, "You have reached your specified API usage limits. You will regain access soon.", "", ACCOUNT),
        (400, INVALID, "You have reached your specified workspace API usage limits.", "", ACCOUNT),
        (400, INVALID, "Your credit balance is too low to access the API.", "", ACCOUNT),
        (400, INVALID, "invalid model: claude-x", "", ACCOUNT),
        (400, "", "The model `claude-x` does not exist", "", ACCOUNT),
        (422, "", "Model claude-x not found", "", ACCOUNT),
        (429, "rate_limit_error", "You have reached your API usage limits: ...", "", ACCOUNT),
        (429, "rate_limit_error", "limit", "enforced_spend_limit_reached", ACCOUNT),
        (429, "rate_limit_error", "limit", "contract_spend_limit_reached", ACCOUNT),
        (429, "", "Insufficient balance", "", ACCOUNT),
        (429, "rate_limit_error", "too fast", "ramp_limit_exceeded", TRANSIENT),
        (429, "rate_limit_error", "over the rate limit of 40,000 input tokens; reduce the prompt", "", TRANSIENT),
        (402, "billing_error", "x", "linked_organization_suspended", ACCOUNT),
        (400, INVALID, "x", "linked_organization_suspended", ACCOUNT),
        (503, "api_error", "x", "cmek_unavailable", TRANSIENT),
        (413, "request_too_large", "x", "request_body_too_large_after_decoding", TOO_LARGE),
        (400, INVALID, "x", "request_body_too_large_after_decoding", TOO_LARGE),
        (400, INVALID, PDF + "A maximum of 100 PDF pages may be provided.", "", TOO_LARGE),
        (400, INVALID, "A maximum of 600 PDF pages may be provided.", "", TOO_LARGE),
        (400, INVALID, "prompt is too long: 208310 tokens > 200000 maximum", "", TOO_LARGE),
        (400, INVALID, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000", "", TOO_LARGE),
        (400, "", "This model's maximum context length is 200000 tokens", "", TOO_LARGE),
        (400, INVALID, "Request exceeds the maximum allowed size", "", TOO_LARGE),
        (400, INVALID, PDF + "The PDF specified is password protected.", "", DOCUMENT),
        (400, INVALID, PDF + "The PDF specified was not valid.", "", DOCUMENT),
        (400, INVALID, "Could not process PDF", "", DOCUMENT),
        (400, INVALID, "Could not process image", "", DOCUMENT),
        (400, INVALID, "This model does not support assistant message prefill.", "", OURS),
        (400, INVALID, "Schema is too complex for compilation.", "", OURS),
        (400, INVALID, "max_tokens: must be positive", "", OURS),
    ],
)  # fmt: skip
def test_codes_and_wordings_decide_where_a_status_has_several_meanings(
    status: int, kind: str, message: str, code: str, expected: FailureClass
) -> None:
    """The stable code first, then the words, in any case."""
    assert failure(status, kind, message, code).kind is expected
    assert failure(status, kind, message.upper(), code).kind is expected


@pytest.mark.parametrize("headers", [{}, {"retry-after": "7"}])
def test_a_429_is_transient_with_and_without_retry_after(headers: dict[str, str]) -> None:
    """A missing header alone is no spend limit: routers leave it out."""
    assert failure(429, "rate_limit_error", "slow down", headers=headers).kind is TRANSIENT


@pytest.mark.parametrize("status", [200, 500, 502, 529])
@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("overloaded_error", "Overloaded", TRANSIENT),
        ("rate_limit_error", "You have reached your API usage limits", ACCOUNT),
        ("authentication_error", "invalid x-api-key", ACCOUNT),
        ("request_too_large", "", TOO_LARGE),
        ("invalid_request_error", "prompt is too long: 9 > 8", TOO_LARGE),
        ("invalid_request_error", "anything else", OURS),
        ("api_error", "prompt is too long", TRANSIENT),
    ],
)
def test_the_type_counts_where_a_stream_or_a_router_gives_a_status_of_its_own(
    status: int, kind: str, message: str, expected: FailureClass
) -> None:
    """An upstream error behind 200 or 5xx is told by its type."""
    assert failure(status, kind, message).kind is expected


def test_words_of_a_document_do_not_decide_over_a_clear_status() -> None:
    """A gateway's 503 that happens to speak of credit stays a gateway's 503."""
    assert failure(503, "", "credit balance is too low").kind is TRANSIENT


@pytest.mark.parametrize(
    ("status", "message", "refused"),
    [
        (400, "output_config.format: Extra inputs are not permitted", True),
        (400, "output_config: unknown field", True),
        (400, "output_format is not supported", True),
        (400, "Schema is too complex for compilation.", True),
        (400, "This model does not support structured outputs", True),
        (400, "max_tokens: must be positive", False),
        (500, "output_config", False),
        (429, "output_config", False),
    ],
)
def test_a_refusal_of_the_schema_is_marked(status: int, message: str, refused: bool) -> None:
    """Only a 400 says that the request's form was not taken."""
    assert failure(status, "", message).output_refused is refused


def test_a_flaky_refusal_of_a_pdf_is_tried_twice_more() -> None:
    """``Could not process PDF`` often passes; a PDF called invalid does not."""
    assert failure(400, INVALID, "Could not process PDF").retries_first == 2
    assert failure(400, INVALID, PDF + "The PDF specified was not valid.").retries_first == 0
    assert failure(429, "", "Could not process PDF").retries_first == 0


@pytest.mark.parametrize(
    ("status", "slow_down", "rate_limited"),
    [
        (429, True, True),
        (529, True, False),
        (500, False, False),
        (503, False, False),
        (400, False, False),
    ],
)
def test_who_gets_too_much_says_so(status: int, slow_down: bool, rate_limited: bool) -> None:
    """Rate limits and overload slow all workers down, other trouble only its own chunk; a limit can be learned."""
    got = failure(status)
    assert (got.slow_down, got.rate_limited) == (slow_down, rate_limited)


def test_a_reason_names_status_type_and_message() -> None:
    """What a person needs to look it up."""
    assert failure(400, INVALID, "max_tokens: bad").reason == "400 invalid_request_error: max_tokens: bad"
    assert failure(502, "", "Bad gateway").reason == "502: Bad gateway"
    assert failure(502).reason == "502: no message"
    assert failure(502).exchange is EXCHANGE


def test_trouble_on_the_way_is_transient() -> None:
    """A broken connection says nothing about the chunk."""
    assert of_trouble("connection reset", EXCHANGE) == Failure(TRANSIENT, "connection reset", EXCHANGE)


def test_what_waiting_cannot_mend_is_left_to_the_next_run() -> None:
    """It was not sent, and no patience waits for it."""
    trouble = not_this_run("the file changed")

    assert (trouble.kind, trouble.exchange) == (TRANSIENT, Exchange())
    assert RetryPolicy(6, 1.0, 1e9).wait_s(1, 0.0, trouble) is None


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("sent", [False, True])
def test_a_request_that_was_lost_is_held_only_where_it_may_have_been_billed(sent: bool, hold: bool) -> None:
    """And where the job says so; what did not leave cost nothing."""
    lost = of_lost("the host died", sent, hold)

    assert lost.kind is (FailureClass.LOST if sent and hold else TRANSIENT)
    assert lost.exchange.may_be_billed is sent


# --- Retry-After


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 13:00:30 +0100"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Mon, 32 Foo 2026 99:99:99 GMT"}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], wait_s: float | None) -> None:
    """Seconds, fractions, milliseconds and dates; what is none of them is not there."""
    assert failure(429, headers=headers).retry_after_s == wait_s


@pytest.mark.parametrize("value", [f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", f"Sun, 22 Nov 2026 12:00:00 +{'9' * 15}"])
def test_a_monstrous_date_in_retry_after_is_not_there(value: str) -> None:
    """A header that no calendar knows does not end the run."""
    assert failure(429, headers={"retry-after": value}).retry_after_s is None


WORDS = st.sampled_from(
    ["Mon,", "22", "Nov", "2026", "12:00:00", "12:00", "GMT", "-0000", "+2359", "-", ":", ",", "99"]
)


@unhurried
@given(st.text(max_size=12) | st.lists(WORDS, max_size=7).map(" ".join))
def test_no_retry_after_breaks_a_failure(value: str) -> None:
    """Whatever the header holds, the wait is a number from 0 up, or none."""
    wait_s = failure(429, headers={"retry-after": value, "retry-after-ms": value}).retry_after_s

    assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)


# --- patience


def trouble(retry_after_s: float | None = None) -> Failure:
    return Failure(TRANSIENT, "x", EXCHANGE, retry_after_s=retry_after_s)


@unhurried
@given(st.integers(1, 99), st.floats(0, 100), st.floats(0, 100))
def test_the_jitter_stays_below_a_limit_that_doubles(attempt: int, first_wait_s: float, max_wait_s: float) -> None:
    """Between 0 and first_wait * 2^(attempt - 1), and never above max_wait."""
    wait_s = RetryPolicy(100, first_wait_s, max_wait_s, 1e9).wait_s(attempt, 0.0, trouble())

    assert wait_s is not None
    assert 0 <= wait_s <= min(first_wait_s * 2 ** (attempt - 1), max_wait_s)


def test_waits_differ() -> None:
    """Chunks that failed together do not come back together."""
    policy = RetryPolicy(6, 10.0, 60.0)

    assert len({policy.wait_s(3, 0.0, trouble()) for _ in range(20)}) > 10


@unhurried
@given(st.integers(1, 5), st.floats(0, 60))
def test_the_servers_wait_is_a_floor(attempt: int, asked_s: float) -> None:
    """Nobody comes back earlier than asked."""
    wait_s = RetryPolicy(6, 1.0, 60.0).wait_s(attempt, 0.0, trouble(asked_s))

    assert wait_s is not None
    assert wait_s >= asked_s


def test_max_wait_bounds_each_wait() -> None:
    """Also one that the server asked for."""
    policy = RetryPolicy(100, 60.0, 60.0)

    assert max(policy.wait_s(9, 0.0, trouble(60.0)) or 0.0 for _ in range(50)) <= 60.0


@pytest.mark.parametrize(("asked_s", "wait_s"), [(60.1, 60.1), (7200.0, 7200.0), (math.inf, None)])
def test_who_asks_for_more_than_max_wait_gets_just_that(asked_s: float, wait_s: float | None) -> None:
    """The chunk is put off for as long as that, unless no wait would help."""
    assert RetryPolicy(6, 1.0, 60.0).wait_s(1, 0.0, trouble(asked_s)) == wait_s


@pytest.mark.parametrize(
    ("status", "kind", "message", "words"),
    [
        (401, "authentication_error", "invalid x-api-key", "check the key"),
        (402, "billing_error", "no card", "billing"),
        (403, "permission_error", "not for you", "what the key may do"),
        (404, "not_found_error", "model: claude-9", "set [endpoint] model"),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", "raise the spend limit"),
        (400, "invalid_request_error", "Your credit balance is too low", "billing"),
        (429, "rate_limit_error", "You have reached your API usage limits: wait", "raise the spend limit"),
    ],
)
def test_trouble_with_the_account_comes_with_what_to_do(status: int, kind: str, message: str, words: str) -> None:
    """One line of advice for each kind of it."""
    failure = of_status(status, {}, ApiError(kind, message), Exchange(status))

    assert failure.kind is FailureClass.ACCOUNT
    assert words in advice(failure)
    assert "\n" not in advice(failure)


@pytest.mark.parametrize(("attempt", "waits"), [(1, True), (5, True), (6, False), (7, False)])
def test_the_number_of_attempts_is_limited(attempt: int, waits: bool) -> None:
    """After the sixth of six there is no seventh."""
    assert (RetryPolicy(6, 1.0, 60.0).wait_s(attempt, 0.0, trouble()) is not None) is waits


@pytest.mark.parametrize(
    ("elapsed_s", "asked_s", "waits"),
    [(0.0, 50.0, True), (1700.0, 50.0, True), (1799.0, 50.0, False), (1800.0, 0.0, False)],
)
def test_the_time_since_the_first_attempt_is_limited(elapsed_s: float, asked_s: float, waits: bool) -> None:
    """A wait that would end beyond the limit is not begun."""
    assert (RetryPolicy(100, 0.0, 60.0).wait_s(1, elapsed_s, trouble(asked_s)) is not None) is waits


def test_one_attempt_means_no_retry() -> None:
    """``attempts = 1`` tries once."""
    assert RetryPolicy(1, 1.0, 60.0).wait_s(1, 0.0, trouble()) is None


def test_dates_are_told_against_the_present_without_a_clock() -> None:
    """A date in an hour is about an hour away by the real clock too."""
    due = datetime.now(UTC) + timedelta(hours=1)
    headers = {"retry-after": due.strftime("%a, %d %b %Y %H:%M:%S GMT")}

    wait_s = of_status(503, headers, ApiError("", ""), EXCHANGE).retry_after_s

    assert wait_s == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("status", [403, 404])
def test_a_page_of_something_in_between_is_not_the_accounts_trouble(status: int) -> None:
    """A firewall that dislikes one body must not stop every night; the API's own refusal does."""
    page = of_status(status, {}, ApiError("", "Forbidden by the firewall"), Exchange(status))
    own = of_status(status, {}, ApiError("permission_error", "no"), Exchange(status))
    assert (page.kind, own.kind) == (FailureClass.OURS, FailureClass.ACCOUNT)


@pytest.mark.parametrize(
    ("status", "word", "kind", "waits"),
    [
        (418, "true", FailureClass.TRANSIENT, True),
        (418, "false", FailureClass.OURS, True),
        (503, "false", FailureClass.TRANSIENT, False),
        (503, "true", FailureClass.TRANSIENT, True),
        (401, "true", FailureClass.ACCOUNT, True),
    ],
)
def test_the_apis_own_word_on_retrying_counts(status: int, word: str, kind: FailureClass, waits: bool) -> None:
    """``x-should-retry`` makes a strange refusal worth another try, and ends the tries for this run."""
    failure = of_status(status, {"x-should-retry": word}, ApiError("", "hm"), Exchange(status))

    assert failure.kind is kind
    assert (failure.retry_after_s != math.inf) is waits
