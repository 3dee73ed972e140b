"""What is due, what a run would do and what each document's result is: three answers from the same books."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import job
from pipeline.domain import (
    RULES_MODEL,
    Answer,
    Chunk,
    ChunkState,
    Content,
    DocumentResult,
    Exchange,
    Failure,
    FailureClass,
    Layout,
    Outcome,
    PageRange,
    SourceFile,
    Split,
    Synthesis,
    Task,
    Usage,
)
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.planner import Why
from pipeline.prices import PriceList
from pipeline.standing import Due, PlannedDocument, Standing
from tests.conftest import Workspace

WHEN = "2026-11-22T02:00:00Z"
MAX_PAGES = 2
PASSING = Failure(FailureClass.TRANSIENT, "529: Overloaded", Exchange(529))
FINAL = Failure(FailureClass.REFUSAL, "refused", Exchange(200))


def sha(content: str) -> str:
    return content.ljust(64, "0")


def file_of(path: str, content: str | None = None) -> SourceFile:
    return SourceFile(path, 1000, 1, sha(content or path.partition(".")[0]))


class Books:
    """A job over a ledger whose files and contents are what the test says."""

    def __init__(self, workspace: Workspace, ledger: Ledger) -> None:
        self._workspace = workspace
        self.ledger = ledger
        self.files: list[SourceFile] = []
        self.before: dict[str, SourceFile] = {}
        self.contents: dict[str, Content] = {}
        self.settings: dict[str, Any] = {}

    def add(self, path: str, pages: int | None = 4, content: str | None = None, layout: Layout | None = None) -> None:
        """A file whose content has so many pages; None: it cannot be opened."""
        file = file_of(path, content)
        self.files.append(file)
        problem = None if pages else "not a PDF"
        assert file.sha256
        self.contents[file.sha256] = Content(file.sha256, 1000, pages, problem=problem, layout=layout or Layout())

    @property
    def standing(self) -> Standing:
        loaded = job.load(self._workspace.write_job(**{"split": {"max_pages": MAX_PAGES}, **self.settings}))
        return Standing(loaded, self.ledger, self.files, self.contents)

    def all_due(self, failed_only: bool = False) -> list[Due]:
        standing = self.standing
        distinct = dict.fromkeys(file.sha256 for file in self.files)
        contents = [content for sha256 in distinct if sha256 and (content := self.contents.get(sha256))]
        return list(standing.due(contents, standing.records(), failed_only))

    def due(self, failed_only: bool = False) -> list[tuple[Task, ...]]:
        return [due.tasks for due in self.all_due(failed_only)]

    def plan(self) -> dict[str, PlannedDocument]:
        return {row.path: row for row in self.standing.plan(self.before, PriceList(1.0, 1.0))}

    def results(self) -> dict[str, DocumentResult]:
        return {result.path: result for result in self.standing.results("r1")[0]}

    def tasks_of(self, path: str) -> list[Task]:
        """What is due for a file's content, in its order."""
        content = next(file.sha256 for file in self.files if file.path == path)
        return [task for tasks in self.due() for task in tasks if task.content == content]

    def settle(self, task: Task, outcome: Outcome, state: ChunkState, run: str = "r0") -> None:
        pages = task.pages if isinstance(task, Chunk) else None
        with self.ledger.transaction():
            attempt = self.ledger.begin(NewChunk(task.id, task.content, pages), run, WHEN)
            self.ledger.settle(Settled(attempt, task.id, outcome, state, WHEN, 0.0), run)

    def answer(
        self,
        tasks: Sequence[Task],
        run: str = "r0",
        risks: Mapping[PageRange, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        """``risks`` are those of each chunk, by its pages; else there are none."""
        for task in tasks:
            words = f"Summary of {task.pages.label}." if isinstance(task, Chunk) else "The whole."
            result: dict[str, Any] = {"summary": words}
            if isinstance(task, Chunk):
                found = list((risks or {}).get(task.pages, ()))
                result |= {"document_type": "", "parties": [], "key_dates": [], "risks": found}
            exchange = Exchange(200, "req", 1.0, "m", Usage(1, 1))
            self.settle(task, Answer(result, exchange), ChunkState.ANSWERED, run)

    def fail(self, task: Task, failure: Failure) -> None:
        self.settle(task, failure, ChunkState.FAILED)

    def finish(self, path: str, run: str = "r0") -> None:
        """Answer all chunks of a file, and its synthesis."""
        while tasks := self.tasks_of(path):
            self.answer(tasks, run)


@pytest.fixture
def books(workspace: Workspace) -> Iterator[Books]:
    with Ledger.writing(workspace.ledger) as ledger:
        yield Books(workspace, ledger)


def spans(tasks: Sequence[Task]) -> list[str]:
    return [str(task.pages) if isinstance(task, Chunk) else "all" for task in tasks]


@dataclass(frozen=True, slots=True)
class Case:
    """What the three answers say of one document of four pages."""

    why: Why
    due: tuple[str, ...]
    status: str
    retried: tuple[str, ...] = ()


CASES = {
    "new": Case(Why.NEW, ("1-2", "3-4"), "partial"),
    "changed": Case(Why.CHANGED, ("1-2", "3-4"), "partial"),
    "prompt": Case(Why.PROMPT_CHANGED, ("1-2", "3-4"), "partial"),
    "unfinished": Case(Why.UNFINISHED, ("3-4",), "partial"),
    "passing": Case(Why.FAILED_BEFORE, ("3-4",), "partial", ("3-4",)),
    "final": Case(Why.FAILED_BEFORE, (), "partial", ("3-4",)),
    "hopeless": Case(Why.FAILED_BEFORE, (), "failed", ("1-2", "3-4")),
    "unchanged": Case(Why.UNCHANGED, (), "done"),
    "unreadable": Case(Why.UNREADABLE, (), "failed"),
}


def put_in_place(books: Books, name: str) -> None:
    """Bring a document to the state that its name says."""
    path = f"{name}.pdf"
    if name == "unreadable":
        books.add(path, pages=None)
        return
    books.add(path)
    if name == "changed":
        books.before[path] = replace(file_of(path, "other"), size_bytes=1)
    elif name == "prompt":
        now, books.settings = books.settings, {"prompt": {"instructions": "As it was before."}}
        books.finish(path)
        books.settings = now
    elif name == "unchanged":
        books.finish(path)
    elif name == "hopeless":
        for task in books.tasks_of(path):
            books.fail(task, FINAL)
    elif name != "new":
        first, second = books.tasks_of(path)
        books.answer([first])
        if name != "unfinished":
            books.fail(second, PASSING if name == "passing" else FINAL)


@pytest.mark.parametrize("name", CASES)
def test_the_three_answers_agree_on_one_document(books: Books, name: str) -> None:
    """What is sent is what the plan says, for the reason it says, and the rest is in the result."""
    put_in_place(books, name)
    case, path = CASES[name], f"{name}.pdf"
    assert [spans(tasks) for tasks in books.due()] == ([list(case.due)] if case.due else [])
    assert [spans(tasks) for tasks in books.due(failed_only=True)] == ([list(case.retried)] if case.retried else [])
    row = books.plan()[path]
    assert (row.why, row.chunks, row.pages) == (case.why, len(case.due), 2 * len(case.due))
    assert bool(row.usage.input_tokens) == bool(case.due)
    result = books.results()[path]
    assert result.status == case.status
    if case.status != "done":
        assert set(case.due + case.retried) == {
            str(chunk.pages) for chunk in result.chunks if chunk.status != "answered"
        }


def test_the_three_answers_agree_on_a_folder(books: Books) -> None:
    """Documents do not disturb each other, and nothing that is due is missing from the plan."""
    for name in CASES:
        put_in_place(books, name)
    rows, results, due = books.plan(), books.results(), books.due()
    assert list(rows) == list(results) == [f"{name}.pdf" for name in CASES]
    assert {name: rows[f"{name}.pdf"].why for name in CASES} == {name: case.why for name, case in CASES.items()}
    assert {name: results[f"{name}.pdf"].status for name in CASES} == {name: c.status for name, c in CASES.items()}
    assert sum(len(tasks) for tasks in due) == sum(row.chunks for row in rows.values()) == 8
    open_or_passing = {
        chunk.id
        for name, case in CASES.items()
        for chunk in results[f"{name}.pdf"].chunks
        if str(chunk.pages) in case.due
    }
    assert {task.id for tasks in due for task in tasks} == open_or_passing


def test_what_failed_before_is_told_from_the_rest(books: Books) -> None:
    """What always fails must not keep the others waiting, so whoever sends must know it."""
    for name in ("passing", "new", "unfinished"):
        put_in_place(books, name)
    assert [due.failed_before for due in books.all_due()] == [True, False, False]


def test_a_file_that_cannot_be_read_is_listed_with_its_reason(books: Books) -> None:
    """It has no content, and nothing is due for it."""
    books.files.append(SourceFile("gone.pdf", 0, 0, None, "the file cannot be read: Permission denied"))
    assert books.due() == []
    row, result = books.plan()["gone.pdf"], books.results()["gone.pdf"]
    assert (row.why, row.chunks, row.reason) == (Why.UNREADABLE, 0, "the file cannot be read: Permission denied")
    assert (result.status, result.reason) == ("failed", "the file cannot be read: Permission denied")


def test_a_content_that_was_not_opened_yet_is_due_for_nothing(books: Books) -> None:
    """A file that changed between scan and opening is left to the next run."""
    books.files.append(file_of("racing.pdf"))
    assert books.due() == []
    assert books.plan()["racing.pdf"].chunks == 0
    assert books.results()["racing.pdf"].status != "done"


def test_twins_are_each_listed_and_paid_once(books: Books) -> None:
    """The plan counts their chunks once, and each has the whole result."""
    for path in ("a.pdf", "b.pdf", "c.pdf"):
        books.add(path, content="same")
    assert [spans(tasks) for tasks in books.due()] == [["1-2", "3-4"]]
    assert {path: (row.why, row.chunks) for path, row in books.plan().items()} == {
        "a.pdf": (Why.NEW, 2),
        "b.pdf": (Why.NEW, 0),
        "c.pdf": (Why.NEW, 0),
    }
    assert sum(row.cost_usd or 0 for row in books.plan().values()) == books.plan()["a.pdf"].cost_usd
    books.finish("a.pdf")
    results = books.results()
    assert list(results) == ["a.pdf", "b.pdf", "c.pdf"]
    assert {(result.status, result.summary, len(result.chunks)) for result in results.values()} == {
        ("done", "The whole.", 2)
    }


def test_a_synthesis_is_due_once_its_chunks_are_answered(books: Books) -> None:
    """Not before, and not again; it holds their summaries in the order of the pages."""
    books.add("a.pdf")
    first, second = books.tasks_of("a.pdf")
    books.answer([second])
    assert spans(books.tasks_of("a.pdf")) == ["1-2"]
    assert books.standing.synthesis(sha("a")) is None
    books.answer([first])
    (synthesis,) = books.tasks_of("a.pdf")
    assert synthesis == books.standing.synthesis(sha("a"))
    assert isinstance(synthesis, Synthesis)
    assert synthesis.summaries == (
        (PageRange(1, 2), "Summary of pages 1-2."),
        (PageRange(3, 4), "Summary of pages 3-4."),
    )
    books.answer([synthesis])
    assert books.due() == []
    assert books.standing.synthesis(sha("a")) is None
    assert books.results()["a.pdf"].summary == "The whole."


@pytest.mark.parametrize(("pages", "settings"), [(2, {}), (4, {"prompt": {"synthesis": False}})])
def test_no_synthesis_of_one_chunk_or_where_none_is_wanted(books: Books, pages: int, settings: dict[str, Any]) -> None:
    """One chunk's summary is that of the whole."""
    books.settings = settings
    books.add("a.pdf", pages)
    books.answer(books.tasks_of("a.pdf"))
    assert books.due() == []
    assert books.results()["a.pdf"].status == "done"


def test_a_failed_synthesis_is_taken_up_as_a_failed_chunk_is(books: Books) -> None:
    """Passing trouble by the next run, a refusal by retry alone; the document is done all the same."""
    books.add("a.pdf")
    books.answer(books.tasks_of("a.pdf"))
    (synthesis,) = books.tasks_of("a.pdf")
    books.fail(synthesis, PASSING)
    assert [spans(tasks) for tasks in books.due()] == [["all"]]
    books.fail(synthesis, FINAL)
    assert books.due() == []
    assert [spans(tasks) for tasks in books.due(failed_only=True)] == [["all"]]
    assert books.results()["a.pdf"].status == "done"


def test_a_plan_does_not_call_unchanged_what_a_run_would_send_for(books: Books) -> None:
    """A run that was stopped before the synthesis leaves a request that costs something."""
    books.add("a.pdf")
    books.answer(books.tasks_of("a.pdf"))
    assert [spans(tasks) for tasks in books.due()] == [["all"]]
    row = books.plan()["a.pdf"]
    assert row.why is Why.UNFINISHED
    assert row.usage.input_tokens


def test_halves_stand_for_a_chunk_that_was_split(books: Books) -> None:
    """In all three answers, also when a run ended between them."""
    books.add("a.pdf", 2)
    (whole,) = books.tasks_of("a.pdf")
    with books.ledger.transaction():
        books.ledger.record_unsent(
            NewChunk(whole.id, whole.content, PageRange(1, 2)), Split("too large"), ChunkState.SPLIT
        )
    assert spans(books.tasks_of("a.pdf")) == ["1", "2"]
    books.answer(books.tasks_of("a.pdf")[:1])
    assert spans(books.tasks_of("a.pdf")) == ["2"]
    assert books.plan()["a.pdf"].why is Why.UNFINISHED
    assert [str(pages) for pages in books.results()["a.pdf"].missing_pages] == ["2"]
    books.finish("a.pdf")
    assert books.results()["a.pdf"].status == "done"


RISKS = st.lists(
    st.builds(
        lambda words, severity, page: {
            "title": words, "category": "fees", "severity": severity, "page": page,
            "quote": f"{words}.", "explanation": words, "recommendation": words,
        },
        st.sampled_from(["Fees may rise", "Notice is short", "A penalty is agreed"]),  # so few that they come again
        st.sampled_from(["low", "critical"]),
        st.integers(0, MAX_PAGES + 1),  # also pages that are not there
    ),
    max_size=3,
)  # fmt: skip
NUMBERS = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(risks=st.lists(RISKS, min_size=5, max_size=5), overlap=st.integers(0, 1), data=st.data())
def test_the_order_in_which_answers_come_changes_nothing(
    books: Books, risks: list[list[dict[str, Any]]], overlap: int, data: st.DataObject
) -> None:
    """The result is that of answers in page order: summary, risks and all, where chunks overlap too."""
    books.settings = {"split": {"max_pages": MAX_PAGES, "overlap_pages": overlap}}
    books.files.clear()
    pages = 6 if overlap else 9  # five chunks
    for order in ("page order", "any order"):
        path = f"{order} {next(NUMBERS)}.pdf"
        books.add(path, pages, content=f"{next(NUMBERS):06}")
        tasks = books.tasks_of(path)
        told = {task.pages: found for task, found in zip(tasks, risks, strict=True) if isinstance(task, Chunk)}
        books.answer(data.draw(st.permutations(tasks)) if order == "any order" else tasks, risks=told)
    a, b = books.results().values()
    assert len(a.chunks) == 5
    assert bool(a.risks) == any(risks)
    assert replace(a, path="", sha256="", chunks=()) == replace(b, path="", sha256="", chunks=())
    assert [chunk.pages for chunk in a.chunks] == [chunk.pages for chunk in b.chunks]


@pytest.mark.parametrize(
    ("chars_a_page", "max_input_tokens", "planned"),
    [(7000, None, ["1-4"]), (7000, 8000, ["1-2", "3-4"]), (0, 8000, ["1-4"])],
    ids=["no limit", "pages of text", "scans"],
)
def test_what_stands_on_the_pages_and_the_limit_of_tokens_decide_on_chunks(
    books: Books, chars_a_page: int, max_input_tokens: int | None, planned: list[str]
) -> None:
    """The job's limit bounds what the pages are expected to come to; the plan expects what is due."""
    limit = {} if max_input_tokens is None else {"max_input_tokens": max_input_tokens}
    books.settings = {"split": {"max_pages": 4, **limit}}
    books.add("a.pdf", layout=Layout((chars_a_page,) * 4))
    (due,) = books.all_due()
    assert spans(due.tasks) == planned
    row = books.plan()["a.pdf"]
    assert row.chunks == len(planned)
    assert row.usage.input_tokens > sum(task.input_tokens for task in due.tasks if isinstance(task, Chunk))


def test_chunks_end_at_the_bookmarks_that_were_seen(books: Books) -> None:
    """A section that begins near the end of a chunk begins the next."""
    books.settings = {"split": {"max_pages": 8}}
    books.add("plain.pdf", 9)
    books.add("sections.pdf", 9, layout=Layout(bookmarks=(1, 8)))
    assert [spans(tasks) for tasks in books.due()] == [["1-5", "6-9"], ["1-7", "8-9"]]


def test_unchanged_is_what_this_run_sent_nothing_for(books: Books) -> None:
    """A document done by an earlier run is unchanged, one done by this run is not."""
    for path in ("early.pdf", "late.pdf"):
        books.add(path)
    books.finish("early.pdf", run="r0")
    books.finish("late.pdf", run="r1")
    assert {path: result.unchanged for path, result in books.results().items()} == {
        "early.pdf": True,
        "late.pdf": False,
    }


def test_going_back_to_an_earlier_prompt_costs_nothing(books: Books) -> None:
    """Answers are kept under the request that they answer."""
    books.add("a.pdf")
    books.finish("a.pdf")
    books.settings = {"prompt": {"instructions": "Only penalties."}}
    assert books.plan()["a.pdf"].why is Why.PROMPT_CHANGED
    books.settings = {}
    assert books.due() == []
    assert books.plan()["a.pdf"].why is Why.UNCHANGED


def test_an_unknown_price_is_unknown_in_the_plan(books: Books) -> None:
    """Never zero."""
    books.settings = {"endpoint": {"use": "custom", "base_url": "http://127.0.0.1", "model": "nobody-knows"}}
    books.add("a.pdf")
    (row,) = books.standing.plan({}, PriceList())
    assert row.cost_usd is None


def test_nothing_is_written(books: Books, workspace: Workspace) -> None:
    """Looking changes nothing in the books."""
    for name in CASES:
        put_in_place(books, name)
    before = _dump(workspace.ledger)
    books.due(), books.plan(), books.results()
    assert _dump(workspace.ledger) == before


def _dump(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    try:
        return list(database.iterdump())
    finally:
        database.close()


# --- what was cut off


def cut_off(books: Books, task: Task) -> None:
    """A request that a killed run has left without an end."""
    pages = task.pages if isinstance(task, Chunk) else None
    with books.ledger.transaction():
        books.ledger.begin(NewChunk(task.id, task.content, pages), "r0", WHEN)


@pytest.mark.parametrize("on_lost", ["retry", "hold"])
def test_the_plan_knows_what_a_run_will_hold(books: Books, on_lost: str) -> None:
    """Before the run that holds it, and it writes nothing: what the plan says is what is due then."""
    books.settings = {"engine": {"on_lost": on_lost}}
    books.add("a.pdf")
    first, second = books.tasks_of("a.pdf")
    cut_off(books, first)
    planned = books.plan()["a.pdf"]
    assert books.ledger.chunks()[first.id].state is ChunkState.OPEN

    if on_lost == "hold":
        books.ledger.hold()

    assert books.tasks_of("a.pdf") == ([second] if on_lost == "hold" else [first, second])
    assert (planned.chunks, planned.why) == ((1, Why.FAILED_BEFORE) if on_lost == "hold" else (2, Why.NEW))
    assert books.plan()["a.pdf"] == planned
    assert books.due(failed_only=True) == ([(first,)] if on_lost == "hold" else [])


def test_a_summary_of_the_whole_can_be_held_too(books: Books) -> None:
    """It is a request like any other; ``retry`` sends it."""
    books.settings = {"engine": {"on_lost": "hold"}}
    books.add("a.pdf")
    books.answer(books.tasks_of("a.pdf"))
    [synthesis] = books.tasks_of("a.pdf")
    cut_off(books, synthesis)

    assert books.plan()["a.pdf"].usage == Usage()
    books.ledger.hold()
    assert books.due() == []
    assert books.due(failed_only=True) == [(synthesis,)]


def test_what_a_live_endpoint_failed_at_is_not_open_because_rules_have_answered_it(
    books: Books, workspace: Workspace
) -> None:
    """The answer of a trial does not make a held request due again."""
    books.settings = {"engine": {"on_lost": "hold"}, "prompt": {"synthesis": False}}
    books.add("a.pdf", pages=2)
    [task] = books.tasks_of("a.pdf")
    books.settle(task, Answer({}, Exchange(200, model=RULES_MODEL)), ChunkState.ANSWERED)
    cut_off(books, task)
    books.ledger.hold()

    standing = replace(books.standing, job=job.load(workspace.job_file, "yourouter"))
    record = standing.records()[task.id]
    assert (record.state, record.failure, record.model) == (ChunkState.FAILED, FailureClass.LOST, None)
