"""The served endpoint over real sockets: many connections, chosen faults, and what it says it has seen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from reportlab.pdfgen.canvas import Canvas

from pipeline import offline
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule, load_script, parse_rates
from pipeline.messages import ApiError, Message, Unusable, read_error, read_response
from pipeline.serve import Endpoint, running

HEADERS = {"authorization": "Bearer secret", "anthropic-version": "2023-06-01", "x-trace": "7"}


def request(text: str = "Hello", stream: bool = False, pdf_text: str | None = None) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if pdf_text is not None:
        file = io.BytesIO()
        canvas = Canvas(file, invariant=1)
        canvas.drawString(50, 700, pdf_text)
        canvas.save()
        data = base64.b64encode(file.getvalue()).decode()
        source = {"type": "base64", "media_type": "application/pdf", "data": data}
        content.insert(0, {"type": "document", "source": source})
    return {"model": "m", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": content}]}


def client(base_url: str) -> httpx.Client:
    return httpx.Client(base_url=base_url, headers=HEADERS, trust_env=False)


def always(kind: FaultKind, **details: Any) -> FaultPlan:
    return FaultPlan((FaultRule(Fault(kind, **details), every=1),))


def test_it_answers_over_http_and_keeps_the_connection() -> None:
    """Three requests on one connection are answered like three calls of the pure function."""
    endpoint = Endpoint()
    with running(endpoint) as base_url, client(base_url) as http:
        replies = [http.post("/v1/messages", json=request(pdf_text="A penalty of EUR 1 is due.")) for _ in range(3)]
        model = http.get("/v1/models/claude-x")
        ports = {reply.extensions["network_stream"].get_extra_info("client_addr") for reply in [*replies, model]}

    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert "A penalty of EUR 1 is due." in replies[0].text
    assert model.json()["id"] == "claude-x"
    assert len(ports) == 1
    assert len({reply.headers["request-id"] for reply in replies}) == 3


def test_a_stream_comes_whole() -> None:
    """A streamed answer has every event up to message_stop and no content-length."""
    with running(Endpoint()) as base_url, client(base_url) as http:
        reply = http.post("/v1/messages", json=request(stream=True))

    assert isinstance(read_response(reply.headers["content-type"], reply.content), Message)
    assert "content-length" not in reply.headers


def test_seen_tells_what_was_asked_but_not_the_key() -> None:
    """Ordinal, hash, headers without the key, body when kept, and that a whole message went out."""
    endpoint = Endpoint(keep_bodies=True)
    with running(endpoint) as base_url, client(base_url) as http:
        sent = http.post("/v1/messages", json=request()).request.content
        http.post("/v1/messages", content=b"no json", headers={"X-Api-Key": "secret"})
        http.get("/v1/models/m")

    first, second = endpoint.seen
    assert (first.ordinal, first.status, first.answered, first.in_flight) == (1, 200, True, 1)
    assert first.sha256 == hashlib.sha256(sent).hexdigest()
    assert first.body == json.loads(sent)
    assert first.headers["x-trace"] == "7"
    assert "secret" not in f"{first.headers}{second.headers}"
    assert (second.ordinal, second.status, second.answered, second.body) == (2, 400, False, None)


def raw_request() -> bytes:
    body = json.dumps(request()).encode()
    fields = {**HEADERS, "host": "x", "content-length": len(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST /v1/messages HTTP/1.1\r\n{head}\r\n".encode() + body


def address(base_url: str) -> tuple[str, int]:
    host, _, port = base_url.removeprefix("http://").partition(":")
    return host, int(port)


async def status_line(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head.partition(b"\r\n")[0]


def test_256_connections_are_held_and_none_waits_for_another() -> None:
    """One of them stops in the middle of its request; the others are answered twice, and then it is, too."""

    async def talk(host: str, port: int) -> list[bytes]:
        (stopped, *others) = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(256)))
        lines = []
        stopped[1].write(raw_request()[:-1])
        for _ in range(2):
            for _, writer in others:
                writer.write(raw_request())
            lines += [await status_line(reader) for reader, _ in others]
        stopped[1].write(raw_request()[-1:])
        lines.append(await status_line(stopped[0]))
        for _, writer in [stopped, *others]:
            writer.close()
            await writer.wait_closed()
        return lines

    endpoint = Endpoint(read_pdf=False)
    with running(endpoint) as base_url:
        lines = asyncio.run(talk(*address(base_url)))

    assert Counter(lines) == {b"HTTP/1.1 200 ": 511}
    assert len(endpoint.seen) == 511


def test_a_request_under_way_counts_as_in_flight() -> None:
    """A request begun but not complete is counted by the next one, and no longer once it is answered."""
    endpoint = Endpoint()
    with running(endpoint) as base_url, client(base_url) as http:
        with socket.create_connection(address(base_url), timeout=10) as raw:
            raw.sendall(raw_request()[:-1])
            for _ in range(3):  # gives the server time to read what was sent
                http.get("/v1/models/m")
            http.post("/v1/messages", json=request())
            raw.sendall(raw_request()[-1:])
            raw.recv(65536)
        http.post("/v1/messages", json=request())

    assert [seen.in_flight for seen in endpoint.seen] == [2, 1, 1]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused_while_it_is_sent(announced: bool) -> None:
    """The 413 reaches a client that sends on, whether the length was announced or not."""
    block = b" " * 1_000_000
    count = offline.MAX_BODY_BYTES // len(block) + 8

    def blocks() -> Iterator[bytes]:
        yield from [block] * count

    endpoint = Endpoint()
    with running(endpoint) as base_url, client(base_url) as http:
        headers = {"content-length": str(count * len(block))} if announced else {}
        reply = http.post("/v1/messages", content=blocks(), headers=headers)
        after = http.post("/v1/messages", json=request())

    assert (reply.status_code, after.status_code) == (413, 200)
    assert (endpoint.seen[0].sha256, endpoint.seen[0].status) == ("", 413)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01 hello\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"]
)
def test_malformed_http_is_a_400_and_the_end(data: bytes) -> None:
    """Bytes that are not HTTP get an answer and a closed connection; the server lives on."""
    with running(Endpoint()) as base_url:
        with socket.create_connection(address(base_url), timeout=10) as raw:
            raw.sendall(data)
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        with client(base_url) as http:
            assert http.post("/v1/messages", json=request()).status_code == 200

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_leaves_does_no_harm() -> None:
    """A connection closed in the middle of a request is forgotten and counted nowhere."""
    endpoint = Endpoint()
    with running(endpoint) as base_url:
        with socket.create_connection(address(base_url)) as raw:
            raw.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        with client(base_url) as http:
            assert http.post("/v1/messages", json=request()).status_code == 200

    assert [seen.ordinal for seen in endpoint.seen] == [1]


def test_a_bug_in_answering_is_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets an error as JSON, and the next request is answered."""
    with running(Endpoint()) as base_url, client(base_url) as http:
        with monkeypatch.context() as patched:
            patched.setattr(offline, "respond", lambda *_args, **_options: 1 / 0)
            broken = http.post("/v1/messages", json=request())
        sound = http.post("/v1/messages", json=request())

    assert (broken.status_code, read_error(broken.content).type) == (500, "api_error")
    assert sound.status_code == 200


# --- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "error_type"),
    [
        (FaultKind.RATE_LIMIT, 429, "rate_limit_error"),
        (FaultKind.SPEND_LIMIT, 429, "rate_limit_error"),
        (FaultKind.OVERLOADED, 529, "overloaded_error"),
        (FaultKind.SERVER_ERROR, 500, "api_error"),
        (FaultKind.BAD_GATEWAY, 502, ""),
        (FaultKind.ROUTER_500_HIDING_529, 500, "overloaded_error"),
        (FaultKind.REQUEST_TOO_LARGE, 413, "request_too_large"),
        (FaultKind.TOO_MANY_PAGES, 400, "invalid_request_error"),
        (FaultKind.PROMPT_TOO_LONG, 400, "invalid_request_error"),
        (FaultKind.CONTEXT_LIMIT, 400, "invalid_request_error"),
        (FaultKind.COULD_NOT_PROCESS, 400, "invalid_request_error"),
        (FaultKind.INVALID_PDF, 400, "invalid_request_error"),
        (FaultKind.PASSWORD, 400, "invalid_request_error"),
        (FaultKind.USAGE_LIMITS, 400, "invalid_request_error"),
        (FaultKind.BAD_REQUEST, 400, "invalid_request_error"),
        (FaultKind.OUTPUT_REFUSED, 400, "invalid_request_error"),
        (FaultKind.AUTHENTICATION, 401, "authentication_error"),
        (FaultKind.BILLING, 402, "billing_error"),
        (FaultKind.PERMISSION, 403, "permission_error"),
        (FaultKind.MODEL_NOT_FOUND, 404, "not_found_error"),
    ],
)
def test_a_refusal_has_the_status_and_type_of_the_api(kind: FaultKind, status: int, error_type: str) -> None:
    """Each fault that is an error response looks like the real one, and nothing counts as answered."""
    endpoint = Endpoint(always(kind))
    with running(endpoint) as base_url, client(base_url) as http:
        reply = http.post("/v1/messages", json=request())

    assert (reply.status_code, read_error(reply.content).type) == (status, error_type)
    assert "request-id" in reply.headers
    assert [(seen.fault, seen.status, seen.answered) for seen in endpoint.seen] == [(kind, status, False)]


def test_only_a_rate_limit_says_when_to_come_back() -> None:
    """rate_limit has retry-after when told and never the spend code; spend_limit the other way round."""
    for kind, header, code in ((FaultKind.RATE_LIMIT, "1.5", ""),
                               (FaultKind.SPEND_LIMIT, None, "enforced_spend_limit_reached")):  # fmt: skip
        with running(Endpoint(always(kind, retry_after_s=1.5))) as base_url, client(base_url) as http:
            reply = http.post("/v1/messages", json=request())

        assert (reply.headers.get("retry-after"), read_error(reply.content).code) == (header, code)


@pytest.mark.parametrize(
    ("kind", "stream", "error"),
    [
        (FaultKind.DROP, False, httpx.ReadError),
        (FaultKind.DROP, True, httpx.ReadError),
        (FaultKind.CUT_STREAM, False, httpx.RemoteProtocolError),
        (FaultKind.CUT_STREAM, True, httpx.RemoteProtocolError),
    ],
)
def test_a_connection_can_end_before_or_within_a_response(
    kind: FaultKind, stream: bool, error: type[Exception]
) -> None:
    """A drop gives no byte; cut_stream some, and then an end that HTTP does not allow."""
    endpoint = Endpoint(always(kind))
    with running(endpoint) as base_url, client(base_url) as http, pytest.raises(error):
        http.post("/v1/messages", json=request(stream=stream))

    assert [(seen.fault, seen.answered) for seen in endpoint.seen] == [(kind, False)]


@pytest.mark.parametrize(
    ("kind", "stream", "outcome"),
    [
        (FaultKind.CLEAN_CUT, False, Unusable),
        (FaultKind.CLEAN_CUT, True, Unusable),
        (FaultKind.HTML_200, False, Unusable),
        (FaultKind.STREAM_ERROR, True, ApiError),
    ],
)
def test_a_response_can_be_whole_for_http_but_hold_no_message(kind: FaultKind, stream: bool, outcome: type) -> None:
    """Status 200 and a proper end, but the body is cut, HTML or ends in an error event."""
    endpoint = Endpoint(always(kind))
    with running(endpoint) as base_url, client(base_url) as http:
        reply = http.post("/v1/messages", json=request(stream=stream))

    assert reply.status_code == 200
    assert isinstance(read_response(reply.headers["content-type"], reply.content), outcome)
    assert not endpoint.seen[0].answered


def test_a_stream_error_without_a_stream_is_an_overload() -> None:
    """There is no stream to have an error in."""
    with running(Endpoint(always(FaultKind.STREAM_ERROR))) as base_url, client(base_url) as http:
        assert http.post("/v1/messages", json=request()).status_code == 529


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "stop_reason", "beginning"),
    [
        (FaultKind.OFF_SCHEMA, "end_turn", '{"title"'),
        (FaultKind.NOT_JSON, "end_turn", "I have read"),
        (FaultKind.EMPTY, "end_turn", ""),
        (FaultKind.MAX_TOKENS, "max_tokens", "```json"),
        (FaultKind.REFUSAL, "refusal", ""),
        (FaultKind.SLOW, "end_turn", "```json"),
        (FaultKind.EXPIRED, "end_turn", "```json"),
    ],
)
def test_a_message_can_be_whole_but_useless(kind: FaultKind, stop_reason: str, beginning: str, stream: bool) -> None:
    """The model's faults come as well-formed messages, which would have been paid for."""
    endpoint = Endpoint(always(kind))
    with running(endpoint) as base_url, client(base_url) as http:
        reply = http.post("/v1/messages", json=request(pdf_text="Some text.", stream=stream))
    message = read_response(reply.headers["content-type"], reply.content)

    assert isinstance(message, Message)
    assert message.stop_reason == stop_reason
    assert message.text.startswith(beginning)
    assert bool(message.text) == bool(beginning)
    assert message.text.endswith("```") == (kind in (FaultKind.SLOW, FaultKind.EXPIRED))
    assert endpoint.seen[0].answered


def test_slow_waits_at_least_so_long() -> None:
    """The answer is a good one, but not before its time."""
    with running(Endpoint(always(FaultKind.SLOW, seconds=0.05))) as base_url, client(base_url) as http:
        reply = http.post("/v1/messages", json=request())

    assert reply.status_code == 200
    assert reply.elapsed.total_seconds() >= 0.05


def test_every_kind_of_fault_is_tested_here() -> None:
    """A new kind must not be forgotten above."""
    tested = Path(__file__).read_text(encoding="utf-8")

    assert [kind for kind in FaultKind if f"(FaultKind.{kind.name}, " not in tested] == []


def test_a_fault_can_belong_to_words_on_a_page() -> None:
    """Only the request whose PDF holds the words gets it, and only so many times."""
    plan = FaultPlan((FaultRule(Fault(FaultKind.COULD_NOT_PROCESS), text="the  BAD\npage", times=2),))
    with running(Endpoint(plan)) as base_url, client(base_url) as http:
        texts = ["A good page.", "The bad page.", "The bad page.", "The bad page."]
        statuses = [http.post("/v1/messages", json=request(pdf_text=text)).status_code for text in texts]

    assert statuses == [200, 400, 400, 200]


def test_requests_beyond_the_limit_are_refused_until_there_is_room_again() -> None:
    """90 a minute let two in at once; the next has to wait for two thirds of a second, told as a whole one."""
    with running(Endpoint(requests_per_minute=90)) as base_url, client(base_url) as http:
        replies = [http.post("/v1/messages", json=request()) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[2].headers["retry-after"] == "1"
    assert read_error(replies[2].content).type == "rate_limit_error"
    assert not any(name.startswith("anthropic-ratelimit") for reply in replies for name in reply.headers)


def test_the_limit_lets_in_what_it_keeps_and_then_an_even_rate() -> None:
    """3000 a minute let fifty in at once, and then fifty a second."""
    endpoint = Endpoint(requests_per_minute=3000)
    with running(endpoint) as base_url, client(base_url) as http:
        for _ in range(100):
            http.post("/v1/messages", json=request())

    took_s = endpoint.seen[-1].at_s - endpoint.seen[0].at_s
    let_in = sum(seen.answered for seen in endpoint.seen)
    assert 50 <= let_in <= 52 + took_s * 50
    assert let_in >= min(100, int(48 + took_s * 50))


def test_the_limit_is_told_as_the_api_tells_it() -> None:
    """With every response: how many a minute, how many are left, and when all will be there again."""
    endpoint = Endpoint(requests_per_minute=120, limit_headers=True)
    with running(endpoint) as base_url, client(base_url) as http:
        replies = [http.post("/v1/messages", json=request()) for _ in range(3)]

    prefix = "anthropic-ratelimit-requests-"
    assert [reply.headers[f"{prefix}limit"] for reply in replies] == ["120"] * 3
    assert [reply.headers[f"{prefix}remaining"] for reply in replies] == ["1", "0", "0"]
    ahead = datetime.fromisoformat(replies[2].headers[f"{prefix}reset"]) - datetime.now(UTC)
    assert abs(ahead.total_seconds()) < 10


def test_an_old_router_can_be_played() -> None:
    """structured_output=False refuses a request with a format, and only that."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    with running(Endpoint(structured_output=False)) as base_url, client(base_url) as http:
        by_schema = {**request(), "output_config": {"format": {"type": "json_schema", "schema": schema}}}
        refused, answered = (http.post("/v1/messages", json=body) for body in (by_schema, request()))

    assert read_error(refused.content).message == "output_config: Extra inputs are not permitted"
    assert answered.status_code == 200


# --- plans -------------------------------------------------------------------------------------------


def picks(plan: FaultPlan, count: int) -> list[FaultKind | None]:
    used = [0] * len(plan.rules)
    return [fault.kind if (fault := plan.pick(ordinal, "", used)) else None for ordinal in range(1, count + 1)]


def test_a_rate_is_drawn_from_seed_and_ordinal_alone() -> None:
    """The same seed gives the same fates, another seed others, and the share is about right."""
    rates = parse_rates(["overloaded=0.1", "drop=0.2"])

    drawn = picks(FaultPlan(rates=rates, seed=1), 2_000)

    assert drawn == picks(FaultPlan(rates=rates, seed=1), 2_000)
    assert drawn != picks(FaultPlan(rates=rates, seed=2), 2_000)
    counts = Counter(drawn)
    assert 150 < counts[FaultKind.OVERLOADED] < 250
    assert 330 < counts[FaultKind.DROP] < 470


def test_a_script_names_requests(tmp_path: Path) -> None:
    """By number, by every n-th, at most so many times; the first rule that applies wins."""
    script = tmp_path / "faults.toml"
    script.write_text(
        '[[fault]]\nkind = "rate_limit"\nrequests = [1, 4]\nretry_after = 1.5\n'
        '[[fault]]\nkind = "slow"\nevery = 2\ntimes = 2\nseconds = 2\n'
    )

    rules = load_script(script)

    assert picks(FaultPlan(rules), 8) == ["rate_limit", "slow", None, "rate_limit", None, "slow", None, None]
    assert rules[0].fault == Fault(FaultKind.RATE_LIMIT, retry_after_s=1.5)
    assert rules[1].fault == Fault(FaultKind.SLOW, seconds=2.0)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ('kind = "rate_limt"\nevery = 1', "fault 2: unknown kind 'rate_limt'; did you mean 'rate_limit'?"),
        ('kind = "drop"\nevry = 1', "fault 2: unknown key 'evry'; did you mean 'every'?"),
        ("every = 1", "fault 2: kind is missing"),
        ('kind = "drop"', "fault 2: give one of requests, every and text"),
        ('kind = "drop"\nevery = 1\ntext = "x"', "fault 2: give one of requests, every and text"),
        ('kind = "drop"\nrequests = [0]', "fault 2: requests must be a list of numbers from 1"),
        ('kind = "drop"\nrequests = 3', "fault 2: requests must be a list of numbers from 1"),
        ('kind = "drop"\nevery = 0', "fault 2: every must be a number from 1"),
        ('kind = "drop"\nevery = 1\ntimes = true', "fault 2: times must be a number from 1"),
        ('kind = "drop"\ntext = " "', "fault 2: text must be some words"),
        ('kind = "slow"\nevery = 1\nseconds = -1', "fault 2: seconds must be a number of seconds"),
        ('kind = "slow"\nevery = 1\nseconds = nan', "fault 2: seconds must be a number of seconds"),
        ('kind = 3\nevery = 1', "fault 2: unknown kind 3; known are"),
        ("kind = ", "Invalid value"),
        ('kind = "drop"\nevery = 1\n[faults]', "unknown key 'faults'"),
    ],
)  # fmt: skip
def test_a_wrong_script_is_refused_by_entry(entry: str, complaint: str, tmp_path: Path) -> None:
    """The message names the file, the entry and the fault."""
    script = tmp_path / "faults.toml"
    script.write_text(f'[[fault]]\nkind = "drop"\nevery = 3\n[[fault]]\n{entry}\n')

    with pytest.raises(ValueError) as raised:
        load_script(script)

    assert str(raised.value).startswith(f"{script}: ")
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["overload=0.1"], "did you mean 'overloaded'?"),
        (["overloaded"], "write KIND=SHARE"),
        (["overloaded=10%"], "write KIND=SHARE"),
        (["overloaded=1.1"], "between 0 and 1"),
        (["overloaded=nan"], "between 0 and 1"),
        (["drop=0.1", "drop=0.2"], "given twice"),
        (["drop=0.6", "slow=0.6"], "more than 1"),
    ],
)
def test_wrong_rates_are_refused(words: list[str], complaint: str) -> None:
    """Unknown kinds, shares that are none, and more than all requests."""
    with pytest.raises(ValueError, match=complaint.replace("?", r"\?")):
        parse_rates(words)


# --- as a program ------------------------------------------------------------------------------------

_PROGRAM = "from pipeline.serve import *; serve_forever(Endpoint(), lambda line: print(line, flush=True))"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    """Both signals end the server with exit code 0 and one last line, open connections or not."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[-1]
        with client(base_url) as http:
            assert http.post("/v1/messages", json=request()).status_code == 200
            process.send_signal(number)
            output, errors = process.communicate(timeout=20)

    assert (process.returncode, output, errors) == (0, "stopped after 1 requests\n", "")
