"""The built-in Messages endpoint answers, and refuses, as the API does."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from pipeline.domain import RULES_MODEL, Usage
from pipeline.messages import RESULT_SCHEMA, SYNTHESIS_SCHEMA, Message, read_error, read_response, server_sent_events
from pipeline.offline import MAX_BODY_BYTES, Reply, attached_text, respond

HEADERS = {"authorization": "Bearer any", "anthropic-version": "2023-06-01"}
PENALTY = "A penalty of EUR 5,000 is payable for each breach."


def pdf(*pages: str, password: str | None = None) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file, invariant=1, encrypt=password)
    for text in pages:
        canvas.drawString(50, 700, text)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def document(data: bytes) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(data).decode()}
    return {"type": "document", "source": source}


def request(*blocks: dict[str, Any] | str, **fields: Any) -> dict[str, Any]:
    """A valid request with these content blocks; a field of None is left out."""
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    messages = [{"role": "user", "content": content or "Hello"}]
    value = {"model": "claude-any", "max_tokens": 1000, "messages": messages, **fields}
    return {name: field for name, field in value.items() if field is not None}


def by_schema(schema: Any) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "schema": schema}}


def post(value: Any, **options: Any) -> Reply:
    return respond("POST", "/v1/messages", HEADERS, json.dumps(value).encode(), **options)


def message(reply: Reply) -> Message:
    read = read_response(reply.headers["content-type"], reply.body)
    assert isinstance(read, Message), read
    return read


def refusal(reply: Reply) -> tuple[int, str, str]:
    error = read_error(reply.body)
    return reply.status, error.type, error.message


def test_an_attached_pdf_is_read_by_rules() -> None:
    """The answer is the asked-for JSON with the risk's page and quote, and no model's name."""
    asked = request(document(pdf("Nothing here.", PENALTY)), "List risks.", output_config=by_schema(RESULT_SCHEMA))

    answer = message(post(asked))

    (risk,) = json.loads(answer.text)["risks"]
    assert (risk["category"], risk["page"], risk["quote"]) == ("penalty", 2, PENALTY)
    assert (answer.model, answer.stop_reason) == (RULES_MODEL, "end_turn")


def test_the_answer_begins_with_an_empty_thinking_block() -> None:
    """As newer models do, so that no client may take the first block for the text."""
    blocks = json.loads(post(request("Hello")).body)["content"]

    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert blocks[0]["thinking"] == ""


def test_asked_in_words_the_json_stands_in_a_fence() -> None:
    """Without output_config the same object comes as a model would write it."""
    text = message(post(request(document(pdf(PENALTY)), "Answer with JSON."))).text

    assert text.startswith("```json\n{")
    assert json.loads(text.removeprefix("```json").removesuffix("```"))["risks"]


def test_a_stream_says_the_same_as_a_message() -> None:
    """Text, model, stop reason and usage are those of the whole message, in the documented order of events."""
    asked = request(document(pdf(*[PENALTY] * 3)), "List risks.")

    whole, stream = post(asked), post({**asked, "stream": True})

    assert replace(message(stream), id=None) == replace(message(whole), id=None)  # other bytes were asked
    names = [name for name, _ in server_sent_events(stream.body)]
    assert names[:5] == ["message_start", "ping", "content_block_start", "content_block_stop", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert names.count("content_block_delta") > 2


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_gets_the_same_bytes(stream: bool) -> None:
    """Nothing in an answer depends on the hour or on what was asked before."""
    asked = request(document(pdf(PENALTY)), "List risks.", stream=stream)

    assert post(asked) == post(asked)


def test_usage_counts_words_and_pages() -> None:
    """A token for four characters, rounded up, and 1,500 for each page."""
    usage = message(post(request(document(pdf("One.", "Two.")), "12345", system="x"))).usage

    assert usage == Usage(input_tokens=2 * 1500 + 2, output_tokens=usage.output_tokens if usage else 0)
    assert usage.output_tokens > 10


def test_summaries_of_parts_become_one() -> None:
    """A request without a document but with parts is answered with one joined summary."""
    text = 'Combine.\n<part pages="1-20">First half.</part>\n<part pages="21">Last page.</part>'

    answer = message(post(request(text, output_config=by_schema(SYNTHESIS_SCHEMA)))).text

    assert json.loads(answer) == {"summary": "Pages 1-20: First half.\nPages 21: Last page."}


def test_a_greeting_is_answered_in_plain_words() -> None:
    """A request without document and parts gets a sentence that says who answers."""
    assert "no model" in message(post(request("Hello"))).text


def image(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
    return {"type": "image", "source": source}


def png(width: int, height: int) -> bytes:
    Image.new("1", (width, height)).save(out := io.BytesIO(), "PNG")
    return out.getvalue()


def test_an_image_is_a_page_that_rules_cannot_read() -> None:
    """An image block is taken and reported as unreadable."""
    asked = request(image(png(8000, 8)), "What is it?", output_config=by_schema(RESULT_SCHEMA))

    assert [risk["category"] for risk in json.loads(message(post(asked)).text)["risks"]] == ["unreadable"]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (image(png(8, 8001)), "At least one of the image dimensions exceed max allowed size: 8000 pixels"),
        (image(png(8, 8), "image/jpeg"), "but the image appears to be a image/png image"),
        (image(png(8, 8), "image/tiff"), "not one of the supported media types"),
        (image(b"no picture"), "Could not process image"),
        (image(bytes(4_000_000)), "image exceeds 5 MB maximum: 5333336 bytes > 5242880 bytes"),
    ],
)
def test_an_image_that_the_api_refuses_is_refused(block: dict[str, Any], words: str) -> None:
    """Type, size in base64, and pixels on a side, in the API's words."""
    reply = post(request(block, "What is it?"))

    assert reply.status == 400
    assert words in read_error(reply.body).message


@pytest.mark.parametrize(("count", "status"), [(20, 200), (21, 400)])
def test_of_many_images_each_may_have_fewer_pixels(count: int, status: int) -> None:
    """From the 21st on no more than 2000 on a side, in the API's words."""
    reply = post(request(*[image(png(8, 2001))] * count, "What is it?"))

    assert reply.status == status
    assert status == 200 or "for many-image requests: 2000 pixels" in read_error(reply.body).message


def test_without_reading_every_document_gets_the_same_empty_result() -> None:
    """For load tests: the data need not even be a PDF, and the answer still has every field."""
    asked = request(document(b"no pdf"), "List risks.", output_config=by_schema(RESULT_SCHEMA))

    result = json.loads(message(post(asked, read_pdf=False)).text)

    assert list(result) == list(RESULT_SCHEMA["properties"])
    assert result["risks"] == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer "}, {"authorization": "Basic eDp5"}, {"x-api-key": ""}, {"authorization": ""}],
)
def test_without_a_key_nothing_is_answered(headers: dict[str, str]) -> None:
    """A missing or empty key is a 401."""
    reply = respond("POST", "/v1/messages", {"anthropic-version": "2023-06-01", **headers}, b"{}")

    assert refusal(reply)[:2] == (401, "authentication_error")


@pytest.mark.parametrize("headers", [{"authorization": "Bearer k"}, {"x-api-key": "k"}])
def test_either_form_of_key_is_taken(headers: dict[str, str]) -> None:
    """Bearer and x-api-key both open the door."""
    reply = respond("GET", "/v1/models/m", {"anthropic-version": "2023-06-01", **headers}, b"")

    assert reply.status == 200


def test_the_version_must_be_named() -> None:
    """A missing or unknown anthropic-version is a 400."""
    for version in ({}, {"anthropic-version": "1999-01-01"}):
        status, _, text = refusal(respond("POST", "/v1/messages", {"x-api-key": "k", **version}, b"{}"))
        assert status == 400
        assert text.startswith("anthropic-version")


def test_any_model_is_described() -> None:
    """The models endpoint answers for every id that PDFs and structured output are supported."""
    value = json.loads(respond("GET", "/v1/models/claude-x?beta=true", HEADERS, b"").body)

    assert value["id"] == "claude-x"
    assert value["capabilities"]["pdf_input"]["supported"]
    assert value["capabilities"]["structured_outputs"]["supported"]
    assert value["max_input_tokens"] >= value["max_tokens"] > 0


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/complete"), ("GET", "/v1/models/")]
)
def test_everything_else_is_not_found(method: str, path: str) -> None:
    """Other paths and methods are a 404."""
    assert refusal(respond(method, path, HEADERS, b""))[:2] == (404, "not_found_error")


def test_a_body_over_the_limit_is_refused_as_the_edge_does() -> None:
    """A 413 without top-level type and request_id, but with the header."""
    reply = respond("POST", "/v1/messages", HEADERS, b" " * (MAX_BODY_BYTES + 1))

    assert reply.status == 413
    assert json.loads(reply.body) == {
        "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}
    }
    assert reply.headers["request-id"].startswith("req_")


def test_every_error_carries_its_request_id_twice() -> None:
    """In the header and in the body."""
    reply = post([])

    assert json.loads(reply.body)["request_id"] == reply.headers["request-id"]


_PLACE = "messages.0.content.0.pdf.source.base64.data: "


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([pdf("x", password="secret")], _PLACE + "The PDF specified is password protected."),
        ([b"%PDF-1.7 but not really"], _PLACE + "The PDF specified was not valid."),
        ([pdf(*[""] * 301)] * 2, _PLACE.replace("t.0.p", "t.1.p") + "A maximum of 600 PDF pages may be provided."),
    ],
    ids=["encrypted", "invalid", "pages"],
)
def test_pdfs_are_refused_in_the_words_of_the_api(blocks: list[bytes], text: str) -> None:
    """Encrypted and broken files, and more than 600 pages over all documents."""
    assert refusal(post(request(*map(document, blocks), "x"))) == (400, "invalid_request_error", text)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"model": ""}, "model: Input should be a valid string"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
        ({"temperature": 1.0}, "temperature: sampling parameters are not supported for this model"),
        ({"top_p": 1}, "top_p: sampling parameters are not supported for this model"),
        ({"top_k": 1}, "top_k: sampling parameters are not supported for this model"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"output_config": {"form": 1}}, "output_config.form: Extra inputs are not permitted"),
    ],
)
def test_wrong_fields_are_refused_by_name(fields: dict[str, Any], text: str) -> None:
    """The message begins with the field's name, as the API's does."""
    assert refusal(post(request(**fields))) == (400, "invalid_request_error", text)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"type": "object"}}, "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "additionalProperties": False},
        {"type": "array", "items": {"type": "string", "maxLength": 3}},
    ],
)
def test_schemas_that_the_api_cannot_compile_are_refused(schema: dict[str, Any]) -> None:
    """Open objects and limits on numbers and lengths, at any depth."""
    status, _, text = refusal(post(request(output_config=by_schema(schema))))

    assert (status, text.split(":")[0]) == (400, "output_config.format.schema")


def test_a_schema_may_name_a_property_like_a_schema_word() -> None:
    """A property called minimum is no limit."""
    schema = {"type": "object", "properties": {"minimum": {"type": "integer"}}, "additionalProperties": False}

    assert post(request(output_config=by_schema(schema))).status == 200


def test_an_old_router_refuses_output_config() -> None:
    """Without structured output only the format is refused."""
    asked = request(output_config=by_schema(RESULT_SCHEMA))

    refused = refusal(post(asked, structured_output=False))

    assert refused == (400, "invalid_request_error", "output_config: Extra inputs are not permitted")
    assert post(request(output_config={"effort": "low"}), structured_output=False).status == 200


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": [{"type": "video"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x", "colour": 1}]}],
        [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "file:///"}}]}],
        [{"role": "assistant", "content": [document(b"")]}, {"role": "user", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}],
        ["x"],
        "x",
    ],
)
def test_malformed_messages_are_refused(messages: Any) -> None:
    """Roles, blocks and sources that the API does not take are a 400 each."""
    assert refusal(post(request(messages=messages)))[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize("data", ["AAAA\nAAAA", "AAA", "data:application/pdf;base64,AAAA", "ä"])
def test_base64_must_be_one_unbroken_run(data: str) -> None:
    """Line breaks, a cut end and a data: prefix are refused."""
    block = document(b"")
    block["source"]["data"] = data

    assert refusal(post(request(block)))[2] == _PLACE + "Invalid base64 data"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """Whatever the bytes are, the answer is a 400 and not a crash."""
    assert respond("POST", "/v1/messages", HEADERS, body).status == 400


def test_half_a_surrogate_pair_does_not_break_the_answer() -> None:
    """JSON can spell a character that UTF-8 has no bytes for."""
    reply = post(request(f'<part pages="1">{chr(0xD800)}</part>'))

    assert reply.body.decode("utf-8")


def test_the_message_may_be_changed_before_it_is_written() -> None:
    """The served endpoint's faults use this."""
    reply = post(request("Hello", stream=True), change=lambda value: value.update(stop_reason="max_tokens"))

    assert message(reply).stop_reason == "max_tokens"


def test_the_text_of_attached_pdfs_can_be_looked_at() -> None:
    """All pages of all documents in one line; a body that is no request has none."""
    asked = request(document(pdf("One.", "Two.")), document(pdf("Three.")), "x")

    assert attached_text(json.dumps(asked).encode()) == "One. Two. Three."
    assert attached_text(b"{}") == attached_text(b"[") == ""
