"""One round: steps that disturb the job, its books checked after each, and an end in calm that must be whole."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.torture import checks
from tools.torture.books import Books, Process, Request, books_of, requests_of
from tools.torture.checks import Report, Risks
from tools.torture.documents import Document, drawn
from tools.torture.scene import ACCOUNT_FAULTS, PASSING_FAULTS, Scene, TooLateError

WITH_REPORT = frozenset({0, 3, 5, 9})
"""The codes of runs that came to write their report; others may have."""

_MOST_FAULTS = 0.6
_DOWN_BY_CHANCE = 20  # with so many requests in a row that are not answered an endpoint is taken to be down
_CALM_RUNS = 7  # what failed, what is new, what was cut off, summaries, and one that has nothing to send


class RoundFailedError(Exception):
    """The books are wrong; the message lists how."""


@dataclass(slots=True)
class Round:
    """What has happened in a round so far.

    ``undisturbed`` are the risks of each path. ``books`` and ``report`` are as the last process left them.
    """

    scene: Scene
    chance: random.Random
    undisturbed: dict[str, frozenset[tuple[Any, ...]]]
    waiting: list[Document]
    processes: list[Process] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    report: Report | None = None
    story: list[str] = field(default_factory=list)
    checks_made: int = 0

    # --- what a step may do

    def tell(self, line: str) -> None:
        """For the line that is printed about the round."""
        self.story.append(line)

    def requests(self) -> tuple[Request, ...]:
        """Everything that the endpoint saw."""
        return requests_of(self.scene.endpoint.seen)

    def command(self) -> str:
        """``run``, or now and then ``retry`` where something has failed."""
        return "retry" if self._some_failed() and self.chance.random() < 0.3 else "run"

    def new_weather(self) -> None:
        """Other faults from now on, up to 60 % in all."""
        self.scene.rates.clear()
        total = self.chance.uniform(0.0, _MOST_FAULTS)
        kinds = self.chance.sample(PASSING_FAULTS, self.chance.randint(1, len(PASSING_FAULTS)))
        weights = [self.chance.random() for _ in kinds]
        for kind, weight in zip(kinds, weights, strict=True):
            self.scene.rates[kind] = total * weight / sum(weights)

    def change_folder(self) -> None:
        """A document comes in, and now and then one gets another name."""
        if self.waiting:
            self.scene.add(self.waiting.pop(0))
        if self.chance.random() < 0.2:
            path = self.chance.choice(sorted(self.scene.pages))
            new_path = f"renamed {len(self.processes)}.pdf"
            self.scene.rename(path, new_path)
            self.undisturbed[new_path] = self.undisturbed[path]

    def ended(
        self,
        number: int,
        process: subprocess.Popen[bytes],
        allowed: Iterable[int] = (),
        is_cut: bool = False,
        with_workers: bool = True,
    ) -> Process:
        """Wait for a process, ``with_workers`` for all that it started too, and check all books.

        ``allowed`` are codes besides those of a run that nothing disturbs but faults of the endpoint. ``is_cut``
        says that what was in flight may be lost; a killed process and one without a ledger always may.

        Raises:
            RoundFailedError: something is wrong.
        """
        before, report_before = self.books, self.report
        try:
            code = self.scene.ended(process, with_workers)
            self.books, self.report = books_of(self.scene.ledger), self.scene.report()
        except (TooLateError, sqlite3.DatabaseError, ValueError) as error:  # the last: a report that is no JSON
            raise RoundFailedError(f"process {number}: {error}") from None
        run = None if code == 6 else self._run_of(number)
        done = Process(number, run, code, is_cut or code in (-9, 8), self.scene.commands[number])
        self.processes.append(done)
        self._complain(self._about_ledger(before, done, {*allowed, *self._usual_codes(done)}))
        self._complain(self._about_report(before, report_before, done))
        return done

    # --- checks

    def _some_failed(self) -> bool:
        return any(chunk.state == "failed" for chunk in self.books.chunks.values())

    def _run_of(self, number: int) -> str | None:
        """The run that a process began: the one with its requests, or the one that nobody else began."""
        ids = {request.request_id for request in self.requests() if request.process == number}
        taken = {process.run for process in self.processes}
        free = [run.id for run in self.books.runs if run.id not in taken]
        own = {attempt.run for attempt in self.books.attempts if attempt.request_id in ids}
        return next((run for run in free if run in own), free[0] if free else None)

    def _usual_codes(self, process: Process) -> set[int]:
        own = [attempt for attempt in self.books.attempts if attempt.run == process.run]
        asked = {f"req_offline_{seen.ordinal:06d}": seen.fault for seen in self.scene.endpoint.seen}
        codes = {0, 3} if process.run else set()
        if any(asked.get(attempt.request_id or "") in ACCOUNT_FAULTS for attempt in own):
            codes = {5}
        if sum(attempt.outcome == "transient" for attempt in own) >= _DOWN_BY_CHANCE:
            codes.add(9)
        if own and not any(attempt.outcome == "answered" for attempt in own):
            codes.add(9)
            if sum(attempt.outcome == "ours" for attempt in own) >= 3:
                codes.add(4)
        return codes

    def _about_ledger(self, before: Books, process: Process, allowed: set[int]) -> Iterator[Iterable[str]]:
        books, processes, requests = self.books, self.processes, self.requests()
        concurrency = self.scene.settings.concurrency
        yield checks.code_is_explained(process, allowed)
        yield checks.no_answer_lost(before, books)
        yield checks.ledger_is_sound(books)
        yield checks.nothing_unrecorded(books, processes, requests, concurrency)
        yield checks.nothing_paid_twice(books, processes, requests, concurrency)
        yield checks.each_chunk_is_one_request(books, processes, requests)
        if self.scene.settings.on_lost == "hold":
            yield checks.nothing_held_is_sent_unasked(books, processes)

    def _about_report(self, before: Books, report_before: Report | None, process: Process) -> Iterator[Iterable[str]]:
        report, last_run = self.report, self.books.runs[-1].id if self.books.runs else None
        has_reported = process.exit_code in WITH_REPORT
        if has_reported and process.run:
            yield checks.nothing_left_over(self.scene.reports, self.scene.ledger)
        if has_reported and process.run == last_run:
            yield checks.report_is_of(report, process)
        if report is None:
            return
        self._complain([checks.shape_is_documented(report)])  # first of all: the others need its keys
        if report != report_before and report["run"]["id"] in {run.id for run in before.runs}:
            yield ["report.json has changed, and is not of a new run"]
        if report["run"]["id"] == last_run:
            yield checks.report_agrees_with_ledger(report, self.books)
            yield checks.findings_are_undisturbed(report, self.undisturbed)
        if report["run"]["id"] == process.run:  # else the folder has changed since
            yield checks.every_page_is_accounted_for(report, self.books, self.scene.pages)

    def _complain(self, complaints: Iterable[Iterable[str]]) -> None:
        found: list[str] = []
        for check in complaints:
            self.checks_made += 1
            found += check
        if found:
            raise RoundFailedError("\n".join(found))

    # --- the end

    def calm_end(self) -> None:
        """Without faults the job comes to its end: every page answered, the findings those of an undisturbed run.

        Raises:
            RoundFailedError: it does not.
        """
        self.scene.rates.clear()
        while self.waiting:
            self.scene.add(self.waiting.pop(0))
        for _ in range(_CALM_RUNS):
            some_failed = self._some_failed()
            process = self.ended(*self.scene.start("retry" if some_failed else "run"))
            if self.report is not None and not some_failed and self.report["totals"]["requests"] == 0:
                break
        else:
            raise RoundFailedError(f"after {_CALM_RUNS} calm runs there is still something to send")
        readable = {path for path, pages in self.scene.pages.items() if pages is not None}
        done = {document["path"] for document in self.report["documents"] if document["status"] == "done"}
        self._complain(
            [
                checks.code_is_explained(process, {0 if len(readable) == len(self.scene.pages) else 3}),
                [f"{path} is done, or is not, in the end" for path in sorted(readable ^ done)],
            ]
        )


Step = Callable[[Round], None]


def play(scene: Scene, documents: Sequence[Document], undisturbed: Risks, steps: Sequence[Step], seed: int) -> Round:
    """A whole round in ``scene``.

    Raises:
        RoundFailedError: the books are wrong; the scene is as it was then.
    """
    chance = random.Random(f"round {seed}")
    chosen = drawn(documents, chance)
    playing = Round(scene, chance, dict(undisturbed), chosen[2:])
    for document in chosen[:2]:
        scene.add(document)
    for step in steps:
        playing.new_weather()
        playing.change_folder()
        step(playing)
    playing.calm_end()
    return playing


def undisturbed_risks(scene: Scene, documents: Sequence[Document]) -> Risks:
    """The risks of each document as a run that nothing disturbs reports them.

    Raises:
        RoundFailedError: even that run is not whole, or a page has no risk.
    """
    for document in documents:
        scene.add(document)
    code = scene.ended(scene.start()[1])
    report = scene.report()
    if code != 3 or report is None:
        raise RoundFailedError(f"the undisturbed run ended with {code}: {scene.output(1)}")
    risks = checks.risks_of(report)
    for document in documents:
        pages = {page for page, _, _ in risks[document.path]}
        if pages != set(range(1, (document.pages or 0) + 1)):
            raise RoundFailedError(f"the undisturbed run finds risks on pages {sorted(pages)} of {document.path}")
    return risks


def folder_of(place: Path, seed: int) -> Path:
    """Where the round of a seed lies."""
    return place / f"round-{seed}"
