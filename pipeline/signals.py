"""What ^C and SIGTERM do in each phase of a run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.dispatch import Dispatcher, Observer


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the run as ^C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible(dispatcher: Dispatcher, observer: Observer) -> Iterator[None]:
    """The first ^C or SIGTERM ends the feeding, the second what is in flight."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    both = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in both]
    asked_before = False

    def on_signal() -> None:
        nonlocal asked_before
        if not asked_before:
            observer.said("stopping: what is in flight is awaited, for it is paid for; once more to give that up too")
            dispatcher.interrupt()
        elif task is not None:
            task.cancel()
        asked_before = True

    for number in both:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in zip(both, before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
