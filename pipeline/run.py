"""The one straight path: scan, open, plan, send, merge, report. The only module that knows the order."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from pipeline import (
    __version__,
    changes,
    engines,
    hashing,
    joining,
    messages,
    opening,
    page_pictures,
    pdf,
    publishing,
    reports,
    signals,
)
from pipeline.dispatch import Observer
from pipeline.domain import (
    RULES_MODEL,
    Content,
    DocumentResult,
    DocumentStatus,
    OpenBatch,
    RunInfo,
    RunResult,
    RunStatus,
    SourceFile,
    Spending,
    Task,
    ToRemember,
    Usage,
)
from pipeline.engine import Hosts, Secrets
from pipeline.errors import ExitCode, SettingsError
from pipeline.happenings import End
from pipeline.job import Job
from pipeline.ledger import Ledger
from pipeline.ledger_file import Lock
from pipeline.opening import Sources
from pipeline.pdf import Passwords
from pipeline.prices import PriceList
from pipeline.proving import Proving
from pipeline.reading import Reader
from pipeline.sandbox import Sandbox
from pipeline.scanner import scan
from pipeline.standing import Due, PlannedDocument, Standing
from pipeline.storage import Url
from pipeline.text import shortened
from pipeline.verdicts import Stop

_NO_PASSWORDS = Passwords()


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
    when the reports are written. May be killed at any moment and called again.

    Raises:
        PipelineError: nothing could be done; see ``errors``.
        KeyboardInterrupt: stopped before anything was sent, or twice; what was recorded stays recorded.
    """
    check_budget(job)
    check_report_folder(job)
    secrets = Secrets(key, passwords)
    with Lock(job.ledger.path), Ledger.writing(job.ledger.path) as ledger, signals.terminable():
        run = _new_run(job)
        observer.began(job.name, run)
        with _hosts(job, secrets, sandbox, ledger, observer) as hosts:
            files = _scan(job, ledger, observer, hosts)
            ledger.begin_run(job.name, run)
            with _ending(run, ledger):
                contents = ledger.contents(pdf.READER)
                work = _read(job, secrets, options, sandbox, hosts, observer, ledger, files, contents, run.id)
                stop = asyncio.run(work)
                result, to_remember = _result(job, ledger, files, contents, run, stop)
                _write(result, job, files, hosts, lambda: max(host.processes for host in hosts.engine.hosts()))
                sandbox.stop()
                unfinished = [d.path for d in result.documents if _is_unfinished(d)]
                ledger.finish_run(result.run, unfinished, to_remember)
        if stop is None and job.ledger.keep_days is not None:
            removed = ledger.remove_unused(datetime.now(UTC), job.ledger.keep_days)
            if removed:
                observer.said(f"removed from the ledger: {removed} contents unused for {job.ledger.keep_days} days")
    return result


def report_job(
    job: Job, sandbox: Sandbox, observer: Observer, passwords: Passwords = _NO_PASSWORDS
) -> RunResult | None:
    """Write the reports of the last run again from the ledger; None when the job never ran.

    Quotes that nobody looked for, say because the run was interrupted, are looked for. ``passwords`` are tried on
    locked files, of which pages are drawn.

    Raises:
        PipelineError: see ``errors``; a run that is under way writes its own report.
    """
    check_report_folder(job)
    reader = _reader(job, sandbox, passwords)
    with Lock(job.ledger.path), signals.terminable():
        with Ledger.reading(job.ledger.path) as ledger:
            run = ledger.last_run(job.name)
        if run is None:
            return None
        if run.fingerprint != _fingerprint(job):
            raise SettingsError(
                f"the last run asked another model or with another prompt (endpoint {run.endpoint}, model "
                f"{run.model}): name its endpoint with --endpoint, or run the job as it is now first"
            )
        with Ledger.writing(job.ledger.path) as ledger:
            files = tuple(ledger.files(job.name, job.source.folder).values())
            asyncio.run(_prove_again(job, reader, observer, ledger, files))
            result = _last_result(job, ledger)
            if result is not None:
                _write(result, job, files, reader, lambda: reader.processes)
            return result


async def _prove_again(
    job: Job, reader: Reader, observer: Observer, ledger: Ledger, files: Sequence[SourceFile]
) -> None:
    places = opening.sources(job.source.folder, files)
    async with Proving(ledger, reader, partial(opening.place, places)) as proving:
        await _prove(proving, Standing(job, ledger, files, ledger.contents(pdf.READER)), observer)


def _write(
    result: RunResult, job: Job, files: Iterable[SourceFile], reader: Reader, at_once: Callable[[], int]
) -> None:
    folder = job.source.folder
    sources = {file.path: opening.source(folder, file) for file in files}
    originals = reports.Originals(folder, page_pictures.drawer(reader, sources, at_once))
    place = job.report.folder
    if isinstance(place, Url):
        mirror = publishing.mirror(job.ledger.path, job.name)
        reports.write(result, mirror, job.report.formats, originals, csv_bom=job.report.csv_bom, read_at=place)
        publishing.publish(mirror, place, job.name)
    else:
        reports.write(result, place, job.report.formats, originals, csv_bom=job.report.csv_bom)


def _reader(job: Job, sandbox: Sandbox, passwords: Passwords) -> Reader:
    """A reader of this machine alone, whatever engine the job asks for."""
    engine = engines.here(job, Secrets(passwords=passwords), sandbox)
    engine.open()
    return Hosts(engine)


@dataclass(frozen=True, slots=True)
class Status:
    """The books of a job. ``result`` is None when it never ran; its spending is that of the last run.

    ``spending`` is that of all runs. ``cut_off`` counts requests without an end: in flight now, or when a process
    was killed. ``batches`` have not brought their results yet.
    """

    result: RunResult | None
    spending: Spending
    cut_off: int
    batches: tuple[OpenBatch, ...]


def status_job(job: Job) -> Status:
    """What the ledger says, also while a run is under way. Looks at no document."""
    with Ledger.reading(job.ledger.path) as ledger:
        books = ledger.spending(), ledger.cut_off_attempts(), ledger.open_batches()
        return Status(_last_result(job, ledger), *books)


def plan_job(job: Job, observer: Observer, passwords: Passwords = _NO_PASSWORDS) -> tuple[PlannedDocument, ...]:
    """What a run would do now, document by document. Sends and writes nothing."""
    with Ledger.reading(job.ledger.path) as ledger:
        before = ledger.files(job.name, job.source.folder)
        with Sandbox() as sandbox:
            reader = _reader(job, sandbox, passwords)
            files = _read_remote(job, _found(job, before, observer), observer, reader, lambda files: None)
            contents = asyncio.run(_open_for_plan(job, ledger, files, passwords, reader))
        return tuple(Standing(job, ledger, files, contents).plan(before, _prices(job)))


# --- what was cut off


def _hold(job: Job, ledger: Ledger, observer: Observer) -> None:
    """What earlier runs left in flight is sent again, unless the job wants a person's word first."""
    if job.engine.on_lost == "hold" and (held := ledger.hold()):
        noun = "request was" if held == 1 else "requests were"
        observer.said(f"{held} {noun} cut off without an answer: held, for they may have been billed")


# --- scan


def _scan(job: Job, ledger: Ledger, observer: Observer, reader: Reader) -> Sequence[SourceFile]:
    before = ledger.files(job.name, job.source.folder)

    def record(files: Iterable[SourceFile]) -> None:
        ledger.record_scan(job.name, job.source.folder, files)

    def keep(files: Iterable[SourceFile]) -> None:
        record((before | {file.path: file for file in files}).values())

    files = _read_remote(job, _found(job, before, observer), observer, reader, keep)
    if {file.path: file for file in files} != before:
        record(files)
    return files


def _read_remote(
    job: Job,
    files: Sequence[SourceFile],
    observer: Observer,
    reader: Reader,
    keep: Callable[[Iterable[SourceFile]], None],
) -> Sequence[SourceFile]:
    """The files, and what the bytes of unread ones are; ``keep`` is called now and then with what was read so far."""
    folder = job.source.folder
    if not isinstance(folder, Url):
        return files
    unread = [file for file in files if file.is_unread]
    if not unread:
        return files
    observer.said(f"{len(unread)} files of {folder} are new or changed: they are downloaded")
    read: dict[str, SourceFile] = {}

    async def read_all(folder: Url) -> None:
        async with aclosing(hashing.hashed(folder, unread, reader)) as hashed:
            kept = 0
            async for some in hashed:
                read.update({file.path: file for file in some})
                if len(read) - kept > len(unread) / 10:  # a kill loses no more
                    kept = len(read)
                    keep(read.values())

    try:
        asyncio.run(read_all(folder))
    except BaseException:
        keep(read.values())
        raise
    return [read.get(file.path, file) for file in files]


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


@contextmanager
def _hosts(job: Job, secrets: Secrets, sandbox: Sandbox, ledger: Ledger, observer: Observer) -> Iterator[Hosts]:
    """The hosts that a job asks for; this machine's are in the ``sandbox``."""
    engine = engines.engine_of(job, secrets, sandbox, ledger.identity())
    for left_out in engine.open():
        observer.said(left_out)
    hosts = Hosts(engine)
    try:
        yield hosts
    finally:
        hosts.close()


def _settled(contents: Mapping[str, Content], passwords: Passwords) -> dict[str, Content]:
    """What need not be opened again: another password may open what was locked."""
    is_locked = {sha256 for sha256, c in contents.items() if c.pages is None and c.encrypted and passwords.candidates}
    return {sha256: content for sha256, content in contents.items() if sha256 not in is_locked}


def _unopened(places: Sources, settled: Mapping[str, Content], again: bool = False) -> Sources:
    """The contents to open; ``again``: also those that could not be opened before."""
    known = {sha256 for sha256, content in settled.items() if content.pages is not None or not again}
    return {sha256: sources for sha256, sources in places.items() if sha256 not in known}


async def _open_for_plan(
    job: Job, ledger: Ledger, files: Sequence[SourceFile], passwords: Passwords, reader: Reader
) -> Mapping[str, Content]:
    contents = ledger.contents(pdf.READER)
    new = _unopened(opening.sources(job.source.folder, files), _settled(contents, passwords))
    async for opened in opening.opened(new, reader, at_once=2 * reader.processes):  # one ready for each
        contents.update({content.sha256: content for content in opened})
    return contents


# --- open, send, prove


async def _read(
    job: Job,
    secrets: Secrets,
    options: Options,
    sandbox: Sandbox,
    hosts: Hosts,
    observer: Observer,
    ledger: Ledger,
    files: Sequence[SourceFile],
    contents: dict[str, Content],
    run: str,
) -> Stop | None:
    """Send what is due, while what is new is opened and the quotes of what was answered are looked for."""
    await joining.join(hosts, ledger, run, _prices(job), job.endpoint.model, observer)
    _hold(job, ledger, observer)
    places = opening.sources(job.source.folder, files)
    new = _unopened(places, _settled(contents, secrets.passwords), again=options.failed_only)
    standing = Standing(job, ledger, files, contents)
    at_once = max(2, hosts.processes)  # none waits ready: the first chunks to be cut would wait behind it
    observer.found({file.sha256: file.path for file in files if file.sha256})
    due = _due(
        standing,
        places,
        _recorded(opening.opened(new, hosts, at_once), ledger, contents),
        options.failed_only,
    )
    async with Proving(ledger, hosts, partial(opening.place, places)) as proving:
        async with aclosing(_tasks(due, options.limit, ledger, run, job)) as tasks, _begun(tasks) as first:
            stop = None
            if not first.done() or await first or ledger.open_batches():
                await asyncio.to_thread(_load_sending)  # takes as long as the first files
                from pipeline import sending

                given = sending.Sending(job, secrets, sandbox, hosts, observer, standing, places, run, proving.add)
                stop = await sending.send(await first, tasks, given)
        if stop is None or stop.exit_code is not ExitCode.INTERRUPTED:
            stop = await _prove(proving, standing, observer) or stop
    return stop


def _load_sending() -> None:
    """Load all that the first request would have to wait for, and a run that sends nothing does without."""
    from pipeline import client, sending  # noqa: F401

    client.load()


@asynccontextmanager
async def _begun(tasks: AsyncIterator[Sequence[Task]]) -> AsyncGenerator[asyncio.Task[Sequence[Task] | None], None]:
    """The first tasks, None if there are none, which are looked for while the block does other things."""

    async def look() -> Sequence[Task] | None:
        return await anext(tasks, None)

    first = asyncio.create_task(look())
    try:
        await asyncio.sleep(0)  # by now it is known whether any file must be opened first
        yield first
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


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


async def _prove(proving: Proving, standing: Standing, observer: Observer) -> Stop | None:
    """Look for the quotes of every answer for which nobody has."""
    with signals.interruptible(
        proving, observer, "quotes that are being looked for are awaited, the next run looks for the rest"
    ):
        await proving.finish(standing.unproven())
    if proving.interrupted:
        return Stop(ExitCode.INTERRUPTED, "interrupted while quotes were looked for; the next run goes on")
    return None


def check_budget(job: Job) -> None:
    """Whether the job's budget can be held.

    Raises:
        SettingsError: the price of its model is unknown.
    """
    if job.budget.max_usd is not None and _prices(job).cost_usd(job.endpoint.model, Usage()) is None:
        raise SettingsError(
            f"[budget] max_usd cannot be held: the price of {job.endpoint.model} is unknown; "
            "set [prices] input and output"
        )


def check_report_folder(job: Job) -> None:
    """Whether the report folder is the job's own: two jobs in one folder would take each other's pages away.

    Raises:
        SettingsError: it holds the report of another job, or is a URL that cannot be read.
    """
    folder = job.report.folder
    owner = publishing.owner(folder) if isinstance(folder, Url) else reports.owner(folder)
    if owner not in (None, job.name):
        raise SettingsError(f"{folder} holds the report of the job {owner}; set [report] folder to another")


def _prices(job: Job) -> PriceList:
    return PriceList(job.prices.input, job.prices.output)


# --- merge


def _fingerprint(job: Job) -> str:
    return messages.request_fingerprint(job.endpoint, job.prompt, job.fields)


@contextmanager
def _ending(run: RunInfo, ledger: Ledger) -> Iterator[None]:
    """A run that an exception ends is on record as stopped; only a killed one stays without an end."""
    try:
        yield
    except BaseException as error:
        end = End.by(error)
        ended = replace(run, finished_at=_now(), status=end.status, exit_code=end.exit_code)
        ledger.finish_run(replace(ended, stopped_because=shortened(end.reason or "", 300)))
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
    files = sorted(ledger.files(job.name, job.source.folder).values(), key=lambda file: file.path)
    ended = run.status in (RunStatus.COMPLETE, RunStatus.INCOMPLETE) or run.exit_code == ExitCode.API_DOWN
    standing = Standing(job, ledger, files, ledger.contents(pdf.READER))
    result, _ = _assembled(standing, run, came_to_its_end=ended)
    if run.status is RunStatus.COMPLETE and not _is_whole(result):
        # The settings or the books are others than when it ended: it must not look complete.
        run = replace(run, status=RunStatus.INCOMPLETE, exit_code=int(ExitCode.INCOMPLETE))
    return replace(result, run=run)


def _result(
    job: Job,
    ledger: Ledger,
    files: Sequence[SourceFile],
    contents: Mapping[str, Content],
    run: RunInfo,
    stop: Stop | None,
) -> tuple[RunResult, ToRemember | None]:
    """The result, and what the next run is compared with; nothing of one that stopped early."""
    to_the_end = stop is None or stop.exit_code is ExitCode.API_DOWN
    result, to_remember = _assembled(Standing(job, ledger, files, contents), run, came_to_its_end=to_the_end)
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
    return replace(result, run=ended), None if stop else to_remember


def _is_whole(result: RunResult) -> bool:
    return all(document.status is DocumentStatus.DONE for document in result.documents)


def _assembled(standing: Standing, run: RunInfo, came_to_its_end: bool) -> tuple[RunResult, ToRemember]:
    job, ledger = standing.job, standing.ledger
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
    by_rules = RULES_MODEL in read_by
    whole = RunResult(job.name, job.title, run, spending, documents, by_rules, expected)
    result = replace(whole, argument=job.argument, fields=job.fields)
    return changes.compare(result, ledger.memory_before(job.name, run.id, by_rules))


def _is_unfinished(document: DocumentResult) -> bool:
    """Whether a run has tried to read a document, and could not read all of it."""
    if document.status is DocumentStatus.DONE or document.is_unopened:
        return False
    return not document.chunks or any(chunk.attempts or chunk.reason for chunk in document.chunks)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
