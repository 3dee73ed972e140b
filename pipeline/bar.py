"""A run on a terminal: a bar of chunks; the only importer of rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline import planner
from pipeline.domain import Answer, ChunkState, Outcome, Split, Synthesis, Task
from pipeline.happenings import Due, NullObserver, told
from pipeline.text import printable


class Bar(NullObserver):
    """A bar of chunks; only what went wrong gets a line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._names: Mapping[str, str] = {}
        self._bar: TaskID | None = None
        self._due = Due()
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
        self._progress.update(self._bar, description="opening and reading", total=self._total)

    def all_due(self) -> None:
        """Told that this is all."""
        if self._bar is not None:
            count = self._due.documents
            self._progress.update(self._bar, description=f"reading {count} document{'' if count == 1 else 's'}")

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """One attempt ended."""
        if not isinstance(outcome, Answer):
            self.said(told(self._names, task, outcome, state, again_in_s))
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
def on_terminal() -> Iterator[Bar]:
    """A bar on stderr, gone when the run has ended."""
    with Progress(*_columns(), console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),  # on 80 columns the numbers need the room
        MofNCompleteColumn(),
        TextColumn("chunks"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
