"""A few rounds of ``make torture``, and that its checks see what they are there to see."""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tools.torture import __main__ as torture
from tools.torture import checks, documents
from tools.torture.books import Books, Process, Request
from tools.torture.checks import Risks
from tools.torture.disturbances import DISTURBANCES, kill, steps_of, two_at_once
from tools.torture.rounds import Round, RoundFailedError, play, undisturbed_risks
from tools.torture.scene import Scene, scene, wait_until

POOL = tuple[documents.Document, ...]


@dataclass(frozen=True)
class Played:
    """What a round has left."""

    books: Books
    processes: Sequence[Process]
    requests: Sequence[Request]
    report: dict[str, Any]
    pages: Mapping[str, int | None]
    risks: Risks
    concurrency: int


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the rounds of this file lie."""
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def pool(place: Path) -> POOL:
    """All documents."""
    return documents.pool(place)


@pytest.fixture(scope="module")
def undisturbed(place: Path, pool: POOL) -> Risks:
    """What a run that nothing disturbs says of them."""
    with scene(place / "undisturbed", random.Random(0)) as calm:
        return undisturbed_risks(calm, pool)


def kill_one(playing: Round) -> None:
    """SIGKILL when the first answer is there."""
    number, process = playing.scene.start()
    wait_until(lambda: any(seen.answered for seen in playing.scene.endpoint.seen), "no answer")
    process.kill()
    playing.ended(number, process, {-signal.SIGKILL})


@pytest.fixture(scope="module")
def played(place: Path, pool: POOL, undisturbed: Risks) -> Played:
    """A round with a kill and two runs at once, survived."""
    with scene(place / "played", random.Random(47)) as stage:
        done = play(stage, pool, undisturbed, [kill_one, two_at_once], seed=3)
        report = stage.report()
        assert report is not None
        return Played(
            done.books, done.processes, done.requests(), dict(report), stage.pages, done.undisturbed,
            stage.settings.concurrency,
        )  # fmt: skip


def test_a_round_is_survived(played: Played) -> None:
    """The kill came in the middle, then there were two runs at once, and every page is answered in the end."""
    killed, first, second, *calm = played.processes

    assert killed.exit_code == -signal.SIGKILL
    assert 6 in (first.exit_code, second.exit_code)
    assert {process.exit_code for process in calm} <= {0, 3}
    assert any(attempt.ended_at is None for attempt in played.books.attempts)
    assert played.report["totals"]["pages_covered"] == played.report["totals"]["pages"] > 12


def test_seeds_in_a_row_bring_every_disturbance() -> None:
    """Each at least once, and a kill in every round; the same seed brings the same."""
    seeds = range(40, 40 + len(DISTURBANCES))
    rounds = [steps_of(seed) for seed in seeds]

    assert {step for steps in rounds for step in steps} == set(DISTURBANCES)
    assert all(kill in steps for steps in rounds)
    assert rounds == [steps_of(seed) for seed in seeds]


def test_a_failed_round_names_its_seed_and_keeps_its_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that repeats it is printed, and the exit code is 1."""

    def fails(stage: Scene, *_: object) -> Round:
        raise RoundFailedError("the books are wrong")

    monkeypatch.setattr(torture, "undisturbed_risks", lambda *_: {})
    monkeypatch.setattr(torture, "play", fails)
    folder = place / "failed"
    folder.mkdir()

    assert torture.survived(folder, range(11, 13)) == 1
    out = capsys.readouterr().out
    assert "the books are wrong" in out
    assert "python -m tools.torture --seed 11 --rounds 1" in out
    assert str(folder / "round-11") in out
    assert (folder / "round-11").is_dir()


# --- what the checks see -----------------------------------------------------------------------------


def test_a_lost_and_a_changed_answer_are_seen(played: Played) -> None:
    """Compared with the books before."""
    chunk, *others = played.books.answers
    lost = replace(played.books, answers={name: played.books.answers[name] for name in others})
    changed_answer = replace(played.books.answers[chunk], result="{}")
    changed = replace(played.books, answers={**played.books.answers, chunk: changed_answer})

    assert list(checks.no_answer_lost(played.books, played.books)) == []
    assert "is gone" in "".join(checks.no_answer_lost(played.books, lost))
    assert "has changed" in "".join(checks.no_answer_lost(played.books, changed))
    assert "has no answer" in "".join(checks.ledger_is_sound(lost))


def paid_twice(played: Played, requests: Sequence[Request]) -> list[str]:
    return list(checks.nothing_paid_twice(played.books, played.processes, requests, played.concurrency))


def test_an_answer_that_was_paid_twice_is_seen(played: Played) -> None:
    """What was never cut off may be answered well once, and what was cut off once more."""
    cut_off = {attempt.chunk for attempt in played.books.attempts if attempt.ended_at is None}
    chunk_of = {attempt.request_id: attempt.chunk for attempt in played.books.attempts}
    good = [request for request in played.requests if request.is_good and request.request_id in chunk_of]
    whole = next(request for request in good if chunk_of[request.request_id] not in cut_off)
    cut = next(request for request in good if chunk_of[request.request_id] in cut_off)
    so_far = sum(request.is_good and request.asked == cut.asked for request in played.requests)

    assert paid_twice(played, played.requests) == []
    assert "paid 2 times, cut off 0 times" in paid_twice(played, [*played.requests, whole])[0]
    assert paid_twice(played, [*played.requests, *[cut] * (2 - so_far)]) == []
    assert "paid 3 times, cut off 1 times" in paid_twice(played, [*played.requests, *[cut] * (3 - so_far)])[0]


@pytest.mark.parametrize(("command", "complaints"), [("run", 1), ("retry", 0)])
def test_what_is_held_and_sent_unasked_is_seen(played: Played, command: str, complaints: int) -> None:
    """Only a person's word sends again what was cut off."""
    again = next(a for a in played.books.attempts if a.ended_at is not None)
    cut_off = replace(again, id=again.id - 1, ended_at=None, outcome=None)
    processes = [replace(process, command=command) for process in played.processes]
    books = Books(attempts=(cut_off, again))

    assert len(list(checks.nothing_held_is_sent_unasked(books, processes))) == complaints


def test_a_paid_answer_that_is_not_on_record_is_seen(played: Played) -> None:
    """A run that was not cut has every request of its own on record, with its end."""
    last = max(played.requests, key=lambda request: request.process)
    attempts = [attempt for attempt in played.books.attempts if attempt.request_id != last.request_id]
    forgotten = replace(played.books, attempts=tuple(attempts))
    endless = replace(played.books, attempts=tuple(replace(a, ended_at=None) for a in played.books.attempts))

    def complaints(books: Books) -> str:
        return "".join(checks.nothing_unrecorded(books, played.processes, played.requests, played.concurrency))

    assert complaints(played.books) == ""
    assert "1 paid requests are not on record" in complaints(forgotten)
    assert "attempts have no end" in complaints(endless)


def agreement(report: Mapping[str, Any], played: Played) -> str:
    return "".join(checks.shape_is_documented(report)) or "".join(
        (
            *checks.report_agrees_with_ledger(report, played.books),
            *checks.every_page_is_accounted_for(report, played.books, played.pages),
            *checks.findings_are_undisturbed(report, played.risks),
        )
    )


def first_done(report: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = next(d for d in report["documents"] if d["risks"])
    return document


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (lambda report: report["totals"].update(requests=99), "totals.requests is 99"),
        (lambda report: report["totals"].update(cost_usd=1.0), "totals.cost_usd is 1.0"),
        (lambda report: report["totals"].update(input_tokens=-1), "totals.input_tokens is -1"),
        (lambda report: report["run"].update(exit_code=7), "run.exit_code is 7"),
        (lambda report: report["run"].pop("status"), "report.json lacks run.status"),
        (lambda report: report.update(extra=1), "the key extra, which is not documented"),
        (lambda report: report.update(title=None), "title is None, not text"),
        (lambda report: report["documents"].pop(), "the report lists"),
        (lambda report: first_done(report).update(missing_pages=[[1, 1]]), "are not its pages"),
        (lambda report: first_done(report).update(status="partial"), "is partial with 0 of"),
        (lambda report: first_done(report)["chunks"].pop(), "are not its pages"),
        (lambda report: first_done(report)["chunks"][0].update(status="open"), "status is 'open'"),
        (lambda report: first_done(report)["chunks"][0].update(attempts=0), "attempts is 0"),
        (lambda report: first_done(report)["risks"].pop(), "lacks [("),
        (lambda report: first_done(report)["risks"][0].update(page=77), "which an undisturbed run has not"),
    ],
)  # fmt: skip
def test_a_report_that_says_something_else_is_seen(
    played: Played, tamper: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    """Each number and word that differs from the ledger, the folder or an undisturbed run."""
    report = copy.deepcopy(played.report)
    report["run"]["finished_at"] = played.books.runs[-1].finished_at
    assert agreement(report, played) == ""

    tamper(report)

    assert complaint in agreement(report, played)


def test_what_was_left_over_is_seen(tmp_path: Path) -> None:
    """Temporary files in the report folder, and the folder of cut chunks."""
    (tmp_path / "reports" / "documents").mkdir(parents=True)
    (tmp_path / "reports" / "documents" / "a.md").touch()
    (tmp_path / "reports" / "report.json").touch()
    assert list(checks.nothing_left_over(tmp_path / "reports", tmp_path / "x.sqlite3")) == []

    (tmp_path / "reports" / "documents" / ".docpipe-1.tmp").touch()
    (tmp_path / "x.sqlite3.spool").mkdir()

    assert len(list(checks.nothing_left_over(tmp_path / "reports", tmp_path / "x.sqlite3"))) == 2


def test_an_unexplained_code_is_seen() -> None:
    """A bug has no excuse."""
    process = Process(4, "run", exit_code=1, is_cut=False)

    assert list(checks.code_is_explained(process, {0, 3})) == ["process 4 ended with code 1, allowed are 0, 3"]


def test_a_report_of_another_run_is_seen(played: Played) -> None:
    """So are another code than the process's, and documents that are not done under code 0."""
    last = played.processes[-1]
    half_done = copy.deepcopy(played.report)
    half_done["documents"][0]["status"] = "partial"
    half_done["run"]["exit_code"] = 0

    assert list(checks.report_is_of(played.report, last)) == []
    assert "without a report of its own" in "".join(checks.report_is_of(played.report, replace(last, run="x")))
    assert "its report says" in "".join(checks.report_is_of(played.report, replace(last, exit_code=9)))
    assert "are not done" in "".join(checks.report_is_of(half_done, replace(last, exit_code=0)))


def test_a_chunk_that_is_sent_with_other_bytes_is_seen(played: Played) -> None:
    """And so are two chunks with the same."""
    recorded = {attempt.request_id for attempt in played.books.attempts}
    known = [request for request in played.requests if request.request_id in recorded]
    same = [replace(request, asked="the same") for request in known]
    twice = [*known, replace(known[0], asked="other bytes")]

    def complaints(requests: Sequence[Request]) -> str:
        return "".join(checks.each_chunk_is_one_request(played.books, played.processes, requests))

    assert complaints(played.requests) == ""
    assert "was sent for" in complaints(same)
    assert "was sent with 2 different documents" in complaints(twice)
