"""What a run came to as metrics in Prometheus' text format, for the textfile collector of node_exporter."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.domain import (
    Answer,
    ChunkState,
    DocumentStatus,
    FailureClass,
    Outcome,
    RunStatus,
    Severity,
    Split,
    Task,
)
from pipeline.errors import ExitCode, PipelineError
from pipeline.happenings import End, NullObserver
from pipeline.ledger import Ledger
from pipeline.reports import json_report
from pipeline.text import printable


class Metrics(NullObserver):
    """Counts a run's requests, and writes the file when it has ended, whatever the end.

    ``say`` is told when the file cannot be written; the run ends as it would have.
    """

    def __init__(self, job: str, textfile: Path, ledger: Path, say: Callable[[str], None]) -> None:
        self._job = job
        self._textfile = textfile
        self._ledger = ledger
        self._say = say
        self._begun_s = time.monotonic()
        self._requests: Counter[str] = Counter()

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """One more request of a class, where one was sent."""
        if attempt and not isinstance(outcome, Split):
            self._requests["answered" if isinstance(outcome, Answer) else outcome.kind] += 1

    def ended(self, end: End) -> None:
        """Write the file; one that finds the lock taken leaves that to the run that holds it."""
        if end.exit_code == ExitCode.LOCKED:
            return
        now_s = time.time()
        last_success_s = now_s if end.status is RunStatus.COMPLETE else self._last_success_s()
        duration_s = time.monotonic() - self._begun_s
        try:
            _write(self._textfile, render(self._job, end, self._requests, now_s, duration_s, last_success_s))
        except OSError as error:
            self._say(f"the metrics cannot be written to {self._textfile}: {error.strerror or error}")

    def _last_success_s(self) -> float | None:
        with suppress(PipelineError), Ledger.reading(self._ledger) as ledger:
            ended_at = ledger.last_success(self._job)
            return datetime.fromisoformat(ended_at).timestamp() if ended_at else None
        return None


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric and its samples: for each value of the label, or one without that label, a number."""

    name: str
    help: str
    samples: Mapping[str, float | None]
    label: str = ""

    def lines(self, job: str) -> list[str]:
        known = {value: number for value, number in self.samples.items() if number is not None}
        if not known:
            return []
        name = f"docpipe_{self.name}"
        return [
            f"# HELP {name} {self.help}",
            f"# TYPE {name} gauge",
            *(f"{name}{{{self._labels(job, value)}}} {number!r}" for value, number in known.items()),
        ]

    def _labels(self, job: str, value: str) -> str:
        own = f'job="{_escaped(job)}"'
        return f'{own},{self.label}="{_escaped(value)}"' if self.label else own


def render(
    job: str,
    end: End,
    requests: Mapping[str, int],
    ended_s: float,
    duration_s: float,
    last_success_s: float | None,
) -> bytes:
    """The file: all gauges, for each run replaces the numbers of the one before; what is not known is left out.

    ``requests``: how many ended in an answer ("answered") or a failure of each class. ``ended_s`` and
    ``last_success_s`` are seconds since 1970. The format: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    classes = ("answered", *FailureClass)
    families = [
        _single("last_run_timestamp_seconds", "When the last run ended.", ended_s),
        _single("last_success_timestamp_seconds", "When the last run that was complete ended.", last_success_s),
        _single("last_run_exit_code", "Exit code of the last run.", end.exit_code),
        _single("last_run_duration_seconds", "How long the last run took.", duration_s),
        _Family(
            "last_run_requests",
            "Requests of the last run by what became of them: answered or a class of failure.",
            {str(kind): requests.get(kind, 0) for kind in classes},
            "class",
        ),
    ]
    if end.result is not None:
        families += _of_totals(json_report.totals(end.result))
    return "".join(f"{line}\n" for family in families for line in family.lines(job)).encode()


def _single(name: str, help_text: str, number: float | None) -> _Family:
    return _Family(name, help_text, {"": number})


def _of_totals(totals: Mapping[str, Any]) -> list[_Family]:
    kinds = ("input", "output", "cache_read", "cache_write")
    new_risks = totals["changes"]["new_risks"] if totals["changes"] else {}
    return [
        _Family(
            "last_run_documents",
            "Documents that the last run found, by status.",
            {str(status): totals[status] for status in DocumentStatus},
            "status",
        ),
        _single("last_run_pages", "Pages of the documents of the last run.", totals["pages"]),
        _single("last_run_pages_covered", "Those of these pages that are answered.", totals["pages_covered"]),
        _single("last_run_retries", "Requests for chunks that an earlier one did not answer.", totals["retries"]),
        _Family(
            "last_run_tokens",
            "Tokens of the last run as the API counted them.",
            {kind: totals[f"{kind}_tokens"] for kind in kinds},
            "kind",
        ),
        _single("last_run_cost_usd", "Cost of the last run; absent when it is not known.", totals["cost_usd"]),
        _single(
            "last_run_unpriced_requests",
            "Requests of the last run of which nobody knows what they were billed.",
            totals["unpriced_requests"],
        ),
        _Family(
            "last_run_risks",
            "Risks in all documents of the last run.",
            {str(severity): totals["risks"][severity] for severity in Severity},
            "severity",
        ),
        _Family(
            "last_run_new_risks",
            "Risks that the run before did not report; absent when there was none to compare with.",
            {str(severity): new_risks.get(severity) for severity in Severity},
            "severity",
        ),
    ]


def _escaped(value: str) -> str:
    return printable(value).replace("\\", "\\\\").replace('"', '\\"')


def _write(path: Path, content: bytes) -> None:
    """The whole file at once; the collector reads no name that does not end with ``.prom``.

    Raises:
        OSError: the folder is not there or does not take it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)  # as others may read it by the umask: the collector is another user
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
