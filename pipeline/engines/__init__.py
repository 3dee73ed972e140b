"""Where the work of a run is done: the engine that a job asks for."""

from __future__ import annotations

from pipeline.engine import Engine, HostSettings, Secrets
from pipeline.engines.local import LocalEngine
from pipeline.job import Job
from pipeline.sandbox import Limits, Sandbox


def here(job: Job, secrets: Secrets, sandbox: Sandbox) -> LocalEngine:
    """An engine of this machine alone, whatever the job asks for."""
    spool = job.ledger.path.with_name(job.ledger.path.name + ".spool")  # under the ledger's lock nobody else uses it
    return LocalEngine(_settings(job, job.workers.concurrency), secrets, sandbox, spool)


def engine_of(job: Job, secrets: Secrets, sandbox: Sandbox, ledger: str) -> Engine:
    """The engine that a job asks for, not open yet. ``ledger`` is the identity of its ledger."""
    if job.engine.use == "local":
        return here(job, secrets, sandbox)
    from pipeline.engines.on_ray import RayEngine

    return RayEngine(_settings(job, job.engine.slots_per_host), secrets, job.engine, job.source.folder, ledger)


def limits_of(job: Job) -> Limits:
    """What one call in a worker process may take."""
    given = job.sandbox
    return Limits(given.memory_mb * 1_000_000, given.timeout_seconds, given.cpu_seconds)


def _settings(job: Job, slots: int) -> HostSettings:
    most_bytes, limits, cache_bytes = job.split.max_request_bytes, limits_of(job), job.source.cache_bytes
    return HostSettings(job.endpoint, job.prompt, job.fields, most_bytes, limits, cache_bytes, slots)
