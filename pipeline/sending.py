"""What sending is made of: a connection, a worker, the spool between them, and over all a batcher or a dispatcher."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import batching, endpoints, messages, opening, reports, signals
from pipeline.batch_api import BatchApi
from pipeline.batching import Batcher
from pipeline.chunk_worker import ChunkWorker, Original
from pipeline.client import Client
from pipeline.dispatch import Dispatcher, Observer, Rules
from pipeline.domain import Chunk, Content, Failure, Outcome, Payload, Split, Task
from pipeline.errors import SettingsError
from pipeline.failures import RetryPolicy
from pipeline.job import Job
from pipeline.message_batches import MOST_BYTES, Pack
from pipeline.opening import Sources
from pipeline.prices import PriceList
from pipeline.reading import LocalReader
from pipeline.sandbox import Sandbox
from pipeline.standing import Standing
from pipeline.verdicts import Stop, Try

_OFFLINE_BATCH_BYTES = 48_000_000  # the endpoint in this process holds it in memory; the largest request fits in
_IDLE_AFTER_S = 1.0  # by then the first requests are out, and their answers take longer


@dataclass(frozen=True, slots=True)
class Sending:
    """What a run sends with. ``answered`` is told of each chunk whose answer is on record: see ``Dispatcher``."""

    job: Job
    key: str | None
    sandbox: Sandbox
    observer: Observer
    standing: Standing
    places: Sources
    run: str
    answered: Callable[[Chunk, bool], None]


async def send(first: Sequence[Task] | None, tasks: AsyncIterator[Sequence[Task]], given: Sending) -> Stop | None:
    """Send the ``first`` tasks and others as they come; why the run must stop, if it must. None: there are none.

    Raises:
        SettingsError: the spool folder cannot be made, or there is no way to the endpoint.
        KeyboardInterrupt: asked twice to end.
    """
    job, standing = given.job, given.standing
    open_batches = bool(standing.ledger.open_batches())
    if first is None and not open_batches:  # with nothing to send, no connection is needed
        return None
    with _spool(job.ledger.path) as spool:
        async with endpoints.connect(job.endpoint, given.key, job.workers.concurrency, given.sandbox) as client:
            around = messages.largest_body(job.endpoint, job.prompt, fields=job.fields)
            most = job.split.max_request_bytes
            reader = LocalReader(given.sandbox)
            worker = ChunkWorker(client, reader, spool, job.endpoint, job.prompt, most, around, job.fields)
            sender = _Sender(worker, standing.contents, given.places)
            asyncio.get_running_loop().call_later(_IDLE_AFTER_S, reports.load)
            due = _chained(first or (), tasks)
            if job.endpoint.batch or open_batches:
                return await _send_in_batches(due, given, sender, client, spool)
            return await _send_each(due, given, sender, _rules(job, given.run))


async def _send_each(
    due: AsyncIterator[Sequence[Task]], given: Sending, sender: _Sender, rules: Rules, again: Sequence[Try] = ()
) -> Stop | None:
    standing = given.standing
    dispatcher = Dispatcher(
        standing.ledger, rules, sender, standing.parts, standing.synthesis, given.answered, given.observer
    )
    with signals.interruptible(dispatcher, given.observer):
        return await dispatcher.send_all(due, again)


async def _send_in_batches(
    due: AsyncIterator[Sequence[Task]], given: Sending, sender: _Sender, client: Client, spool: Path
) -> Stop | None:
    """In batches first; then one by one what they brought no answer for."""
    endpoint, standing, rules = given.job.endpoint, given.standing, _rules(given.job, given.run)
    settings = batching.Settings(
        account=batching.account(endpoint.base_url, given.key),
        sends=endpoint.batch,
        again_in_batch=endpoint.batch and endpoint.batch_retry == "batch",
        wait_s=endpoint.batch_wait_hours * 3600 if endpoint.batch else 0.0,
        fingerprint=standing.fingerprint,
        fields=given.job.fields,
        max_bytes=_OFFLINE_BATCH_BYTES if endpoint.use == "offline" else MOST_BYTES,
    )
    batcher = Batcher(
        standing.ledger,
        rules,
        settings,
        sender,
        BatchApi(client, endpoint.base_url),
        spool,
        standing.parts,
        standing.synthesis,
        given.answered,
        given.observer,
        batching.CLOCK,
    )
    with signals.interruptible(batcher, given.observer):
        stop = await batcher.send_all(due)
    if stop is not None or not batcher.again:
        return stop
    rules = replace(rules, by_schema=batcher.by_schema, max_usd=batcher.left_usd)
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


@dataclass(frozen=True, slots=True)
class _Sender:
    """Tells the worker where each content lies."""

    worker: ChunkWorker
    contents: Mapping[str, Content]
    places: Sources

    async def prepare(self, task: Task, reduced: bool) -> Payload | Failure | Split:
        if isinstance(task, Chunk):
            return await self.worker.prepare(task, self._original(task), reduced)
        return Payload(None)

    async def send(self, task: Task, payload: Payload, by_schema: bool, max_tokens: int) -> Outcome:
        if isinstance(task, Chunk):
            return await self.worker.send_chunk(task, self._original(task), payload, by_schema, max_tokens)
        return await self.worker.send_synthesis(task, by_schema, max_tokens)

    def pack(
        self, task: Task, payload: Payload, by_schema: bool, max_tokens: int, pack: Pack, custom_id: str
    ) -> bool | Failure:
        original = self._original(task) if isinstance(task, Chunk) else None
        return self.worker.pack(task, original, payload, by_schema, max_tokens, pack, custom_id)

    def _original(self, chunk: Chunk) -> Original:
        content = self.contents[chunk.content]
        source = opening.place(self.places, chunk.content) or self.places[chunk.content][0]
        # What was out of the ordinary to open is not left to the API's reader.
        must_be_cut = content.encrypted or content.note is not None or content.problem is not None
        return Original(source, content.pages or 0, must_be_cut, content.media_type)


def _rules(job: Job, run: str) -> Rules:
    retry = RetryPolicy(job.retry.attempts, job.retry.first_wait_seconds, job.retry.max_wait_seconds)
    return Rules(
        run=run,
        concurrency=job.workers.concurrency,
        requests_per_minute=job.workers.requests_per_minute,
        retry=retry,
        by_schema=job.endpoint.output != "prompt",
        learns_output=job.endpoint.output == "auto",
        max_tokens=job.endpoint.max_tokens,
        most_tokens=job.endpoint.most_tokens,
        model=job.endpoint.model,
        prices=PriceList(job.prices.input, job.prices.output),
        max_usd=job.budget.max_usd,
    )


@contextmanager
def _spool(ledger: Path) -> Iterator[Path]:
    """A folder for cut chunks beside the ledger, under whose lock nobody else uses it."""
    folder = ledger.with_name(ledger.name + ".spool")
    shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
    try:
        folder.mkdir(mode=0o700)  # parts of documents
    except OSError as error:
        raise SettingsError(f"the folder for cut chunks cannot be made: {error}; remove what stands there") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
