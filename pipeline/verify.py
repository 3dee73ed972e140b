"""Whether the books are right and the files are those that were read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline import hashing
from pipeline.domain import SourceFile
from pipeline.file_cache import FileCache
from pipeline.job import Job
from pipeline.ledger import Ledger
from pipeline.reading import LocalReader
from pipeline.sandbox import Sandbox
from pipeline.scanner import scan
from pipeline.storage import Url
from pipeline.text import printable


@dataclass(frozen=True, slots=True)
class Verified:
    """``files`` were hashed. ``wrong`` says what to do; ``notes`` are what the next run takes care of, or nobody need.

    Nothing is ``wrong``: what the reports say follows from the ledger, and the ledger from the files.
    """

    files: int
    wrong: tuple[str, ...]
    notes: tuple[str, ...]


def verify_job(job: Job) -> Verified:
    """Check the job's ledger from end to end, and hash every source file again. Writes nothing.

    Raises:
        PipelineError: the ledger is not one, or the source folder cannot be read.
    """
    source = job.source
    with Ledger.reading(job.ledger.path) as ledger:
        audit = ledger.audit()
        known = ledger.files(job.name, source.folder) if not audit.damage else {}
    wrong = [f"{line}; restore the ledger from a backup, or `docpipe salvage` it" for line in audit.damage]
    wrong += [f"{line}; `docpipe run` asks for it" for line in audit.unanswered]
    if audit.damage:
        return Verified(0, tuple(wrong), audit.notes)
    found = scan(source.folder, source.include, source.exclude, source.follow_links, {}).files  # no hash is believed
    files = {file.path: file for file in found}
    if isinstance(source.folder, Url):
        files |= asyncio.run(_hashed(source.folder, found, source.cache_bytes))
    wrong += _unnoticed(known, files)
    return Verified(len(files), tuple(wrong), (*audit.notes, *_changes(known, files)))


async def _hashed(folder: Url, found: Sequence[SourceFile], cache_bytes: int) -> dict[str, SourceFile]:
    with Sandbox() as sandbox:  # none of its processes is started
        reader = LocalReader(sandbox, FileCache(cache_bytes))
        unread = [file for file in found if file.is_unread]
        return {file.path: file async for some in hashing.hashed(folder, unread, reader) for file in some}


def _unnoticed(known: Mapping[str, SourceFile], files: Mapping[str, SourceFile]) -> Iterator[str]:
    """Files with other bytes that a run takes for unchanged."""
    for path, file in files.items():
        before = known.get(path)
        if before and _differs(before, file) and _looks(before) == _looks(file):
            yield (
                f"{printable(path)} has other bytes than those that were read, with the same size and time: "
                "`touch` it and run, or look at the disk"
            )


def _changes(known: Mapping[str, SourceFile], files: Mapping[str, SourceFile]) -> Iterator[str]:
    for path in sorted(known.keys() | files.keys()):
        before, file = known.get(path), files.get(path)
        name = printable(path)
        if file is None:
            yield f"{name} is gone since the last run"
        elif file.problem:
            yield f"{name}: {file.problem}"
        elif before is None:
            yield f"{name} is new since the last run"
        elif before.sha256 is None:
            yield f"{name} could not be read in the last run, and can be now"
        elif _differs(before, file) and _looks(before) != _looks(file):
            yield f"{name} changed since the last run"


def _differs(before: SourceFile, file: SourceFile) -> bool:
    return None not in (before.sha256, file.sha256) and before.sha256 != file.sha256


def _looks(file: SourceFile) -> tuple[int, int, str | None]:
    return file.size_bytes, file.mtime_ns, file.etag
