"""What many tests need: PDFs, job files, a served endpoint, and an environment of their own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from PIL import Image
from reportlab import rl_config
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from pipeline import job, run
from pipeline.dispatch import Observer
from pipeline.domain import ChunkState, Outcome, RunResult, Split, Task
from pipeline.happenings import NullObserver
from pipeline.sandbox import Sandbox
from tests.ray_cluster import RayCluster

pytest_plugins = ["tests.buckets"]

KEY = "sk-test-5f2c9d0b7a"
DEADLINE_S = 60.0


class Quiet(NullObserver):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.chunks_due = 0
        self.outcomes: list[Outcome | Split] = []
        self.again_in_s: list[float | None] = []

    def due(self, tasks: Sequence[Task]) -> None:
        self.chunks_due += len(tasks)

    def all_due(self) -> None:
        self.lines.append(f"sending {self.chunks_due}")

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        self.outcomes.append(outcome)
        self.again_in_s.append(again_in_s)

    def said(self, line: str) -> None:
        self.lines.append(line)


def write_pdf(path: Path, pages: Sequence[str]) -> Path:
    """A PDF with these lines of text, one string a page; the same bytes for the same pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path), invariant=1)
    for text in pages:
        for number, line in enumerate(text.split("\n")):
            canvas.drawString(60, 780 - 16 * number, line)
        canvas.showPage()
    canvas.save()
    return path


def noisy_page(
    path: Path, pages: int = 1, noisy: int = 1, inline: bool = False, size: tuple[int, int] = (900, 1200)
) -> Path:
    """Pages of one clause each; the page numbered ``noisy`` has a picture all over it that no packing makes smaller.

    ``inline``: the picture stands in the page's content. ``size`` is in pixels of three bytes.
    """
    noise = Image.frombytes("RGB", size, random.Random(1).randbytes(3 * size[0] * size[1]))
    canvas = Canvas(str(path), invariant=1)
    with patch.object(rl_config, "useA85", inline):  # else binary, as most programs write images
        for number in range(1, pages + 1):
            if number == noisy and inline:
                canvas.drawInlineImage(noise, 0, 0, 595, 700)
            elif number == noisy:
                canvas.drawImage(ImageReader(noise), 0, 0, 595, 700)
            canvas.drawString(60, 780, clause(number).split("\n")[1])
            canvas.showPage()
        canvas.save()
    return path


def clause(number: int) -> str:
    """A page with one risk that the rules know, in words that stand on no other page."""
    words = f"The Supplier may increase the fees of schedule K{number:03} at any time in its sole discretion."
    return f"Page title {number}\n{words}"


class _SharedSandbox(Sandbox):
    """One worker process for the runs of all tests: to start and end one takes longer than most of these runs."""

    def stop(self) -> None:
        """A run that is done with it leaves it to the next."""

    def end(self) -> None:
        """After the last test."""
        super().stop()


_SANDBOX = _SharedSandbox(1)


class Workspace:
    """A folder with a job file, its documents, reports and state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.docs = folder / "docs"
        self.docs.mkdir()
        self.job_file = folder / "job.toml"
        self.reports = folder / "reports"
        self.ledger = folder / "state.sqlite3"

    def write_job(self, base_url: str | None = None, **sections: Mapping[str, object]) -> Path:
        """The job file; ``base_url`` None reads with the built-in endpoint in the process."""
        served = {"use": "custom", "base_url": base_url, "api_key_env": "DOCPIPE_TEST_KEY"}
        where: Mapping[str, object] = served if base_url else {"use": "offline"}
        settings: dict[str, Mapping[str, object]] = {
            "source": {"folder": "docs"},
            "report": {"folder": "reports", "formats": ["markdown", "csv"]},
            "ledger": {"path": "state.sqlite3"},
            "retry": {"first_wait_seconds": 0.01, "max_wait_seconds": 1.0},
        }
        for name, values in {"endpoint": where, **sections}.items():
            settings[name] = {**settings.get(name, {}), **(where if name == "endpoint" else {}), **values}
        lines = []
        for name, values in settings.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        self.job_file.write_text("\n".join(lines) + "\n")
        return self.job_file

    def run(self, failed_only: bool = False, limit: int | None = None, observer: Observer | None = None) -> RunResult:
        """One run in this process."""
        options = run.Options(failed_only, limit)
        return run.run_job(job.load(self.job_file), KEY, options, _SANDBOX, observer or Quiet())

    def report(self) -> RunResult | None:
        """The reports of the last run again."""
        return run.report_job(job.load(self.job_file), _SANDBOX, Quiet())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``docpipe`` as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "DOCPIPE_TEST_KEY": KEY},
        )  # fmt: skip

    def docpipe(self, *arguments: str) -> tuple[int, str, str]:
        """``docpipe`` to its end: exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, out, err


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float | list) else '"' + str(value) + '"'


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again until it holds; fails after a minute."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "what was awaited did not happen within a minute"
        time.sleep(0.002)


@pytest.fixture(scope="session", autouse=True)
def _sandbox_ends() -> Iterator[None]:
    """The shared worker process ends with the tests."""
    yield
    _SANDBOX.end()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without the extra ray there is nothing to test of it."""
    if item.get_closest_marker("ray"):
        pytest.importorskip("ray")


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """Two nodes of Ray, for tests with the marker ``ray``."""
    one = RayCluster()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, proxy or make variable of the developer's shell can change a result."""
    for name in list(os.environ):
        if name.upper().endswith(("_PROXY", "_API_KEY")) or name in ("MAKELEVEL", "MAKEFLAGS"):
            monkeypatch.delenv(name)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace(tmp_path)
