"""The Messages API on the wire, both ways: requests as bytes, response bodies as values. No HTTP here.

Source of the shapes: the API's documentation for version 2023-06-01 (PDF support, structured outputs,
streaming, errors). The same request is valid under 2026-10-21: no sampling parameters, no prefill.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline import __version__
from pipeline.domain import MediaType, PageRange, Picture, Severity, Usage
from pipeline.fields import ResultField
from pipeline.job import Endpoint, PromptSettings
from pipeline.text import shortened

MESSAGES_PATH = "/v1/messages"

Schema = Mapping[str, Any]


def _record(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_MOST_TOKENS = 10**9  # of one request
_MANY_PAGES = 9_999_999

_TEXT: Schema = {"type": "string"}
_PAGE: Schema = {"type": "integer", "description": "page of the attached PDF; its first page is 1"}

RESULT_SCHEMA: Schema = _record(
    summary=_TEXT,
    document_type=_TEXT,
    parties={"type": "array", "items": _TEXT},
    key_dates={"type": "array", "items": _record(date=_TEXT, meaning=_TEXT, page=_PAGE)},
    risks={
        "type": "array",
        "items": _record(
            title=_TEXT,
            category=_TEXT,
            severity={"type": "string", "enum": [severity.value for severity in reversed(Severity)]},
            page=_PAGE,
            quote={"type": "string", "description": "copied word for word from that page"},
            explanation=_TEXT,
            recommendation=_TEXT,
        ),
    },
)
"""What is asked of each chunk."""

_FIELDS_DESCRIPTION = 'what the document itself says; "", [] or null where it does not'

SYNTHESIS_SCHEMA: Schema = _record(summary=_TEXT)
"""What is asked when the chunk summaries of a document become one."""

_SYNTHESIS_INSTRUCTIONS = (
    "These are summaries of consecutive parts of one document. Combine them into one coherent summary of the "
    "whole document, in at most ten sentences. Add nothing that they do not say."
)


def result_schema(fields: Sequence[ResultField] = ()) -> Schema:
    """What is asked of each chunk by a job with ``fields`` of its own: ``RESULT_SCHEMA`` and the object ``fields``."""
    if not fields:
        return RESULT_SCHEMA
    own = {**_record(**{field.name: field.schema for field in fields}), "description": _FIELDS_DESCRIPTION}
    return _record(**RESULT_SCHEMA["properties"], fields=own)


EARLIER_RESULT_SCHEMA: Schema = {
    **RESULT_SCHEMA,
    "properties": {**RESULT_SCHEMA["properties"], "fields": {"not": {}}},
}
"""What an answer to a request of other settings must fit: nobody knows any more which fields they asked for."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request body around a payload: the base64 of a file stands between ``head`` and ``tail``.

    A body without a document is all ``head``. Where the file holds several pictures, ``between`` has the size
    of each but the last and what stands after it; each is in base64 by itself.
    """

    head: bytes
    tail: bytes = b""
    between: tuple[tuple[int, bytes], ...] = ()

    def gaps(self, payload_bytes: int) -> tuple[tuple[int, bytes], ...]:
        """How many bytes of the payload go into each gap, and what stands after it."""
        last_bytes = payload_bytes - sum(size for size, _ in self.between)
        return *self.between, (last_bytes, self.tail)

    def size_bytes(self, payload_bytes: int) -> int:
        """The size of the whole body with a payload of so many bytes before base64."""
        return len(self.head) + sum((size + 2) // 3 * 4 + len(after) for size, after in self.gaps(payload_bytes))

    def most_payload_bytes(self, size_bytes: int) -> int:
        """The largest payload before base64 with which the whole body has at most ``size_bytes``; may be below 0."""
        return (size_bytes - self.size_bytes(0)) // 4 * 3


def request_fingerprint(endpoint: Endpoint, prompt: PromptSettings, fields: Sequence[ResultField] = ()) -> str:
    """A hash of all that changes an answer besides the pages themselves.

    How JSON is asked for (by schema or in words) is left out: the answer asked for is the same. So is the order
    of the ``fields``; without any the hash is that of before there were fields.
    """
    own = [{field.name: field.schema for field in fields}] if fields else []
    return _hash("request-1", endpoint.model, endpoint.max_tokens, endpoint.effort, prompt.system, prompt.instructions,
                 RESULT_SCHEMA, *own)  # fmt: skip


def chunk_id(content: str, pages: PageRange, fingerprint: str) -> str:
    """The key of a chunk's paid answer."""
    return _hash("chunk-1", content, pages.first, pages.last, fingerprint)


def synthesis_id(content: str, chunk_ids: tuple[str, ...]) -> str:
    """The key of the answer that joins the summaries of these chunks; their ids hold the request's fingerprint."""
    return _hash("synthesis-1", content, _SYNTHESIS_INSTRUCTIONS, chunk_ids)


_CANONICAL = json.JSONEncoder(sort_keys=True)


def _hash(*parts: object) -> str:
    return hashlib.sha256(_CANONICAL.encode(parts).encode()).hexdigest()


def chunk_body(
    endpoint: Endpoint, prompt: PromptSettings, pages: PageRange, page_count: int, by_schema: bool,
    pictures: Sequence[Picture] = (), fields: Sequence[ResultField] = (),
) -> Body:  # fmt: skip
    """The request for one chunk of a document of ``page_count`` pages: a PDF, or a picture of each page.

    The blocks with the pages stand before the text, as the API's documentation advises. They have no title: what
    does not follow from the content must not change the answer.
    """
    marker = uuid.uuid4().hex  # stands for the payload, which is never in memory as a whole
    blocks = _picture_blocks(pictures, marker) if pictures else [_block("document", MediaType.PDF, marker)]
    text = prompt.instructions
    if len(pages) < page_count:
        held = "pictures show pages" if len(pictures) > 1 else "picture shows page" if pictures else "PDF holds pages"
        text += f"\n\nThe attached {held} {pages} of a document of {page_count} pages."
    if len(pictures) > 1:
        text += "\n\nPage numbers count the attached pictures, one for each page; the first is page 1."
    elif pictures:
        text += "\n\nPage numbers count within what is attached: the page that the picture shows is page 1."
    else:
        text += "\n\nPage numbers count within the attached PDF; its first page is 1."
    body = _request(endpoint, prompt.system, blocks, text, result_schema(fields), by_schema)
    head, *between, tail = body.split(marker.encode())
    sizes = [picture.size_bytes for picture in pictures]
    return Body(head, tail, tuple(zip(sizes, between, strict=False)))


def _block(kind: str, media_type: MediaType, data: str) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "base64", "media_type": media_type.value, "data": data}}


def _picture_blocks(pictures: Sequence[Picture], data: str) -> list[dict[str, Any]]:
    """An image block for each picture; of several each is named before it, as the API's documentation advises."""
    images = [_block("image", picture.media_type, data) for picture in pictures]
    if len(images) == 1:
        return images
    names = [{"type": "text", "text": f"Page {page}:"} for page in range(1, len(images) + 1)]
    return [block for pair in zip(names, images, strict=True) for block in pair]


def largest_body(
    endpoint: Endpoint, prompt: PromptSettings, pictures: int = 1, fields: Sequence[ResultField] = ()
) -> Body:
    """The longest body that any chunk can have around a PDF or so many pictures."""
    endpoint = replace(endpoint, max_tokens=endpoint.most_tokens)
    pages, page_count = PageRange(_MANY_PAGES - 1, _MANY_PAGES), _MANY_PAGES + 1
    depicted = [()] + [(Picture(media_type, 0),) * pictures for media_type in MediaType]
    bodies = [
        chunk_body(endpoint, prompt, pages, page_count, by_schema, around, fields)
        for by_schema, around in itertools.product((True, False), depicted)
    ]
    return max(bodies, key=lambda body: body.size_bytes(0))


def synthesis_body(endpoint: Endpoint, prompt: PromptSettings, summaries: tuple[tuple[PageRange, str], ...],
                   by_schema: bool) -> Body:  # fmt: skip
    """The text-only request that turns chunk summaries into one."""
    # A summary is model output over a hostile document: it must not be able to close its own element.
    parts = "\n".join(f'<part pages="{pages}">{text.replace("<", "‹")}</part>' for pages, text in summaries)
    text = f"{_SYNTHESIS_INSTRUCTIONS}\n\n{parts}"
    return Body(_request(endpoint, prompt.system, [], text, SYNTHESIS_SCHEMA, by_schema))


def greeting_body(endpoint: Endpoint) -> Body:
    """A small request that shows whether the key and the model work."""
    content = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    # Thinking counts toward max_tokens on newer models, so a handful would come back empty.
    return Body(_json({"model": endpoint.model, "max_tokens": min(endpoint.max_tokens, 1024), "messages": content}))


def _request(endpoint: Endpoint, system: str, blocks: list[Any], text: str, schema: Schema, by_schema: bool) -> bytes:
    output_config: dict[str, Any] = {}
    if endpoint.effort is not None:
        output_config["effort"] = endpoint.effort
    if by_schema:
        output_config["format"] = {"type": "json_schema", "schema": schema}
    else:
        text += "\n\nAnswer with one JSON object and nothing else. It must fit this JSON schema:\n" + json.dumps(schema)
    request: dict[str, Any] = {"model": endpoint.model, "max_tokens": endpoint.max_tokens, "system": system}
    if output_config:
        request["output_config"] = output_config
    if endpoint.stream:
        request["stream"] = True
    request["messages"] = [{"role": "user", "content": [*blocks, {"type": "text", "text": text}]}]
    return _json(request)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def headers(endpoint: Endpoint, key: str | None) -> dict[str, str]:
    """The headers of every request to this endpoint, the key among them."""
    result = {
        "content-type": "application/json",
        "user-agent": f"docpipe/{__version__}",
        "anthropic-version": endpoint.anthropic_version,
        **endpoint.headers,
    }
    if key is not None:
        result.update({"authorization": f"Bearer {key}"} if endpoint.auth == "bearer" else {"x-api-key": key})
    return result


# --- responses ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. ``text`` joins its text blocks; ``refusal`` explains a refusal where the API does."""

    text: str
    stop_reason: str
    model: str | None
    usage: Usage | None
    refusal: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error body, read leniently: routers put their own shapes around the API's.

    ``type`` and ``code`` are "" when the body has none. ``usage`` is what a stream had reported before
    the error ended it.
    """

    type: str
    message: str
    code: str = ""
    request_id: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A body that is neither a whole message nor an error; ``usage`` is what it may have cost."""

    reason: str
    usage: Usage | None = None


def read_response(content_type: str, body: bytes) -> Message | ApiError | Unusable:
    """The body of a response with status 200, by its content type: some routers answer a stream with JSON."""
    if "event-stream" in content_type:
        return _Stream().read(body)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        what = "an HTML page" if b"<html" in body[:2000].lower() else "no JSON"
        return Unusable(f"the endpoint answered with {what}: {shortened(_plain(body), 80)}")
    if isinstance(value, dict) and (value.get("type") == "error" or value.get("error")):
        return read_error(body)
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return Unusable("the endpoint answered with JSON that is not a message")
    usage = _usage(value.get("usage"))
    if not isinstance(value.get("stop_reason"), str):
        return Unusable("the message has no stop reason", usage)
    text = "".join(
        block["text"]
        for block in value["content"]
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
    )
    refusal, identity = _refusal(value.get("stop_details")), _text(value.get("id"))
    return Message(text, value["stop_reason"], _text(value.get("model")), usage, refusal, identity)


def read_error(body: bytes) -> ApiError:
    """An error body of the API or of a router before it; never fails.

    A router may quote the API's own JSON inside its message: then the quoted error is the one that counts.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = _plain(body)
    error = _quoted(_error_of(value) if isinstance(value, dict) else ApiError("", str(value)))
    return replace(error, message=shortened(error.message, 300))


def _error_of(value: Mapping[str, Any]) -> ApiError:
    error = value.get("error", value)
    if not isinstance(error, dict):
        error = {"message": error}
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else error.get("code")
    message = error.get("message") or error.get("detail") or value.get("message") or value.get("detail") or ""
    return ApiError(
        _text(error.get("type")) or "",
        message if isinstance(message, str) else json.dumps(message),
        _text(code) or "",
        _text(value.get("request_id")),
    )


def _quoted(error: ApiError) -> ApiError:
    text = error.message[:20_000]  # bounds on hostile text
    for match in itertools.islice(re.finditer(r"\{", text), 20):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("error"), dict):
            inner = _error_of(value)
            return inner if inner.type else error
    return error


def _plain(body: bytes) -> str:
    """The readable words of a body, HTML tags and what stands in scripts and styles left out."""
    text = body[:20_000].decode("utf-8", "replace")
    return re.sub(r"<(script|style)\b.*?</\1>|<[^<>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)


def _text(value: object) -> str | None:
    """A name or an id, in bounds and in characters that UTF-8 can carry."""
    return shortened(value, 200) if isinstance(value, str) and value else None


def _refusal(details: object) -> str | None:
    if not isinstance(details, dict):
        return None
    words = [details[key] for key in ("category", "explanation") if isinstance(details.get(key), str)]
    return ": ".join(words) or None


_USAGE_KEYS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict) or not any(isinstance(value.get(key), int) for key in _USAGE_KEYS):
        return None
    counts = [_count(value.get(key)) for key in _USAGE_KEYS]
    return Usage(counts[0], counts[1], counts[2], counts[3], batch=value.get("service_tier") == "batch")


def _count(value: object) -> int:
    """A number of tokens; nonsense counts as none."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0  # a bool is an int too


def server_sent_events(body: bytes) -> Iterator[tuple[str, str]]:
    """The ``(event, data)`` pairs of a stream, as WHATWG's HTML standard parses them.

    Only CR, LF and CRLF end a line; a comment begins with a colon; an event that the end of the
    stream cuts off is dropped.
    """
    name = ""
    data: list[str] = []
    lines = re.split(r"\r\n|\n|\r", body.decode("utf-8-sig", "replace"))
    for line in lines[:-1]:  # what follows the last line end is cut off
        if not line:
            if data:
                yield name or "message", "\n".join(data)
            name, data = "", []
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data.append(value)


@dataclass(slots=True)
class _Stream:
    """Puts a message together from its events; only a stream with all its ends is a message."""

    texts: dict[int, str] = field(default_factory=dict)
    open_blocks: set[int] = field(default_factory=set)
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    refusal: str | None = None
    usage: Usage | None = None
    stopped: bool = False

    def read(self, body: bytes) -> Message | ApiError | Unusable:
        for _, data in server_sent_events(body):
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                return Unusable("the stream holds an event that is not JSON", self.usage)
            if not isinstance(event, dict):
                return Unusable("the stream holds an event that is not an object", self.usage)
            if event.get("type") == "error" or event.get("error"):
                error = read_error(data.encode())
                return ApiError(error.type, error.message, error.code, error.request_id, self.usage)
            self._take(event)
            if self.stopped:  # some routers add their own mark after the end
                break
        if not self.stopped or self.stop_reason is None or self.open_blocks:
            return Unusable("the stream was cut off before its end", self.usage)
        text = "".join(self.texts[index] for index in sorted(self.texts))
        return Message(text, self.stop_reason, self.model, self.usage, self.refusal, self.id)

    def _take(self, event: Mapping[str, Any]) -> None:
        """One event; unknown types and shapes are passed over, as the API's documentation asks."""
        kind, index, delta = event.get("type"), event.get("index"), event.get("delta")
        if kind == "message_start" and isinstance(event.get("message"), dict):
            self.id = _text(event["message"].get("id"))
            self.model = _text(event["message"].get("model"))
            self._count(event["message"].get("usage"))
        elif kind == "content_block_start" and isinstance(index, int):
            self.open_blocks.add(index)
            block = event.get("content_block")
            if isinstance(block, dict) and block.get("type") == "text":
                self.texts[index] = block["text"] if isinstance(block.get("text"), str) else ""
        elif kind == "content_block_delta" and isinstance(index, int) and isinstance(delta, dict):
            if delta.get("type") == "text_delta" and isinstance(delta.get("text"), str):
                self.texts[index] = self.texts.get(index, "") + delta["text"]
        elif kind == "content_block_stop" and isinstance(index, int):
            self.open_blocks.discard(index)
        elif kind == "message_delta":
            self._count(event.get("usage"))
            if isinstance(delta, dict):
                self.stop_reason = _text(delta.get("stop_reason")) or self.stop_reason
                self.refusal = _refusal(delta.get("stop_details")) or self.refusal
        elif kind == "message_stop":
            self.stopped = True

    def _count(self, reported: object) -> None:
        """Counts in a stream are cumulative, but each event may leave some out or say 0: the largest is true."""
        new, old = _usage(reported), self.usage
        if new is None or old is None:
            self.usage = new or old
            return
        self.usage = Usage(
            max(old.input_tokens, new.input_tokens),
            max(old.output_tokens, new.output_tokens),
            max(old.cache_read_tokens, new.cache_read_tokens),
            max(old.cache_write_tokens, new.cache_write_tokens),
            old.batch or new.batch,
        )
