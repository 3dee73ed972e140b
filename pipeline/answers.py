"""Is this the answer that was asked for? The model's text is checked against the schema it was given."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.domain import Answer, Exchange, Failure, FailureClass
from pipeline.messages import Message, Schema
from pipeline.text import encodable, shortened

_BRACES_TRIED = 50  # a bound on hostile text
_BOOLEANS = {"true": True, "false": False}
_BEYOND = 1e15  # from here on not every whole number is a float, which is all that spreadsheets know


def judge(message: Message, schema: Schema, exchange: Exchange) -> Answer | Failure:
    """A message as an answer that fits ``schema``, or why it is none.

    Forgiven, because it loses nothing: text and fences around the JSON, unknown keys (dropped), the case
    of an enum's value, numbers and booleans written as text, null for a page or a text, "" for null. A cut or
    refused answer is never taken for a short one.
    """
    if message.stop_reason == "refusal":
        why = shortened(message.refusal or "no explanation given", 200)
        return Failure(FailureClass.REFUSAL, f"the model refused: {why}", exchange)
    if message.stop_reason == "max_tokens":
        return Failure(FailureClass.TOO_LARGE, "the answer did not fit into max_tokens", exchange, output_cut=True)
    if message.stop_reason == "model_context_window_exceeded":
        return Failure(FailureClass.TOO_LARGE, "the pages do not fit into the model's context window", exchange)
    if message.stop_reason in ("tool_use", "pause_turn"):
        return Failure(FailureClass.TRANSIENT, f"the answer is not finished: {message.stop_reason}", exchange)
    if not message.text.strip():
        return Failure(FailureClass.TRANSIENT, "the answer is empty", exchange)
    misfit: _MisfitError | None = None
    for value in _objects_in(message.text):
        try:
            return Answer(_fitted(value, schema, ""), exchange)
        except _MisfitError as error:
            misfit = misfit or error
    if misfit is not None:
        return Failure(FailureClass.TRANSIENT, f"the answer does not fit the schema: {misfit}", exchange)
    reason = f"the answer is not JSON: {shortened(message.text, 80)}"
    # An endpoint may drop output_config without a word; asked in words, the model still gives JSON.
    return Failure(FailureClass.TRANSIENT, reason, exchange, output_refused=True)


class _MisfitError(Exception):
    pass


def _objects_in(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects that stand in the text, those inside another left out."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    end = 0
    for match in itertools.islice(re.finditer(r"\{", text), _BRACES_TRIED):
        if match.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _fitted(value: Any, schema: Schema, where: str) -> Any:
    """``value`` in the shape of ``schema``: objects, arrays, texts, numbers, booleans; of ``anyOf``, or null."""
    if "not" in schema:
        raise _MisfitError(f"{where} is not known to these settings")
    if "anyOf" in schema:
        return None if value is None or value == "" else _fitted(value, schema["anyOf"][0], where)
    match schema["type"]:
        case "object" if isinstance(value, dict):
            missing = [key for key in schema["required"] if key not in value]
            if missing:
                raise _MisfitError(f"{where or 'the object'} lacks {', '.join(missing)}")
            dot = where and where + "."
            parts = schema["properties"].items()
            return {key: _fitted(value[key], part, dot + key) for key, part in parts if key in value}
        case "array" if isinstance(value, list):
            return [_fitted(item, schema["items"], f"{where}[{index}]") for index, item in enumerate(value)]
        case "string" if value is None or isinstance(value, str):
            return _text(value or "", schema, where)
        case "integer":
            return _whole_number(value, where)
        case "number":
            return _number(value, where)
        case "boolean" if isinstance(value, bool) or str(value).strip().casefold() in _BOOLEANS:
            return _BOOLEANS[str(value).strip().casefold()]
        case wanted:
            raise _MisfitError(f"{where or 'it'} is not of type {wanted}")


def _text(value: str, schema: Schema, where: str) -> str:
    if schema.get("format") == "date":
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", value.strip(), re.ASCII):
            raise _MisfitError(f"{where} is {shortened(value, 30)!r}, not a date like 2026-03-31")
        return value.strip()
    if "enum" not in schema:
        return encodable(value)
    for choice in schema["enum"]:
        if value.strip().casefold() == choice:
            return str(choice)
    raise _MisfitError(f"{where} is {shortened(value, 30)!r}, not one of {', '.join(schema['enum'])}")


def _whole_number(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII):
        return int(value)
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise _MisfitError(f"{where} is not a whole number")


def _number(value: Any, where: str) -> int | float:
    """A finite number; of those written as text only what can be read in one way."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,15}(?:\.\d{1,15})?\s*", value, re.ASCII):
        value = float(value) if "." in value else int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and -_BEYOND < value < _BEYOND:
        return value
    raise _MisfitError(f"{where} is not a number")
