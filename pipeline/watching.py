"""Everybody who watches a run: what is shown, and what is written for monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pipeline.dispatch import Observer
from pipeline.domain import ChunkState, Outcome, RunInfo, RunResult, Split, Task
from pipeline.happenings import End
from pipeline.job import Job
from pipeline.metrics import Metrics


class Watch:
    """All observers of a run as one. Those that ``join`` are told before the one that shows."""

    def __init__(self, shown: Observer) -> None:
        self._observers = [shown]
        self.result: RunResult | None = None

    def join(self, observers: Sequence[Observer]) -> None:
        """From now on these are told too."""
        self._observers[:0] = observers

    def began(self, job: str, run: RunInfo) -> None:
        """Told of the run."""
        for observer in self._observers:
            observer.began(job, run)

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""
        for observer in self._observers:
            observer.found(names)

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more to send."""
        for observer in self._observers:
            observer.due(tasks)

    def all_due(self) -> None:
        """Told that this is all."""
        for observer in self._observers:
            observer.all_due()

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """What became of one attempt."""
        for observer in self._observers:
            observer.settled(task, outcome, state, again_in_s, attempt)

    def said(self, line: str) -> None:
        """A line for people."""
        for observer in self._observers:
            observer.said(line)

    def ended(self, end: End) -> None:
        """Told how it ended."""
        for observer in self._observers:
            observer.ended(end)


def of(job: Job, say: Callable[[str], None]) -> Sequence[Observer]:
    """Those that write for monitoring, as the job wants them; ``say`` is told what they cannot write."""
    if job.metrics.textfile is None:
        return ()
    return (Metrics(job.name, job.metrics.textfile, job.ledger.path, say),)


@contextmanager
def watched(shown: Observer) -> Iterator[Watch]:
    """A watch that is told in the end how the run ended: by the ``result`` it was given, or by an exception."""
    watch = Watch(shown)
    try:
        yield watch
    except BaseException as error:
        watch.ended(End.by(error))
        raise
    if watch.result is not None:
        watch.ended(End.with_result(watch.result))
