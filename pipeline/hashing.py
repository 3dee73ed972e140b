"""Remote files read for the first time, or anew: what their bytes are, several brought at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace

from pipeline import opening, storage
from pipeline.domain import SourceFile
from pipeline.reading import Reader
from pipeline.storage import Url

_AT_ONCE = 16  # a connection waits for the store most of its time


async def hashed(
    folder: Url, files: Iterable[SourceFile], reader: Reader
) -> AsyncGenerator[Sequence[SourceFile], None]:
    """These files with their hash, as they come; one that cannot be read has its problem instead.

    Closed early, it gives up what it is at.

    Raises:
        SettingsError: a package is missing, or there is no place for copies.
    """
    waiting = iter(files)
    running: set[asyncio.Task[SourceFile]] = set()
    try:
        while True:
            more = itertools.islice(waiting, _AT_ONCE - len(running))
            running |= {asyncio.create_task(_hashed(folder, file, reader)) for file in more}
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            yield [task.result() for task in done]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _hashed(folder: Url, file: SourceFile, reader: Reader) -> SourceFile:
    source = opening.source(folder, file)
    try:
        found = await reader.hash(source)
        if file.etag and await storage.etag(source.path) != file.etag:  # what came may be of both
            problem = "the file was being written while it was read; the next run tries again"
            return replace(file, mtime_ns=0, problem=problem)
    except OSError as error:
        return replace(file, problem=f"the file cannot be read: {error.strerror}")
    return replace(file, sha256=found.sha256, size_bytes=found.size_bytes)
