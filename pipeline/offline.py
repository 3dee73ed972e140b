"""The built-in Messages endpoint: it reads the attached PDF by rules and answers as the API does. No HTTP.

It refuses what the API refuses, with its statuses and words, so that a request that passes here is well
formed. The same request gets the same answer, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import fields, images, rules
from pipeline.domain import RULES_MODEL
from pipeline.pdf import PdfError
from pipeline.splitter import page_texts

MAX_BODY_BYTES = 32_000_000
MAX_PAGES = 600

_TOKENS_PER_PAGE = 1_500
_CHARACTERS_PER_TOKEN = 4
_DELTA_CHARACTERS = 400
_VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
_FIELDS = frozenset({
    "model", "messages", "max_tokens", "system", "metadata", "stop_sequences", "stream", "tools", "tool_choice",
    "thinking", "output_config", "service_tier", "cache_control", "inference_geo", "container",
})  # fmt: skip
_SAMPLING_FIELDS = frozenset({"temperature", "top_p", "top_k"})
_BLOCK_FIELDS = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "document": frozenset({"type", "source", "title", "context", "citations", "cache_control"}),
    "image": frozenset({"type", "source", "cache_control"}),
}
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_MOST_IMAGE_BYTES = 5 * 1024 * 1024  # in base64
_MOST_IMAGE_PX = 8000  # on each side
_MANY_IMAGES = 20  # in a request; of more, each may have less
_MOST_IMAGE_PX_OF_MANY = 2000
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_REFUSED_SCHEMA_KEYS = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
})  # fmt: skip

_MOST_UNIONS = 16

_GREETING = "Hello. This is the built-in offline endpoint: rules answer here, no model does."
_UNREAD = {
    "summary": "The endpoint answered without opening the document.",
    "document_type": "document",
    "parties": [],
    "key_dates": [],
    "risks": [],
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP response; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Message = dict[str, Any]


class _RefusalError(Exception):
    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """``respond`` in plain values, for a caller that does not load this module: status, headers, body."""
    reply = respond(method, path, headers, body)
    return reply.status, reply.headers, reply.body


def respond(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    read_pdf: bool = True,
    *,
    structured_output: bool = True,
    request_id: str | None = None,
    change: Callable[[Message], None] | None = None,
) -> Reply:
    """The endpoint's response to one request; ``headers`` have lower-case names.

    Without ``read_pdf`` every document gets the same empty result and is not opened, for load tests.
    Without ``structured_output`` it refuses ``output_config.format``, as an old router does.
    ``request_id`` is a hash of the body unless given. ``change`` alters the finished message before it
    is written, to play a model that errs.
    """
    request_id = request_id or f"req_{hashlib.sha256(body).hexdigest()[:24]}"
    if len(body) > MAX_BODY_BYTES:
        return too_large_reply(request_id)
    try:
        _check_headers(headers)
        match method, path.partition("?")[0].split("/"):
            case "POST", ["", "v1", "messages"]:
                return _answer(body, read_pdf, structured_output, request_id, change)
            case "GET", ["", "v1", "models", model] if model:
                return _json_reply(200, _model(model, structured_output), request_id)
            case _:
                raise _RefusalError("Not Found", 404, "not_found_error")
    except _RefusalError as refusal:
        return error_reply(refusal.status, refusal.kind, str(refusal), request_id)


def refusal_of(headers: Mapping[str, str], request_id: str) -> Reply | None:
    """The response to a request whose ``headers`` lack what every request needs; None where nothing is missing."""
    try:
        _check_headers(headers)
    except _RefusalError as refusal:
        return error_reply(refusal.status, refusal.kind, str(refusal), request_id)
    return None


def error_reply(status: int, kind: str, message: str, request_id: str, code: str | None = None) -> Reply:
    """An error as the API words it; ``code`` is the stable error code where there is one."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return _json_reply(status, {"type": "error", "error": error, "request_id": request_id}, request_id)


def too_large_reply(request_id: str) -> Reply:
    """The 413 comes from the edge, which knows neither top-level type nor request id."""
    error = {"type": "request_too_large", "message": "Request exceeds the maximum size"}
    return _json_reply(413, {"error": error}, request_id)


def attached_text(body: bytes) -> str:
    """The text of all readable PDFs in a request, spaces for line breaks; "" when there is none."""
    try:
        question = _read_messages(json.loads(body)["messages"], read_pdf=True)
    except (ValueError, LookupError, TypeError, RecursionError, _RefusalError):
        return ""
    return " ".join(" ".join(question.pages).split())


# --- what is asked -----------------------------------------------------------------------------------


def _check_headers(headers: Mapping[str, str]) -> None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if not (scheme.lower() == "bearer" and token.strip()) and not headers.get("x-api-key", "").strip():
        raise _RefusalError("x-api-key header is required", 401, "authentication_error")
    version = headers.get("anthropic-version")
    if version is None:
        raise _RefusalError("anthropic-version: header is required")
    if version not in _VERSIONS:
        raise _RefusalError(f'anthropic-version: "{version[:40]}" is not a valid version')


@dataclass(frozen=True, slots=True)
class _Question:
    """What the messages hold: the user's words and the text of each attached page."""

    text: str
    pages: tuple[str, ...]
    has_document: bool


def _read_body(body: bytes, structured_output: bool) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusalError("The request body is not valid JSON.") from None
    if not isinstance(request, dict):
        raise _RefusalError("The request body is not a JSON object.")
    for name in request:
        if name in _SAMPLING_FIELDS:
            raise _RefusalError(f"{name}: sampling parameters are not supported for this model")
        if name not in _FIELDS:
            raise _RefusalError(f"{name}: Extra inputs are not permitted")
    _check_fields(request)
    _check_output_config(request.get("output_config", {}), structured_output)
    return request


def _check_fields(request: Mapping[str, Any]) -> None:
    for name in ("model", "messages", "max_tokens"):
        if name not in request:
            raise _RefusalError(f"{name}: Field required")
    max_tokens, model = request["max_tokens"], request["model"]
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise _RefusalError("max_tokens: Input should be a valid integer")
    if max_tokens < 1:
        raise _RefusalError("max_tokens: Input should be greater than or equal to 1")
    if not isinstance(model, str) or not model:
        raise _RefusalError("model: Input should be a valid string")
    if not isinstance(request.get("stream", False), bool):
        raise _RefusalError("stream: Input should be a valid boolean")
    if not isinstance(request.get("system", ""), str | list):
        raise _RefusalError("system: Input should be a valid string or list")


def _check_output_config(config: object, structured_output: bool) -> None:
    if not isinstance(config, dict):
        raise _RefusalError("output_config: Input should be an object")
    if not structured_output and "format" in config:
        raise _RefusalError("output_config: Extra inputs are not permitted")
    for name in config.keys() - {"effort", "format"}:
        raise _RefusalError(f"output_config.{name}: Extra inputs are not permitted")
    if "effort" in config and config["effort"] not in tuple(_EFFORTS):
        raise _RefusalError("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    if "format" in config:
        form = config["format"]
        if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
            raise _RefusalError("output_config.format: Input should be a 'json_schema' with a schema")
        _check_schema(form["schema"])


def _check_schema(schema: dict[str, Any]) -> None:
    waiting: list[Any] = [schema]
    unions = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        if not isinstance(part, dict):
            continue
        waiting += [value for name, value in part.items() if name not in {"properties", "enum", "const", "default"}]
        if isinstance(part.get("properties"), dict):  # its keys are names, not schema words
            waiting += part["properties"].values()
        unions += "anyOf" in part or isinstance(part.get("type"), list)
        if unions > _MOST_UNIONS:
            raise _RefusalError("Schema is too complex for compilation.")
        for name in sorted(part.keys() & _REFUSED_SCHEMA_KEYS):
            raise _RefusalError(f"output_config.format.schema: property '{name}' is not supported")
        if part.get("type") == "object" and part.get("additionalProperties") is not False:
            raise _RefusalError(
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            )


def _read_messages(messages: object, read_pdf: bool) -> _Question:
    if not isinstance(messages, list):
        raise _RefusalError("messages: Input should be a valid list")
    if not messages:
        raise _RefusalError("messages: at least one message is required")
    texts: list[str] = []
    pages: list[str] = []
    has_document = False
    blocks = list(_blocks(messages))
    many_images = sum(block["type"] == "image" for _, block in blocks) > _MANY_IMAGES
    for place, block in blocks:
        if block["type"] == "text":
            texts.append(_text_of(block, place))
        else:
            has_document = True
            pages += _pages_of(block, place, read_pdf, many_images)
            if len(pages) > MAX_PAGES:
                where = f"{place}.pdf.source.base64.data"
                raise _RefusalError(f"{where}: A maximum of {MAX_PAGES} PDF pages may be provided.")
    if messages[-1]["role"] != "user":
        raise _RefusalError(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    return _Question("\n".join(texts), tuple(pages), has_document)


def _blocks(messages: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each content block with the path that an error about it names."""
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise _RefusalError(f"{place}.role: Input should be 'user' or 'assistant'")
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list) or not content:
            raise _RefusalError(f"{place}.content: Input should be a non-empty string or list")
        for index, block in enumerate(content):
            where = f"{place}.content.{index}"
            kind = block.get("type") if isinstance(block, dict) else None
            if not isinstance(kind, str) or kind not in _BLOCK_FIELDS:
                raise _RefusalError(f"{where}: Input tag does not match any of the expected tags")
            for name in sorted(block.keys() - _BLOCK_FIELDS[kind]):
                raise _RefusalError(f"{where}.{kind}.{name}: Extra inputs are not permitted")
            if kind != "text" and message["role"] == "assistant":
                raise _RefusalError(f"{where}: {kind} blocks are not permitted in assistant messages")
            yield where, block


def _text_of(block: Mapping[str, Any], place: str) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise _RefusalError(f"{place}.text.text: Input should be a valid string")
    if not text.strip():
        raise _RefusalError(f"{place}: text content blocks must be non-empty")
    return text


def _pages_of(block: Mapping[str, Any], place: str, read_pdf: bool, many_images: bool) -> tuple[str, ...]:
    """The text of the block's pages; an image is one page without text."""
    source = block.get("source")
    is_image = block["type"] == "image"
    where = f"{place}.{'image' if is_image else 'pdf'}.source.base64"
    if not isinstance(source, dict) or source.get("type") != "base64" or not isinstance(source.get("data"), str):
        raise _RefusalError(f"{place}.{block['type']}.source: this endpoint takes base64 sources only")
    if source.get("media_type") not in (tuple(_IMAGE_TYPES) if is_image else ("application/pdf",)):
        raise _RefusalError(f"{where}.media_type: Input is not one of the supported media types")
    if not read_pdf:
        return ("",)
    try:
        data = base64.b64decode(source["data"], validate=True)  # refuses line breaks, too
    except ValueError:
        raise _RefusalError(f"{where}.data: Invalid base64 data") from None
    if is_image:
        _check_image(source, data, where, many_images)
        return ("",)
    try:
        return page_texts(data)
    except PdfError as error:
        problem = "is password protected" if error.encrypted else "was not valid"
        raise _RefusalError(f"{where}.data: The PDF specified {problem}.") from None


def _check_image(source: Mapping[str, Any], data: bytes, where: str, many_images: bool) -> None:
    if len(source["data"]) > _MOST_IMAGE_BYTES:
        size = f"{len(source['data'])} bytes > {_MOST_IMAGE_BYTES} bytes"
        raise _RefusalError(f"{where}: image exceeds 5 MB maximum: {size}")
    try:
        image = images.facts(data)
    except images.PictureError:
        raise _RefusalError(f"{where}.data: Could not process image") from None
    if image.media_type != source["media_type"]:
        raise _RefusalError(
            f"{where}: The image was specified using the {source['media_type']} media type, "
            f"but the image appears to be a {image.media_type} image"
        )
    most_px, which = (_MOST_IMAGE_PX_OF_MANY, " for many-image requests") if many_images else (_MOST_IMAGE_PX, "")
    if max(image.width_px, image.height_px) > most_px:
        limit = f"max allowed size{which}: {most_px} pixels"
        raise _RefusalError(f"{where}.data: At least one of the image dimensions exceed {limit}")


# --- what is answered --------------------------------------------------------------------------------


def _answer(
    body: bytes,
    read_pdf: bool,
    structured_output: bool,
    request_id: str,
    change: Callable[[Message], None] | None,
) -> Reply:
    request = _read_body(body, structured_output)
    question = _read_messages(request["messages"], read_pdf)
    text = _answer_text(question, read_pdf, request.get("output_config", {}).get("format"))
    asked = len(question.text) + len(json.dumps(request.get("system", ""), ensure_ascii=False))
    message: Message = {
        "id": f"msg_{request_id.removeprefix('req_')}",
        "type": "message",
        "role": "assistant",
        "model": RULES_MODEL,
        "content": [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _tokens(asked) + _TOKENS_PER_PAGE * len(question.pages),
            "output_tokens": _tokens(len(text)),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }
    if change is not None:
        change(message)
    if request.get("stream"):
        headers = {"content-type": "text/event-stream; charset=utf-8", "request-id": request_id}
        return Reply(200, headers, b"".join(map(_event, _events(message))))
    return _json_reply(200, message, request_id)


def _tokens(characters: int) -> int:
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)


def _answer_text(question: _Question, read_pdf: bool, form: Mapping[str, Any] | None) -> str:
    by_schema = form is not None
    if question.has_document:
        value = rules.read_document(question.pages) if read_pdf else _UNREAD
        schema = form["schema"] if form else _schema_in(question.text)
        if own := list(fields.asked_in(_properties(_properties(schema).get("fields")))):
            value = {**value, "fields": rules.read_fields(question.pages, own)}
    elif parts := list(_parts(question.text)):
        value = {"summary": rules.join_summaries(parts)}
    elif by_schema:
        value = {"summary": _GREETING}
    else:
        return _GREETING
    text = json.dumps(value, ensure_ascii=False)
    return text if by_schema else f"```json\n{text}\n```"


def _schema_in(text: str) -> Any:
    """The schema that a prompt ends with, on a line of its own; None without one."""
    try:
        return json.loads(text.rpartition("\n")[2])
    except (ValueError, RecursionError):
        return None


def _properties(schema: Any) -> Mapping[str, Any]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties if isinstance(properties, dict) else {}


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The elements ``<part pages="1-20">summary</part>``, as labels and summaries."""
    for piece in text.split("</part>")[:-1]:
        _, _, element = piece.rpartition('<part pages="')
        pages, closed, summary = element.partition('">')
        if closed and re.fullmatch(r"[\d-]{1,20}", pages):
            yield f"Pages {pages}", summary


def _model(name: str, structured_output: bool) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": "Built-in rules, no model",
        "created_at": "2026-01-01T00:00:00Z",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "capabilities": {
            "pdf_input": {"supported": True},
            "structured_outputs": {"supported": structured_output},
            "citations": {"supported": False},
            "batch": {"supported": True},
        },
    }


def _json_reply(status: int, value: object, request_id: str) -> Reply:
    return Reply(status, {"content-type": "application/json", "request-id": request_id}, _encoded(value))


def _encoded(value: object) -> bytes:
    # Half a surrogate pair can come out of a PDF, and UTF-8 has no bytes for it.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _event(event: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), _encoded(event))


def _events(message: Message) -> Iterator[dict[str, Any]]:
    """The message as the events of a stream."""
    usage = {**message["usage"], "output_tokens": 1}
    opening = {name: value for name, value in message.items() if name != "stop_details"}
    yield {"type": "message_start", "message": {**opening, "content": [], "stop_reason": None, "usage": usage}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        text = block.get("text", "")
        empty = {**block, "text": ""} if text else block
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for begin in range(0, len(text), _DELTA_CHARACTERS):
            delta = {"type": "text_delta", "text": text[begin : begin + _DELTA_CHARACTERS]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in message}
    yield {"type": "message_delta", "delta": ending, "usage": message["usage"]}
    yield {"type": "message_stop"}
