"""Everybody who watches a run: what is shown, and what is written for monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pipeline.dispatch import Observer
from pipeline.domain import ChunkState, Outcome, RunInfo, RunResult, Split, Task
from pipeline.happenings import End
from pipeline.job import Job
from pipeline.metrics import Metrics

# https://opentelemetry.io/docs/specs/otel/protocol/exporter/: an empty value is as good as none.
_COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


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


def of(job: Job, environment: Mapping[str, str], say: Callable[[str], None]) -> Sequence[Observer]:
    """Those that write for monitoring, as job and environment want it; ``say`` is told what they cannot write."""
    observers: list[Observer] = []
    if job.metrics.textfile is not None:
        observers.append(Metrics(job.name, job.metrics.textfile, job.ledger.path, say))
    if any(environment.get(name) for name in _COLLECTOR_VARIABLES) and (traces := _traces(job, say)):
        observers.append(traces)
    return observers


def _traces(job: Job, say: Callable[[str], None]) -> Observer | None:
    try:
        from pipeline import traces  # loads slowly, and what it needs may not be there

        return traces.exported(job.name, job.endpoint, say)
    except ImportError:
        say("no traces: OpenTelemetry is not installed; it comes with docpipe[otel]")
    except Exception as error:  # noqa: BLE001 - a setting that the exporter does not take, in whatever way
        say(f"no traces: {type(error).__name__}; look at the variables OTEL_*")  # its words might hold a token
    return None


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
