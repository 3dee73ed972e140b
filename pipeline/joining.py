"""Attempts that an earlier driver began and hosts still make or keep: awaited, and put on record."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from pipeline.dispatch import Observer
from pipeline.domain import Answer, ChunkState, FailureClass, Outcome
from pipeline.engine import HostLost, Hosts, Join, attempt_key
from pipeline.ledger import Ledger, Settled, Unended
from pipeline.prices import PriceList

_FINAL = (FailureClass.REFUSAL, FailureClass.OURS)


async def join(hosts: Hosts, ledger: Ledger, run: str, prices: PriceList, model: str, observer: Observer) -> None:
    """Take in what hosts know of attempts without an end, before anything is sent; ``run`` takes it in.

    ``model`` is priced where an outcome names none. What nobody knows stays without an end. A chunk that failed is
    open again, but one that was refused: another try is made as the first was.
    """
    held = await hosts.engine.held()
    unended = {attempt_key(one.attempt, one.chunk.id): one for one in ledger.unended()}
    for key, host in held.items():
        if key not in unended:  # on record by now
            hosts.forget(host, key)
    known = {key: host for key, host in held.items() if key in unended}
    if not known:
        return
    noun = "request" if len(known) == 1 else "requests"
    observer.said(f"{len(known)} {noun} of an earlier run: still with the hosts, and taken in first")

    async def taken_in(key: str, host: str, one: Unended) -> None:
        with suppress(HostLost):
            outcome: Outcome | None = await hosts.call(host, Join(key))
            if outcome is not None:
                _settle(ledger, run, one, outcome, prices, model)
                hosts.forget(host, key)

    await asyncio.gather(*(taken_in(key, host, unended[key]) for key, host in known.items()))


def _settle(ledger: Ledger, run: str, one: Unended, outcome: Outcome, prices: PriceList, model: str) -> None:
    state = ChunkState.OPEN
    if isinstance(outcome, Answer):
        state = ChunkState.ANSWERED
    elif outcome.kind in _FINAL:
        state = ChunkState.FAILED
    wire = outcome.exchange
    cost_usd = prices.cost_usd(wire.model or model, wire.usage)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with ledger.transaction():
        ledger.settle(Settled(one.attempt, one.chunk.id, outcome, state, now, cost_usd), run)
