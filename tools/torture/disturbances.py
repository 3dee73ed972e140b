"""What can happen to a run: each disturbance is a step of a round that starts one or two processes."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from tools.torture.rounds import Round, RoundFailedError, Step
from tools.torture.scene import ACCOUNT_FAULTS, wait_until

_LONGEST_DELAY_S = 1.5
_MOST_REQUESTS = 10

_Process = subprocess.Popen[bytes]


def undisturbed(playing: Round) -> None:
    """Faults of the endpoint alone."""
    process = playing.ended(*playing.scene.start(playing.command()))
    playing.tell(f"faults {sum(playing.scene.rates.values()):.0%} (code {process.exit_code})")


def kill(playing: Round) -> None:
    """SIGKILL once to three times, to the program alone or to its whole process group."""
    times = playing.chance.randint(1, 3)
    at_once = playing.chance.random() < 0.5  # the next run meets what is left of the last one's workers
    for _ in range(times):
        number, process = playing.scene.start(playing.command())
        _await_moment(playing, process)
        if playing.chance.random() < 0.5:
            process.kill()
        else:
            _signal_group(process, signal.SIGKILL)
        playing.ended(number, process, {-signal.SIGKILL}, with_workers=not at_once)
    playing.tell(f"killed {times} times" if times > 1 else "killed")


def interrupt(playing: Round) -> None:
    """SIGINT or SIGTERM, now and then twice."""
    which = playing.chance.choice((signal.SIGINT, signal.SIGTERM))
    twice = playing.chance.random() < 0.3
    number, process = playing.scene.start(playing.command())
    _await_moment(playing, process)
    process.send_signal(which)
    if twice:
        time.sleep(playing.chance.uniform(0.0, 0.05))
        process.send_signal(which)
    # Before the program has taken the signal over, or after it has given it back, it ends as any process does.
    done = playing.ended(number, process, {130, -which}, is_cut=twice)
    if done.exit_code == -which and done.run and playing.books.runs[-1].finished_at is None:
        raise RoundFailedError(f"process {number} was ended by {which.name} in the middle of its run")
    playing.tell(f"{which.name}{' twice' if twice else ''} (code {done.exit_code})")


def full_disk(playing: Round) -> None:
    """No file can grow beyond some size from some moment on: the ledger's, a cut chunk's or a report's."""
    if not hasattr(resource, "prlimit"):
        playing.tell("full disk skipped: only Linux limits the files of a running process")
        return
    number, process = playing.scene.start(playing.command())
    if playing.chance.random() < 0.7:
        _await_moment(playing, process)
    size_bytes = sum(path.stat().st_size for path in _ledger_files(playing))
    limit_bytes = playing.chance.randint(0, size_bytes + 20_000)
    with suppress(ProcessLookupError):  # it has ended already
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    done = playing.ended(number, process, {4, 8})
    playing.tell(f"disk full (code {done.exit_code})")


def read_only_ledger(playing: Round) -> None:
    """The ledger, or its folder, cannot be written when a run begins: it says so and sends nothing."""
    if (prefix := _without_root_rights()) is None:
        playing.tell("read-only ledger skipped: permissions mean nothing to root, and setpriv is not there")
        return
    if not playing.scene.ledger.exists():
        undisturbed(playing)
    the_file = playing.chance.random() < 0.5
    with _without_write(playing.scene.ledger if the_file else playing.scene.ledger.parent):
        number, process = playing.scene.start(playing.command(), prefix)
        done = playing.ended(number, process, {8})
    if done.run is not None or "error: the ledger" not in playing.scene.output(number):
        raise RoundFailedError(f"a read-only ledger was not told: {playing.scene.output(number)}")
    playing.tell(f"ledger {'file' if the_file else 'folder'} read-only (code {done.exit_code})")


def read_only_underway(playing: Round) -> None:
    """From some moment on the run cannot write to one of its places: it ends with a reason, or does without."""
    if (prefix := _without_root_rights()) is None:
        playing.tell("read-only in the middle skipped: permissions mean nothing to root, and setpriv is not there")
        return
    scene = playing.scene
    spool = scene.ledger.with_name(f"{scene.ledger.name}.spool")
    number, process = scene.start(playing.command(), prefix)
    _await_moment(playing, process)
    place = playing.chance.choice([p for p in (scene.ledger, scene.ledger.parent, spool, scene.reports) if p.exists()])
    with _without_write(place):
        _wait_for(process, lambda: False)
    for path in _ledger_files(playing):  # SQLite gives the files beside the ledger its permissions
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    if place in (scene.ledger.parent, spool):  # from there the run could take nothing away
        shutil.rmtree(spool, ignore_errors=True)
    done = playing.ended(number, process, {4, 8})
    if done.exit_code in (4, 8) and "\nerror: " not in f"\n{scene.output(number)}":
        raise RoundFailedError(f"{place.name} became read-only, and that was not told: {scene.output(number)}")
    playing.tell(f"{place.name} read-only in the middle (code {done.exit_code})")


def clock_step(playing: Round) -> None:
    """The wall clock of the run's processes is another one from some moment on; the monotonic one is not."""
    step_s = playing.chance.choice((-1, 1)) * playing.chance.choice((1.5, 90.0, 3600.0, 86400.0 * 90, 86400.0 * 3650))
    after_s = playing.chance.choice((0.0, playing.chance.uniform(0.1, _LONGEST_DELAY_S)))
    folder = playing.scene.folder / f"clock-{playing.scene.started + 1}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CLOCK.format(after_s=after_s, step_s=step_s))
    number, process = playing.scene.start(playing.command(), environment={"PYTHONPATH": str(folder)})
    done = playing.ended(number, process)
    playing.tell(f"clock {step_s:+.0f} s after {after_s:.1f} s (code {done.exit_code})")


def two_at_once(playing: Round) -> None:
    """A second run of the same job ends with code 6 and sends nothing, and the first does not notice."""
    scene = playing.scene
    seen_before = len(scene.endpoint.seen)
    first, process = scene.start(playing.command())
    if playing.chance.random() < 0.7:  # the first holds the lock, and is held up itself until the second has ended
        _wait_for(process, lambda: len(scene.endpoint.seen) > seen_before)
        process.send_signal(signal.SIGSTOP)
        holds = process.poll() is None
        second, other = scene.start(playing.command())
        other.wait()
        process.send_signal(signal.SIGCONT)
        if holds and (other.returncode != 6 or "another run of this job" not in scene.output(second)):
            raise RoundFailedError(f"a second run beside the first ended with {other.returncode}")
    else:
        second, other = scene.start(playing.command())
    wait_until(lambda: None not in (process.poll(), other.poll()), "two runs at once do not end")
    done = playing.ended(first, process, {6}), playing.ended(second, other, {6})
    codes = [one.exit_code for one in done]
    if codes.count(6) > 1 or any((one.exit_code == 6) != (one.run is None) for one in done):
        raise RoundFailedError(f"two runs at once ended with {codes}, having begun the runs {[p.run for p in done]}")
    playing.tell(f"two at once (codes {codes[0]} and {codes[1]})")


def account(playing: Round) -> None:
    """The API refuses the account in the middle; the next run, with a good one, is a step of its own."""
    kind = playing.chance.choice(ACCOUNT_FAULTS)
    share = playing.chance.choice((0.1, 0.3, 1.0))
    for passing in playing.scene.rates:
        playing.scene.rates[passing] *= 1 - share
    playing.scene.rates[kind] = share
    done = playing.ended(*playing.scene.start(playing.command()))
    playing.scene.rates.pop(kind)
    playing.tell(f"{kind} (code {done.exit_code})")


DISTURBANCES: tuple[Step, ...] = (
    kill,
    interrupt,
    full_disk,
    read_only_ledger,
    read_only_underway,
    clock_step,
    two_at_once,
    account,
    undisturbed,
)


def steps_of(seed: int) -> list[Step]:
    """Three to five disturbances; as many seeds in a row as there are kinds have each at least once."""
    chance = random.Random(f"steps {seed}")
    steps = [DISTURBANCES[seed % len(DISTURBANCES)], kill]
    steps += chance.choices(DISTURBANCES, k=chance.randint(1, 3))
    chance.shuffle(steps)
    return steps


# --- moments -----------------------------------------------------------------------------------------


def _await_moment(playing: Round, process: _Process) -> None:
    """Until the endpoint has seen some requests more, or for some time; or until the process has ended."""
    seen = playing.scene.endpoint.seen
    if playing.chance.random() < 0.7:
        enough = len(seen) + playing.chance.randint(1, _MOST_REQUESTS)
        _wait_for(process, lambda: len(seen) >= enough)
    else:
        until_s = time.monotonic() + playing.chance.uniform(0.0, _LONGEST_DELAY_S)
        _wait_for(process, lambda: time.monotonic() >= until_s)


def _wait_for(process: _Process, condition: Callable[[], bool]) -> None:
    wait_until(lambda: condition() or process.poll() is not None, "the run neither sends nor ends")


def _signal_group(process: _Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended already
        os.killpg(process.pid, number)


# --- disk and permissions ----------------------------------------------------------------------------


def _ledger_files(playing: Round) -> Iterator[Path]:
    ledger = playing.scene.ledger
    return (path for path in ledger.parent.glob(f"{ledger.name}*") if path.is_file())


@cache
def _without_root_rights() -> tuple[str, ...] | None:
    """What to put before a command so that permissions bind it; None when root cannot do without its rights."""
    if os.geteuid() != 0:
        return ()
    prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    if shutil.which("setpriv") and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
        return prefix
    return None


@contextmanager
def _without_write(path: Path) -> Iterator[None]:
    """The run itself may have removed the path, before or after."""
    mode = 0
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.chmod(mode)


# --- clock -------------------------------------------------------------------------------------------

# Put on a process's path as ``sitecustomize``, which Python imports first of all.
_CLOCK = """
import datetime
import time

_begun = time.monotonic()
_time, _time_ns = time.time, time.time_ns


def _step_s():
    return {step_s} if time.monotonic() - _begun >= {after_s} else 0.0


class _SteppedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=_step_s())


time.time = lambda: _time() + _step_s()
time.time_ns = lambda: _time_ns() + int(_step_s() * 1e9)
datetime.datetime = _SteppedDatetime
"""
