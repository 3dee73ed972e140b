"""Faults that the served endpoint can be told to have: which request gets which, and how each looks."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.offline import Message, Reply, error_reply, too_large_reply


class FaultKind(StrEnum):
    """What can go wrong between a client and the Messages API."""

    RATE_LIMIT = "rate_limit"
    SPEND_LIMIT = "spend_limit"  # a 429 that no waiting cures
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"  # 502 with an HTML page
    ROUTER_500_HIDING_529 = "router_500_hiding_529"  # a router's 500 that quotes the API's error
    REQUEST_TOO_LARGE = "request_too_large"
    TOO_MANY_PAGES = "too_many_pages"
    PROMPT_TOO_LONG = "prompt_too_long"
    CONTEXT_LIMIT = "context_limit"
    COULD_NOT_PROCESS = "could_not_process"
    INVALID_PDF = "invalid_pdf"
    PASSWORD = "password"  # noqa: S105 - a name
    USAGE_LIMITS = "usage_limits"  # the spend limit as a 400
    BAD_REQUEST = "bad_request"
    OUTPUT_REFUSED = "output_refused"  # an old router knows no output_config
    AUTHENTICATION = "authentication"
    BILLING = "billing"
    PERMISSION = "permission"
    MODEL_NOT_FOUND = "model_not_found"
    DROP = "drop"  # the connection is reset before any byte of a response
    CUT_STREAM = "cut_stream"  # the connection ends in the middle of the response
    STREAM_ERROR = "stream_error"  # an error event in the stream; without a stream a plain 529
    CLEAN_CUT = "clean_cut"  # the response ends as HTTP wants, but the message in it does not
    HTML_200 = "html_200"
    OFF_SCHEMA = "off_schema"  # JSON without the required fields
    NOT_JSON = "not_json"
    EMPTY = "empty"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    SLOW = "slow"  # a good answer after ``seconds``
    EXPIRED = "expired"  # in a batch; elsewhere a good answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing going wrong. ``retry_after_s`` is for rate_limit, ``seconds`` for slow."""

    kind: FaultKind
    retry_after_s: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault and when it happens: to the named requests, to every n-th, or where a PDF holds ``text``.

    Requests count from 1. ``text`` is compared without regard to case and line breaks. ``times``: at
    most so often; None is always.
    """

    fault: Fault
    requests: frozenset[int] = frozenset()
    every: int | None = None
    text: str | None = None
    times: int | None = None

    def applies(self, ordinal: int, attached_text: str) -> bool:
        """Whether request ``ordinal`` with that text in its PDFs is one of those named."""
        if self.text is not None:
            return " ".join(self.text.split()).casefold() in attached_text.casefold()
        return ordinal in self.requests or (self.every is not None and ordinal % self.every == 0)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which request gets which fault: the first rule that applies, else one drawn by the rates.

    A draw depends on ``seed`` and ordinal alone.
    """

    rules: tuple[FaultRule, ...] = ()
    rates: Mapping[FaultKind, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def reads_text(self) -> bool:
        """Whether the plan must know the text of the attached PDFs."""
        return any(rule.text is not None for rule in self.rules)

    def pick(self, ordinal: int, attached_text: str, used: MutableSequence[int]) -> Fault | None:
        """The fault of a request; ``used`` counts what each rule has done so far and is kept up to date."""
        for number, rule in enumerate(self.rules):
            spent = rule.times is not None and used[number] >= rule.times
            if not spent and rule.applies(ordinal, attached_text):
                used[number] += 1
                return rule.fault
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}:{ordinal}".encode()).digest()[:8]) / 2**64
        for kind, rate in self.rates.items():
            drawn -= rate
            if drawn < 0:
                return Fault(kind)
        return None


# --- settings ----------------------------------------------------------------------------------------

_RULE_KEYS = ("kind", "requests", "every", "text", "times", "retry_after", "seconds")
_SELECTORS = ("requests", "every", "text")


def load_script(path: Path) -> tuple[FaultRule, ...]:
    """The rules of a TOML file of ``[[fault]]`` tables.

    Raises:
        ValueError: says which entry is wrong, and how.
        OSError: the file cannot be read.
    """
    try:
        script = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # broken TOML and bytes that are not UTF-8
        raise ValueError(f"{path}: {error}") from error
    entries = script.pop("fault", [])
    if script:
        raise ValueError(f"{path}: unknown key {next(iter(script))!r}; a script holds [[fault]] tables only")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: write [[fault]] with two brackets for each fault")
    rules = []
    for number, entry in enumerate(entries, 1):
        try:
            rules.append(_rule(entry))
        except ValueError as error:
            raise ValueError(f"{path}: fault {number}: {error}") from error
    return tuple(rules)


def parse_rates(words: Iterable[str]) -> dict[FaultKind, float]:
    """Shares of requests from words such as ``overloaded=0.1``.

    Raises:
        ValueError: an unknown kind, a share outside 0..1, or more than 1 in all.
    """
    rates: dict[FaultKind, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        kind = _kind(name.strip())
        try:
            rate = float(share)
        except ValueError:
            raise ValueError(f"{word!r}: write KIND=SHARE, for example overloaded=0.1") from None
        if not 0 <= rate <= 1:
            raise ValueError(f"{word!r}: a share is between 0 and 1")
        if kind in rates:
            raise ValueError(f"{word!r}: {kind} is given twice")
        rates[kind] = rate
    if sum(rates.values()) > 1 + 1e-9:
        raise ValueError(f"the shares add up to {sum(rates.values()):g}, more than 1")
    return rates


def _rule(entry: Mapping[str, Any]) -> FaultRule:
    for key in entry:
        if key not in _RULE_KEYS:
            raise ValueError(f"unknown key {key!r}{_nearest(key, _RULE_KEYS)}")
    if "kind" not in entry:
        raise ValueError("kind is missing")
    if sum(key in entry for key in _SELECTORS) != 1:
        raise ValueError("give one of requests, every and text")
    requests, text = entry.get("requests", []), entry.get("text")
    if not isinstance(requests, list) or not all(_is_count(ordinal) for ordinal in requests):
        raise ValueError("requests must be a list of numbers from 1")
    if text is not None and not (isinstance(text, str) and text.strip()):
        raise ValueError("text must be some words")
    for key in ("every", "times"):
        if key in entry and not _is_count(entry[key]):
            raise ValueError(f"{key} must be a number from 1")
    fault = Fault(_kind(entry["kind"]), _seconds(entry, "retry_after"), _seconds(entry, "seconds") or 0.0)
    return FaultRule(fault, frozenset(requests), entry.get("every"), text, entry.get("times"))


def _kind(name: object) -> FaultKind:
    try:
        return FaultKind(str(name))
    except ValueError:
        raise ValueError(f"unknown kind {name!r}{_nearest(str(name), tuple(FaultKind))}") from None


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {str(near[0])!r}?" if near else f"; known are {', '.join(names)}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _seconds(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ValueError(f"{key} must be a number of seconds")
    return float(value)


# --- how each fault looks ----------------------------------------------------------------------------

_BASE64 = "messages.0.content.0.pdf.source.base64.data"
_BAD, _LIMITED, _OVERLOADED = "invalid_request_error", "rate_limit_error", "overloaded_error"
_ERRORS: dict[FaultKind, tuple[int, str, str]] = {
    FaultKind.RATE_LIMIT: (429, _LIMITED, "This request would exceed the rate limit of your organization."),
    FaultKind.SPEND_LIMIT: (
        429,
        _LIMITED,
        "You have reached your API usage limits: the spend limit of your organization is used up.",
    ),
    FaultKind.OVERLOADED: (529, _OVERLOADED, "Overloaded"),
    FaultKind.SERVER_ERROR: (500, "api_error", "Internal server error"),
    FaultKind.TOO_MANY_PAGES: (400, _BAD, f"{_BASE64}: A maximum of 100 PDF pages may be provided."),
    FaultKind.PROMPT_TOO_LONG: (400, _BAD, "prompt is too long: 1208310 tokens > 1000000 maximum"),
    FaultKind.CONTEXT_LIMIT: (
        400,
        _BAD,
        (
            "input length and `max_tokens` exceed context limit: 988240 + 21333 > 1000000, "
            "decrease input length or `max_tokens` and try again"
        ),
    ),
    FaultKind.COULD_NOT_PROCESS: (400, _BAD, "Could not process PDF"),
    FaultKind.INVALID_PDF: (400, _BAD, f"{_BASE64}: The PDF specified was not valid."),
    FaultKind.PASSWORD: (400, _BAD, f"{_BASE64}: The PDF specified is password protected."),
    FaultKind.USAGE_LIMITS: (400, _BAD, "You have reached your specified API usage limits."),
    FaultKind.BAD_REQUEST: (400, _BAD, "metadata.user_id: Input should be a valid string"),
    FaultKind.OUTPUT_REFUSED: (400, _BAD, "output_config: Extra inputs are not permitted"),
    FaultKind.AUTHENTICATION: (401, "authentication_error", "invalid x-api-key"),
    FaultKind.BILLING: (402, "billing_error", "The payment of your organization is overdue."),
    FaultKind.PERMISSION: (403, "permission_error", "Your API key may not use this resource."),
    FaultKind.MODEL_NOT_FOUND: (404, "not_found_error", "model: this model does not exist"),
}
_CODES = {FaultKind.SPEND_LIMIT: "enforced_spend_limit_reached"}
_HTML = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n"


def _off_schema(message: Message) -> None:
    message["content"] = [{"type": "text", "text": '{"title": "an object, but not the one asked for"}'}]


def _not_json(message: Message) -> None:
    message["content"] = [{"type": "text", "text": "I have read the document and it looks fine to me."}]


def _empty(message: Message) -> None:
    message["content"] = message["content"][:-1]  # thinking alone


def _max_tokens(message: Message) -> None:
    message["stop_reason"] = "max_tokens"
    text = message["content"][-1]["text"]
    message["content"][-1]["text"] = text[: len(text) // 2]


def _refusal(message: Message) -> None:
    details = {"type": "refusal", "category": None, "explanation": "The endpoint was told to refuse."}
    message.update(stop_reason="refusal", content=[], stop_details=details)


_CHANGES: dict[FaultKind, Callable[[Message], None]] = {
    FaultKind.OFF_SCHEMA: _off_schema,
    FaultKind.NOT_JSON: _not_json,
    FaultKind.EMPTY: _empty,
    FaultKind.MAX_TOKENS: _max_tokens,
    FaultKind.REFUSAL: _refusal,
}

Respond = Callable[[Callable[[Message], None] | None], Reply]


def faulty_reply(fault: Fault, respond: Respond, request_id: str) -> Reply:
    """The response to a request with ``fault``; ``respond`` gives the good one, its message changed on the way.

    drop and cut_stream are the connection's affair, slow is the clock's and expired a batch's: here they get the good
    response.
    """
    match fault.kind:
        case FaultKind.REQUEST_TOO_LARGE:
            return too_large_reply(request_id)
        case FaultKind.BAD_GATEWAY | FaultKind.HTML_200:
            status = 502 if fault.kind is FaultKind.BAD_GATEWAY else 200
            return Reply(status, {"content-type": "text/html", "request-id": request_id}, _HTML)
        case FaultKind.ROUTER_500_HIDING_529:
            return _router_error(request_id)
        case FaultKind.CLEAN_CUT | FaultKind.STREAM_ERROR:
            return _spoiled(fault.kind, respond(None), request_id)
        case kind if kind in _ERRORS:
            return _error(fault, request_id)
        case kind:
            return respond(_CHANGES.get(kind))


def _error(fault: Fault, request_id: str) -> Reply:
    status, kind, message = _ERRORS[fault.kind]
    reply = error_reply(status, kind, message, request_id, _CODES.get(fault.kind))
    if fault.retry_after_s is None or fault.kind is FaultKind.SPEND_LIMIT:
        return reply
    return Reply(status, {**reply.headers, "retry-after": f"{fault.retry_after_s:g}"}, reply.body)


def _router_error(request_id: str) -> Reply:
    inner = error_reply(529, _OVERLOADED, "Overloaded", request_id).body.decode()
    error = {"message": f"AnthropicException - {inner}", "type": None, "param": None, "code": "500"}
    headers = {"content-type": "application/json", "request-id": request_id}
    return Reply(500, headers, json.dumps({"error": error}).encode())


def _spoiled(kind: FaultKind, good: Reply, request_id: str) -> Reply:
    """The good response without its end; a stream may get an error event in its place."""
    if good.status != 200:
        return good
    if "event-stream" not in good.headers["content-type"]:
        if kind is FaultKind.STREAM_ERROR:
            return _error(Fault(FaultKind.OVERLOADED), request_id)
        return Reply(200, good.headers, good.body[: len(good.body) // 2])
    events = good.body.split(b"\n\n")[:-1]
    body = b"".join(event + b"\n\n" for event in events[: len(events) // 2])
    if kind is FaultKind.STREAM_ERROR:
        error = {"type": "error", "error": {"type": _OVERLOADED, "message": "Overloaded"}}
        body += b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"
    return Reply(200, good.headers, body)
