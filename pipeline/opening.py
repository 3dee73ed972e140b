"""Files opened for the first time: what each distinct content holds, found out in the sandbox, several at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import pdf
from pipeline.domain import Content, SourceFile
from pipeline.pdf import Inspection, Source
from pipeline.reading import Reader
from pipeline.sandbox import SandboxError
from pipeline.storage import Url

_INSPECT = "pipeline.inspector:inspect"
_MOST_TWINS = 3

Sources = Mapping[str, Sequence[Source]]
"""Where each content lies: in as many places as it has twins."""


def source(folder: Path | Url, file: SourceFile) -> Source:
    """Where a file that was read lies."""
    if isinstance(folder, Url):
        return Source(str(folder / file.path), file.size_bytes, file.mtime_ns, file.sha256 or "")
    return Source(str(folder / file.path), file.size_bytes, file.mtime_ns)


def sources(folder: Path | Url, files: Iterable[SourceFile]) -> Sources:
    """The places of each content, by its SHA-256, in the order of the files; those in ``folder`` that can be read."""
    found: dict[str, list[Source]] = {}
    for file in files:
        if file.sha256:
            found.setdefault(file.sha256, []).append(source(folder, file))
    return found


def place(places: Sources, content: str) -> Source | None:
    """Where a content still lies as it was when it was hashed; None where it does not any more.

    Whether a remote one does is known when it is brought, so it has some of its twins with it.
    """
    found = next((place for place in places.get(content, ()) if not pdf.is_changed(place)), None)
    if found is None or not found.is_remote:
        return found
    return replace(found, twins=tuple(twin.path for twin in places[content][1 : 1 + _MOST_TWINS]))


async def opened(places: Sources, reader: Reader, at_once: int) -> AsyncGenerator[Sequence[Content], None]:
    """What these contents turn out to be, as it turns out; a file that changed meanwhile is left to the next run.

    Closed early, it gives up what it is at.
    """
    waiting = ((sha256, place(places, sha256) or sources[0]) for sha256, sources in places.items())
    running: list[asyncio.Task[Content | None]] = []
    try:
        while True:
            free = at_once - len(running)
            running += [asyncio.create_task(_inspected(*entry, reader)) for entry in itertools.islice(waiting, free)]
            if not running:
                return
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in running if task.done()]
            running = [task for task in running if task not in done]
            yield [content for task in done if (content := task.result())]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _inspected(sha256: str, source: Source, reader: Reader) -> Content | None:
    try:
        seen = await _seen(source, reader)
    except SandboxError as error:
        if pdf.is_changed(source):  # while it was read: what it was is not to blame
            return None
        return Content(sha256, source.size_bytes, None, problem=str(error))
    except (pdf.SourceChangedError, OSError):
        return None
    return Content(
        sha256, source.size_bytes, seen.pages, seen.encrypted, seen.problem, seen.note, seen.layout, seen.media_type
    )


async def _seen(source: Source, reader: Reader) -> Inspection:
    seen: Inspection
    try:
        seen = await reader.read(source, _INSPECT)
    except SandboxError as error:  # what only looks at the layout must not keep a file from being read
        seen = await reader.read(source, _INSPECT, False)
        not_seen = f"not checked with a second reader: {error}"
        seen = replace(seen, note=f"{seen.note}; {not_seen}" if seen.note else not_seen)
    return seen
