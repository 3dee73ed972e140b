"""The process that worker processes are forked from: it has loaded all that they need.

Forking this process itself, with its threads and event loop, might hang; starting each worker from nothing takes 0.3 s
of processor time, also each time one must be replaced.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

_LOADED = ["pipeline.sandbox", "pipeline.inspector"]


def start() -> None:
    """Have it load while the caller is busy with other things; what is wrong shows when the first worker starts."""
    context()
    with deaf_to_interrupts(), suppress(OSError):
        forkserver.ensure_running()


def context() -> BaseContext:
    """Starts workers; the process that they are forked from is started with the first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    return context


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """What this thread starts meanwhile never hears of ^C, not even while it still loads modules.

    A signal that comes for this process goes to another of its threads, or waits until the end of the block.
    """
    with suppress(OSError):  # whoever needs it will say so
        resource_tracker.ensure_running()  # when it is started, it lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
