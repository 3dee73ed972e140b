"""Signals at the moments that a whole process meets only now and then."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pipeline.signals import interruptible, terminable
from tests.conftest import Quiet


class Asked:
    """Counts how often it was asked to stop."""

    def __init__(self) -> None:
        self.times = 0

    def interrupt(self) -> None:
        self.times += 1


async def turns(number: int) -> None:
    """So many turns of the event loop."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("before", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_that_is_under_way_when_sending_ends_counts_for_what_follows(
    before: int, number: signal.Signals
) -> None:
    """It ends the run at once, as one does that comes while the reports are written; it is not lost and no bug."""
    asked = Asked()

    async def sends_and_goes_on() -> None:
        with interruptible(asked, Quiet(), "it is awaited"):
            for _ in range(before):
                signal.raise_signal(number)
                await turns(5)
            signal.raise_signal(number)
            await turns(2)  # the loop has taken it in by now, and has not acted on it yet
        await turns(5)

    with terminable(), pytest.raises(KeyboardInterrupt):
        asyncio.run(sends_and_goes_on())
    assert asked.times == before
