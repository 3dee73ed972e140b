"""The one straight path: scan, open, plan, send, merge, report. The only module that knows the order."""

from __future__ import annotations

import asyncio
import math
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline import __version__, endpoints, messages, opening, pdf, reports, signals
from pipeline.chunk_worker import ChunkWorker, Original
from pipeline.dispatch import Dispatcher, Observer, Rules
from pipeline.domain import (
    RULES_MODEL,
    Chunk,
    Content,
    DocumentResult,
    DocumentStatus,
    Failure,
    Outcome,
    Payload,
    RunInfo,
    RunResult,
    RunStatus,
    SourceFile,
    Spending,
    Split,
    Task,
    Usage,
)
from pipeline.errors import ExitCode, SettingsError
from pipeline.failures import RetryPolicy
from pipeline.job import Job
from pipeline.ledger import Ledger, Lock
from pipeline.opening import Sources
from pipeline.pdf import Passwords
from pipeline.prices import PriceList
from pipeline.sandbox import Limits, Sandbox
from pipeline.scanner import scan
from pipeline.standing import Due, PlannedDocument, Standing
from pipeline.text import shortened
from pipeline.verdicts import Stop

_NO_PASSWORDS = Passwords()
_IDLE_AFTER_S = 1.0  # by then the first requests are out, and their answers take longer


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to the job.

    ``failed_only``: send what failed, also for good, and nothing else. ``limit``: send for so many documents.
    """

    failed_only: bool = False
    limit: int | None = None


def run_job(
    job: Job,
    key: str | None,
    options: Options,
    sandbox: Sandbox,
    observer: Observer,
    passwords: Passwords = _NO_PASSWORDS,
) -> RunResult:
    """Read what is new in the job's folder and write the reports; the result says how it ended.

    ``key`` is None for an endpoint that takes none; ``passwords`` are tried on locked files. ``sandbox`` is stopped
    when all was sent. May be killed at any moment and called again.

    Raises:
        PipelineError: nothing could be done; see ``errors``.
        KeyboardInterrupt: stopped before anything was sent, or twice; what was recorded stays recorded.
    """
    _check_budget(job)
    _check_report_folder(job)
    _set_up(sandbox, job, passwords)
    with Lock(job.ledger.path), Ledger.writing(job.ledger.path) as ledger, signals.terminable():
        run = _new_run(job)
        files = _scan(job, ledger, observer)
        ledger.begin_run(job.name, run)
        with _ending(run, ledger):
            stop = asyncio.run(_open_and_send(job, key, options, sandbox, observer, ledger, files, run.id, passwords))
            sandbox.stop()
            result = _result(job, ledger, files, run, stop)
            reports.write(result, job.report.folder, job.report.formats)
            unfinished = [d.path for d in result.documents if _is_unfinished(d)]
            ledger.finish_run(result.run, unfinished)
    return result


def report_job(job: Job) -> RunResult | None:
    """Write the reports of the last run again from the ledger; None when the job never ran.

    Raises:
        PipelineError: see ``errors``; a run that is under way writes its own report.
    """
    _check_report_folder(job)
    with Lock(job.ledger.path), Ledger.reading(job.ledger.path) as ledger:
        result = _last_result(job, ledger)
        if result is not None:
            if result.run.fingerprint != _fingerprint(job):
                raise SettingsError(
                    f"the last run asked another model or with another prompt (endpoint {result.run.endpoint}, model "
                    f"{result.run.model}): name its endpoint with --endpoint, or run the job as it is now first"
                )
            reports.write(result, job.report.folder, job.report.formats)
    return result


@dataclass(frozen=True, slots=True)
class Status:
    """The books of a job. ``result`` is None when it never ran; its spending is that of the last run.

    ``spending`` is that of all runs. ``cut_off`` counts requests without an end: in flight now, or when a process
    was killed.
    """

    result: RunResult | None
    spending: Spending
    cut_off: int


def status_job(job: Job) -> Status:
    """What the ledger says, also while a run is under way. Looks at no document."""
    with Ledger.reading(job.ledger.path) as ledger:
        return Status(_last_result(job, ledger), ledger.spending(), ledger.cut_off_attempts())


def plan_job(job: Job, observer: Observer, passwords: Passwords = _NO_PASSWORDS) -> tuple[PlannedDocument, ...]:
    """What a run would do now, document by document. Sends and writes nothing."""
    with Ledger.reading(job.ledger.path) as ledger:
        before = ledger.files(job.source.folder)
        files = _found(job, before, observer)
        contents = asyncio.run(_open_for_plan(job, ledger, files, passwords))
        return tuple(Standing(job, ledger, files, contents).plan(before, _prices(job)))


# --- scan


def _scan(job: Job, ledger: Ledger, observer: Observer) -> Sequence[SourceFile]:
    before = ledger.files(job.source.folder)
    files = _found(job, before, observer)
    if {file.path: file for file in files} != before:
        ledger.record_scan(job.source.folder, files)
    return files


def _found(job: Job, before: Mapping[str, SourceFile], observer: Observer) -> Sequence[SourceFile]:
    source = job.source
    found = scan(source.folder, source.include, source.exclude, source.follow_links, before)
    if found.links_left_out:
        observer.said(f"{found.links_left_out} links were left out (follow_links = false)")
    if not found.files:
        nothing = f"no file in {source.folder} matches {', '.join(source.include)}"
        if before:
            raise SettingsError(
                f"{nothing}, and there were {len(before)} at the last run: is a share not mounted?"
                " (A folder that is empty on purpose needs no run.)"
            )
        observer.said(nothing)
    return found.files


# --- open


def _set_up(sandbox: Sandbox, job: Job, passwords: Passwords) -> None:
    limits = Limits(job.sandbox.memory_mb * 1_000_000, job.sandbox.timeout_seconds)
    sandbox.use(limits, ("pipeline.splitter:use", passwords) if passwords.candidates else None)


def _settled(contents: Mapping[str, Content], passwords: Passwords) -> dict[str, Content]:
    """What need not be opened again: another password may open what was locked."""
    is_locked = {sha256 for sha256, c in contents.items() if c.pages is None and c.encrypted and passwords.candidates}
    return {sha256: content for sha256, content in contents.items() if sha256 not in is_locked}


def _unopened(places: Sources, settled: Mapping[str, Content], again: bool = False) -> Sources:
    """The contents to open; ``again``: also those that could not be opened before."""
    known = {sha256 for sha256, content in settled.items() if content.pages is not None or not again}
    return {sha256: sources for sha256, sources in places.items() if sha256 not in known}


async def _open_for_plan(
    job: Job, ledger: Ledger, files: Sequence[SourceFile], passwords: Passwords
) -> Mapping[str, Content]:
    contents = ledger.contents(pdf.READER)
    new = _unopened(opening.sources(job.source.folder, files), _settled(contents, passwords))
    with Sandbox() as sandbox:
        _set_up(sandbox, job, passwords)
        async for opened in opening.opened(new, sandbox):
            contents.update({content.sha256: content for content in opened})
    return contents


# --- send


async def _open_and_send(
    job: Job,
    key: str | None,
    options: Options,
    sandbox: Sandbox,
    observer: Observer,
    ledger: Ledger,
    files: Sequence[SourceFile],
    run: str,
    passwords: Passwords,
) -> Stop | None:
    """Send what is due; what is not known yet is opened meanwhile."""
    places = opening.sources(job.source.folder, files)
    contents = ledger.contents(pdf.READER)
    new = _unopened(places, _settled(contents, passwords), again=options.failed_only)
    observer.found({file.sha256: file.path for file in files if file.sha256})
    standing = Standing(job, ledger, files, contents)
    due = _due(standing, places, _recorded(opening.opened(new, sandbox), ledger, contents), options.failed_only)
    async with aclosing(_tasks(due, options.limit, ledger, run, job)) as tasks:
        first = await anext(tasks, None)
        if first is None:  # with nothing to send, no connection is needed
            return None
        with _spool(job.ledger.path) as spool:
            async with endpoints.connect(job.endpoint, key, job.workers.concurrency, sandbox) as client:
                around = messages.largest_body(job.endpoint, job.prompt)
                limit_bytes = job.split.max_request_bytes
                worker = ChunkWorker(client, sandbox, spool, job.endpoint, job.prompt, limit_bytes, around)
                sender = _Sender(worker, contents, places)
                dispatcher = Dispatcher(ledger, _rules(job, run), sender, standing.parts, standing.synthesis, observer)
                asyncio.get_running_loop().call_later(_IDLE_AFTER_S, reports.load)
                with signals.interruptible(dispatcher, observer):
                    return await dispatcher.send_all(_chained(first, tasks))


async def _recorded(
    opened: AsyncGenerator[Sequence[Content], None], ledger: Ledger, contents: dict[str, Content]
) -> AsyncGenerator[Sequence[Content], None]:
    """Pass on what was opened when it is on record and among ``contents``."""
    async with aclosing(opened):
        async for some in opened:
            ledger.record_contents(some, pdf.READER)
            contents.update({content.sha256: content for content in some})
            yield some


async def _due(
    standing: Standing, places: Sources, opened: AsyncGenerator[Sequence[Content], None], failed_only: bool
) -> AsyncGenerator[Sequence[Due], None]:
    """What is to be sent: of known contents in the order of their files, then of opened ones as they come.

    Contents of which something failed before come last: what always fails must not keep the others waiting.
    """
    records = standing.records()
    failed_before: list[Due] = []

    def others(contents: Iterable[Content]) -> list[Due]:
        due = list(standing.due(contents, records, failed_only))
        failed_before.extend(d for d in due if d.failed_before)
        return [d for d in due if not d.failed_before]

    async with aclosing(opened):
        yield others([standing.contents[sha256] for sha256 in places if sha256 in standing.contents])
        async for contents in opened:
            yield others(contents)
    yield failed_before


async def _tasks(
    due: AsyncGenerator[Sequence[Due], None], limit: int | None, ledger: Ledger, run: str, job: Job
) -> AsyncGenerator[Sequence[Task], None]:
    """The tasks of ``limit`` contents at most; in the end, what they are expected to take is on record."""
    requests: list[Usage] = []
    left = math.inf if limit is None else limit
    try:
        async with aclosing(due):
            async for batch in due:
                taken = batch[: int(min(left, len(batch)))]
                left -= len(taken)
                requests += [usage for document in taken for usage in document.requests]
                if taken:
                    yield [task for document in taken for task in document.tasks]
                if not left:
                    return
    finally:
        if requests:
            ledger.expect(run, sum(requests, Usage()), _prices(job).total_usd(job.endpoint.model, requests))


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
    sources: Sources

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
        places = self.sources[chunk.content]
        source = next((place for place in places if not pdf.is_changed(place)), places[0])
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
        prices=_prices(job),
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


def _check_budget(job: Job) -> None:
    if job.budget.max_usd is not None and _prices(job).cost_usd(job.endpoint.model, Usage()) is None:
        raise SettingsError(
            f"[budget] max_usd cannot be held: the price of {job.endpoint.model} is unknown; "
            "set [prices] input and output"
        )


def _check_report_folder(job: Job) -> None:
    """Two jobs in one folder would take each other's pages away."""
    owner = reports.owner(job.report.folder)
    if owner not in (None, job.name):
        raise SettingsError(f"{job.report.folder} holds the report of the job {owner}; set [report] folder to another")


def _prices(job: Job) -> PriceList:
    return PriceList(job.prices.input, job.prices.output)


# --- merge


def _fingerprint(job: Job) -> str:
    return messages.request_fingerprint(job.endpoint, job.prompt)


@contextmanager
def _ending(run: RunInfo, ledger: Ledger) -> Iterator[None]:
    """A run that an exception ends is on record as stopped; only a killed one stays without an end."""
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        exit_code = ExitCode.INTERRUPTED if interrupted else getattr(error, "exit_code", ExitCode.BUG)
        reason = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
        ended = replace(run, finished_at=_now(), status=RunStatus.STOPPED, exit_code=int(exit_code))
        ledger.finish_run(replace(ended, stopped_because=shortened(reason, 300)))
        raise


def _new_run(job: Job) -> RunInfo:
    started_at = _now()
    return RunInfo(
        id=f"{started_at[:19].replace(':', '')}-{uuid.uuid4().hex[:6]}",
        started_at=started_at,
        finished_at="",
        status=RunStatus.RUNNING,
        exit_code=-1,
        endpoint=job.endpoint.use,
        model=job.endpoint.model,
        version=__version__,
        fingerprint=_fingerprint(job),
    )


def _last_result(job: Job, ledger: Ledger) -> RunResult | None:
    run = ledger.last_run(job.name)
    if run is None:
        return None
    files = sorted(ledger.files(job.source.folder).values(), key=lambda file: file.path)
    ended = run.status in (RunStatus.COMPLETE, RunStatus.INCOMPLETE) or run.exit_code == ExitCode.API_DOWN
    result = _assembled(job, ledger, files, run, came_to_its_end=ended)
    if run.status is RunStatus.COMPLETE and not _is_whole(result):
        # The settings or the books are others than when it ended: it must not look complete.
        run = replace(run, status=RunStatus.INCOMPLETE, exit_code=int(ExitCode.INCOMPLETE))
    return replace(result, run=run)


def _result(job: Job, ledger: Ledger, files: Sequence[SourceFile], run: RunInfo, stop: Stop | None) -> RunResult:
    to_the_end = stop is None or stop.exit_code is ExitCode.API_DOWN
    result = _assembled(job, ledger, files, run, came_to_its_end=to_the_end)
    if stop:
        status, exit_code = RunStatus.STOPPED, stop.exit_code
    elif _is_whole(result):
        status, exit_code = RunStatus.COMPLETE, ExitCode.COMPLETE
    else:
        status, exit_code = RunStatus.INCOMPLETE, ExitCode.INCOMPLETE
    ended = replace(
        result.run,
        finished_at=_now(),
        status=status,
        exit_code=int(exit_code),
        stopped_because=stop.reason if stop else None,
    )
    return replace(result, run=ended)


def _is_whole(result: RunResult) -> bool:
    return all(document.status is DocumentStatus.DONE for document in result.documents)


def _assembled(job: Job, ledger: Ledger, files: Sequence[SourceFile], run: RunInfo, came_to_its_end: bool) -> RunResult:
    standing = Standing(job, ledger, files, ledger.contents(pdf.READER))
    documents, models = standing.results(run.id)
    before = ledger.unfinished_before(job.name, run.id)
    documents = tuple(
        replace(document, unfinished_runs=before.get(document.path, 0) + came_to_its_end)
        if _is_unfinished(document)
        else document
        for document in documents
    )
    read_by = models or {run.model}
    run = replace(run, model=", ".join(sorted(read_by)))
    spending, expected = ledger.spending(run.id), ledger.expected(run.id)
    return RunResult(job.name, job.title, run, spending, documents, RULES_MODEL in read_by, expected)


def _is_unfinished(document: DocumentResult) -> bool:
    """Whether a run has tried to read a document, and could not read all of it."""
    if document.status is DocumentStatus.DONE or document.is_unopened:
        return False
    return not document.chunks or any(chunk.attempts or chunk.reason for chunk in document.chunks)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
