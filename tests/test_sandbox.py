"""What a worker process may do to itself, and that the next call works all the same.

The functions called are the standard library's own: a worker finds them without reading this file.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pipeline import sandbox as sandbox_module
from pipeline.errors import SettingsError
from pipeline.pdf import PdfError
from pipeline.sandbox import Limits, Sandbox, SandboxError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One worker process, so that the next call is the one that the last call's process would get."""
    with Sandbox(1) as box:
        yield box


async def still_works(box: Sandbox) -> bool:
    return bool(await box.call(0, "builtins:divmod", 7, 2) == (3, 1))


def test_a_result_comes_back(sandbox: Sandbox) -> None:
    """Positional and named arguments go out, the value comes back, from another process."""

    async def calls() -> None:
        assert await sandbox.call(0, "json:dumps", {"a": [2]}) == '{"a": [2]}'
        assert await sandbox.call(0, "os:getpid") != os.getpid()

    asyncio.run(calls())


def test_a_process_is_used_again(sandbox: Sandbox) -> None:
    """Ordinary calls do not pay for a new process each."""

    async def calls() -> set[int]:
        return {await sandbox.call(0, "os:getpid") for _ in range(5)}

    assert len(asyncio.run(calls())) == 1


def test_what_the_function_raises_comes_back_as_it_is(sandbox: Sandbox) -> None:
    """An exception travels with its type and its words, and the worker lives on."""

    async def calls() -> None:
        before = await sandbox.call(0, "os:getpid")
        with pytest.raises(ValueError, match="invalid literal"):
            await sandbox.call(0, "builtins:int", "seven")
        with pytest.raises(PdfError, match="the file is empty") as caught:
            await sandbox.call(0, "pipeline.splitter:page_texts", b"")
        assert not caught.value.encrypted
        assert await sandbox.call(0, "os:getpid") == before

    asyncio.run(calls())


def test_a_crash_is_a_reason_and_the_next_call_works(sandbox: Sandbox) -> None:
    """A process that ends without an answer ends its own call alone."""

    async def calls() -> None:
        with pytest.raises(SandboxError, match=r"crashed the reader \(exit code 7\)"):
            await sandbox.call(0, "os:_exit", 7)
        assert await still_works(sandbox)

    asyncio.run(calls())


def test_a_signal_is_a_crash(sandbox: Sandbox) -> None:
    """A segmentation fault, as a C library has it, is told by its signal."""

    async def calls() -> None:
        with pytest.raises(SandboxError, match=f"exit code -{signal.SIGSEGV.value}"):
            await sandbox.call(0, "signal:raise_signal", signal.SIGSEGV)
        assert await still_works(sandbox)

    asyncio.run(calls())


def test_a_memory_hog_is_a_reason_and_the_next_call_works(sandbox: Sandbox) -> None:
    """What asks for more than the limit is refused it, whatever the machine has."""

    async def calls() -> None:
        with pytest.raises(SandboxError, match="more than 2 GB of memory"):
            await sandbox.call(0, "builtins:bytearray", 2_100_000_000)
        assert await still_works(sandbox)

    asyncio.run(calls())


def test_endless_nesting_is_a_reason(sandbox: Sandbox) -> None:
    """A file nested too deep for the reader ends its own call."""

    async def calls() -> None:
        with pytest.raises(SandboxError, match="went too deep"):
            await sandbox.call(0, "json:loads", "[" * 100_000)
        assert await still_works(sandbox)

    asyncio.run(calls())


def test_a_hang_is_ended_and_the_next_call_works(sandbox: Sandbox) -> None:
    """A call beyond its time is ended with the limit in its reason."""

    async def calls() -> None:
        sandbox.use(Limits(timeout_s=0.1))
        with pytest.raises(SandboxError, match="took more than 0 s"):
            await sandbox.call(0, "signal:pause")
        sandbox.use(Limits())
        assert await still_works(sandbox)

    asyncio.run(calls())


def test_processor_time_has_a_limit_of_its_own(sandbox: Sandbox) -> None:
    """What computes without end is ended long before its time is up, and the reason says so."""

    async def calls() -> None:
        sandbox.use(Limits(timeout_s=3600.0, cpu_s=0.2))
        with pytest.raises(SandboxError, match="took more than 0 s of processor time"):
            await sandbox.call(0, "builtins:sum", itertools.count())
        assert await still_works(sandbox)
        sandbox.use(Limits())

    asyncio.run(calls())


def test_processor_time_is_counted_anew_for_each_call(sandbox: Sandbox) -> None:
    """A process that has worked all night has as much for its next file."""

    async def calls() -> None:
        sandbox.use(Limits(cpu_s=0.3))
        before = await sandbox.call(0, "os:getpid")
        begun_s = await sandbox.call(0, "time:process_time")
        while await sandbox.call(0, "time:process_time") < begun_s + 0.4:
            await sandbox.call(0, "builtins:sum", range(1_000_000))
        assert await sandbox.call(0, "os:getpid") == before
        sandbox.use(Limits())

    asyncio.run(calls())


def test_a_clock_that_is_set_forward_ends_no_call(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is time that has passed, whatever the wall clock says: no file is blamed for a time server."""
    hours = itertools.count()
    real_time = time.time
    monkeypatch.setattr(time, "time", lambda: real_time() + 3600 * next(hours))

    asyncio.run(sandbox.call(0, "time:sleep", 0.3))


def test_the_time_limit_grows_with_the_file(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file may take longer: so many seconds more for each megabyte."""
    sandbox.use(Limits(timeout_s=0.0, cpu_s=3.0))
    monkeypatch.setattr(sandbox_module, "_TIMEOUT_S_PER_MB", 0.5)

    async def calls() -> tuple[float, float]:
        with pytest.raises(SandboxError, match="took more than 1 s"):
            await sandbox.call(2_000_000, "signal:pause")
        left: tuple[float, float] = await sandbox.call(2_000_000, "signal:getitimer", signal.ITIMER_PROF)
        return left

    left_s, _ = asyncio.run(calls())
    assert 3 < left_s <= 4.1
    sandbox.use(Limits())


def test_the_memory_limit_can_be_chosen(sandbox: Sandbox) -> None:
    """Less and more than usual hold for the calls that follow, in processes that run already."""

    async def calls() -> None:
        sandbox.use(Limits(memory_bytes=500_000_000))
        with pytest.raises(SandboxError, match=r"more than 0\.5 GB of memory"):
            await sandbox.call(0, "builtins:bytearray", 600_000_000)
        sandbox.use(Limits(memory_bytes=3_000_000_000))
        soft, _ = await sandbox.call(0, "resource:getrlimit", resource.RLIMIT_AS)
        assert soft == 3_000_000_000
        sandbox.use(Limits())

    asyncio.run(calls())


def test_what_goes_before_a_call_reaches_every_process_and_no_command_line(sandbox: Sandbox) -> None:
    """A secret is there in a fresh process too, and nobody sees it in the list of processes."""
    secret = "open sesame 4711"

    async def calls() -> None:
        sandbox.use(Limits(), ("sys:intern", secret))
        with pytest.raises(SandboxError):
            await sandbox.call(0, "os:_exit", 7)
        worker = await sandbox.call(0, "os:getpid")
        if Path("/proc").exists():
            for part in ("cmdline", "environ"):
                assert secret.encode() not in Path(f"/proc/{worker}/{part}").read_bytes()
        sandbox.use(Limits(), ("builtins:int", secret))
        with pytest.raises(ValueError, match="invalid literal"):
            await still_works(sandbox)
        sandbox.use(Limits())
        assert await still_works(sandbox)

    asyncio.run(calls())


def test_calls_beyond_the_processes_wait_their_turn(sandbox: Sandbox) -> None:
    """More calls than workers all come back, those beside a crash too."""

    async def calls() -> list[object]:
        crash = sandbox.call(0, "os:_exit", 3)
        return await asyncio.gather(
            *(sandbox.call(0, "builtins:abs", -n) for n in range(10)), crash, return_exceptions=True
        )

    *values, crashed = asyncio.run(calls())

    assert values == list(range(10))
    assert isinstance(crashed, SandboxError)


@pytest.mark.parametrize("wanted", [None, 1, 1000])
def test_no_more_processes_than_processors(wanted: int | None) -> None:
    """However many are wanted, and at least one."""
    with Sandbox(wanted) as box:
        assert 1 <= box.processes <= min(wanted or 10**6, os.cpu_count() or 1)


def test_a_start_in_the_background_does_no_harm(sandbox: Sandbox) -> None:
    """The calls that follow come back, also those made while the processes start."""
    sandbox.start()

    assert asyncio.run(still_works(sandbox))


def test_a_call_while_the_processes_start_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop goes on: without it this start, which waits for the loop, would fail."""
    goes_on = threading.Event()
    start = BaseProcess.start

    def wait(process: BaseProcess) -> None:
        if not goes_on.wait(5):
            raise BlockingIOError(errno.EAGAIN, "the event loop stands still")
        start(process)

    async def call(box: Sandbox) -> bool:
        waiting = asyncio.create_task(still_works(box))
        for _ in range(5):
            await asyncio.sleep(0)
        goes_on.set()
        return await waiting

    monkeypatch.setattr(BaseProcess, "start", wait)
    with Sandbox(1) as box:
        box.start()
        assert asyncio.run(call(box))


@pytest.mark.parametrize("early", [False, True], ids=["by a call", "in the background"])
def test_a_machine_that_starts_no_process_blames_no_file(monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    """The settings are to blame: the limit of processes, or a folder whose path is too long for a socket."""

    def no_more(process: BaseProcess) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(BaseProcess, "start", no_more)
    with Sandbox(1) as box:
        if early:
            box.start()
        with pytest.raises(SettingsError, match=r"cannot be started: .*Resource temporarily unavailable"):
            asyncio.run(box.call(0, "os:getpid"))


def test_leaving_ends_the_workers_and_the_calls_they_are_at() -> None:
    """A sandbox with a call that never ends is left without waiting for it."""

    async def calls() -> None:
        with Sandbox(1) as box:
            await still_works(box)
            hanging = asyncio.ensure_future(box.call(0, "signal:pause"))
            await asyncio.sleep(0)  # the call is on its way
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)

    begun_s = time.monotonic()
    asyncio.run(calls())
    assert time.monotonic() - begun_s < 30


PARENT = """
import asyncio, os, signal
from pipeline.sandbox import Sandbox

async def main():
    box = Sandbox(2)
    await asyncio.gather(box.call(0, "os:getpid"), box.call(0, "os:getpid"))
    hanging = asyncio.ensure_future(box.call(0, "signal:pause"))
    await box.call(0, "os:getpid")
    print("ready", flush=True)
    await hanging

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """After SIGKILL of the parent no worker stays, not even one that hangs: all share its standard output."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        # The pipe ends when the last process that holds it has ended.
        rest, _ = parent.communicate(timeout=20)

    assert (rest, parent.returncode) == ("", -signal.SIGKILL)


def test_a_worker_ended_from_outside_blames_no_file(sandbox: Sandbox) -> None:
    """SIGTERM, as a service manager sends it to all, is an interruption and no crash of the reader."""

    async def calls() -> bool:
        with pytest.raises(InterruptedError):
            await sandbox.call(0, "signal:raise_signal", signal.SIGTERM)
        return await still_works(sandbox)

    assert asyncio.run(calls())


def test_a_worker_killed_while_idle_is_replaced(sandbox: Sandbox) -> None:
    """The system may kill a process that is at nothing; the calls that follow come back."""

    async def calls() -> bool:
        worker = await sandbox.call(0, "os:getpid")
        os.kill(worker, signal.SIGKILL)
        return await still_works(sandbox) and await still_works(sandbox)

    assert asyncio.run(calls())


def test_an_interrupt_while_the_processes_start_is_the_parents_alone(tmp_path: Path) -> None:
    """On a terminal ^C reaches all of the group: what still loads its modules says nothing and goes on."""
    (tmp_path / "interrupted.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    script = (
        "import asyncio, multiprocessing\n"
        "from pipeline.sandbox import Sandbox\n"
        "with Sandbox(1) as box:\n"
        "    multiprocessing.get_context('forkserver').set_forkserver_preload(['interrupted'])\n"
        "    box.start()\n"
        "    print(asyncio.run(box.call(0, 'builtins:divmod', 7, 2)))\n"
    )
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("(3, 1)\n", "")


def test_an_interrupt_before_the_processes_start_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come when the thread that starts them is there and not yet at work."""

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), Sandbox(1) as box:
        box.start()
