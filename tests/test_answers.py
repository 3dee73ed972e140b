"""Which texts of a model are the answer that was asked for, and which are not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.answers import judge
from pipeline.domain import Answer, Exchange, Failure, FailureClass, Usage
from pipeline.messages import RESULT_SCHEMA, SYNTHESIS_SCHEMA, Message

unhurried = settings(deadline=None)

EXCHANGE = Exchange(200, "req_1", 1.5, "claude-sonnet-5-5", Usage(10, 5))
RISK = {
    "title": "Renews by itself",
    "category": "auto-renewal",
    "severity": "high",
    "page": 2,
    "quote": "shall automatically renew {sic}",
    "explanation": "It goes on.",
    "recommendation": "Give notice.",
}
RESULT: dict[str, Any] = {
    "summary": "A lease.",
    "document_type": "lease",
    "parties": ["A", "B"],
    "key_dates": [{"date": "2026-01-01", "meaning": "start", "page": 1}],
    "risks": [RISK],
}
TEXT = json.dumps(RESULT)


def judged(text: str, stop_reason: str = "end_turn", refusal: str | None = None) -> Answer | Failure:
    return judge(Message(text, stop_reason, "m", None, refusal), RESULT_SCHEMA, EXCHANGE)


def answered(text: str) -> dict[str, Any]:
    answer = judged(text)
    assert isinstance(answer, Answer), answer
    return dict(answer.result)


def refused(text: str) -> Failure:
    failure = judged(text)
    assert isinstance(failure, Failure), failure
    return failure


def changed(path: str, value: Any) -> str:
    """The good answer with another value at a dotted path."""
    result = copy.deepcopy(RESULT)
    *way, last = path.split(".")
    target: Any = result
    for step in way:
        target = target[int(step) if step.isdigit() else step]
    target[int(last) if last.isdigit() else last] = value
    return json.dumps(result)


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "a_reason_of_tomorrow"])
def test_an_answer_that_fits_is_taken(stop_reason: str) -> None:
    """The object as the model gave it, together with what it cost."""
    assert judged(TEXT, stop_reason) == Answer(RESULT, EXCHANGE)


@pytest.mark.parametrize(
    ("stop_reason", "kind", "words"),
    [
        ("max_tokens", FailureClass.TOO_LARGE, "did not fit into max_tokens"),
        ("model_context_window_exceeded", FailureClass.TOO_LARGE, "context window"),
        ("tool_use", FailureClass.TRANSIENT, "not finished: tool_use"),
        ("pause_turn", FailureClass.TRANSIENT, "not finished: pause_turn"),
        ("refusal", FailureClass.REFUSAL, "the model refused: no explanation given"),
    ],
)
def test_a_cut_or_refused_answer_is_none_even_when_it_looks_whole(
    stop_reason: str, kind: FailureClass, words: str
) -> None:
    """The stop reason counts before the text does."""
    failure = judged(TEXT, stop_reason)

    assert isinstance(failure, Failure)
    assert failure.kind is kind
    assert words in failure.reason
    assert failure.exchange is EXCHANGE
    assert not failure.output_refused


def test_a_refusal_names_its_explanation() -> None:
    """Where the API explains a refusal, the report can say so."""
    failure = judged("", "refusal", "cyber: weapons")

    assert isinstance(failure, Failure)
    assert failure.reason == "the model refused: cyber: weapons"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_answer_is_tried_again(text: str) -> None:
    """No text is no empty result, and no sign that the schema was refused."""
    failure = refused(text)

    assert (failure.kind, failure.reason) == (FailureClass.TRANSIENT, "the answer is empty")
    assert not failure.output_refused


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"Here is the result:\n\n{TEXT}\n\nLet me know {{if}} you need more.",
        f"\ufeff {TEXT}",
        f"[sic] }} {TEXT}",
        f"I use {{braces}} a lot. {TEXT}",
        json.dumps(RESULT, indent=4),
    ],
)
def test_fences_and_prose_around_the_json_are_forgiven(text: str) -> None:
    """Text before and after the object loses nothing."""
    assert answered(text) == RESULT


@pytest.mark.parametrize("text", ["I could not read it.", "[1, 2]", "null", '"{"', "{", "{'single': 1}"])
def test_an_answer_that_is_no_json_may_mean_that_the_schema_was_ignored(text: str) -> None:
    """It is tried again, and marked so that asking in words comes next."""
    failure = refused(text)

    assert failure.kind is FailureClass.TRANSIENT
    assert failure.reason.startswith("the answer is not JSON")
    assert failure.output_refused


@pytest.mark.parametrize("severity", ["HIGH", "High", " high ", "hIgH\n"])
def test_the_case_of_a_severity_is_forgiven(severity: str) -> None:
    """Case and blanks around one of the four words do not matter."""
    assert answered(changed("risks.0.severity", severity))["risks"][0]["severity"] == "high"


@pytest.mark.parametrize(
    ("page", "read"), [("3", 3), (" 3 ", 3), (3.0, 3), (None, None), (0, 0), (-1, -1), (1e3, 1000)]
)
def test_a_page_may_be_a_whole_number_in_any_dress(page: object, read: int | None) -> None:
    """Text, a decimal without a fraction and null are read; whether the page exists is asked elsewhere."""
    value = answered(changed("risks.0.page", page))["risks"][0]["page"]

    assert value == read
    assert not isinstance(value, float)


def test_null_for_a_text_is_an_empty_text() -> None:
    """Nothing to say is not the word None."""
    assert answered(changed("risks.0.recommendation", None))["risks"][0]["recommendation"] == ""


def test_unknown_keys_are_dropped() -> None:
    """At every level only what was asked for is kept."""
    text = changed("risks.0.confidence", 0.9)
    text = text[:-1] + ', "thoughts": "many"}'

    assert answered(text) == RESULT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({k: v for k, v in RESULT.items() if k != "risks"}), "the object lacks risks"),
        ("{}", "the object lacks summary, document_type, parties, key_dates, risks"),
        (changed("key_dates.0", {"date": "x", "page": 1}), "key_dates[0] lacks meaning"),
        (changed("risks.0.severity", "severe"), "risks[0].severity is 'severe', not one of low, medium, high"),
        (changed("risks.0.severity", None), "risks[0].severity is ''"),
        (changed("risks.0.page", "two"), "risks[0].page is not a whole number"),
        (changed("risks.0.page", 2.5), "risks[0].page is not a whole number"),
        (changed("risks.0.page", True), "risks[0].page is not a whole number"),
        (changed("risks.0.page", [2]), "risks[0].page is not a whole number"),
        (changed("risks", {}), "risks is not of type array"),
        (changed("risks", None), "risks is not of type array"),
        (changed("risks.0", "text"), "risks[0] is not of type object"),
        (changed("parties", ["A", 3]), "parties[1] is not of type string"),
        (changed("summary", {"text": "x"}), "summary is not of type string"),
        (changed("key_dates.0.date", 2026), "key_dates[0].date is not of type string"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(text: str, words: str) -> None:
    """The place and what is wrong there; it is tried again."""
    failure = refused(text)

    assert failure.kind is FailureClass.TRANSIENT
    assert words in failure.reason
    assert not failure.output_refused


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    """Neither the words that JSON does not know nor what overflows becomes a page."""
    assert refused(TEXT.replace('"page": 2', f'"page": {number}')).kind is FailureClass.TRANSIENT


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_words_that_json_does_not_know_are_refused_in_keys_that_nobody_asked_for(number: str) -> None:
    """What is not JSON is not read as JSON, wherever it stands."""
    assert refused(f'{TEXT[:-1]}, "confidence": {number}}}').kind is FailureClass.TRANSIENT


def test_lone_surrogates_are_replaced() -> None:
    """JSON can spell half a character; what is kept can be written as UTF-8."""
    result = answered(changed("summary", "a\ud83d b\udc80 c😀"))

    assert result["summary"] == "a? b? c😀"
    json.dumps(result, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("wrapped", [TEXT, f"```json\n{TEXT}\n```", f"Sure: {TEXT}"])
def test_truncated_json_is_never_accepted(wrapped: str) -> None:
    """However late the cut, an object without its end is no answer."""
    end = wrapped.rindex("}")

    assert [cut for cut in range(end + 1) if isinstance(judged(wrapped[:cut]), Answer)] == []
    assert isinstance(judged(wrapped[: end + 1]), Answer)


def test_a_synthesis_is_judged_by_its_own_schema() -> None:
    """A summary alone is what was asked for there, and nothing else is kept."""
    message = Message('{"summary": "All.", "risks": []}', "end_turn", "m", None)

    assert judge(message, SYNTHESIS_SCHEMA, EXCHANGE) == Answer({"summary": "All."}, EXCHANGE)


HOSTILE = st.text(st.characters(exclude_categories=())) | st.text('{}[]":,0123456789eE.+-\\u truefalsn', max_size=60)


@unhurried
@given(HOSTILE, st.sampled_from(["end_turn", "", "max_tokens", "refusal", "tool_use"]), st.none() | HOSTILE)
def test_no_text_makes_judge_raise(text: str, stop_reason: str, refusal: str | None) -> None:
    """Whatever the model writes, the result is a value with a reason of one line."""
    result = judged(text, stop_reason, refusal)

    assert isinstance(result, Failure)
    assert len(result.reason.splitlines()) == 1
    result.reason.encode("utf-8")


@pytest.mark.parametrize("text", ['{"a":' * 20_000, "{" * 100_000, "[" * 100_000, '{"page": ' + "9" * 5_000 + "}"])
def test_monstrous_json_is_a_failure(text: str) -> None:
    """Endless nesting and endless numbers end in a reason."""
    assert refused(text).kind is FailureClass.TRANSIENT


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(RISK)), inner, max_size=3),
    max_leaves=8,
)
PLACES = [*RESULT, *(f"risks.0.{key}" for key in RISK), *(f"key_dates.0.{key}" for key in ("date", "meaning", "page"))]


@unhurried
@given(st.sampled_from(PLACES), VALUES)
def test_what_is_taken_has_the_shape_that_was_asked_for(place: str, value: Any) -> None:
    """With anything in any place: an answer of exactly the schema's shape, or a failure."""
    result = judged(changed(place, value))

    if isinstance(result, Answer):
        assert_fits(result.result, RESULT_SCHEMA)
        json.dumps(result.result, ensure_ascii=False, allow_nan=False).encode("utf-8")


def assert_fits(value: Any, schema: Any) -> None:
    match schema["type"]:
        case "object":
            assert set(value) == set(schema["required"])
            for key, part in value.items():
                assert_fits(part, schema["properties"][key])
        case "array":
            for item in value:
                assert_fits(item, schema["items"])
        case "string":
            assert isinstance(value, str)
            assert "enum" not in schema or value in schema["enum"]
        case "integer":
            assert value is None or type(value) is int
