"""What would go wrong tonight: each thing that a run needs, tried on its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

from pipeline import chunk_worker, endpoints, engines, messages, notify, pdf, publishing, run
from pipeline.client import Reply
from pipeline.domain import RULES_MODEL, Failure, FailureClass, SourceFile, Usage
from pipeline.engine import Secrets
from pipeline.errors import ExitCode, PipelineError
from pipeline.file_cache import users_folder
from pipeline.job import Job, NotifySettings
from pipeline.ledger import Ledger
from pipeline.ledger_file import Lock, needs_migrating
from pipeline.prices import READ_ON, PriceList
from pipeline.sandbox import Sandbox
from pipeline.scanner import scan, unmatched
from pipeline.storage import Url
from pipeline.text import moment

_LEAST_FREE_BYTES = 500_000_000
_PRICES_HOLD_DAYS = 90
_MOST_SKEW_S = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. ``exit_code`` 0: in order; otherwise ``text`` says what to do."""

    what: str
    text: str
    exit_code: ExitCode = ExitCode.COMPLETE


def _utc_now() -> datetime:
    return datetime.now(UTC)


def check_job(job: Job, environment: Mapping[str, str], now: Callable[[], datetime] = _utc_now) -> Iterator[Finding]:
    """Try each thing that a run of the job needs: folders, space, ledger, limits, hosts, price, key, model, clock.

    A "Hello" goes to the model, which a live endpoint bills with a few tokens.
    """
    yield Finding("job file", f"{job.name}: {job.title}")
    folder, files = _folder(job)
    yield folder
    least_bytes = max(_LEAST_FREE_BYTES, 2 * max((file.size_bytes for file in files), default=0))
    if isinstance(job.source.folder, Url):
        yield _writable("cache", users_folder(), max(job.source.cache_bytes, least_bytes))
    if job.source.passwords_env:
        yield _passwords(job.source.passwords_env, environment)
    if job.notify.is_set:
        yield _notifications(job.notify, environment)
    yield _report_folder(job, least_bytes)
    yield _ledger(job, least_bytes)
    yield _writable("temporary folder", Path(tempfile.gettempdir()), least_bytes)
    if job.metrics.textfile:
        yield _writable("metrics", job.metrics.textfile.parent, least_bytes=0)
    yield _sandbox(job)
    if job.engine.use != "local":
        yield _hosts(job)
    yield _price(job, now().date())
    try:
        key = endpoints.key_of(job.endpoint, environment)
    except PipelineError as error:
        yield Finding("key", str(error), error.exit_code)
        return
    yield Finding("key", f"from {job.endpoint.api_key_env}" if key else "none needed")
    yield from asyncio.run(_greeted(job, key, now))


def _folder(job: Job) -> tuple[Finding, Sequence[SourceFile]]:
    source = job.source
    known = {}
    try:
        with Ledger.reading(job.ledger.path) as ledger:
            known = ledger.files(job.name, source.folder)
    except PipelineError:
        pass  # said by its own check
    try:
        found = scan(source.folder, source.include, source.exclude, source.follow_links, known)
    except PipelineError as error:
        return Finding("source folder", str(error), error.exit_code), ()
    unreadable = sum(1 for file in found.files if file.problem)
    more = f", {unreadable} of them cannot be read" if unreadable else ""
    nothing = unmatched(source.include, found.files)
    if nothing:
        more += f"; nothing matches {', '.join(nothing)}"
    exit_code = ExitCode.COMPLETE
    if known and not found.files:
        more += f", and there were {len(known)} at the last run, so a run will refuse: is a share not mounted?"
        exit_code = ExitCode.SETTINGS
    return Finding("source folder", f"{source.folder}: {len(found.files)} files match{more}", exit_code), found.files


def _passwords(name: str, environment: Mapping[str, str]) -> Finding:
    try:
        passwords = pdf.passwords_of(name, environment)
    except PipelineError as error:
        return Finding("passwords", str(error), error.exit_code)
    return Finding("passwords", f"{len(passwords.candidates)} from {name}")


def _report_folder(job: Job, least_bytes: int) -> Finding:
    try:
        run.check_report_folder(job)
    except PipelineError as error:
        return Finding("report folder", str(error), error.exit_code)
    folder = job.report.folder
    if not isinstance(folder, Url):
        return _writable("report folder", folder, least_bytes)
    mirror = _writable("report folder", publishing.mirror(job.ledger.path, job.name), least_bytes)
    if mirror.exit_code:
        return mirror
    return Finding("report folder", f"{folder}: reachable; whether it takes files is not tried, for nothing is written")


def _writable(what: str, folder: Path, least_bytes: int) -> Finding:
    place = folder
    while not os.access(place, os.F_OK):  # it will be made; below a closed folder nothing can be seen
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding(what, f"{place} cannot be written; change its permissions or the job file", ExitCode.SETTINGS)
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < least_bytes:
        text = f"only {free_bytes / 1e6:.0f} MB are free in {place}; make room for {least_bytes / 1e6:.0f} MB"
        return Finding(what, text, ExitCode.SETTINGS)
    return Finding(what, f"{folder} ({free_bytes / 1e9:.0f} GB free)")


def _notifications(settings: NotifySettings, environment: Mapping[str, str]) -> Finding:
    if missing := notify.unset(settings, environment):
        return Finding("notify", f"nobody would be told: set {' and '.join(missing)}", ExitCode.SETTINGS)
    return Finding("notify", "every variable is set; nothing was sent")


def _ledger(job: Job, least_bytes: int) -> Finding:
    path = job.ledger.path
    place = _writable("ledger", path.parent, least_bytes)
    if place.exit_code:
        return place
    try:
        with Lock(path):
            pass
        if needs_migrating(path):
            return Finding("ledger", f"{path} is from an older version, and the next run migrates it; back it up first")
        with Ledger.reading(path) as ledger:
            damage = ledger.audit().damage
            runs = ledger.last_run(job.name) if not damage else None
    except PipelineError as error:
        return Finding("ledger", str(error), error.exit_code)
    if damage:
        more = "`docpipe status --verify` lists it all, then restore it from a backup or `docpipe salvage` it"
        return Finding("ledger", f"{path}: {damage[0]}; {more}", ExitCode.LEDGER)
    return Finding("ledger", f"{path} ({f'last run {moment(runs.started_at)}' if runs else 'a new one'})")


def _sandbox(job: Job) -> Finding:
    limit_bytes = job.sandbox.memory_mb * 1_000_000
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limit_bytes > memory_bytes:
        text = (
            f"memory_mb is {job.sandbox.memory_mb}, more than the {memory_bytes / 1e6:.0f} MB of this machine; lower it"
        )
        return Finding("sandbox", text, ExitCode.SETTINGS)
    return Finding("sandbox", f"{job.sandbox.memory_mb} MB for each process")


def _hosts(job: Job) -> Finding:
    """Whether hosts can be started that see the documents; they end at once."""
    try:
        engine = engines.engine_of(job, Secrets(), Sandbox(1), ledger="check")
        engine.open()
    except PipelineError as error:
        return Finding("engine", str(error), error.exit_code)
    hosts = engine.hosts()
    engine.close({})
    return Finding("engine", f"{len(hosts)} hosts of the Ray cluster at {job.engine.address} can do this job")


def _price(job: Job, today: date) -> Finding:
    model, prices = job.endpoint.model, PriceList(job.prices.input, job.prices.output)
    if prices.cost_usd(model, Usage()) is None:
        try:
            run.check_budget(job)
        except PipelineError as error:
            return Finding("price", str(error), error.exit_code)
        return Finding("price", f"of {model} is unknown; costs are reported as unknown until [prices] says it")
    age_days = (today - date.fromisoformat(READ_ON)).days
    if age_days > _PRICES_HOLD_DAYS and job.prices.input is None and model != RULES_MODEL:
        text = f"of {model} was read {age_days} days ago; look it up and set [prices] input and output"
        return Finding("price", text, ExitCode.SETTINGS if job.budget.max_usd is not None else ExitCode.COMPLETE)
    return Finding("price", f"of {model} is known")


async def _greeted(job: Job, key: str | None, now: Callable[[], datetime]) -> Sequence[Finding]:
    """What the model, and its description where there is one, say; and the clock of the endpoint."""
    with Sandbox(1) as sandbox:
        async with endpoints.connect(job.endpoint, key, 1, sandbox) as client:
            reply = await client.post(messages.MESSAGES_PATH, messages.greeting_body(job.endpoint))
            skew_s = _skew_s(reply, now())
            result = chunk_worker.received(reply)
            if isinstance(result, Failure):
                text = f"{job.endpoint.model} at {job.endpoint.base_url}: {result.reason}"
                return [Finding("model", text, _exit_code(result)), *_clock(skew_s)]
            described = await client.get(f"/v1/models/{quote(job.endpoint.model, safe='')}")
    message, exchange = result
    answered = message.model or job.endpoint.model
    if not _takes_pdfs(described):
        text = f"{answered} takes no PDFs, says the endpoint; set [endpoint] model to one that does"
        return [Finding("model", text, ExitCode.SETTINGS), *_clock(skew_s)]
    return [Finding("model", f"{answered} says hello in {exchange.latency_s:.1f} s"), *_clock(skew_s)]


def _takes_pdfs(described: Reply) -> bool:
    """False when the description of the model says so; most routers describe nothing.

    ``capabilities.pdf_input.supported`` is in the API's own Models endpoint.
    """
    if described.status == 200:
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            return json.loads(described.body)["capabilities"]["pdf_input"]["supported"] is not False
    return True


def _skew_s(reply: Reply, now: datetime) -> float | None:
    """By how much this machine's clock is ahead of the endpoint's; None where that is not told."""
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        return (now - parsedate_to_datetime(reply.headers["date"]).astimezone(UTC)).total_seconds()
    return None


def _clock(skew_s: float | None) -> Iterator[Finding]:
    if skew_s is not None and abs(skew_s) > _MOST_SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        text = f"this machine's is {abs(skew_s) / 60:.0f} minutes {way} the endpoint's"
        yield Finding("clock", f"{text}; set it, or dates in reports are wrong", ExitCode.SETTINGS)


def _exit_code(failure: Failure) -> ExitCode:
    match failure.kind:
        case FailureClass.ACCOUNT:
            return ExitCode.ACCOUNT
        case FailureClass.TRANSIENT:
            return ExitCode.API_DOWN
        case _:
            return ExitCode.SETTINGS
