"""What sending is made of: hosts, what goes between them and a dispatcher, and before that perhaps a batcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from pipeline import batching, engines, reports, signals
from pipeline.batch_api import BatchApi
from pipeline.batching import Batcher
from pipeline.dispatch import Dispatcher, Observer, Rules
from pipeline.domain import Chunk, Task
from pipeline.engine import Hosts, Secrets
from pipeline.errors import ExitCode, NoHostsError
from pipeline.failures import RetryPolicy
from pipeline.job import Job
from pipeline.message_batches import MOST_BYTES
from pipeline.opening import Sources
from pipeline.prices import PriceList
from pipeline.sandbox import Sandbox
from pipeline.sender import Packer, Sender
from pipeline.standing import Standing
from pipeline.verdicts import Stop, Try

_OFFLINE_BATCH_BYTES = 48_000_000  # the endpoint in this process holds it in memory; the largest request fits in
_AWAITED = "what is in flight is awaited, for it is paid for"
_LEFT_THERE = "batches go on at the API for the next run to take in, and one that is just leaving is awaited"
_IDLE_AFTER_S = 1.0  # by then the first requests are out, and their answers take longer


@dataclass(frozen=True, slots=True)
class Sending:
    """What a run sends with. ``answered`` is told of each chunk whose answer is on record: see ``Dispatcher``.

    Batches are made on this machine, in the ``sandbox``, whatever ``hosts`` there are.
    """

    job: Job
    secrets: Secrets
    sandbox: Sandbox
    hosts: Hosts
    observer: Observer
    standing: Standing
    places: Sources
    run: str
    answered: Callable[[Chunk, bool], None]


async def send(first: Sequence[Task] | None, tasks: AsyncIterator[Sequence[Task]], given: Sending) -> Stop | None:
    """Send the ``first`` tasks and others as they come; why the run must stop, if it must. None: there are none.

    Raises:
        SettingsError: the spool folder cannot be made, there is no way to the endpoint, or no host.
        KeyboardInterrupt: asked twice to end.
    """
    open_batches = bool(given.standing.ledger.open_batches())
    if first is None and not open_batches:  # with nothing to send, no connection is needed
        return None
    asyncio.get_running_loop().call_later(_IDLE_AFTER_S, reports.load)
    sender = Sender(given.hosts, given.standing.contents, given.places, given.job.engine.on_lost == "hold")
    due = _chained(first or (), tasks)
    try:
        if given.job.endpoint.batch or open_batches:
            return await _send_in_batches(due, given, sender)
        return await _send_each(due, given, sender, _rules(given))
    except NoHostsError as error:
        return Stop(ExitCode.SETTINGS, str(error))
    finally:
        await given.hosts.engine.rest()


async def _send_each(
    due: AsyncIterator[Sequence[Task]], given: Sending, sender: Sender, rules: Rules, again: Sequence[Try] = ()
) -> Stop | None:
    standing = given.standing
    dispatcher = Dispatcher(
        standing.ledger, rules, sender, standing.parts, standing.synthesis, given.answered, given.observer
    )
    with signals.interruptible(dispatcher, given.observer, _AWAITED):
        return await dispatcher.send_all(due, again)


async def _send_in_batches(due: AsyncIterator[Sequence[Task]], given: Sending, sender: Sender) -> Stop | None:
    """In batches first; then one by one what they brought no answer for."""
    endpoint, standing, rules = given.job.endpoint, given.standing, _rules(given)
    here = engines.here(given.job, given.secrets, given.sandbox)  # one body goes out, from this machine
    here.open()
    settings = batching.Settings(
        account=batching.account(endpoint.base_url, given.secrets.key),
        sends=endpoint.batch,
        again_in_batch=endpoint.batch and endpoint.batch_retry == "batch",
        wait_s=endpoint.batch_wait_hours * 3600 if endpoint.batch else 0.0,
        fingerprint=standing.fingerprint,
        fields=given.job.fields,
        max_bytes=_OFFLINE_BATCH_BYTES if endpoint.use == "offline" else MOST_BYTES,
        holds=given.job.engine.on_lost == "hold",
    )
    try:
        batcher = Batcher(
            standing.ledger,
            rules,
            settings,
            Packer(sender, here.runner.worker()),
            BatchApi(here.runner.client(), endpoint.base_url),
            here.runner.spool,
            standing.parts,
            standing.synthesis,
            given.answered,
            given.observer,
            batching.CLOCK,
        )
        with signals.interruptible(batcher, given.observer, _LEFT_THERE):
            stop = await batcher.send_all(due)
    finally:
        await here.rest()
    if stop is not None or not batcher.again:
        return stop
    rules = replace(rules, by_schema=batcher.by_schema, max_usd=batcher.left_usd, spent_usd=0.0)
    return await _send_each(_nothing(), given, sender, rules, batcher.again)


async def _nothing() -> AsyncGenerator[Sequence[Task], None]:
    return
    yield ()


async def _chained(
    first: Sequence[Task], others: AsyncIterator[Sequence[Task]]
) -> AsyncGenerator[Sequence[Task], None]:
    yield first
    async for tasks in others:
        yield tasks


def _rules(given: Sending) -> Rules:
    job = given.job
    retry = RetryPolicy(job.retry.attempts, job.retry.first_wait_seconds, job.retry.max_wait_seconds)
    return Rules(
        run=given.run,
        concurrency=min(job.workers.concurrency, given.hosts.slots),
        requests_per_minute=job.workers.requests_per_minute,
        retry=retry,
        by_schema=job.endpoint.output != "prompt",
        learns_output=job.endpoint.output == "auto",
        max_tokens=job.endpoint.max_tokens,
        most_tokens=job.endpoint.most_tokens,
        model=job.endpoint.model,
        prices=PriceList(job.prices.input, job.prices.output),
        max_usd=job.budget.max_usd,
        spent_usd=given.standing.ledger.spending(given.run).known_usd,  # what was taken in from hosts
    )
