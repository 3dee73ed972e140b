"""Worker processes for everything that opens a PDF; the only module that knows pebble.

A file that crashes, hangs or eats memory ends its own call with a reason, and a fresh process takes
over. The processes are reused, so that an ordinary file pays for one message each way.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from multiprocessing import connection
from typing import ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from pipeline.text import shortened

P = ParamSpec("P")
R = TypeVar("R")

_MEMORY_BYTES = 2_000_000_000
_TIMEOUT_S = 60.0
_TIMEOUT_S_PER_MB = 1.0


class SandboxError(Exception):
    """A call did not come back: the process hung, crashed or ran out of memory. The message is the reason."""


class Sandbox:
    """Runs functions in worker processes under a memory and a time limit.

    ``processes``: how many calls run at once. Close it with ``close``.
    """

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPool(
            max_workers=processes,
            initializer=_limit_this_process,
            initargs=[_MEMORY_BYTES],
            # A fork of a process with threads and an event loop may hang.
            context=multiprocessing.get_context("spawn"),
        )

    async def call(self, size_bytes: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``function(*args)`` in a worker; ``size_bytes`` of the file at hand scales the time limit.

        Raises:
            SandboxError: no result, with the reason.
            Exception: what the function itself raised.
        """
        timeout_s = _TIMEOUT_S + _TIMEOUT_S_PER_MB * size_bytes / 1e6
        # The limit of pebble starts when a worker takes the call, not while the call waits for one.
        future = self._pool.schedule(function, args=list(args), kwargs=dict(kwargs), timeout=timeout_s)
        try:
            result: R = await asyncio.wrap_future(future)
        except FutureTimeoutError:
            raise SandboxError(f"reading it took more than {timeout_s:.0f} s") from None
        except ProcessExpired as error:
            raise SandboxError(f"reading it crashed the PDF reader (exit code {error.exitcode})") from None
        except MemoryError:
            raise SandboxError(f"reading it needed more than {_MEMORY_BYTES / 1e9:.0f} GB of memory") from None
        except RecursionError as error:
            raise SandboxError(f"reading it went too deep: {shortened(str(error), 100)}") from None
        return result

    def close(self) -> None:
        """End the workers, and the calls that they are at."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _limit_this_process(memory_bytes: int) -> None:
    """Runs once in each worker before its first call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C on the terminal reaches all; only the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers; they notice and end themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
