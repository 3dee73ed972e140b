"""Pictures of pages for the reports, drawn in the sandbox while the report is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pipeline.domain import DocumentResult, PagePicture
from pipeline.pdf import ImageError, PdfError, Source, SourceChangedError
from pipeline.sandbox import Sandbox, SandboxError

_DRAW = "pipeline.drawing:draw"
_MOST_CRASHES = 2  # of one document: each may take as long as the sandbox allows


def drawer(
    sandbox: Sandbox, sources: Mapping[str, Source]
) -> Callable[[DocumentResult, Sequence[int]], Mapping[int, PagePicture]]:
    """A function that draws pages of a document, as many at once as there are processes.

    ``sources`` says by path where documents lie. Pages that cannot be drawn, because the file is gone, was changed,
    or crashes what draws it, are left out.
    """

    def draw(document: DocumentResult, pages: Sequence[int]) -> Mapping[int, PagePicture]:
        source = sources.get(document.path)
        return asyncio.run(_drawn(sandbox, source, pages)) if source and pages else {}

    return draw


async def _drawn(sandbox: Sandbox, source: Source, pages: Sequence[int]) -> dict[int, PagePicture]:
    shares = [share for start in range(sandbox.processes) if (share := pages[start :: sandbox.processes])]
    found: dict[int, PagePicture] = {}
    for part in await asyncio.gather(*(_share(sandbox, source, share) for share in shares)):
        found |= part
    return found


async def _share(sandbox: Sandbox, source: Source, pages: Sequence[int]) -> dict[int, PagePicture]:
    try:
        return await _tried(sandbox, source, pages)
    except SandboxError:  # one page took the others with it
        found: dict[int, PagePicture] = {}
        crashes = 0
        for page in pages if len(pages) > 1 else ():
            try:
                found |= await _tried(sandbox, source, [page])
            except SandboxError:
                crashes += 1
                if crashes == _MOST_CRASHES:
                    break
        return found


async def _tried(sandbox: Sandbox, source: Source, pages: Sequence[int]) -> dict[int, PagePicture]:
    try:
        found: dict[int, PagePicture] = await sandbox.call(source.size_bytes, _DRAW, source, pages)
    except (PdfError, ImageError, SourceChangedError, OSError):
        return {}
    return found
