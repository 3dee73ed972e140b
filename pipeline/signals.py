"""What ^C, SIGTERM and SIGHUP do in each phase of a run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pipeline.dispatch import Observer


class Interruptible(Protocol):
    """Work that can be asked to end early."""

    def interrupt(self) -> None:
        """Begin nothing more; what was begun is awaited."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as ^C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _asking() if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _asking() -> list[signal.Signals]:
    """The signals that ask to end: ^C, a service manager, a terminal that goes away unless nohup ignores that."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def interruptible(work: Interruptible, observer: Observer, stopping: str) -> Iterator[None]:
    """The first ^C, SIGTERM or SIGHUP interrupts the work, the second cancels what it has begun.

    ``stopping`` is what the first leads to, in words for whoever presses it.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    numbers = _asking()
    before = [signal.getsignal(number) for number in numbers]
    asked_before = ended = False

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked_before
        if ended:  # it was on its way through the loop; what follows has its own handlers
            signal.raise_signal(number)
        elif not asked_before:
            observer.said(f"stopping: {stopping}; once more to give that up too")
            work.interrupt()
        elif task is not None:
            task.cancel()
        asked_before = True

    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        ended = True
        for number, handler in zip(numbers, before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
