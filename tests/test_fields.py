"""A job's own fields: named in the job file, asked for, checked, merged over the chunks and read by the rules."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import fields, job, messages, offline, rules
from pipeline.aggregator import Reading, merge
from pipeline.answers import judge
from pipeline.domain import (
    Answer,
    Chunk,
    ChunkRecord,
    ChunkState,
    Content,
    Exchange,
    Failure,
    FieldValue,
    PageRange,
    SourceFile,
)
from pipeline.errors import SettingsError
from pipeline.fields import MOST_NULLABLE, ResultField
from pipeline.messages import EARLIER_RESULT_SCHEMA, RESULT_SCHEMA, Message, request_fingerprint, result_schema
from pipeline.planner import PlannedChunk
from pipeline.reports import csv_report
from tests.conftest import Workspace, write_pdf
from tools.sample_docs import truth
from tools.sample_docs.truth import KnownPaper

ROOT = Path(__file__).resolve().parents[1]
NUMBER = ResultField("total_amount", "number", "The gross total as printed")
SENDER = ResultField("sender", "text", "Who sends the invoice")
DAY = ResultField("invoice_date", "date", "The date of the invoice")
PAID = ResultField("already_paid", "boolean", "Whether it is paid")
ITEMS = ResultField("items", "list", "What is charged for")
ALL = (NUMBER, SENDER, DAY, PAID, ITEMS)
SHIPPED = job.load(ROOT / "jobs" / "contracts.toml")


# --- in the job file


@pytest.fixture
def problems(tmp_path: Path) -> Callable[[str], list[str]]:
    """What is wrong with a job file that ends with the given text, without its path."""

    def problems_of(text: str) -> list[str]:
        path = tmp_path / "j.toml"
        path.write_text(f'[source]\nfolder = "docs"\n{text}')
        with pytest.raises(SettingsError) as caught:
            job.load(path)
        return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]

    return problems_of


def toml(*named: ResultField) -> str:
    return "".join(f'[fields.{f.name}]\ntype = "{f.type}"\ndescription = "{f.description}"\n' for f in named)


def test_the_fields_of_a_job_file_keep_their_order(tmp_path: Path) -> None:
    """Name, type and description come through; without the section there are none."""
    path = tmp_path / "j.toml"
    path.write_text(f'[source]\nfolder = "docs"\n{toml(*ALL)}')

    assert job.load(path).fields == ALL
    assert SHIPPED.fields == ()


def test_all_problems_of_the_section_are_told_at_once(problems: Callable[[str], list[str]]) -> None:
    """Each with its line, its table and the nearest correct word."""
    text = '[fields.a]\ntyp = "number"\n[fields.B]\ntype = "txt"\ndescription = ""\n[fields.risks]\ntype = "list"\n'

    assert problems(text) == [
        "3: [fields.a] description: is missing",
        "3: [fields.a] type: is missing",
        "4: [fields.a] typ: unknown key; did you mean type?",
        "5: [fields.B]: is not a name for a field: up to 40 small letters, digits and _, a letter first",
        "6: [fields.B] type: must be one of text, number, date, boolean, list; did you mean text?",
        "7: [fields.B] description: must not be empty",
        "8: [fields.risks] description: is missing",
        "8: [fields.risks]: is a name that every report has already; choose another",
    ]


def test_more_fields_that_may_be_null_than_the_api_takes_are_refused(problems: Callable[[str], list[str]]) -> None:
    """Sixteen union types fit into a schema; texts and lists need none."""
    many = [ResultField(f"n{number}", "number", "n") for number in range(MOST_NULLABLE + 1)]

    (problem,) = problems(toml(*many, *(replace(SENDER, name=f"t{number}") for number in range(20))))

    assert problem.endswith(
        "[fields]: has 17 of type boolean or date or number; the API takes at most 16 in one request"
    )


def test_no_field_can_have_the_name_of_a_column_or_of_a_part_of_the_answer() -> None:
    """Else one of two things with one name would be lost."""
    assert set(csv_report.DOCUMENT_COLUMNS) | set(RESULT_SCHEMA["properties"]) <= fields.RESERVED
    for name in fields.RESERVED:
        with pytest.raises(ValueError, match="already"):
            fields.checked_name(name)


# --- in the request


def test_the_schema_asks_for_every_field_and_for_nothing_else() -> None:
    """An object beside the usual parts: closed, all required, null where a type has no empty value."""
    schema = result_schema(ALL)
    own = schema["properties"]["fields"]

    assert schema["required"] == [*RESULT_SCHEMA["required"], "fields"]
    assert (own["required"], own["additionalProperties"]) == ([field.name for field in ALL], False)
    assert own["properties"]["total_amount"] == {
        "anyOf": [{"type": "number"}, {"type": "null"}],
        "description": "The gross total as printed",
    }
    assert own["properties"]["sender"] == {"type": "string", "description": "Who sends the invoice"}
    assert list(fields.asked_in(own["properties"])) == list(ALL)
    assert result_schema() == RESULT_SCHEMA


def test_the_fingerprint_of_a_job_without_fields_is_that_of_before_there_were_any() -> None:
    """Answers that were paid for stay valid."""
    settings = job.Endpoint(
        "yourouter", "", None, "bearer", "", {}, "m", 8000, None, "auto", stream=False, batch=False, timeout_seconds=1.0
    )
    prompt = job.PromptSettings(system="s", instructions="i")

    assert (
        request_fingerprint(settings, prompt, ()) == "99ab78a675c2cd8d737a16d3cbc3d2782b1770c350b105e8ce710574bb13f639"
    )


def test_the_fingerprint_changes_with_name_type_and_description_and_not_with_the_order() -> None:
    """What changes an answer is asked for again, and nothing else."""

    def fingerprint(*named: ResultField) -> str:
        return request_fingerprint(SHIPPED.endpoint, SHIPPED.prompt, named)

    changed = [replace(NUMBER, name="sum"), replace(NUMBER, type="text"), replace(NUMBER, description="Net")]
    assert len({fingerprint(), fingerprint(NUMBER), *map(fingerprint, changed)}) == 5
    assert fingerprint(NUMBER, SENDER) == fingerprint(SENDER, NUMBER)


@pytest.mark.parametrize("by_schema", [True, False])
def test_a_request_with_fields_is_answered_by_the_rules(by_schema: bool, tmp_path: Path) -> None:
    """By schema and in words alike; the longest body takes the fields into account."""
    pdf = write_pdf(tmp_path / "a.pdf", ["Invoice\nTotal amount: EUR 1,234.50\nInvoice date: 3 March 2026"])
    body = messages.chunk_body(SHIPPED.endpoint, SHIPPED.prompt, PageRange(1, 1), 1, by_schema, (), ALL)
    whole = body.head + base64.b64encode(pdf.read_bytes()) + body.tail
    headers = {"authorization": "Bearer x", "anthropic-version": "2023-06-01"}

    reply = offline.respond("POST", "/v1/messages", headers, whole)
    message = messages.read_response("application/json", reply.body)

    assert isinstance(message, Message), reply.body
    answer = judge(message, result_schema(ALL), Exchange())
    assert isinstance(answer, Answer), answer
    assert answer.result["fields"] == {
        "total_amount": 1234.5, "sender": "", "invoice_date": "2026-03-03", "already_paid": None, "items": [],
    }  # fmt: skip
    largest = messages.largest_body(SHIPPED.endpoint, SHIPPED.prompt, fields=ALL)
    assert body.size_bytes(0) <= largest.size_bytes(0)


def test_the_built_in_endpoint_refuses_a_schema_that_the_api_calls_too_complex() -> None:
    """With more union types than the documentation allows."""
    many = [ResultField(f"n{number}", "number", "n") for number in range(MOST_NULLABLE + 1)]
    body = messages.chunk_body(SHIPPED.endpoint, SHIPPED.prompt, PageRange(1, 1), 1, by_schema=True, fields=many)
    headers = {"authorization": "Bearer x", "anthropic-version": "2023-06-01"}

    reply = offline.respond("POST", "/v1/messages", headers, body.head + body.tail)

    assert (reply.status, b"too complex" in reply.body) == (400, True)


# --- in the answer


def judged(values: dict[str, Any]) -> Answer | Failure:
    result = {"summary": "S.", "document_type": "", "parties": [], "key_dates": [], "risks": [], "fields": values}
    return judge(Message(json.dumps(result), "end_turn", "m", None), result_schema(ALL), Exchange())


VALUES: dict[str, Any] = {
    "total_amount": 12.5, "sender": "A", "invoice_date": "2026-03-03", "already_paid": True, "items": ["x"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("total_amount", -7, -7),
        ("total_amount", " 12.50 ", 12.5),
        ("total_amount", "", None),
        ("total_amount", None, None),
        ("sender", None, ""),
        ("invoice_date", " 2026-12-31", "2026-12-31"),
        ("invoice_date", "", None),
        ("already_paid", "False", False),
        ("already_paid", None, None),
        ("items", [], []),
    ],
)
def test_a_value_is_taken_where_nothing_is_lost(name: str, given: object, taken: object) -> None:
    """Numbers and booleans as text, empty text for null."""
    answer = judged(VALUES | {name: given})

    assert isinstance(answer, Answer), answer
    assert answer.result["fields"] == VALUES | {name: taken}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("total_amount", "1,234.50"),
        ("total_amount", "EUR 5"),
        ("total_amount", True),
        ("total_amount", math.inf),
        ("total_amount", 10**400),
        ("invoice_date", "3 March 2026"),
        ("invoice_date", "2026-03"),
        ("already_paid", "perhaps"),
        ("already_paid", 1),
        ("items", "x"),
        ("items", None),
        ("sender", ["A"]),
    ],
)
def test_a_value_of_another_type_is_no_answer(name: str, given: object) -> None:
    """It is asked for again, and the reason names the field."""
    failure = judged(VALUES | {name: given})

    assert isinstance(failure, Failure)
    assert name in failure.reason or "not JSON" in failure.reason


def test_an_answer_that_leaves_a_field_out_is_no_answer() -> None:
    """A field that the model forgot must not look like one that the document does not have."""
    failure = judged({name: value for name, value in VALUES.items() if name != "sender"})

    assert isinstance(failure, Failure)
    assert "fields lacks sender" in failure.reason


@pytest.mark.parametrize(("own", "taken"), [({}, True), ({"fields": VALUES}, False)])
def test_an_answer_to_settings_of_before_is_taken_if_they_asked_for_no_fields(own: dict[str, Any], taken: bool) -> None:
    """Nobody knows which fields they were, and an answer without them must not be kept as a whole one."""
    result = {"summary": "S.", "document_type": "", "parties": [], "key_dates": [], "risks": [], **own}

    outcome = judge(Message(json.dumps(result), "end_turn", "m", None), EARLIER_RESULT_SCHEMA, Exchange())

    assert isinstance(outcome, Answer) is taken


# --- merged


def merged(*chunks: tuple[int, int, dict[str, Any] | None]) -> tuple[FieldValue, ...]:
    """The fields of a document whose chunks are first page, last page and values; None is a chunk that failed."""
    content = Content("ab" * 32, 10, max(last for _, last, _ in chunks))
    empty = {"summary": "S.", "document_type": "", "parties": [], "key_dates": [], "risks": []}
    planned = tuple(
        PlannedChunk(
            Chunk(f"{first}", "ab" * 32, PageRange(first, last)),
            ChunkRecord(
                ChunkState.FAILED if values is None else ChunkState.ANSWERED, result=empty | {"fields": values}
            ),
        )
        for first, last, values in chunks
    )
    return merge(Reading(SourceFile("a.pdf", 10, 0, "ab" * 32), content, planned, None, False, ALL)).fields


NOTHING: dict[str, Any] = {"total_amount": None, "sender": "", "invoice_date": None, "already_paid": None, "items": []}


def test_the_first_value_by_page_counts_and_says_where_it_comes_from() -> None:
    """Empty values and failed chunks are passed over; 0 and false are values; a range of one page names the page."""
    found = merged(
        (1, 3, NOTHING | {"sender": " "}),
        (4, 6, None),
        (7, 7, NOTHING | {"total_amount": 0, "already_paid": False}),
        (8, 9, VALUES),
    )

    assert found == (
        FieldValue("total_amount", "number", 0, (PageRange(7, 7),)),
        FieldValue("sender", "text", "A", (PageRange(8, 9),)),
        FieldValue("invoice_date", "date", "2026-03-03", (PageRange(8, 9),)),
        FieldValue("already_paid", "boolean", False, (PageRange(7, 7),)),
        FieldValue("items", "list", ("x",), (PageRange(8, 9),)),
    )


def test_lists_are_joined_without_repetitions() -> None:
    """In page order, each item in its first spelling; blanks and case make no other item."""
    lists: tuple[list[str], ...] = (["Roof", "Slates "], [], ["roof", "Paint", " ", "sla tes"])
    found = merged(*((page, page, NOTHING | {"items": items}) for page, items in enumerate(lists, 1)))

    assert found[-1] == FieldValue("items", "list", ("Roof", "Slates ", "Paint"), (PageRange(1, 1), PageRange(3, 3)))


def test_a_document_without_an_answer_has_every_field_empty() -> None:
    """So each row of a table has the same columns."""
    assert [(field.name, field.value, field.pages) for field in merged((1, 2, None))] == [
        (field.name, () if field is ITEMS else None, ()) for field in ALL
    ]


# --- read by rules


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("Net amount: EUR 100.00\nTotal amount: EUR 1,190.00", NUMBER, 1190.0),
        ("Gesamtbetrag\n2.003,96", ResultField("total", "number", "t"), 2003.96),
        ("Total amount due by 5 May 2026: 70", NUMBER, 70),
        ("VAT at 20%: GBP 4.50", ResultField("vat", "number", "t"), 4.5),
        ("Total amount of pages 12/13-14", NUMBER, None),
        ("Invoice date: 03/04/2026", DAY, None),
        ("Invoice date: 13/04/2026", DAY, "2026-04-13"),
        ("Rechnungsdatum: 30.02.2026", DAY, None),
        ("Already paid: yes", PAID, True),
        ("Already paid: nein", PAID, False),
        ("It is already paid or not", PAID, None),
        ("Items: roof; slates, grey; paint.", ITEMS, ["roof", "slates, grey", "paint"]),
        ("Quarry & Bray Limited, 3 Mill Lane", SENDER, "Quarry & Bray Limited"),
        ("From: Ada Byron", SENDER, "Ada Byron"),
        ("", SENDER, ""),
    ],
)
def test_the_rules_read_what_stands_beside_its_label(text: str, field: ResultField, value: object) -> None:
    """And leave empty what they cannot tell, a date that can be read in two ways among it."""
    assert rules.read_fields([text], [field]) == {field.name: value}


@pytest.mark.parametrize("text", ["1" * 200_000, "1,111" * 40_000, "a:" * 100_000, "Total " * 40_000, "1 " * 100_000])
def test_hostile_pages_do_not_hold_up_the_rules(text: str) -> None:
    """Long runs are cut before they are looked at: this test ends."""
    assert set(rules.read_fields([text] * 3, ALL)) == {field.name for field in ALL}


# --- the sample jobs from end to end


@pytest.mark.parametrize("batch", [False, True])
def test_fields_come_through_however_a_chunk_is_sent(workspace: Workspace, batch: bool) -> None:
    """One by one and in batches; a run after a change of the description asks again, another asks for nothing."""
    write_pdf(workspace.docs / "a.pdf", ["Invoice\nTotal amount: EUR 1,234.50"])
    asks = workspace.write_job(endpoint={"batch": batch}).read_text() + toml(NUMBER)

    workspace.job_file.write_text(asks)
    first, second = workspace.run(), workspace.run()
    workspace.job_file.write_text(asks.replace("The gross total", "The sum"))
    third = workspace.run()

    assert [run.documents[0].fields[0].value for run in (first, second, third)] == [1234.5] * 3
    assert [run.spending.requests for run in (first, second, third)] == [1, 0, 1]


def ran(workspace: Workspace, name: str) -> dict[str, Any]:
    """The report of the sample job, run into the workspace."""
    text = (ROOT / "jobs" / f"{name}.toml").read_text("utf-8")
    text = text.replace("../sample_docs", str(ROOT / "sample_docs"))
    workspace.job_file.write_text(
        text.replace("[prompt]", f'[report]\nfolder = "reports"\n[ledger]\npath = "{workspace.ledger}"\n[prompt]', 1)
    )
    assert workspace.run().run.exit_code == 0
    report: dict[str, Any] = json.loads((workspace.reports / "report.json").read_bytes())
    return report


@pytest.mark.parametrize(("name", "papers"), [("invoices", truth.INVOICES), ("reports", truth.REPORTS)])
def test_a_sample_job_reads_its_documents(workspace: Workspace, name: str, papers: Sequence[KnownPaper]) -> None:
    """With code 0, scans too; what the papers say of the fields is in the report wherever they have a text."""
    documents = {document["path"]: document for document in ran(workspace, name)["documents"]}

    assert {path: document["pages"] for path, document in documents.items()} == {p.file_name: p.pages for p in papers}
    for paper in papers:
        found = {key: field["value"] for key, field in documents[paper.file_name]["fields"].items()}
        known = paper.fields if paper.has_text else dict.fromkeys(paper.fields)
        assert {key: found[key] for key in known} == known, paper.file_name
    header, *rows = (workspace.reports / "documents.csv").read_text("utf-8-sig").splitlines()
    assert header.endswith(",".join(["note", *(field.name for field in job.load(workspace.job_file).fields)]))
    assert len(rows) == len(papers)
