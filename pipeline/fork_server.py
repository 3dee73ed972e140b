"""The process that worker processes are forked from: it has loaded all that they need.

Forking this process itself, with its threads and event loop, might hang; starting each worker from nothing takes 0.3 s
of processor time, also each time one must be replaced.
"""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

_LOADED = ["pipeline.sandbox", "pipeline.inspector"]


def start() -> None:
    """Have it load while the caller is busy with other things; what is wrong shows when the first worker starts."""
    context()
    with suppress(OSError):
        forkserver.ensure_running()


def context() -> BaseContext:
    """Starts workers; the process that they are forked from is started with the first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    return context
