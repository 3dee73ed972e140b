"""What is sent when, what becomes of each outcome, and when a run ends early."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pipeline import dispatch, planner
from pipeline.dispatch import Dispatcher, Rules
from pipeline.domain import (
    Answer,
    Chunk,
    ChunkRecord,
    ChunkState,
    Exchange,
    Failure,
    FailureClass,
    Outcome,
    PageRange,
    Payload,
    Split,
    Synthesis,
    Task,
    Usage,
)
from pipeline.errors import ExitCode
from pipeline.failures import RetryPolicy, not_this_run, of_lost
from pipeline.ledger import Ledger
from pipeline.planner import PlannedChunk
from pipeline.prices import PriceList
from pipeline.verdicts import Stop
from tests.conftest import DEADLINE_S, Quiet

ANSWER = Answer({"summary": "S."}, Exchange(200, "req_1", 0.1, "m", Usage(0, 0)))
DOWN = Failure(FailureClass.TRANSIENT, "529: Overloaded", Exchange(529))
NO_ANSWER = Failure(FailureClass.TRANSIENT, "the answer does not fit", Exchange(200))
CHANGED = not_this_run("the file changed")
OURS = Failure(FailureClass.OURS, "400: wrong", Exchange(400))
ACCOUNT = Failure(FailureClass.ACCOUNT, "401: no", Exchange(401))
REFUSED = Failure(FailureClass.REFUSAL, "refused", Exchange(200))
TOO_LARGE = Failure(FailureClass.TOO_LARGE, "413: too large", Exchange(413))
BAD_PDF = Failure(FailureClass.DOCUMENT, "400: The PDF specified was not valid", Exchange(400))
FLAKY_PDF = Failure(FailureClass.DOCUMENT, "400: Could not process PDF", Exchange(400), retries_first=2)

Play = Callable[[str, int], Outcome | Exception]
"""What a try of a part comes to: the part's name and the number of its try, from 1."""


def part(task: Task) -> str:
    """``a 1-4`` for a chunk, ``a all`` for a synthesis."""
    return f"{task.content} {task.pages}" if isinstance(task, Chunk) else f"{task.content} all"


def chunk(content: str, first: int = 1, last: int = 1) -> Chunk:
    return Chunk(f"{content} {first}-{last}", content, PageRange(first, last))


def new_parts(
    whole: Chunk, after: int | None, known: Mapping[str, ChunkRecord] = MappingProxyType({})
) -> tuple[PlannedChunk, ...]:
    """Its parts, of which nothing is known but this."""
    return planner.planned(planner.parts(whole, "f", after), "f", known)


def singles(count: int) -> list[Task]:
    """So many documents of one page."""
    return [chunk(f"d{number:02}") for number in range(count)]


async def at_once(tasks: Sequence[Task]) -> AsyncIterator[Sequence[Task]]:
    """All that is due, known from the start."""
    yield tasks


@dataclass
class Actor:
    """A sender that plays by a script and notes what is asked of it."""

    play: Play
    prepared_as: Callable[[str], Payload | Failure | Split | Exception] = lambda name: Payload(None)
    before: Callable[[str], Any] = lambda name: None
    sent: list[str] = field(default_factory=list)
    begun_s: list[float] = field(default_factory=list)
    by_schema: list[bool] = field(default_factory=list)
    max_tokens: list[int] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    reduced: list[bool] = field(default_factory=list)
    recorded_attempts: list[int] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def recorded(self, attempt: int, task: Task) -> None:
        self.recorded_attempts.append(attempt)

    async def prepare(self, task: Task, reduced: bool) -> Payload | Failure | Split:
        self.prepared.append(part(task))
        self.reduced.append(reduced)
        await asyncio.sleep(0)
        result = self.prepared_as(part(task))
        if isinstance(result, Exception):
            raise result
        return result

    async def send(self, attempt: int, task: Task, payload: Payload, by_schema: bool, max_tokens: int) -> Outcome:
        name = part(task)
        self.begun_s.append(time.monotonic())
        self.sent.append(name)
        self.by_schema.append(by_schema)
        self.max_tokens.append(max_tokens)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            wait = self.before(name)
            for _ in range(3):
                await asyncio.sleep(0)
            if wait is not None:
                await wait
            result = self.play(name, self.sent.count(name))
            if isinstance(result, Exception):
                raise result
            return result
        finally:
            self.in_flight -= 1


class Stage:
    """A dispatcher over a ledger of its own; ``states`` are those on disk."""

    def __init__(self, path: Path, actor: Actor, **settings: Any) -> None:
        self.path = path
        self.actor = actor
        self.observer = Quiet()
        self.answered: list[tuple[str, bool]] = []
        self.follow_up: Callable[[str], Synthesis | None] = settings.pop("follow_up", lambda content: None)
        self.parts: Callable[[Chunk, int | None], Sequence[PlannedChunk]] = settings.pop("parts", new_parts)
        attempts, first_wait_s = settings.pop("attempts", 6), settings.pop("first_wait_s", 0.0)
        max_wait_s = settings.pop("max_wait_s", 60.0)
        given: dict[str, Any] = {
            "run": "r1",
            "concurrency": 2,
            "requests_per_minute": 0,
            "retry": RetryPolicy(attempts, first_wait_s, max_wait_s),
            "by_schema": True,
            "learns_output": True,
            "max_tokens": 1000,
            "most_tokens": 3000,
            "model": "m",
            "prices": PriceList(1.0, 1.0),
            "max_usd": None,
        }
        self.rules = Rules(**(given | settings))
        self.dispatcher: Dispatcher

    def heard(self, chunk: Chunk, is_busy: bool) -> None:
        self.answered.append((part(chunk), is_busy))

    def send(self, tasks: Sequence[Task], deadline_s: float = DEADLINE_S) -> Stop | None:
        async def within_deadline() -> Stop | None:
            self.dispatcher = Dispatcher(
                ledger, self.rules, self.actor, self.parts, self.follow_up, self.heard, self.observer
            )
            return await asyncio.wait_for(self.dispatcher.send_all(at_once(tasks)), deadline_s)

        with Ledger.writing(self.path) as ledger:
            return asyncio.run(within_deadline())

    def rows(self, query: str) -> list[Any]:
        database = sqlite3.connect(self.path)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    @property
    def states(self) -> dict[str, str]:
        query = "SELECT content, first_page, last_page, state FROM chunks"
        return {_name(*row[:3]): row[3] for row in self.rows(query)}

    @property
    def without_end(self) -> int:
        """Attempts that no end is on record for."""
        return int(self.rows("SELECT count(*) FROM attempts WHERE ended_at IS NULL")[0][0])


def _name(content: str, first: int | None, last: int | None) -> str:
    if first is None or last is None:
        return f"{content} all"
    return f"{content} {PageRange(first, last)}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


def always(outcome: Outcome | Exception) -> Play:
    return lambda name, number: outcome


def names(tasks: Sequence[Task]) -> list[str]:
    return [part(task) for task in tasks]


# --- order and bounds


def test_an_attempt_is_on_disk_before_it_is_sent(path: Path) -> None:
    """A process killed while it sends leaves a trace of what may have been billed."""
    on_disk: list[tuple[int, str]] = []

    def look(name: str) -> None:
        rows = stage.rows("SELECT count(*) FROM attempts WHERE ended_at IS NULL")
        on_disk.append((rows[0][0], stage.states[name]))

    actor = Actor(lambda name, number: ANSWER if number == 2 else DOWN, before=look)
    stage = Stage(path, actor, concurrency=1)
    assert stage.send(singles(3)) is None
    assert on_disk == [(1, "open")] * 6
    assert stage.without_end == 0


@pytest.mark.parametrize("concurrency", [1, 3, 7])
def test_never_more_than_the_concurrency_in_flight(path: Path, concurrency: int) -> None:
    """And as many as that, whatever fails in between."""
    actor = Actor(lambda name, number: ANSWER if number == 3 else DOWN)
    stage = Stage(path, actor, concurrency=concurrency, attempts=30)
    assert stage.send(singles(20)) is None
    assert actor.most_in_flight == concurrency
    assert len(actor.sent) == 60
    assert set(stage.states.values()) == {"answered"}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_is_cut_ahead_than_is_in_flight(path: Path, concurrency: int) -> None:
    """The spool holds parts of a few documents, not of the whole folder."""
    ahead = []

    def play(name: str, number: int) -> Outcome:
        ahead.append(len(actor.prepared) - len(actor.sent))
        return ANSWER

    actor = Actor(play)
    Stage(path, actor, concurrency=concurrency).send(singles(30))
    assert max(ahead) == concurrency


def test_requests_begin_at_the_pace_that_was_set(path: Path) -> None:
    """The n-th begins no earlier than n intervals after the start, one of which may have been made up for."""
    actor = Actor(always(ANSWER))
    begun_s = time.monotonic()
    Stage(path, actor, concurrency=4, requests_per_minute=6000).send(singles(12))
    assert len(actor.begun_s) == 12
    for number, at_s in enumerate(actor.begun_s):
        assert at_s - begun_s >= (number - 1) * 0.01


def test_what_the_server_asks_for_is_awaited(path: Path) -> None:
    """A retry begins no earlier than the server said; others go on meanwhile."""
    asked = Failure(FailureClass.TRANSIENT, "503", Exchange(503), retry_after_s=0.1)
    actor = Actor(lambda name, number: asked if (name, number) == ("d00 1", 1) else ANSWER)
    Stage(path, actor, concurrency=2).send(singles(4))
    assert actor.sent == ["d00 1", "d01 1", "d02 1", "d03 1", "d00 1"]
    assert actor.begun_s[4] - actor.begun_s[0] >= 0.1


def test_who_gets_too_much_is_left_alone_by_all(path: Path) -> None:
    """After a 429 nothing begins until the server's time is over, whoever waits."""
    slower = Failure(FailureClass.TRANSIENT, "429", Exchange(429), retry_after_s=0.1, slow_down=True)
    actor = Actor(lambda name, number: slower if (name, number) == ("d00 1", 1) else ANSWER)
    Stage(path, actor, concurrency=1).send(singles(4))
    assert len(actor.sent) == 5
    assert all(at_s - actor.begun_s[0] >= 0.1 for at_s in actor.begun_s[1:])


SOON = 0.2
LATER = Failure(FailureClass.TRANSIENT, "503", Exchange(503), retry_after_s=SOON)
SLOWER = Failure(FailureClass.TRANSIENT, "429", Exchange(429), retry_after_s=SOON, slow_down=True)


@pytest.mark.parametrize(
    ("play", "settings"),
    [
        (lambda name, number: LATER if number == 1 else ANSWER, {"concurrency": 4}),
        (lambda name, number: SLOWER if (name, number) == ("d00 1", 1) else ANSWER, {"concurrency": 1}),
        (always(ANSWER), {"concurrency": 2, "requests_per_minute": 300}),
    ],
    ids=["retries", "cool-down", "pace"],
)
def test_the_loop_does_not_spin_while_it_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch, play: Play, settings: dict[str, Any]
) -> None:
    """A wait is one turn of the loop, not thousands."""
    turns = 0
    turn = Dispatcher._turn

    def counted(self: Dispatcher) -> None:
        nonlocal turns
        turns += 1
        turn(self)

    monkeypatch.setattr(Dispatcher, "_turn", counted)
    stage = Stage(path, Actor(play), **settings)
    begun_s = time.monotonic()
    stage.send(singles(4))
    assert time.monotonic() - begun_s >= SOON
    assert set(stage.states.values()) == {"answered"}
    assert turns <= 5 * len(stage.actor.sent)


# --- halves


def test_halves_of_what_could_not_be_sent_come_before_fresh_chunks(path: Path) -> None:
    """A document in work is finished before the next is begun."""
    too_much = {"a 1-4", "a 3-4"}
    actor = Actor(always(ANSWER), prepared_as=lambda name: Split("too large") if name in too_much else Payload(None))
    stage = Stage(path, actor, concurrency=1)
    stage.send([chunk("a", 1, 4), *singles(3)])
    assert actor.sent == ["a 1-2", "a 3", "a 4", "d00 1", "d01 1", "d02 1"]
    assert {stage.states[name] for name in too_much} == {"split"}


@pytest.mark.parametrize(
    ("state", "prepared"),
    [
        (ChunkState.OPEN, ["a 5-8"]),
        (ChunkState.ANSWERED, ["a 5-8"]),
        (ChunkState.SPLIT, ["a 1-2", "a 3-4", "a 5-8"]),
    ],
)
def test_what_was_cut_ahead_is_sent_for_its_own_pages_alone(path: Path, state: ChunkState, prepared: list[str]) -> None:
    """The first part of a split comes ready to be sent; not where it is answered, or was split before."""
    first = planner.parts(chunk("a", 1, 8), "f")[0]
    parts = partial(new_parts, known={first.id: ChunkRecord(state)})
    cut = Split("too large", 4, Payload(Path("first"), 1))
    actor = Actor(always(ANSWER), prepared_as=lambda name: cut if name == "a 1-8" else Payload(None))
    assert Stage(path, actor, concurrency=1, parts=parts).send([chunk("a", 1, 8)]) is None
    assert actor.prepared == ["a 1-8", *prepared]
    assert actor.sent == (["a 1-4"] if state is ChunkState.OPEN else []) + prepared


def test_halves_of_what_was_refused_come_before_what_is_not_yet_cut(path: Path) -> None:
    """Only what lies ready goes first."""
    actor = Actor(lambda name, number: TOO_LARGE if name == "a 1-4" else ANSWER)
    Stage(path, actor, concurrency=1).send([chunk("a", 1, 4), *singles(4)])
    assert actor.sent.index("a 3-4") == actor.sent.index("a 1-2") + 1
    assert actor.sent[-2:] == ["d02 1", "d03 1"]


@pytest.mark.parametrize("failure", [TOO_LARGE, BAD_PDF])
def test_a_bad_page_is_halved_free(path: Path, failure: Failure) -> None:
    """It stands alone with its reason; all others are answered."""
    actor = Actor(lambda name, number: failure if _holds(name, 6) else ANSWER)
    stage = Stage(path, actor)
    assert stage.send([chunk("a", 1, 8)]) is None
    states = stage.states
    assert states["a 6"] == "failed"
    assert Counter(states.values()) == {"split": 3, "answered": 3, "failed": 1}
    assert stage.rows("SELECT reason FROM chunks WHERE state = 'failed'") == [(failure.reason,)]


@pytest.mark.parametrize(("play", "state"), [(lambda name, number: TOO_LARGE if number == 1 else ANSWER, "answered"),
                                             (lambda name, number: TOO_LARGE, "failed")])  # fmt: skip
def test_a_page_that_was_sent_and_was_too_large_is_sent_smaller_once(path: Path, play: Play, state: str) -> None:
    """Then it is answered, or it has failed for good."""
    stage = Stage(path, Actor(play))
    stage.send([chunk("a")])
    assert (stage.actor.sent, stage.actor.reduced) == (["a 1"] * 2, [False, True])
    assert stage.states == {"a 1": state}


def test_only_a_page_that_was_sent_alone_is_sent_smaller(path: Path) -> None:
    """Not several pages, nor one whose answer was cut, nor one that could not be made small enough before."""
    unsent = Failure(FailureClass.TOO_LARGE, "cannot be made small enough")
    plays = {"a 1-2": TOO_LARGE, "a 1": CUT}
    prepared = {"b 1": unsent}
    actor = Actor(lambda name, number: plays.get(name, ANSWER), lambda name: prepared.get(name, Payload(None)))
    stage = Stage(path, actor)
    stage.send([chunk("a", 1, 2), chunk("b")])
    assert stage.states == {"a 1-2": "split", "a 1": "failed", "a 2": "answered", "b 1": "failed"}
    assert True not in stage.actor.reduced


def _holds(name: str, page: int) -> bool:
    first, _, last = name.split()[1].partition("-")
    return int(first) <= page <= int(last or first)


def test_a_flaky_refusal_of_a_pdf_gets_exactly_two_more_tries_on_the_same_bytes(path: Path) -> None:
    """Then the chunk is halved. One half that fails was to be expected; the other may fail by chance: it has tries."""
    stage = Stage(path, Actor(always(FLAKY_PDF)))
    stage.send([chunk("a", 1, 2)])
    assert stage.actor.sent[:3] == ["a 1-2"] * 3
    assert sorted(Counter(stage.actor.sent).values()) == [1, 3, 3]
    assert stage.states == {"a 1-2": "split", "a 1": "failed", "a 2": "failed"}


@pytest.mark.parametrize("pages", [*range(1, 18), 41, 100, 129])
def test_a_bad_page_is_found_with_few_requests(path: Path, pages: int) -> None:
    """At most 2 log2(pages) + 3 more than without it, wherever it stands, two tries on the same bytes among them."""
    for bad in {1, pages // 3 + 1, pages // 2 + 1, pages // 2 + 2, pages} & set(range(1, pages + 1)):
        actor = Actor(partial(_refusing_page, bad))
        stage = Stage(path.with_suffix(f".{bad}"), actor, concurrency=3)
        assert stage.send([chunk("a", 1, pages)]) is None
        assert len(actor.sent) - 1 <= 2 * math.log2(pages) + 3
        assert [name for name, state in stage.states.items() if state == "failed"] == [f"a {bad}"]
        assert actor.sent[:3] == [part(chunk("a", 1, pages))] * 3


def _refusing_page(bad: int, name: str, number: int) -> Outcome:
    return FLAKY_PDF if _holds(name, bad) else ANSWER


def test_passing_trouble_takes_no_try_from_a_flaky_refusal(path: Path) -> None:
    """Two tries on the same bytes are two, whatever came between."""
    script = {1: DOWN, 2: FLAKY_PDF, 3: DOWN, 4: FLAKY_PDF}
    stage = Stage(path, Actor(lambda name, number: script.get(number, ANSWER)))
    stage.send([chunk("a", 1, 2)])
    assert stage.actor.sent == ["a 1-2"] * 5
    assert stage.states == {"a 1-2": "answered"}


CUT = Failure(FailureClass.TOO_LARGE, "the answer did not fit into max_tokens", Exchange(200), output_cut=True)


def test_an_answer_that_does_not_fit_gets_room_for_twice_as_much_first(path: Path) -> None:
    """The same pages are asked again once; then they are halved, and the halves begin with the job's own limit."""
    stage = Stage(path, Actor(lambda name, number: CUT if name == "a 1-2" else ANSWER), concurrency=1, most_tokens=9000)
    stage.send([chunk("a", 1, 2)])
    assert list(zip(stage.actor.sent, stage.actor.max_tokens, strict=True)) == [
        ("a 1-2", 1000),
        ("a 1-2", 2000),
        ("a 1", 1000),
        ("a 2", 1000),
    ]
    assert stage.states == {"a 1-2": "split", "a 1": "answered", "a 2": "answered"}


def test_no_more_room_is_asked_for_than_there_may_be(path: Path) -> None:
    """A single page whose answer never fits fails with that reason."""
    for most_tokens, asked in ((9000, [1000, 2000]), (1500, [1000, 1500]), (1000, [1000])):
        stage = Stage(path.with_suffix(f".{most_tokens}"), Actor(always(CUT)), most_tokens=most_tokens)
        stage.send([chunk("a")])
        assert stage.actor.max_tokens == asked
        assert stage.states == {"a 1": "failed"}


def test_a_model_that_has_no_more_room_gets_smaller_chunks(path: Path) -> None:
    """A request that is wrong because of the larger max_tokens is our own doing."""
    script = {1: CUT, 2: OURS}
    stage = Stage(path, Actor(lambda name, number: script[number] if name == "a 1-2" else ANSWER))
    assert stage.send([chunk("a", 1, 2)]) is None
    assert stage.states == {"a 1-2": "split", "a 1": "answered", "a 2": "answered"}


@pytest.mark.parametrize("tries", [2, 3])
def test_a_flaky_refusal_that_passes_costs_nothing_but_tries(path: Path, tries: int) -> None:
    """The second or third try is answered, and nothing is halved."""
    stage = Stage(path, Actor(lambda name, number: ANSWER if number == tries else FLAKY_PDF))
    stage.send([chunk("a", 1, 2)])
    assert stage.actor.sent == ["a 1-2"] * tries
    assert stage.states == {"a 1-2": "answered"}


# --- synthesis


def _joined(content: str) -> Synthesis:
    return Synthesis(f"{content} all", content, ((PageRange(1, 2), "S."),))


def test_a_synthesis_follows_the_last_chunk_of_its_document(path: Path) -> None:
    """Halves count as chunks; it comes before fresh documents that are not yet cut."""
    actor = Actor(lambda name, number: TOO_LARGE if name == "a 3-4" else ANSWER)
    stage = Stage(path, actor, concurrency=1, follow_up=_joined)
    stage.send([chunk("a", 1, 2), chunk("a", 3, 4), chunk("b"), chunk("c"), chunk("d")])
    assert Counter(name for name in actor.sent if "all" in name) == {"a all": 1, "b all": 1, "c all": 1, "d all": 1}
    assert actor.sent.index("a all") > max(actor.sent.index(name) for name in ("a 1-2", "a 3", "a 4"))
    assert actor.sent.index("a all") < actor.sent.index("d 1")
    assert stage.states["a all"] == "answered"


def test_no_synthesis_for_a_document_with_a_gap(path: Path) -> None:
    """What is not there cannot be summed up."""
    actor = Actor(lambda name, number: REFUSED if name == "a 3-4" else ANSWER)
    Stage(path, actor, follow_up=_joined).send([chunk("a", 1, 2), chunk("a", 3, 4)])
    assert "a all" not in actor.sent


# --- schema or words


def test_a_refused_schema_is_learned_and_costs_no_try(path: Path) -> None:
    """From the first refusal on all is asked in words, with as many tries as without it."""
    refused = Failure(FailureClass.OURS, "400: output_config", Exchange(400), output_refused=True)
    script = {("d00 1", 1): refused, ("d00 1", 2): DOWN, ("d01 1", 1): DOWN}
    actor = Actor(lambda name, number: script.get((name, number), ANSWER))
    stage = Stage(path, actor, concurrency=1, attempts=2)
    assert stage.send(singles(4)) is None
    assert Counter(actor.sent) == {"d00 1": 3, "d01 1": 2, "d02 1": 1, "d03 1": 1}
    assert actor.by_schema == [True] + [False] * 6
    assert set(stage.states.values()) == {"answered"}
    assert any("asking in words" in line for line in stage.observer.lines)


def test_a_refused_schema_that_the_job_insists_on_is_a_failure(path: Path) -> None:
    """``output = "json_schema"`` is not given up silently."""
    refused = Failure(FailureClass.OURS, "400: output_config", Exchange(400), output_refused=True)
    stage = Stage(path, Actor(always(refused)), learns_output=False)
    stage.send(singles(1))
    assert stage.actor.by_schema == [True]
    assert stage.states == {"d00 1": "failed"}


# --- ends


def test_a_bug_in_one_worker_lets_the_others_finish_and_then_surfaces(path: Path) -> None:
    """What is in flight is recorded, nothing more begins, and the bug is not swallowed."""
    gate = asyncio.Event()

    def play(name: str, number: int) -> Outcome | Exception:
        if name == "d01 1":
            gate.set()  # the others go on after the bug
            return RuntimeError("a bug")
        return ANSWER

    actor = Actor(play, before=lambda name: None if name == "d01 1" else gate.wait())
    stage = Stage(path, actor, concurrency=3)
    with pytest.raises(RuntimeError, match="a bug"):
        stage.send(singles(12))
    assert actor.sent == ["d00 1", "d01 1", "d02 1"]
    assert stage.states == {"d00 1": "answered", "d01 1": "open", "d02 1": "answered"}


def test_a_bug_in_cutting_surfaces_too(path: Path) -> None:
    """After what was in flight is recorded."""
    actor = Actor(always(ANSWER), prepared_as=lambda name: RuntimeError("a bug") if name == "d03 1" else Payload(None))
    stage = Stage(path, actor, concurrency=2)
    with pytest.raises(RuntimeError, match="a bug"):
        stage.send(singles(12))
    assert stage.without_end == 0
    assert "d03 1" not in stage.states
    assert set(stage.states.values()) == {"answered"}
    assert len(actor.sent) <= 4


def test_an_interrupt_leaves_what_was_cut_ahead_open(path: Path) -> None:
    """What is in flight is awaited and recorded; nobody is to blame for the rest."""

    def play(name: str, number: int) -> Outcome:
        if len(actor.sent) == 4:
            stage.dispatcher.interrupt()
        return ANSWER

    actor = Actor(play)
    stage = Stage(path, actor, concurrency=2)
    stop = stage.send(singles(12))
    assert stop is not None
    assert stop.exit_code is ExitCode.INTERRUPTED
    assert set(actor.prepared) > set(actor.sent)
    assert stage.states == dict.fromkeys(actor.sent, "answered")
    assert stage.without_end == 0


def test_account_trouble_ends_the_feeding_and_blames_no_chunk(path: Path) -> None:
    """Only what was in flight is still settled."""
    actor = Actor(lambda name, number: ACCOUNT if name == "d03 1" else ANSWER)
    stage = Stage(path, actor, concurrency=2)
    stop = stage.send(singles(20))
    assert stop is not None
    assert (stop.exit_code, "401: no" in stop.reason) == (ExitCode.ACCOUNT, True)
    assert len(actor.sent) <= 6
    assert stage.states["d03 1"] == "open"
    assert set(stage.states.values()) == {"answered", "open"}


def test_a_transient_failure_that_the_end_cuts_short_leaves_its_chunk_open(path: Path) -> None:
    """It was not tried to the end."""
    gate = asyncio.Event()

    def play(name: str, number: int) -> Outcome:
        if name == "d00 1":
            stage.dispatcher.interrupt()
            gate.set()
            return ANSWER
        return DOWN

    stage = Stage(path, Actor(play, before=lambda name: None if name == "d00 1" else gate.wait()))
    stage.send(singles(2))
    assert stage.states == {"d00 1": "answered", "d01 1": "open"}
    assert stage.actor.sent == ["d00 1", "d01 1"]


NO_SCHEMA = Failure(FailureClass.OURS, "400: output_config", Exchange(400), output_refused=True)


@pytest.mark.parametrize("outcome", [FLAKY_PDF, CUT, DOWN, NO_SCHEMA], ids=lambda failure: failure.reason)
def test_nobody_is_told_of_another_try_once_the_run_ends(path: Path, outcome: Failure) -> None:
    """Whatever would be tried again is left open to the next run."""

    def play(name: str, number: int) -> Outcome:
        stage.dispatcher.interrupt()
        return outcome

    stage = Stage(path, Actor(play))
    stage.send([chunk("a", 1, 2)])
    assert stage.states == {"a 1-2": "open"}
    assert stage.observer.again_in_s == [None]


def test_three_refused_requests_with_no_success_end_the_run(path: Path) -> None:
    """The API calls every request wrong: the settings are, so nothing more is sent."""
    stage = Stage(path, Actor(always(OURS)), concurrency=1)
    stop = stage.send(singles(12))
    assert stop is not None
    assert (stop.exit_code, "400: wrong" in stop.reason) == (ExitCode.SETTINGS, True)
    assert len(stage.actor.sent) == 3


def test_refused_requests_after_a_success_end_nothing(path: Path) -> None:
    """Then it is these chunks, not the settings."""
    stage = Stage(path, Actor(lambda name, number: ANSWER if name == "d00 1" else OURS), concurrency=1)
    assert stage.send(singles(8)) is None
    assert Counter(stage.states.values()) == {"answered": 1, "failed": 7}


NOT_AGAIN = Failure(FailureClass.TRANSIENT, "503: not again", Exchange(503), retry_after_s=math.inf)
IN_STREAM = Failure(FailureClass.TRANSIENT, "200 overloaded_error", Exchange(200), retry_after_s=0.001, slow_down=True)


@pytest.mark.parametrize("failure", [NOT_AGAIN, IN_STREAM], ids=["x-should-retry: false", "an error in a stream"])
def test_an_endpoint_is_down_however_it_says_so(path: Path, failure: Failure) -> None:
    """That it asks for no other try, or begins to answer before it fails, does not make it one that answers."""
    stage = Stage(path, Actor(always(failure)), concurrency=4, attempts=3, max_wait_s=0.01)
    stop = stage.send(singles(60))
    assert stop is not None
    assert stop.exit_code is ExitCode.API_DOWN
    assert len(stage.actor.sent) <= 8 + 6 + 4


@pytest.mark.parametrize("concurrency", [1, 2, 10])
def test_an_endpoint_that_gives_no_answer_ends_the_run(path: Path, concurrency: int) -> None:
    """It is asked as often as may be in flight and then as often as one chunk may be, not so often for each chunk."""
    stage = Stage(path, Actor(always(DOWN)), concurrency=concurrency, attempts=5)
    stop = stage.send(singles(40))
    assert stop is not None
    assert (stop.exit_code, "Overloaded" in stop.reason) == (ExitCode.API_DOWN, True)
    assert max(concurrency, 8) + 10 <= len(stage.actor.sent) <= max(concurrency, 8) + 10 + concurrency
    assert set(stage.rows("SELECT failure FROM chunks")) <= {("transient",)}  # the next run takes them up


def test_an_endpoint_that_is_down_is_asked_one_request_at_a_time(path: Path) -> None:
    """Until it answers; then the run goes on as if nothing had been."""
    in_flight: list[int] = []

    def play(name: str, number: int) -> Outcome:
        in_flight.append(actor.in_flight)
        return DOWN if len(actor.sent) <= 14 else ANSWER

    actor = Actor(play)
    stage = Stage(path, actor, concurrency=8, attempts=20)
    assert stage.send(singles(40)) is None
    assert set(stage.states.values()) == {"answered"}
    assert in_flight[11:14] == [1, 1, 1]
    assert max(in_flight[20:]) == 8


def test_one_chunk_without_an_answer_is_not_an_endpoint_that_is_down(path: Path) -> None:
    """Something in it may bring the endpoint to its knees; the others get their answers."""
    stage = Stage(path, Actor(lambda name, number: DOWN if name == "d05 1" else ANSWER), concurrency=1, attempts=4)
    assert stage.send(singles(6)) is None
    assert Counter(stage.states.values()) == {"answered": 5, "failed": 1}
    assert stage.actor.sent.count("d05 1") == 4


def test_a_single_chunk_without_an_answer_is_an_endpoint_that_is_down(path: Path) -> None:
    """When there is no other."""
    stage = Stage(path, Actor(always(DOWN)), attempts=3)
    stop = stage.send(singles(1))
    assert stop is not None
    assert stop.exit_code is ExitCode.API_DOWN
    assert stage.actor.sent == ["d00 1"] * 3


@pytest.mark.parametrize("heard", [REFUSED, BAD_PDF, NO_ANSWER], ids=lambda failure: failure.reason)
def test_an_endpoint_that_has_said_something_was_not_down_to_the_end(path: Path, heard: Failure) -> None:
    """Though no answer came of it, and the last chunk found nobody there."""
    play: Play = lambda name, number: heard if name == "d00 1" else DOWN  # noqa: E731
    stage = Stage(path, Actor(play), concurrency=1, attempts=3)
    assert stage.send(singles(2)) is None
    assert set(stage.states.values()) == {"failed"}


TOMORROW = Failure(FailureClass.TRANSIENT, "429", Exchange(429), retry_after_s=3600.0, slow_down=True)


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_who_must_wait_longer_than_the_longest_wait_is_left_to_the_next_run(path: Path, concurrency: int) -> None:
    """It is not dropped and not to blame, and all others are sent, however many may be in flight."""
    late = {"d01 1", "d02 1"}
    actor = Actor(lambda name, number: TOMORROW if name in late else ANSWER)
    stage = Stage(path, actor, concurrency=concurrency, max_wait_s=0.05)
    assert stage.send(singles(8)) is None
    assert stage.states == {name: "open" if name in late else "answered" for name in names(singles(8))}
    assert Counter(actor.sent) == Counter(names(singles(8)))


def test_an_endpoint_that_makes_all_wait_longer_is_down(path: Path) -> None:
    """The whole folder is not sent once over to hear that."""
    actor = Actor(lambda name, number: TOMORROW if len(actor.sent) > 5 else ANSWER)
    stage = Stage(path, actor, concurrency=4, attempts=3, max_wait_s=0.01)
    stop = stage.send(singles(60))
    assert stop is not None
    assert stop.exit_code is ExitCode.API_DOWN
    assert len(actor.sent) < 30
    assert set(stage.states.values()) == {"answered", "open"}


def test_who_must_wait_longer_is_sent_in_this_run_if_it_takes_that_long(path: Path) -> None:
    """The wait is over before the others are done."""
    soon = Failure(FailureClass.TRANSIENT, "429", Exchange(429), retry_after_s=0.1)
    actor = Actor(
        lambda name, number: soon if (name, number) == ("d00 1", 1) else ANSWER,
        before=lambda name: asyncio.sleep(0.3) if name == "d01 1" else None,
    )
    stage = Stage(path, actor, concurrency=2, max_wait_s=0.05)
    assert stage.send(singles(3)) is None
    assert actor.sent.count("d00 1") == 2
    assert set(stage.states.values()) == {"answered"}


LOST_HOST = of_lost("the host a was lost", sent=True, hold=False)


@pytest.mark.parametrize(
    "outcome",
    [NO_ANSWER, CHANGED, REFUSED, LOST_HOST],
    ids=["answer does not fit", "changed", "refused", "host lost"],
)
def test_what_says_nothing_about_the_endpoint_does_not_make_it_down(path: Path, outcome: Failure) -> None:
    """It has answered, or was not asked."""
    stage = Stage(path, Actor(always(outcome)), attempts=2)
    assert stage.send(singles(20)) is None
    assert set(stage.states.values()) == {"failed"}
    assert len(stage.states) == 20


def test_a_lost_host_slows_nobody_down(path: Path) -> None:
    """As many requests as before are in flight, though all failed in a row, and each is sent again."""
    in_flight: list[int] = []

    def play(name: str, number: int) -> Outcome:
        in_flight.append(actor.in_flight)
        return LOST_HOST if len(actor.sent) <= 40 else ANSWER

    actor = Actor(play)
    stage = Stage(path, actor, concurrency=8, attempts=20)
    assert stage.send(singles(40)) is None
    assert set(stage.states.values()) == {"answered"}
    assert in_flight[40] == 8


def test_what_is_held_is_final_for_its_chunk_and_stops_nothing(path: Path) -> None:
    """It is sent once, the others go on, and nobody knows what it cost."""
    held = of_lost("the host a was lost", sent=True, hold=True)
    stage = Stage(path, Actor(lambda name, number: held if name < "d12" else ANSWER), concurrency=2)
    assert stage.send(singles(20)) is None
    assert len(stage.actor.sent) == 20
    assert Counter(stage.rows("SELECT state, failure FROM chunks")) == {("failed", "lost"): 12, ("answered", None): 8}
    assert Counter(stage.rows("SELECT outcome, may_be_billed, cost_usd FROM attempts"))[("lost", 1, None)] == 12


def test_what_never_left_its_host_is_sent_again_though_lost_ones_are_held(path: Path) -> None:
    """Nothing of it can have been billed."""
    unsent = of_lost("the host a was lost", sent=False, hold=True)
    stage = Stage(path, Actor(lambda name, number: unsent if number == 1 else ANSWER))
    assert stage.send(singles(3)) is None
    assert set(stage.states.values()) == {"answered"}
    assert ("transient", 0) in stage.rows("SELECT outcome, may_be_billed FROM attempts")


def test_a_cancelled_dispatcher_gives_up_what_is_in_flight_and_keeps_what_came(path: Path) -> None:
    """Attempts without an answer stay without an end: they may have been billed."""
    never = asyncio.Event()
    actor = Actor(always(ANSWER), before=lambda name: None if name == "d00 1" else never.wait())
    stage = Stage(path, actor, concurrency=3)

    async def cancelled() -> None:
        stage.dispatcher = Dispatcher(
            ledger, stage.rules, actor, stage.parts, stage.follow_up, stage.heard, stage.observer
        )
        sending = asyncio.create_task(stage.dispatcher.send_all(at_once(singles(9))))
        while len(actor.sent) < 4:
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with Ledger.writing(path) as ledger:
        asyncio.run(cancelled())
    assert actor.in_flight == 0
    assert Counter(stage.states.values()) == {"answered": 1, "open": 3}
    assert stage.without_end == 3


def test_each_answered_chunk_is_told_with_whether_others_wait(path: Path) -> None:
    """Whoever looks for its quotes can let requests go first; a failed chunk has none."""
    stage = Stage(path, Actor(lambda name, number: OURS if name == "d01 1" else ANSWER), concurrency=1)
    stage.send(singles(4))
    assert sorted(stage.answered) == [("d00 1", True), ("d02 1", True), ("d03 1", False)]


# --- more comes in


def send_as_it_comes(stage: Stage, due: Callable[[], AsyncIterator[Sequence[Task]]]) -> Stop | None:
    """Send what ``due`` gives while it is being sent."""

    async def within_deadline() -> Stop | None:
        stage.dispatcher = Dispatcher(
            ledger, stage.rules, stage.actor, stage.parts, stage.follow_up, stage.heard, stage.observer
        )
        return await asyncio.wait_for(stage.dispatcher.send_all(due()), DEADLINE_S)

    with Ledger.writing(stage.path) as ledger:
        return asyncio.run(within_deadline())


def test_no_more_is_looked_for_than_can_soon_be_sent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are opened faster than their chunks are sent: what waits in memory does not grow with the folder."""
    monkeypatch.setattr(dispatch, "_TAKEN_AHEAD", 5)
    stage, ahead = Stage(path, Actor(always(ANSWER)), concurrency=2), []

    async def due() -> AsyncIterator[Sequence[Task]]:
        for number, task in enumerate(singles(60)):
            ahead.append(number - len(stage.actor.prepared))
            yield [task]

    assert send_as_it_comes(stage, due) is None
    assert len(stage.actor.sent) == 60
    assert 5 <= max(ahead) <= 8  # two are being made ready, one is being given


def test_what_is_due_is_sent_while_more_is_looked_for(path: Path) -> None:
    """The first requests leave, and are answered and recorded, before it is known what else is to be sent."""
    stage = Stage(path, Actor(always(ANSWER)), concurrency=2)

    async def due() -> AsyncIterator[Sequence[Task]]:
        for task in singles(5):
            yield [task]
            while len(stage.observer.outcomes) < len(stage.actor.sent) or part(task) not in stage.actor.sent:
                await asyncio.sleep(0)

    assert send_as_it_comes(stage, due) is None
    assert stage.actor.sent == [part(task) for task in singles(5)]
    assert stage.observer.lines == ["sending 5"]


def test_an_interrupted_run_looks_for_no_more(path: Path) -> None:
    """Also when nothing is in flight at that time: what looks for more is ended before the run is."""
    stage = Stage(path, Actor(always(ANSWER)))
    ended: list[str] = []

    async def due() -> AsyncIterator[Sequence[Task]]:
        try:
            yield singles(1)
            while not stage.observer.outcomes:
                await asyncio.sleep(0)
            stage.dispatcher.interrupt()
            await asyncio.Event().wait()
        finally:
            ended.append("due")

    stop = send_as_it_comes(stage, due)
    assert stop is not None
    assert stop.exit_code is ExitCode.INTERRUPTED
    assert ended == ["due"]
    assert set(stage.states.values()) == {"answered"}


def test_a_bug_while_more_is_looked_for_ends_the_run_after_what_is_in_flight(path: Path) -> None:
    """What was sent is paid for, so it is recorded first."""
    stage = Stage(path, Actor(always(ANSWER)))

    async def due() -> AsyncIterator[Sequence[Task]]:
        yield singles(2)
        while not stage.actor.in_flight:
            await asyncio.sleep(0)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        send_as_it_comes(stage, due)
    assert "answered" in stage.states.values()
    assert stage.without_end == 0


# --- money


def priced(pages: int) -> Answer:
    """An answer that costs just what is expected of so many pages."""
    return Answer({}, Exchange(200, None, 0.1, "m", Usage(900 + 3500 * pages, 800 + 150 * pages)))


def test_the_budget_is_held_with_what_is_in_flight(path: Path) -> None:
    """A request begins only where its expected cost fits in beside all others."""
    stage = Stage(path, Actor(always(priced(1))), concurrency=4, max_usd=0.02)
    stop = stage.send(singles(20))
    assert stop is not None
    assert stop.exit_code is ExitCode.BUDGET
    assert len(stage.actor.sent) == 3  # 0.00535 each
    assert set(stage.states.values()) == {"answered"}


def test_an_answer_cheaper_than_expected_makes_room(path: Path) -> None:
    """What was reserved and not spent is there for the next."""
    stage = Stage(path, Actor(always(ANSWER)), concurrency=1, max_usd=0.006)
    assert stage.send(singles(20)) is None
    assert len(stage.actor.sent) == 20


def test_a_budget_used_up_ends_the_run_whatever_was_reserved(path: Path) -> None:
    """Sums of dollars that do not come back to zero to the last bit keep no run from its end."""
    tasks: list[Task] = [chunk(f"d{number:02}", 1, number % 7 + 1) for number in range(60)]
    actor = Actor(lambda name, number: priced(_pages(name)))
    stop = Stage(path, actor, concurrency=5, max_usd=0.3).send(tasks, deadline_s=5)
    assert stop is not None
    assert stop.exit_code is ExitCode.BUDGET
    assert 3 < len(actor.sent) < 60


def _pages(name: str) -> int:
    first, _, last = name.split()[1].partition("-")
    return int(last or first) - int(first) + 1
