"""What a person at a terminal sees, and what stands in a log."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from pipeline.bar import Bar, _columns
from pipeline.domain import (
    Answer,
    Chunk,
    ChunkState,
    Exchange,
    Failure,
    FailureClass,
    Outcome,
    PageRange,
    Split,
    Synthesis,
    Task,
)
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.progress import Lines, shown
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, KEY, Workspace, clause, wait_until, write_pdf

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
HOSTILE = [
    "plain.pdf",
    "new\nline.pdf",
    "\x1b[2J\x1b]0;title\x07.pdf",
    "\udcff\udcfe.pdf",
    "\u202efdp.exe",
    "a\rb.pdf",
    "\x9b31m.pdf",
    "[bold red]x[/].pdf",
    "[/].pdf",
    "back\\",
    "%s {task} {0}",
    "合同 ü.pdf",
    "x" * 300,
]
CHUNK = Chunk("id", "content", PageRange(3, 4))
SYNTHESIS = Synthesis("id", "content", ())


def failure(reason: str) -> Failure:
    return Failure(FailureClass.TRANSIENT, reason)


def happenings(words: str) -> list[tuple[Task, Outcome | Split, ChunkState, float | None, int]]:
    """One of each kind of event, with these words wherever words can stand."""
    return [
        (CHUNK, Answer({}, Exchange(latency_s=1.25)), ChunkState.ANSWERED, None, 1),
        (CHUNK, failure(words), ChunkState.OPEN, 2.5, 1),
        (CHUNK, failure(words), ChunkState.OPEN, None, 2),
        (CHUNK, failure(words), ChunkState.FAILED, None, 3),
        (CHUNK, failure(words), ChunkState.SPLIT, None, 1),
        (CHUNK, Split(words), ChunkState.SPLIT, None, 0),
        (SYNTHESIS, failure(words), ChunkState.FAILED, None, 1),
    ]


# --- lines


@pytest.mark.parametrize("name", HOSTILE)
def test_each_event_is_one_line_of_printable_characters(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Whatever a file name or a reason holds."""
    lines = Lines()
    lines.found({"content": name})
    lines.due([CHUNK, SYNTHESIS])
    lines.all_due()
    for happening in happenings(name):
        lines.settled(*happening)
    lines.said(name)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    told = err[:-1].split("\n")
    assert len(told) == 1 + 7 + 1
    assert all(line.isprintable() for line in told)


def test_a_line_says_what_became_of_which_pages(capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads the log finds document, pages, reason and when it goes on."""
    lines = Lines()
    lines.found({"content": "a.pdf"})
    lines.due([CHUNK, SYNTHESIS])
    lines.due([Chunk("id", "other", PageRange(1, 1))])
    lines.all_due()
    for happening in happenings("529: Overloaded"):
        lines.settled(*happening)
    assert capsys.readouterr().err.splitlines() == [
        "sending 2 documents, 2 chunks, 3 pages in all",
        "a.pdf, pages 3-4: answered in 1.2 s",
        "a.pdf, pages 3-4: 529: Overloaded; again in 2.5 s",
        "a.pdf, pages 3-4: not answered: 529: Overloaded",
        "a.pdf, pages 3-4: failed: 529: Overloaded",
        "a.pdf, pages 3-4: halved (529: Overloaded)",
        "a.pdf, pages 3-4: halved (529: Overloaded)",
        "a.pdf, summary of the whole: failed: 529: Overloaded",
    ]


def test_lines_to_nobody_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads any more is no reason to fail."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stream, Path(os.devnull).open("w") as nowhere:
        monkeypatch.setattr(sys, "stderr", stream)
        Lines().said("a line")
        monkeypatch.undo()
        os.dup2(nowhere.fileno(), stream.fileno())  # what is still buffered must go somewhere


def test_no_terminal_means_lines_for_who_reads_them_and_else_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """Under cron and in pipes."""
    with shown(by_line=True) as observer:
        assert isinstance(observer, Lines)
    with shown(by_line=False) as observer:
        observer.found({"content": "a.pdf"})
        observer.due([CHUNK])
        observer.all_due()
        for happening in happenings("529: Overloaded"):
            observer.settled(*happening)
        observer.said("a line")
    assert capsys.readouterr() == ("", "")


# --- the bar


@contextmanager
def on_screen(screen: io.StringIO) -> Iterator[Bar]:
    console = Console(file=screen, force_terminal=True, width=1000, color_system=None)
    with Progress(console=console, auto_refresh=False) as progress:
        yield Bar(progress)


EMOJI = [":skull:.pdf", "12:key:34.pdf"]


@pytest.mark.parametrize("name", [*HOSTILE[:1], *HOSTILE[7:], *EMOJI])
def test_a_name_stands_above_the_bar_as_it_is(name: str) -> None:
    """Nothing in it is taken for markup."""
    screen = io.StringIO()
    with on_screen(screen) as bar:
        bar.said(name)
    assert name in screen.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_steers_the_terminal(name: str) -> None:
    """The only control sequences are the bar's own."""
    screen = io.StringIO()
    with on_screen(screen) as bar:
        bar.found({"content": name})
        bar.due([CHUNK])
        for happening in happenings(name):
            bar.settled(*happening)
    rest = re.sub(r"\x1b\[(\?25[lh]|2K|1A)|[\r\n]", "", screen.getvalue())
    assert rest.isprintable()


def test_the_bar_counts_chunks_to_their_end() -> None:
    """Halves add one and thirds two, retries none, and syntheses are not counted."""
    progress = Progress(console=Console(file=io.StringIO()), auto_refresh=False)
    bar = Bar(progress)
    bar.due([CHUNK])
    (task,) = progress.tasks
    assert (task.completed, task.total) == (0, 1)
    bar.settled(CHUNK, failure("again"), ChunkState.OPEN, 1.0, 1)
    bar.due([CHUNK, SYNTHESIS])
    bar.all_due()
    assert (task.completed, task.total) == (0, 2)
    assert "opening" not in task.description
    bar.settled(CHUNK, Split("too large"), ChunkState.SPLIT, None, 0)
    assert (task.completed, task.total) == (0, 3)
    for state in (ChunkState.ANSWERED, ChunkState.ANSWERED, ChunkState.FAILED):
        bar.settled(CHUNK, Answer({}, Exchange()), state, None, 1)
    bar.settled(SYNTHESIS, Answer({}, Exchange()), ChunkState.ANSWERED, None, 1)
    assert (task.completed, task.total) == (3, 3)
    bar.settled(Chunk("id", "content", PageRange(1, 3)), Split("too large"), ChunkState.SPLIT, None, 0)
    assert (task.completed, task.total) == (3, 5)
    bar.settled(Chunk("id", "content", PageRange(1, 3)), Split("too large", 2), ChunkState.SPLIT, None, 0)
    assert (task.completed, task.total) == (3, 6)


# --- a real terminal


class Terminal:
    """The screen's end of a pseudo-terminal on which a run has its stderr."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        self._received = b""
        self._reader = threading.Thread(target=self._read)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._slave,
            env={**os.environ, "DOCPIPE_TEST_KEY": KEY, "TERM": "xterm-256color", "COLUMNS": "120"} | environment,
        )  # fmt: skip
        os.close(self._slave)
        self._reader.start()
        return process

    def _read(self) -> None:
        try:
            while block := os.read(self._master, 65536):
                self._received += block
        except OSError:  # how a pseudo-terminal says that nobody writes any more
            pass
        os.close(self._master)

    def wait(self) -> None:
        self._reader.join(DEADLINE_S)
        assert not self._reader.is_alive()

    @property
    def received(self) -> str:
        return self._received.decode()


def screen_of(received: str) -> list[str]:
    """What stands on the screen in the end; fails on any control sequence that is not known here."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+", received):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece == "\x1b[1A":
            row -= 1
        elif piece in (HIDE, SHOW) or re.fullmatch(r"\x1b\[[0-9;]*m", piece):
            pass
        else:
            assert piece.isprintable(), repr(piece)
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]


def cursor_is_shown(received: str) -> bool:
    return received.rfind(SHOW) > received.rfind(HIDE)


def test_a_terminal_has_a_bar_that_leaves_no_trace(workspace: Workspace) -> None:
    """While it runs there is a bar; afterwards only what went wrong, and the cursor."""
    name = "evil\x1b]0;x\x07[bold].pdf"
    write_pdf(workspace.docs / name, [clause(1)])
    write_pdf(workspace.docs / "good.pdf", [clause(2)])
    refusal = FaultRule(Fault(FaultKind.REFUSAL), text="schedule K001")
    terminal = Terminal()
    with running(Endpoint(FaultPlan((refusal,)))) as base_url:
        workspace.write_job(base_url)
        with terminal.start("run", str(workspace.job_file)) as process:
            terminal.wait()
            assert process.wait(DEADLINE_S) == 3
    assert "reading 2 documents" in terminal.received
    assert "2/2" in terminal.received
    assert "━" in terminal.received
    assert HIDE in terminal.received
    assert cursor_is_shown(terminal.received)
    (line,) = screen_of(terminal.received)
    assert line.startswith("evil\\x1b]0;x\\x07[bold].pdf, page 1: failed: ")


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_an_interrupted_run_gives_the_cursor_back(workspace: Workspace, signals: list[signal.Signals]) -> None:
    """Also when what was in flight is given up."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    endpoint = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.SLOW, seconds=3600), every=1),)))
    terminal = Terminal()
    with running(endpoint) as base_url:
        workspace.write_job(base_url)
        with terminal.start("run", str(workspace.job_file)) as process:
            wait_until(lambda: len(endpoint.seen) == 1)
            process.send_signal(signals[0])
            wait_until(lambda: "what is in flight is awaited" in terminal.received)
            process.send_signal(signals[1])
            terminal.wait()
            assert process.wait(DEADLINE_S) == 130
    assert cursor_is_shown(terminal.received)
    assert "━" not in "".join(screen_of(terminal.received))


def test_a_dumb_terminal_gets_no_control_sequences(workspace: Workspace) -> None:
    """Emacs and serial lines cannot do more than text."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job()
    terminal = Terminal()
    with terminal.start("run", str(workspace.job_file), TERM="dumb") as process:
        terminal.wait()
        assert process.wait(DEADLINE_S) == 0
    assert "\x1b" not in terminal.received


def test_a_log_holds_no_escape_sequences(workspace: Workspace, tmp_path: Path) -> None:
    """Neither stdout nor stderr, also where the environment asks for colors."""
    write_pdf(workspace.docs / "a\x1b[31m.pdf", [clause(1)])
    (workspace.docs / "\x1b[2Jempty.pdf").write_bytes(b"")
    workspace.write_job()
    log = tmp_path / "log"
    with log.open("wb") as file:
        code = subprocess.run(
            [sys.executable, "-m", "pipeline", "run", str(workspace.job_file), "--verbose"],
            stdout=file, stderr=file, check=False,
            env={**os.environ, "TERM": "xterm-256color", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"},
        ).returncode  # fmt: skip
    assert code == 3
    assert "answered" in log.read_text()
    assert "\x1b" not in log.read_text()
    assert "\r" not in log.read_text()


def test_on_80_columns_every_number_is_whole() -> None:
    """Chunks done and due, time gone and left: none gives way to the words before the bar."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with Progress(*_columns(), console=console, auto_refresh=False) as progress:
        bar = Bar(progress)
        bar.due([Chunk(f"{n}", f"content {n}", PageRange(1, 1)) for n in range(12_345)])
        progress.refresh()
        bar.all_due()
        progress.refresh()

    assert "reading 12345 documents" in screen.getvalue()
    assert "0/12345 chunks 0:00:00 gone, -:--:-- left" in screen.getvalue()
    assert "…" not in screen.getvalue()
