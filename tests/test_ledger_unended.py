"""Which attempts have no end, and which chunks are held because of them, whatever came before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import (
    RULES_MODEL,
    Answer,
    ChunkRecord,
    ChunkState,
    Exchange,
    Failure,
    FailureClass,
    OpenBatch,
    Outcome,
    PageRange,
    Split,
    Usage,
)
from pipeline.failures import of_lost
from pipeline.ledger import Ledger, NewChunk, Settled, Unended
from pipeline.ledger_batches import Batched

BEGUN = "2026-11-22T02:00:07.123+00:00"
REASON = "it may have been billed: sent at 2026-11-22 02:00 UTC and cut off before its answer"
CHUNK = NewChunk("c", "k", PageRange(1, 2))
ANSWERED, FAILED, OPEN = ChunkState.ANSWERED, ChunkState.FAILED, ChunkState.OPEN


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.writing(tmp_path / "state.sqlite3") as opened:
        yield opened


def answer(model: str = "m") -> Answer:
    return Answer({"summary": "S."}, Exchange(200, model=model, usage=Usage(1, 1)))


def begun(ledger: Ledger, chunk: NewChunk = CHUNK, run: str = "r1") -> int:
    with ledger.transaction():
        return ledger.begin(chunk, run, BEGUN)


def ended(ledger: Ledger, attempt: int, outcome: Outcome, state: ChunkState, chunk: str = "c") -> None:
    with ledger.transaction():
        ledger.settle(Settled(attempt, chunk, outcome, state, BEGUN, None), "r1")


OUTCOMES: dict[str, tuple[Outcome, ChunkState]] = {
    "answered": (answer(), ANSWERED),
    "again": (Failure(FailureClass.TRANSIENT, "529"), OPEN),
    "given up": (Failure(FailureClass.TRANSIENT, "529"), FAILED),
    "account": (Failure(FailureClass.ACCOUNT, "401"), OPEN),
    "refused": (Failure(FailureClass.REFUSAL, "no"), FAILED),
    "host lost": (of_lost("the host died", sent=True, hold=True), FAILED),
}


@dataclass
class Known:
    """What must be true of one chunk: the attempts in their order, whether each has ended, and its state."""

    attempts: dict[int, bool] = field(default_factory=dict)
    state: ChunkState = OPEN
    failure: FailureClass | None = None

    @property
    def unended(self) -> list[int]:
        still_wanted = self.state in (OPEN, FAILED)
        return [attempt for attempt, has_ended in self.attempts.items() if still_wanted and not has_ended]

    def settle(self, outcome: Outcome, state: ChunkState) -> None:
        failure = outcome.kind if isinstance(outcome, Failure) else None
        is_final = self.failure not in (None, FailureClass.TRANSIENT, FailureClass.LOST)
        is_passing = failure in (FailureClass.TRANSIENT, FailureClass.ACCOUNT)
        if self.state is not ANSWERED and not (is_final and is_passing):
            self.state, self.failure = state, failure

    def hold(self) -> None:
        if max(self.attempts, default=0) in self.unended:
            self.state, self.failure = FAILED, FailureClass.LOST


STEP = st.tuples(st.sampled_from(["begin", "split", "hold", *OUTCOMES]), st.sampled_from("abc"))


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=25))
def test_the_books_of_attempts_without_an_end_hold_through_any_history(steps: list[tuple[str, str]]) -> None:
    """Attempts begin and end, chunks are split, runs begin and hold: the ledger and three rules in words agree."""
    chunks = {name: Known() for name in "abc"}
    with Ledger.reading(Path("/nowhere/at/all")) as ledger:  # in memory
        for step, name in steps:
            known, chunk = chunks[name], NewChunk(name, "k", PageRange(1, 2))
            in_flight = [attempt for attempt, has_ended in known.attempts.items() if not has_ended]
            if step == "begin":
                known.attempts[begun(ledger, chunk)] = False
            elif step == "split":
                with ledger.transaction():
                    ledger.record_unsent(chunk, Split("too large"), ChunkState.SPLIT)
                if known.state is not ANSWERED:
                    known.state, known.failure = ChunkState.SPLIT, None
            elif step == "hold":
                ledger.hold()
                for one in chunks.values():
                    one.hold()
            elif in_flight:
                outcome, state = OUTCOMES[step]
                ended(ledger, in_flight[0], outcome, state, name)
                known.attempts[in_flight[0]] = True
                known.settle(outcome, state)
        assert [one.attempt for one in ledger.unended()] == sorted(
            itertools.chain.from_iterable(known.unended for known in chunks.values())
        )
        there = {name: known for name, known in chunks.items() if name in ledger.chunks()}
        assert {name: (record.state, record.failure) for name, record in ledger.chunks().items()} == {
            name: (known.state, known.failure) for name, known in there.items()
        }


def test_an_attempt_without_an_end_is_known_with_all_that_it_was_for(ledger: Ledger) -> None:
    """Chunk, run and time, a synthesis too; the second for the same chunk is the last one."""
    synthesis = NewChunk("s", "k", None)
    first, second, third = begun(ledger), begun(ledger, run="r2"), begun(ledger, synthesis)

    assert ledger.unended() == (
        Unended(first, CHUNK, "r1", BEGUN, is_last=False),
        Unended(second, CHUNK, "r2", BEGUN),
        Unended(third, synthesis, "r1", BEGUN),
    )


def test_what_is_held_says_when_it_was_sent(ledger: Ledger) -> None:
    """Once: held again it is no news, and its attempt still has no end, for nobody knows it."""
    begun(ledger)

    assert (ledger.hold(), ledger.hold()) == (1, 0)
    assert ledger.chunks() == {"c": ChunkRecord(FAILED, FailureClass.LOST, REASON)}
    assert ledger.cut_off_attempts() == 1
    assert ledger.spending().cost_usd is None


@pytest.mark.parametrize("word", ["given up", "refused", "answered"])
def test_what_was_held_and_sent_again_is_what_came_of_that(ledger: Ledger, word: str) -> None:
    """Passing trouble too: a person has said that it may be sent, so it is due like any other."""
    begun(ledger)
    ledger.hold()
    outcome, state = OUTCOMES[word]
    ended(ledger, begun(ledger), outcome, state)

    assert ledger.hold() == 0
    assert ledger.chunks()["c"].failure == (outcome.kind if isinstance(outcome, Failure) else None)
    begun(ledger)
    assert ledger.hold() == (word != "answered")  # killed again, it is lost again


def test_what_only_rules_have_answered_can_be_lost(ledger: Ledger) -> None:
    """The request was a live endpoint's, and may have been billed."""
    ended(ledger, begun(ledger), answer(RULES_MODEL), ANSWERED)
    begun(ledger)

    assert ledger.hold() == 1


def test_what_is_in_an_open_batch_is_not_cut_off(ledger: Ledger) -> None:
    """The API has it and will tell; when nothing more is expected of the batch, it is."""
    batch = OpenBatch("b", "account", BEGUN, 1)
    ledger.begin_batch(batch, [Batched("b-0", 100, True, False)], [CHUNK], "r1")
    assert (ledger.unended(), ledger.hold()) == ((), 0)

    with ledger.transaction():
        ledger.end_batch("b", BEGUN)
    assert ledger.hold() == 1


def test_an_attempt_that_a_salvage_found_alone_can_be_held(ledger: Ledger) -> None:
    """Its chunk is known by its id, and not by its pages."""
    ledger._database.execute(
        "INSERT INTO chunks (id, content, first_page, last_page, state) VALUES ('x', '', 0, 0, 'open')"
    )
    begun(ledger, NewChunk("x", "", None))

    assert [one.chunk for one in ledger.unended()] == [NewChunk("x", "", None)]
    assert ledger.hold() == 1
