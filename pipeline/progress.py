"""How a run shows itself on stderr: a bar on a terminal, one line per event elsewhere; knows rich."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline import planner
from pipeline.domain import Answer, Chunk, ChunkState, Outcome, Split, Synthesis, Task
from pipeline.text import printable


class Lines:
    """One line per event, for logs and cron mail: no escape sequences, nothing overwritten."""

    def __init__(self) -> None:
        self._names: Mapping[str, str] = {}
        self._due = _Due()

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""
        self._names = names

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more to send."""
        self._due = self._due.and_more(tasks)

    def all_due(self) -> None:
        """Told that this is all."""
        self.said(f"sending {self._due} in all")

    def settled(self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None) -> None:
        """What became of one attempt."""
        self.said(_told(self._names, task, outcome, state, again_in_s))

    def said(self, line: str) -> None:
        """A line of its own; a reader that has gone away, as in ``| head``, is no reason to end the run."""
        with suppress(OSError):
            print(printable(line), file=sys.stderr, flush=True)


class Bar:
    """A bar of chunks; only what went wrong gets a line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._names: Mapping[str, str] = {}
        self._bar: TaskID | None = None
        self._due = _Due()
        self._total = 0

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""
        self._names = names

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more to send: what is opened meanwhile makes the bar longer."""
        before = self._due.chunks
        self._due = self._due.and_more(tasks)
        self._total += self._due.chunks - before
        if self._bar is None:
            self._bar = self._progress.add_task("")
        self._progress.update(self._bar, description=f"opening files; so far {self._due}", total=self._total)

    def all_due(self) -> None:
        """Told that this is all."""
        if self._bar is not None:
            self._progress.update(self._bar, description=f"reading {self._due}")

    def settled(self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None) -> None:
        """One attempt ended."""
        if not isinstance(outcome, Answer):
            self.said(_told(self._names, task, outcome, state, again_in_s))
        if self._bar is None or isinstance(task, Synthesis):
            return
        if state is ChunkState.SPLIT:
            after = outcome.after if isinstance(outcome, Split) else None
            self._total += len(planner.parts(task, "", after)) - 1
            self._progress.update(self._bar, total=self._total)
        elif state is not ChunkState.OPEN:
            self._progress.advance(self._bar)

    def said(self, line: str) -> None:
        """A line above the bar; a terminal that has gone away is no reason to end the run."""
        with suppress(OSError):
            self._progress.console.print(escape(printable(line)), highlight=False, emoji=False)


@contextmanager
def shown() -> Iterator[Bar | Lines]:
    """The right one for where stderr leads."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("chunks"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)


@dataclass(frozen=True, slots=True)
class _Due:
    """How much is to be sent."""

    documents: int = 0
    chunks: int = 0
    pages: int = 0

    def and_more(self, tasks: Sequence[Task]) -> _Due:
        """With the tasks of other documents."""
        chunks = [task for task in tasks if isinstance(task, Chunk)]
        documents = len({task.content for task in tasks})
        pages = sum(len(chunk.pages) for chunk in chunks)
        return _Due(self.documents + documents, self.chunks + len(chunks), self.pages + pages)

    def __str__(self) -> str:
        counts = ((self.documents, "document"), (self.chunks, "chunk"), (self.pages, "page"))
        return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)


def _told(
    names: Mapping[str, str], task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None
) -> str:
    part = task.pages.label if isinstance(task, Chunk) else "summary of the whole"
    what = f"{names.get(task.content, task.content)}, {part}"
    if isinstance(outcome, Answer):
        return f"{what}: answered in {outcome.exchange.latency_s:.1f} s"
    if isinstance(outcome, Split) or state is ChunkState.SPLIT:
        return f"{what}: halved ({outcome.reason})"
    if again_in_s is not None:
        return f"{what}: {outcome.reason}; again in {again_in_s:.1f} s"
    verdict = "not answered" if state is ChunkState.OPEN else "failed"
    return f"{what}: {verdict}: {outcome.reason}"
