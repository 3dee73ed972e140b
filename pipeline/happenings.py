"""What happens in a run, in words: how much is to be sent, what became of an attempt, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.domain import Answer, Chunk, ChunkState, Outcome, RunInfo, RunResult, RunStatus, Split, Task
from pipeline.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Due:
    """How much is to be sent."""

    documents: int = 0
    chunks: int = 0
    pages: int = 0

    def and_more(self, tasks: Sequence[Task]) -> Due:
        """With the tasks of other documents."""
        chunks = [task for task in tasks if isinstance(task, Chunk)]
        documents = len({task.content for task in tasks})
        pages = sum(len(chunk.pages) for chunk in chunks)
        return Due(self.documents + documents, self.chunks + len(chunks), self.pages + pages)

    def __str__(self) -> str:
        counts = ((self.documents, "document"), (self.chunks, "chunk"), (self.pages, "page"))
        return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended. ``reason``: why before its work was done; ``result`` is None where an exception ended it."""

    status: RunStatus
    exit_code: int
    reason: str | None
    result: RunResult | None = None

    @classmethod
    def with_result(cls, result: RunResult) -> Self:
        """That of a run that wrote its reports."""
        return cls(result.run.status, result.run.exit_code, result.run.stopped_because, result)

    @classmethod
    def by(cls, error: BaseException) -> Self:
        """That of a run which an exception ended, or which could not begin."""
        if isinstance(error, KeyboardInterrupt):
            return cls(RunStatus.STOPPED, int(ExitCode.INTERRUPTED), "interrupted")
        exit_code = getattr(error, "exit_code", ExitCode.BUG)
        return cls(RunStatus.STOPPED, int(exit_code), f"{type(error).__name__}: {error}")


class NullObserver:
    """Is told everything that happens, and does nothing about it: for observers that care for some of it."""

    def began(self, job: str, run: RunInfo) -> None:
        """Told of the run."""

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more to send."""

    def all_due(self) -> None:
        """Told that this is all."""

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """Told what became of one attempt."""

    def said(self, line: str) -> None:
        """Told a line for people."""

    def ended(self, end: End) -> None:
        """Told how the run ended."""


def told(
    names: Mapping[str, str], task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None
) -> str:
    """One line about one attempt that ended. ``names``: a path for each content."""
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
