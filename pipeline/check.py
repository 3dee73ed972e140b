"""What would go wrong tonight: each thing that a run needs, tried on its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import chunk_worker, endpoints, messages, notify, pdf, run
from pipeline.domain import Failure, FailureClass, Usage
from pipeline.errors import ExitCode, PipelineError
from pipeline.job import Job, NotifySettings
from pipeline.ledger import Ledger
from pipeline.ledger_file import Lock
from pipeline.prices import PriceList
from pipeline.sandbox import Sandbox
from pipeline.scanner import scan

_LEAST_FREE_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. ``exit_code`` 0: in order; otherwise ``text`` says what to do."""

    what: str
    text: str
    exit_code: ExitCode = ExitCode.COMPLETE


def check_job(job: Job, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Try the folder, the report folder, the ledger, the key, the price and the model of a job.

    A "Hello" goes to the model, which a live endpoint bills with a few tokens.
    """
    yield Finding("job file", f"{job.name}: {job.title}")
    yield _folder(job)
    if job.source.passwords_env:
        yield _passwords(job.source.passwords_env, environment)
    if job.notify.is_set:
        yield _notifications(job.notify, environment)
    yield _report_folder(job)
    yield _ledger(job)
    yield _price(job)
    try:
        key = endpoints.key_of(job.endpoint, environment)
    except PipelineError as error:
        yield Finding("key", str(error), error.exit_code)
        return
    yield Finding("key", f"from {job.endpoint.api_key_env}" if key else "none needed")
    yield asyncio.run(_greeted(job, key))


def _folder(job: Job) -> Finding:
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
        return Finding("source folder", str(error), error.exit_code)
    unreadable = sum(1 for file in found.files if file.problem)
    more = f", {unreadable} of them cannot be read" if unreadable else ""
    return Finding("source folder", f"{source.folder}: {len(found.files)} files match{more}")


def _passwords(name: str, environment: Mapping[str, str]) -> Finding:
    try:
        passwords = pdf.passwords_of(name, environment)
    except PipelineError as error:
        return Finding("passwords", str(error), error.exit_code)
    return Finding("passwords", f"{len(passwords.candidates)} from {name}")


def _report_folder(job: Job) -> Finding:
    try:
        run.check_report_folder(job)
    except PipelineError as error:
        return Finding("report folder", str(error), error.exit_code)
    return _writable("report folder", job.report.folder)


def _writable(what: str, folder: Path) -> Finding:
    place = folder
    while not os.access(place, os.F_OK):  # it will be made; below a closed folder nothing can be seen
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding(what, f"{place} cannot be written; change its permissions or the job file", ExitCode.SETTINGS)
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < _LEAST_FREE_BYTES:
        return Finding(what, f"only {free_bytes / 1e6:.0f} MB are free in {place}", ExitCode.SETTINGS)
    return Finding(what, f"{folder} ({free_bytes / 1e9:.0f} GB free)")


def _notifications(settings: NotifySettings, environment: Mapping[str, str]) -> Finding:
    if missing := notify.unset(settings, environment):
        return Finding("notify", f"nobody would be told: set {' and '.join(missing)}", ExitCode.SETTINGS)
    return Finding("notify", "every variable is set; nothing was sent")


def _ledger(job: Job) -> Finding:
    path = job.ledger.path
    place = _writable("ledger", path.parent)
    if place.exit_code:
        return place
    try:
        with Ledger.reading(path) as ledger:
            runs = ledger.last_run(job.name)
        with Lock(path):
            pass
    except PipelineError as error:
        return Finding("ledger", str(error), error.exit_code)
    return Finding("ledger", f"{path} ({f'last run {runs.started_at}' if runs else 'a new one'})")


def _price(job: Job) -> Finding:
    prices = PriceList(job.prices.input, job.prices.output)
    if prices.cost_usd(job.endpoint.model, Usage()) is not None:
        return Finding("price", f"of {job.endpoint.model} is known")
    try:
        run.check_budget(job)
    except PipelineError as error:
        return Finding("price", str(error), error.exit_code)
    return Finding("price", f"of {job.endpoint.model} is unknown; costs are reported as unknown until [prices] says it")


async def _greeted(job: Job, key: str | None) -> Finding:
    with Sandbox(1) as sandbox:
        async with endpoints.connect(job.endpoint, key, 1, sandbox) as client:
            reply = await client.post(messages.MESSAGES_PATH, messages.greeting_body(job.endpoint))
    result = chunk_worker.received(reply)
    if isinstance(result, Failure):
        return Finding("model", f"{job.endpoint.model} at {job.endpoint.base_url}: {result.reason}", _exit_code(result))
    message, exchange = result
    answered = message.model or job.endpoint.model
    return Finding("model", f"{answered} says hello in {exchange.latency_s:.1f} s")


def _exit_code(failure: Failure) -> ExitCode:
    match failure.kind:
        case FailureClass.ACCOUNT:
            return ExitCode.ACCOUNT
        case FailureClass.TRANSIENT:
            return ExitCode.API_DOWN
        case _:
            return ExitCode.SETTINGS
