"""A large folder and a ledger that knows it, made without a hundred thousand requests: part of ``make bench``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import inspector, pdf
from pipeline.domain import (
    Answer,
    Chunk,
    ChunkProof,
    ChunkState,
    Content,
    Exchange,
    Proof,
    QuoteCheck,
    RunInfo,
    RunStatus,
    Usage,
)
from pipeline.job import Job
from pipeline.ledger import Ledger, NewChunk, Settled
from pipeline.pdf import Source
from pipeline.scanner import scan
from pipeline.standing import Standing

_IN_A_FOLDER = 1_000
_WITH_A_RISK = 10  # one document in so many
_AT = "2026-01-01T00:00:00.000+00:00"


def write_folder(folder: Path, seed: bytes, files: int) -> None:
    """So many distinct PDFs, a thousand in a folder: the seed with a comment of its own behind it."""
    for number in range(files):
        place = folder / f"{number // _IN_A_FOLDER:03}"
        if number % _IN_A_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"Contract {number}.pdf").write_bytes(seed + b"\n%% %d\n" % number)


def change(folder: Path, seed: bytes, files: int, changed: int) -> None:
    """Other bytes in so many of ``write_folder``'s files, spread over the folder."""
    for number in range(0, files, files // changed):
        place = folder / f"{number // _IN_A_FOLDER:03}" / f"Contract {number}.pdf"
        place.write_bytes(seed + b"\n%% %d, amended\n" % number)


def hashed(job: Job) -> int:
    """How many files a scan hashes now: those that it does not take over from the ledger as they are."""
    source = job.source
    with Ledger.reading(job.ledger.path) as ledger:
        known = ledger.files(job.name, source.folder)
    files = scan(source.folder, source.include, source.exclude, source.follow_links, known).files
    return sum(file is not known.get(file.path) for file in files)


def fill(job: Job) -> None:
    """Put into the job's ledger what runs over its folder would have put there, one canned answer for each chunk.

    All files are copies of one but for a comment; every tenth document has one risk.
    """
    source = job.source
    job.ledger.path.parent.mkdir(parents=True, exist_ok=True)
    files = scan(source.folder, source.include, source.exclude, source.follow_links, {}).files
    assert isinstance(source.folder, Path)
    seen = _opened(source.folder / files[0].path)
    contents = [replace(seen, sha256=file.sha256 or "", size_bytes=file.size_bytes) for file in files]
    with Ledger.writing(job.ledger.path) as ledger:
        ledger.record_scan(job.name, source.folder, files)
        ledger.record_contents(contents, pdf.READER)
        standing = Standing(job, ledger, files, {content.sha256: content for content in contents})
        run = RunInfo(
            "filled", _AT, _AT, RunStatus.RUNNING, -1, "custom", job.endpoint.model, "0", standing.fingerprint
        )
        ledger.begin_run(job.name, run)
        with ledger.transaction():
            for number, chunk in enumerate(_chunks(standing, contents)):
                _answer(ledger, chunk, job.endpoint.model, has_risk=number % _WITH_A_RISK == 0)


def _opened(path: Path) -> Content:
    facts = path.stat()
    seen = inspector.inspect(Source(str(path), facts.st_size, facts.st_mtime_ns))
    return Content("", facts.st_size, seen.pages, layout=seen.layout)


def _chunks(standing: Standing, contents: Sequence[Content]) -> Iterator[Chunk]:
    for due in standing.due(contents, {}, failed_only=False):
        yield from (task for task in due.tasks if isinstance(task, Chunk))


def _answer(ledger: Ledger, chunk: Chunk, model: str, has_risk: bool) -> None:
    attempt = ledger.begin(NewChunk(chunk.id, chunk.content, chunk.pages), "filled", _AT)
    exchange = Exchange(200, f"req_{attempt:024}", 2.0, model, Usage(3_000, 500), sent=True)
    settled = Settled(attempt, chunk.id, Answer(_result(has_risk), exchange), ChunkState.ANSWERED, _AT, 0.01)
    ledger.settle(settled, "filled")
    proofs = (Proof(QuoteCheck.VERIFIED, 1),) if has_risk else ()
    ledger.record_proof(chunk.id, ChunkProof(proofs), pdf.PROVER)


def _result(has_risk: bool) -> Mapping[str, Any]:
    risk = {
        "title": "Fees may rise without limit",
        "category": "fees",
        "severity": "high",
        "page": 1,
        "quote": "supplier shall deliver services customer payment term notice party liability",
        "explanation": "Nothing in the contract limits by how much, or how often, the supplier raises the fees.",
        "recommendation": "Ask for a limit that follows a price index, once a year.",
    }
    return {
        "summary": "The supplier delivers services to the customer for a yearly fee. The contract runs for two years"
        " and goes on from year to year unless one of the parties gives notice three months before its end.",
        "document_type": "service contract",
        "parties": ["Supplier Limited", "Customer and Company"],
        "key_dates": [{"date": "2026-12-31", "meaning": "end of the first term", "page": 1}],
        "risks": [risk] if has_risk else [],
    }
