"""Pictures of pages for the reports, drawn in the sandbox while the report is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pipeline.domain import DocumentResult, PagePicture
from pipeline.pdf import ImageError, PdfError, Source, SourceChangedError
from pipeline.reading import Reader
from pipeline.sandbox import SandboxError

_DRAW = "pipeline.drawing:draw"
_MOST_CRASHES = 2  # of one document: each may take as long as the sandbox allows


def drawer(
    reader: Reader, sources: Mapping[str, Source], at_once: Callable[[], int]
) -> Callable[[DocumentResult, Sequence[int]], Mapping[int, PagePicture]]:
    """A function that draws pages of a document, ``at_once`` of them: as many as the one host that gets it can.

    ``sources`` says by path where documents lie. Pages that cannot be drawn, because the file is gone, was changed,
    or crashes what draws it, are left out.
    """

    def draw(document: DocumentResult, pages: Sequence[int]) -> Mapping[int, PagePicture]:
        source = sources.get(document.path)
        return asyncio.run(_drawn(reader, source, pages, at_once())) if source and pages else {}

    return draw


async def _drawn(reader: Reader, source: Source, pages: Sequence[int], at_once: int) -> dict[int, PagePicture]:
    shares = [share for start in range(at_once) if (share := pages[start::at_once])]
    found: dict[int, PagePicture] = {}
    for part in await asyncio.gather(*(_share(reader, source, share) for share in shares)):
        found |= part
    return found


async def _share(reader: Reader, source: Source, pages: Sequence[int]) -> dict[int, PagePicture]:
    try:
        return await _tried(reader, source, pages)
    except SandboxError:  # one page took the others with it
        found: dict[int, PagePicture] = {}
        crashes = 0
        for page in pages if len(pages) > 1 else ():
            try:
                found |= await _tried(reader, source, [page])
            except SandboxError:
                crashes += 1
                if crashes == _MOST_CRASHES:
                    break
        return found


async def _tried(reader: Reader, source: Source, pages: Sequence[int]) -> dict[int, PagePicture]:
    try:
        found: dict[int, PagePicture] = await reader.read(source, _DRAW, pages)
    except (PdfError, ImageError, SourceChangedError, OSError):
        return {}
    return found
