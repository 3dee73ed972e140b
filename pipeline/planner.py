"""Which chunks a document needs, what is known of them, and what the rest will cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pipeline.domain import (
    Chunk,
    ChunkRecord,
    ChunkState,
    Content,
    FailureClass,
    PageRange,
    Synthesis,
    Task,
    Usage,
)
from pipeline.messages import chunk_id

# Planning figures for one page: the API's documentation names 1,500 to 3,000 tokens for the text, and the
# image of the page comes on top.
_INPUT_TOKENS_PER_PAGE = 3_500
_MOST_INPUT_TOKENS_PER_PAGE = 9_000  # a page full of text and its image at the largest, on the newest models
_INPUT_TOKENS_PER_REQUEST = 900  # prompt and schema
_CHARACTERS_PER_TOKEN = 3

SUMMARY_CHARACTERS = 900
"""The planning figure for the summary of one chunk."""
_OUTPUT_TOKENS_PER_REQUEST = 800
_OUTPUT_TOKENS_PER_PAGE = 150

_OPEN = ChunkRecord(ChunkState.OPEN)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. ``max_file_bytes`` is before base64."""

    max_pages: int
    overlap_pages: int
    max_file_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk, and what the ledger knows of it."""

    chunk: Chunk
    record: ChunkRecord


def page_ranges(pages: int, limits: Limits, size_bytes: int = 0) -> Iterator[PageRange]:
    """Cut a document into the fewest ranges that the limits allow, as equal as can be.

    Nine pages at most eight each give 4 + 5, not 8 + 1: a last chunk of one page would be read without
    its context. ``size_bytes`` of the whole makes more ranges where its pages are heavy on the mean; a
    chunk that is too large all the same is halved when it was cut. With an overlap, each range but the
    first begins so many pages earlier.
    """
    overlap = limits.overlap_pages
    fresh = pages - overlap  # what the ranges share among them; each also has the overlap
    if fresh < 1:
        yield PageRange(1, pages)
        return
    pieces = max(-(-fresh // (limits.max_pages - overlap)), -(-size_bytes // limits.max_file_bytes))
    pieces = min(pieces, fresh)
    for piece in range(pieces):
        yield PageRange(piece * fresh // pieces + 1, (piece + 1) * fresh // pieces + overlap)


def parts(chunk: Chunk, fingerprint: str) -> tuple[Chunk, ...]:
    """The chunks that take the place of one that is too large or holds a bad page; none for a single page.

    Two halves; of three pages each alone, which finds a bad page with three requests where halves may take
    four: so the one among n pages is found with at most ``2 * log2(n) + 1``.
    """
    first, last = chunk.pages.first, chunk.pages.last
    match last - first:
        case 0:
            return ()
        case 2:
            starts = [first, first + 1, last]
        case _:
            starts = [first, (first + last) // 2 + 1]
    ends = [start - 1 for start in starts[1:]] + [last]
    return tuple(_chunk(chunk.content, PageRange(*ends_of), fingerprint) for ends_of in zip(starts, ends, strict=True))


def chunks_of(
    content: Content, limits: Limits, fingerprint: str, known: Mapping[str, ChunkRecord]
) -> tuple[PlannedChunk, ...]:
    """The chunks of a content in page order, those that were split replaced by their parts.

    A content that could not be opened has none.
    """
    if content.pages is None:
        return ()
    waiting = [_chunk(content.sha256, r, fingerprint) for r in page_ranges(content.pages, limits, content.size_bytes)]
    waiting.reverse()
    planned = []
    while waiting:
        chunk = waiting.pop()
        record = known.get(chunk.id, _OPEN)
        smaller = parts(chunk, fingerprint) if record.state is ChunkState.SPLIT else ()
        if smaller:
            waiting.extend(reversed(smaller))
        else:
            planned.append(PlannedChunk(chunk, record))
    return tuple(planned)


def _chunk(content: str, pages: PageRange, fingerprint: str) -> Chunk:
    return Chunk(chunk_id(content, pages, fingerprint), content, pages)


def is_due(record: ChunkRecord, failed_only: bool) -> bool:
    """Whether a run sends this chunk: what is open, and what failed in a way that may have passed.

    ``failed_only``: only what failed, also for good, as ``retry`` does.
    """
    if failed_only:
        return record.state is ChunkState.FAILED
    return record.state is ChunkState.OPEN or (
        record.state is ChunkState.FAILED and record.failure is FailureClass.TRANSIENT
    )


def expected_usage(task: Task) -> Usage:
    """What one request for ``task`` is likely to take; the pages' text is not read for it."""
    if isinstance(task, Synthesis):
        return expected_synthesis_usage(sum(len(text) for _, text in task.summaries))
    pages = len(task.pages)
    return Usage(
        input_tokens=_INPUT_TOKENS_PER_REQUEST + pages * _INPUT_TOKENS_PER_PAGE,
        output_tokens=_OUTPUT_TOKENS_PER_REQUEST + pages * _OUTPUT_TOKENS_PER_PAGE,
    )


def expected_synthesis_usage(characters: int) -> Usage:
    """What one request that joins summaries of so many characters is likely to take."""
    return Usage(_INPUT_TOKENS_PER_REQUEST + characters // _CHARACTERS_PER_TOKEN, _OUTPUT_TOKENS_PER_REQUEST)


def most_usage(task: Task, max_tokens: int) -> Usage:
    """More than one request for ``task`` should ever be billed."""
    if isinstance(task, Synthesis):  # no character is more than a token
        characters = sum(len(text) for _, text in task.summaries)
        return Usage(_INPUT_TOKENS_PER_REQUEST + characters, max_tokens)
    return Usage(_INPUT_TOKENS_PER_REQUEST + len(task.pages) * _MOST_INPUT_TOKENS_PER_PAGE, max_tokens)


class Why(StrEnum):
    """Why a run would send something for a document, or not."""

    NEW = "new"
    CHANGED = "changed"  # the path is known with other bytes
    PROMPT_CHANGED = "prompt changed"  # answered before with another model, prompt or setting
    UNFINISHED = "unfinished"  # an earlier run was stopped before all was sent
    FAILED_BEFORE = "failed before"
    UNCHANGED = "unchanged"
    UNREADABLE = "unreadable"  # cannot be opened; nothing to send


def why(chunks: tuple[PlannedChunk, ...], *, content_changed: bool, content_asked: bool) -> Why:
    """The reason for one document.

    ``content_changed``: an earlier run saw its path with other bytes; ``content_asked``: the ledger has
    chunks of its content, under whatever request fingerprint.
    """
    states = {planned.record.state for planned in chunks}
    if not chunks:
        return Why.UNREADABLE
    if states == {ChunkState.ANSWERED}:
        return Why.UNCHANGED
    if ChunkState.FAILED in states:
        return Why.FAILED_BEFORE
    if ChunkState.ANSWERED in states:
        return Why.UNFINISHED
    if content_asked:
        return Why.PROMPT_CHANGED
    return Why.CHANGED if content_changed else Why.NEW
