"""An endpoint that answers when the test says so."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from pipeline.faults import Fault
from pipeline.offline import Reply
from pipeline.serve import Endpoint


class Gated(Endpoint):
    """Keeps the answers to the first ``held`` requests back until it is told to let them go."""

    def __init__(self, held: int) -> None:
        super().__init__()
        self._gates = [threading.Event() for _ in range(held)]

    def let_go(self, *ordinals: int) -> None:
        """Give the answers to these requests, counted from 1; to all, when none is named."""
        for ordinal in ordinals or range(1, len(self._gates) + 1):
            self._gates[ordinal - 1].set()

    async def _reply(self, request: Any, ordinal: int, request_id: str) -> tuple[Fault | None, Reply]:
        if ordinal <= len(self._gates):
            await asyncio.to_thread(self._gates[ordinal - 1].wait)
        return await super()._reply(request, ordinal, request_id)
