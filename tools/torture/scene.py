"""One job in a folder of its own with an endpoint of its own, and the processes that run it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.serve import Endpoint, running
from tools.torture.books import PROCESS_HEADER
from tools.torture.documents import Document

ROOT = Path(__file__).resolve().parents[2]
KEY_VARIABLE = "DOCPIPE_TORTURE_KEY"
_DEADLINE_S = 120.0
_WAIT_S = 0.002

ACCOUNT_FAULTS = (
    FaultKind.AUTHENTICATION,
    FaultKind.BILLING,
    FaultKind.PERMISSION,
    FaultKind.MODEL_NOT_FOUND,
    FaultKind.SPEND_LIMIT,
    FaultKind.USAGE_LIMITS,
)
PASSING_FAULTS = tuple(kind for kind in FaultKind if kind not in ACCOUNT_FAULTS)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a round's job file says, drawn by its seed."""

    concurrency: int
    max_pages: int
    synthesis: bool
    stream: bool
    output: str
    formats: tuple[str, ...]
    latency_s: float
    on_lost: str

    @classmethod
    def drawn(cls, chance: random.Random) -> Settings:
        """Any settings that a round can have."""
        return cls(
            concurrency=chance.randint(2, 8),
            max_pages=chance.randint(1, 3),
            synthesis=chance.random() < 0.5,
            stream=chance.random() < 0.5,
            output=chance.choice(("auto", "json_schema", "prompt")),
            formats=tuple(chance.sample(("html", "markdown", "csv", "xlsx"), chance.randint(0, 4))),
            latency_s=chance.choice((0.0, 0.02, 0.05)),
            on_lost=chance.choice(("retry", "hold")),
        )


class TooLateError(Exception):
    """Something that must happen did not happen within two minutes."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again until it holds.

    Raises:
        TooLateError: it did not within two minutes.
    """
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TooLateError(what)
        time.sleep(_WAIT_S)


@dataclass(slots=True)
class Scene:
    """The folder of a round. ``rates`` is the weather at the endpoint; change it while nothing is under way.

    ``commands`` are those of the processes, by their numbers.
    """

    folder: Path
    settings: Settings
    endpoint: Endpoint
    rates: dict[FaultKind, float]
    base_url: str
    key: str
    pages: dict[str, int | None] = field(default_factory=dict)
    started: int = 0
    commands: dict[int, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        """The ledger's path; its folder holds nothing else."""
        return self.folder / "state" / "night.sqlite3"

    @property
    def reports(self) -> Path:
        """The report folder."""
        return self.folder / "reports"

    def add(self, document: Document) -> None:
        """Put a document into the folder."""
        place = self.folder / "docs" / document.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(document.content)
        self.pages[document.path] = document.pages

    def rename(self, path: str, new_path: str) -> None:
        """Move a document within the folder."""
        (self.folder / "docs" / path).rename(self.folder / "docs" / new_path)
        self.pages[new_path] = self.pages.pop(path)

    def report(self) -> Mapping[str, Any] | None:
        """report.json as it is; None when there is none.

        Raises:
            ValueError: it is not JSON.
        """
        try:
            report: Mapping[str, Any] = json.loads((self.reports / "report.json").read_bytes())
        except FileNotFoundError:
            return None
        return report

    def start(
        self, command: str = "run", prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> tuple[int, subprocess.Popen[bytes]]:
        """``docpipe COMMAND`` as a process in a group of its own, and its number."""
        self.started += 1
        self.commands[self.started] = command
        job_file = self.folder / "jobs" / str(self.started) / "night.toml"  # one for each: its header tells it apart
        job_file.parent.mkdir(parents=True)
        job_file.write_text(self._job(self.started))
        environment = {**_clean_environment(), KEY_VARIABLE: self.key, **(environment or {})}
        with (job_file.parent / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "pipeline", command, str(job_file)],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return self.started, process

    def output(self, number: int) -> str:
        """What a process has printed."""
        return (self.folder / "jobs" / str(number) / "output.txt").read_text("utf-8", "replace")

    def ended(self, process: subprocess.Popen[bytes], with_workers: bool = True) -> int:
        """Wait for the end of a process, of all that it started, and of its requests; its exit code.

        Raises:
            TooLateError: something goes on and on.
        """
        try:
            code = process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise TooLateError("the process does not come to its end") from None
        if with_workers:
            wait_until(lambda: not any(self.left_processes()), "worker processes outlive the run")
        wait_until(self._is_quiet, "the endpoint does not come to rest")
        return code

    def left_processes(self) -> Iterator[int]:
        """Processes of this round that are alive, by the key in their environment. Linux only."""
        mark = f"{KEY_VARIABLE}={self.key}".encode()
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in entry.read_bytes():
                    yield int(entry.parent.name)
            except OSError:  # it has ended, or is another user's
                continue

    def end_processes(self) -> None:
        """End whatever this round has started and is still alive."""
        for process in self.left_processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _is_quiet(self) -> bool:
        return all(seen.status is not None or seen.fault is FaultKind.DROP for seen in self.endpoint.seen)

    def _job(self, number: int) -> str:
        settings = self.settings
        return f"""
            title = "Torture"
            [source]
            folder = "{self.folder / "docs"}"
            [endpoint]
            use = "custom"
            base_url = "{self.base_url}"
            api_key_env = "{KEY_VARIABLE}"
            headers = {{ {PROCESS_HEADER} = "{number}" }}
            model = "offline-rules-1"
            stream = {str(settings.stream).lower()}
            output = "{settings.output}"
            [split]
            max_pages = {settings.max_pages}
            [workers]
            concurrency = {settings.concurrency}
            [engine]
            on_lost = "{settings.on_lost}"
            [retry]
            first_wait_seconds = 0.01
            max_wait_seconds = 0.2
            [prompt]
            synthesis = {str(settings.synthesis).lower()}
            [report]
            folder = "{self.reports}"
            formats = {list(settings.formats)}
            [ledger]
            path = "{self.ledger}"
            """


def _clean_environment() -> dict[str, str]:
    """Nothing of the developer's shell can change a result."""
    ours = ("MAKELEVEL", "MAKEFLAGS", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.upper().endswith(("_PROXY", "_API_KEY"))
    }


@contextmanager
def scene(folder: Path, chance: random.Random) -> Iterator[Scene]:
    """A scene with an empty folder, its endpoint served for as long as the block lasts."""
    settings = Settings.drawn(chance)
    rates: dict[FaultKind, float] = {}
    slow = FaultRule(Fault(FaultKind.SLOW, seconds=0.3), every=chance.randint(5, 25), times=2)
    limited = FaultRule(Fault(FaultKind.RATE_LIMIT, retry_after_s=0.1), every=chance.randint(5, 25), times=2)
    plan = FaultPlan((slow, limited), rates, chance.getrandbits(32))
    endpoint = Endpoint(plan, settings.latency_s, keep_bodies=True)
    for name in ("docs", "state", "reports"):
        (folder / name).mkdir(parents=True)
    key = f"sk-torture-{uuid.uuid4().hex}"  # tells its processes from those of the same seed played beside it
    with running(endpoint) as base_url:
        made = Scene(folder, settings, endpoint, rates, base_url, key)
        try:
            yield made
        finally:
            made.end_processes()
