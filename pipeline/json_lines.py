"""A run as events for programs: one JSON object a line on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pipeline.domain import Chunk, ChunkState, Exchange, Failure, Outcome, RunInfo, Split, Task, Usage
from pipeline.happenings import Due, End
from pipeline.reports import json_report
from pipeline.text import printable, shortened

_MOST_CHARACTERS = 1000  # of a text that a server or an exception made


class JsonLines:
    """All events of a run, each with all of its keys, null where there is nothing to say.

    Lines are ASCII and never empty; texts are made printable as on a terminal, so that no file name can end a line or
    break what reads them. Document text, prompts and answers are in none of them.
    """

    def __init__(self) -> None:
        self._job: str | None = None
        self._run: str | None = None
        self._names: Mapping[str, str] = {}
        self._due = Due()

    def began(self, job: str, run: RunInfo) -> None:
        """``run_started``."""
        self._job, self._run = job, run.id
        self._write("run_started", endpoint=run.endpoint, model=run.model, version=run.version)

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""
        self._names = names

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more to send."""
        self._due = self._due.and_more(tasks)

    def all_due(self) -> None:
        """``due``: what is sent in all."""
        self._write("due", documents=self._due.documents, chunks=self._due.chunks, pages=self._due.pages)

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """``attempt_ended``."""
        failure = outcome if isinstance(outcome, Failure) else None
        wire = Exchange() if isinstance(outcome, Split) else outcome.exchange
        self._write(
            "attempt_ended",
            document=self._names.get(task.content),
            chunk=task.id,
            pages=[task.pages.first, task.pages.last] if isinstance(task, Chunk) else None,
            attempt=attempt or None,
            state=state,
            failure=failure.kind if failure else None,
            reason=outcome.reason if isinstance(outcome, Failure | Split) else None,
            again_in_s=again_in_s,
            http_status=wire.status,
            request_id=wire.request_id,
            latency_s=round(wire.latency_s, 3) if attempt else None,
            model=wire.model,
            **_tokens(wire.usage),
        )

    def said(self, line: str) -> None:
        """``said``: something that a person may want to know."""
        self._write("said", text=line)

    def ended(self, end: End) -> None:
        """``run_ended``."""
        totals = json_report.totals(end.result) if end.result else None
        self._write("run_ended", status=end.status, exit_code=end.exit_code, reason=end.reason, totals=totals)

    def _write(self, event: str, **values: object) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"time": time, "event": event, "job": self._job, "run": self._run}
        line = json.dumps({key: _told(value) for key, value in {**head, **values}.items()})
        with suppress(OSError):  # a reader that has gone away is no reason to end the run
            print(line, file=sys.stderr, flush=True)


def _told(value: object) -> object:
    return shortened(printable(value), _MOST_CHARACTERS) if isinstance(value, str) else value


def _tokens(usage: Usage | None) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cache_read_tokens": usage.cache_read_tokens if usage else None,
        "cache_write_tokens": usage.cache_write_tokens if usage else None,
    }
