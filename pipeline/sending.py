"""What sending is made of: a connection, a worker, the spool between them, and a dispatcher over all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline import endpoints, messages, opening, reports, signals
from pipeline.chunk_worker import ChunkWorker, Original
from pipeline.dispatch import Dispatcher, Observer, Rules
from pipeline.domain import Chunk, Content, Failure, Outcome, Payload, Split, Task
from pipeline.errors import SettingsError
from pipeline.failures import RetryPolicy
from pipeline.job import Job
from pipeline.opening import Sources
from pipeline.prices import PriceList
from pipeline.sandbox import Sandbox
from pipeline.standing import Standing
from pipeline.verdicts import Stop

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
    if first is None:  # with nothing to send, no connection is needed
        return None
    job, standing = given.job, given.standing
    with _spool(job.ledger.path) as spool:
        async with endpoints.connect(job.endpoint, given.key, job.workers.concurrency, given.sandbox) as client:
            around = messages.largest_body(job.endpoint, job.prompt)
            limit_bytes = job.split.max_request_bytes
            worker = ChunkWorker(client, given.sandbox, spool, job.endpoint, job.prompt, limit_bytes, around)
            dispatcher = Dispatcher(
                standing.ledger,
                _rules(job, given.run),
                _Sender(worker, standing.contents, given.places),
                standing.parts,
                standing.synthesis,
                given.answered,
                given.observer,
            )
            asyncio.get_running_loop().call_later(_IDLE_AFTER_S, reports.load)
            with signals.interruptible(dispatcher, given.observer):
                return await dispatcher.send_all(_chained(first, tasks))


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
