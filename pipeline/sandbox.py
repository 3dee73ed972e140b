"""Worker processes for everything that opens a document; the only module that knows pebble.

A file that crashes, hangs or eats memory ends its own call with a reason, and a fresh process takes
over. The processes are reused, so that an ordinary file pays for one message each way.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from types import TracebackType
from typing import Any, Self

from pebble import CONSTS, ProcessExpired, ProcessPool

from pipeline import fork_server
from pipeline.errors import SettingsError
from pipeline.text import shortened

_TIMEOUT_S_PER_MB = 1.0

CONSTS.sleep_unit = 0.02  # seconds until a pool notices that it was stopped, or a worker lost; its own are 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take; a call about a large file may take a second more for each megabyte, of either time.

    ``timeout_s`` is time that goes by, ``cpu_s`` time of a processor: a slow disk or a busy machine takes the first
    alone, and a file that only computes is given up sooner.
    """

    memory_bytes: int = 2_000_000_000
    timeout_s: float = 60.0
    cpu_s: float = 50.0

    def for_file(self, size_bytes: int) -> Limits:
        """The limits of a call about a file of this size."""
        more_s = _TIMEOUT_S_PER_MB * size_bytes / 1e6
        return replace(self, timeout_s=self.timeout_s + more_s, cpu_s=self.cpu_s + more_s)


class SandboxError(Exception):
    """A call did not come back: the process hung, crashed or ran out of memory. The message is the reason."""


class Sandbox:
    """Runs functions in worker processes under a memory and a time limit: a context manager.

    As many calls run at once as there are processors, but at most ``processes``; the processes start with
    the first call, or in the background after ``start``. Leaving it ends the workers, and the calls that
    they are at.
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = min(processes or _processors(), _processors())
        self._limits = Limits()
        self._before: tuple[str, object] | None = None
        self._starting: threading.Thread | None = None
        self._stopped = False
        self._worked = False
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.processes,
            initializer=_set_up_this_process,
            context=fork_server.context(),
        )

    def use(self, limits: Limits, before: tuple[str, object] | None = None) -> None:
        """Keep to these limits from now on, and call a function with one argument ``before`` each call.

        The argument travels through a pipe and stays in memory, so it may be a secret.
        """
        self._limits, self._before = limits, before

    async def call(self, size_bytes: int, function: str, *args: object) -> Any:
        """``function(*args)`` in a worker; ``size_bytes`` of the file at hand scales the time limit.

        ``function`` is named, ``"package.module:name"``, so that this process need not load its module.

        Raises:
            SandboxError: no result, with the reason.
            InterruptedError: the worker was ended from outside.
            SettingsError: this machine starts no worker, not even a first.
            Exception: what the function itself raised.
        """
        given = self._limits.for_file(size_bytes)
        if self._starting is not None and self._starting.is_alive():  # the pool would have the event loop wait
            await asyncio.to_thread(self._starting.join)
        for _ in range(2):
            pool = self._pool
            try:
                with nullcontext() if self._worked else fork_server.deaf_to_interrupts():
                    future = pool.schedule(_call, args=[given, self._before, function, *args])
            except RuntimeError as error:
                if isinstance(error.__cause__, OSError) and not self._worked:
                    raise SettingsError(
                        f"the processes that read documents cannot be started: {error.__cause__}; look at the limit of"
                        " processes, and whether TMPDIR is a short path to a folder that can be written"
                    ) from None
                self._replace(pool)
                continue
            self._worked = True
            try:
                return await asyncio.wrap_future(future)
            except BrokenProcessPool:  # an idle worker was ended from outside, say by the system out of memory
                self._replace(pool)
            except ProcessExpired as error:
                if error.exitcode == -signal.SIGTERM:  # somebody ended it from outside; the file is not to blame
                    break
                raise SandboxError(_why_expired(error.exitcode, given)) from None
            except MemoryError:
                raise SandboxError(f"reading it needed more than {given.memory_bytes / 1e9:g} GB of memory") from None
            except RecursionError as error:
                raise SandboxError(f"reading it went too deep: {shortened(str(error), 100)}") from None
        raise InterruptedError(errno.EINTR, "the reader was ended from outside")

    def _replace(self, broken: ProcessPool) -> None:
        """A new pool for one that has lost its processes, unless it was stopped or has been replaced."""
        if self._pool is broken and not self._stopped:
            broken.stop()  # type: ignore[no-untyped-call]
            self._pool = self._new_pool()

    def start(self) -> None:
        """Have the processes start while the caller is busy with other things."""
        self._starting = threading.Thread(target=self._start_pool, daemon=True)
        self._starting.start()

    def _start_pool(self) -> None:
        with suppress(RuntimeError), fork_server.deaf_to_interrupts():  # the first call will say what is wrong
            self._pool.schedule(os.getpid)

    def stop(self) -> None:
        """Begin to end the workers; no call may follow."""
        if self._starting is not None:
            with suppress(RuntimeError):  # ^C came before it was started
                self._starting.join()
        self._stopped = True
        self._pool.stop()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._pool.join()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _why_expired(exit_code: int, given: Limits) -> str:
    if exit_code == -signal.SIGALRM:
        return f"reading it took more than {given.timeout_s:.0f} s"
    if exit_code == -signal.SIGPROF:
        return f"reading it took more than {given.cpu_s:.0f} s of processor time"
    return f"reading it crashed the reader (exit code {exit_code})"


def _call(given: Limits, before: tuple[str, object] | None, function: str, *args: object) -> Any:
    """Runs in a worker, which its timers end: the pool's own limit goes by a wall clock that may be set forward.

    RLIMIT_CPU would count what earlier calls have used, in whole seconds; a timer begins anew with each call.
    """
    resource.setrlimit(resource.RLIMIT_AS, (given.memory_bytes, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, given.timeout_s)
    signal.setitimer(signal.ITIMER_PROF, given.cpu_s)
    try:
        if before:
            _named(before[0])(before[1])
        return _named(function)(*args)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _named(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _set_up_this_process() -> None:
    """Runs once in each worker before its first call."""
    os.nice(5)  # who talks to the API comes first on a busy processor
    os.setsid()  # ^C and time-outs are sent to whole groups; only the parent decides what they mean
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers; they notice and end themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
