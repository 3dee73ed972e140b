"""What becomes of a chunk whose request failed. Decides, and does nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pipeline.domain import Chunk, Failure, FailureClass, Task
from pipeline.errors import ExitCode
from pipeline.failures import RetryPolicy, advice

_REFUSED_REQUESTS_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Stop:
    """Why sending ended early, and the exit code for it."""

    exit_code: ExitCode
    reason: str


@dataclass(frozen=True, slots=True)
class Try:
    """A task, and how it was tried in this run.

    ``tries`` were made, the first at ``since_s``, the last asked by schema or in words. ``rejections`` counts
    how often its pages were said to be no good. ``part_of`` is the chunk that it is a part of. ``reduced``: a
    page that was too large as it was.
    """

    task: Task
    max_tokens: int
    part_of: str | None = None
    tries: int = 0
    rejections: int = 0
    since_s: float = 0.0
    by_schema: bool = True
    reduced: bool = False


T = TypeVar("T", bound=Try)


@dataclass(frozen=True, slots=True)
class Again(Generic[T]):
    """Another try in this run, after ``wait_s``; None is at once. ``said`` is for a person to know."""

    item: T
    wait_s: float | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """Its parts take its place; where it has none, it has failed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The chunk has failed; ``stop`` says why the run has to end too."""

    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Blameless:
    """The run has to end, and the chunk is not to blame."""

    stop: Stop


Verdict = Again[T] | Parts | Failed | Blameless


class Judge:
    """One run's judge: it learns from what it has seen.

    ``by_schema`` says how to ask from now on; ``learns_output`` whether a refusal changes that. An answer that
    does not fit into ``max_tokens`` is asked for with twice that, up to ``most_tokens``.
    """

    def __init__(
        self, retry: RetryPolicy, by_schema: bool, learns_output: bool, max_tokens: int, most_tokens: int
    ) -> None:
        self._retry = retry
        self._learns_output = learns_output
        self._max_tokens = max_tokens
        self._more_tokens = min(2 * max_tokens, most_tokens)
        self.by_schema = by_schema
        self._schema_works = False
        self.answers = 0
        self._refused_in_a_row = 0
        self._unexplained: set[str] = set()  # chunks with a page that is no good, which no part has shown to hold yet

    def answered(self, item: Try) -> None:
        """A request was answered as it should be."""
        self.answers += 1
        self._refused_in_a_row = 0
        self._schema_works = self._schema_works or item.by_schema

    def verdict(self, item: T, failure: Failure, now_s: float) -> Verdict[T]:
        """What becomes of the task. ``now_s`` is of the clock of ``since_s``."""
        if self._is_about_output(item, failure):
            return self._in_words(item, failure)
        if failure.output_cut and item.max_tokens < self._more_tokens:  # once: what is cut is billed in full
            return Again(replace(item, max_tokens=self._more_tokens))
        match failure.kind:
            case FailureClass.ACCOUNT:
                reason = f"the API refuses the account: {failure.reason}; {advice(failure)}"
                return Blameless(Stop(ExitCode.ACCOUNT, reason))
            case FailureClass.TRANSIENT:
                wait_s = self._wait_s(item, item.tries, failure, now_s)
                return Failed() if wait_s is None else Again(item, wait_s)
            case FailureClass.DOCUMENT:
                return self._rejected(replace(item, rejections=item.rejections + 1), failure, now_s)
            case FailureClass.TOO_LARGE:
                return Again(replace(item, reduced=True)) if _may_be_reduced(item, failure) else Parts()
            case FailureClass.OURS:
                asked_too_much = item.max_tokens > self._max_tokens  # more than the model has
                return Parts() if asked_too_much else self._refused(failure)
            case FailureClass.REFUSAL | FailureClass.LOST:
                return Failed()

    def _wait_s(self, item: Try, tries: int, failure: Failure, now_s: float) -> float | None:
        return self._retry.wait_s(tries, now_s - (item.since_s or now_s), failure)

    def _rejected(self, item: T, failure: Failure, now_s: float) -> Verdict[T]:
        """The pages are said to be no good: tried again where that may be chance."""
        if item.rejections <= failure.retries_first and not self._explains(item):
            wait_s = self._wait_s(item, item.rejections, failure, now_s)
            if wait_s is not None:
                return Again(item, wait_s)
        self._unexplained.add(item.task.id)
        return Parts()

    def _explains(self, item: Try) -> bool:
        """Whether a part fails as its whole did.

        Then it is no chance, and no more tries are needed. A second part that fails may do so by chance.
        """
        explains = item.part_of in self._unexplained
        self._unexplained.discard(item.part_of or "")
        return explains

    def _refused(self, failure: Failure) -> Failed:
        self._refused_in_a_row += 1
        if self.answers == 0 and self._refused_in_a_row >= _REFUSED_REQUESTS_IN_A_ROW:
            return Failed(Stop(ExitCode.SETTINGS, f"the API refuses every request: {failure.reason}"))
        return Failed()

    def _is_about_output(self, item: Try, failure: Failure) -> bool:
        """Whether asking in words would help: the schema was refused, or seems to have been dropped silently.

        Once an answer has come by schema, one that is not JSON is the model's own slip.
        """
        dropped = failure.kind is FailureClass.TRANSIENT
        may_help = failure.output_refused and item.by_schema and self._learns_output
        return may_help and not (dropped and self._schema_works)

    def _in_words(self, item: T, failure: Failure) -> Again[T]:
        """The same in words, which is no further try."""
        news = f"the endpoint does not take output_config; asking in words from now on ({failure.reason})"
        said = news if self.by_schema else None
        self.by_schema = False
        return Again(replace(item, tries=item.tries - 1), said=said)


def _may_be_reduced(item: Try, failure: Failure) -> bool:
    """Whether a single page was sent and found too large, as it is."""
    was_sent = failure.exchange.status is not None
    is_page = isinstance(item.task, Chunk) and len(item.task.pages) == 1
    return is_page and was_sent and not failure.output_cut and not item.reduced
