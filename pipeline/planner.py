"""Which chunks a document needs, what is known of them, and what the rest will cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.domain import (
    Chunk,
    ChunkRecord,
    ChunkState,
    Content,
    FailureClass,
    MediaType,
    PageRange,
    Synthesis,
    Task,
    Usage,
)
from pipeline.messages import chunk_id
from pipeline.models import Model

# For a page whose text nobody has counted: the API's documentation names 1,500 to 3,000 tokens for the text,
# and the image of the page comes on top.
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
    """What one request may hold. ``max_file_bytes`` is before base64; ``max_input_tokens`` is an expectation."""

    max_pages: int
    overlap_pages: int
    max_file_bytes: int
    max_input_tokens: int = 10**9


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk, and what the ledger knows of it."""

    chunk: Chunk
    record: ChunkRecord


def page_ranges(
    pages: int, limits: Limits, size_bytes: int = 0, tokens: Sequence[int] = (), bookmarks: Sequence[int] = ()
) -> Iterator[PageRange]:
    """Cut a document into few ranges within the limits: at bookmarks, or as equal as can be.

    A range ends before a page of ``bookmarks`` that lies in the last quarter of what it may hold, so that a
    section is read as a whole. Else nine pages at most eight each give 5 + 4, not 8 + 1: a last chunk of one
    page would be read without its context. ``size_bytes`` of the whole makes the ranges shorter where its
    pages are heavy on the mean; one that is too large all the same is split when it is cut. ``tokens`` are
    those expected of each page. With an overlap, each range but the first begins so many pages earlier.
    """
    most, overlap = limits.max_pages, limits.overlap_pages
    if size_bytes > limits.max_file_bytes:
        most = min(most, max(limits.max_file_bytes * pages // (size_bytes * 11 // 10), overlap + 1))
    first = 1
    while (last := _furthest(first, pages, most, limits, tokens)) < pages:
        held = last - first + 1
        quarter = first + max(held * 3 // 4, overlap)
        sections = [page - 1 for page in bookmarks if quarter <= page - 1 <= last]
        if sections:
            last = sections[-1]
        elif held == most:
            fresh = pages - first + 1 - overlap  # what the ranges to come share; each also has the overlap
            last = first + overlap + -(-fresh // -(-fresh // (most - overlap))) - 1
        yield PageRange(first, last)
        first = last + 1 - overlap
    yield PageRange(first, pages)


def _furthest(first: int, pages: int, most: int, limits: Limits, tokens: Sequence[int]) -> int:
    """The last page that a range from ``first`` may hold; always more than the overlap, whatever its tokens."""
    furthest = min(first + most - 1, pages)
    total = sum(tokens[first - 1 : furthest])
    while total > limits.max_input_tokens and furthest - first > limits.overlap_pages:
        total -= tokens[furthest - 1]
        furthest -= 1
    return furthest


def parts(chunk: Chunk, fingerprint: str, split_after: int | None = None) -> tuple[Chunk, ...]:
    """The chunks that take the place of one that is too large or holds a bad page; none for a single page.

    Two, cut after the page ``split_after`` or in the middle; of three pages each alone, which finds a bad
    page with three requests where halves may take four: so the one among n pages is found with at most
    ``2 * log2(n) + 1``.
    """
    first, last = chunk.pages.first, chunk.pages.last
    if first == last:
        return ()
    if split_after is not None:
        ends = [split_after, last]
    else:
        ends = [first, first + 1, last] if last - first == 2 else [(first + last) // 2, last]
    ranges = [PageRange(a, b) for a, b in zip([first, *(end + 1 for end in ends)], ends, strict=False)]
    per_page = chunk.input_tokens / len(chunk.pages)
    return tuple(_chunk(chunk.content, r, fingerprint, round(per_page * len(r))) for r in ranges)


def chunks_of(
    content: Content, limits: Limits, fingerprint: str, model: Model, known: Mapping[str, ChunkRecord]
) -> tuple[PlannedChunk, ...]:
    """The chunks of a content in page order, those that were split replaced by their parts.

    A content that could not be opened has none.
    """
    if content.pages is None:
        return ()
    layout, size_bytes = content.layout, content.size_bytes
    tokens = [model.page_tokens(chars) for chars in layout.text_chars] or [_INPUT_TOKENS_PER_PAGE] * content.pages
    if content.media_type is not MediaType.PDF:  # its pages are sent as pictures, whose bytes nobody knows yet
        tokens, size_bytes = [model.image_tokens] * content.pages, 0
    ranges = page_ranges(content.pages, limits, size_bytes, tokens, layout.bookmarks)
    chunks = [_chunk(content.sha256, r, fingerprint, sum(tokens[r.first - 1 : r.last])) for r in ranges]
    return planned(chunks, fingerprint, known)


def planned(chunks: Sequence[Chunk], fingerprint: str, known: Mapping[str, ChunkRecord]) -> tuple[PlannedChunk, ...]:
    """Chunks with what is known of them, those that were split replaced by their parts, each once.

    Chunks that overlap by half have a part in common.
    """
    waiting = list(reversed(chunks))
    found: dict[str, PlannedChunk] = {}
    while waiting:
        chunk = waiting.pop()
        record = known.get(chunk.id, _OPEN)
        smaller = parts(chunk, fingerprint, record.split_after) if record.state is ChunkState.SPLIT else ()
        if smaller:
            waiting.extend(reversed(smaller))
        else:
            found.setdefault(chunk.id, PlannedChunk(chunk, record))
    return tuple(found.values())


def _chunk(content: str, pages: PageRange, fingerprint: str, input_tokens: int) -> Chunk:
    return Chunk(chunk_id(content, pages, fingerprint), content, pages, input_tokens)


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
    """What one request for ``task`` is likely to take."""
    if isinstance(task, Synthesis):
        return expected_synthesis_usage(sum(len(text) for _, text in task.summaries))
    return Usage(
        input_tokens=_INPUT_TOKENS_PER_REQUEST + task.input_tokens,
        output_tokens=_OUTPUT_TOKENS_PER_REQUEST + len(task.pages) * _OUTPUT_TOKENS_PER_PAGE,
    )


def expected_synthesis_usage(characters: int) -> Usage:
    """What one request that joins summaries of so many characters is likely to take."""
    return Usage(_INPUT_TOKENS_PER_REQUEST + characters // _CHARACTERS_PER_TOKEN, _OUTPUT_TOKENS_PER_REQUEST)


def most_usage(task: Task, max_tokens: int) -> Usage:
    """More than one request for ``task`` should ever be billed."""
    if isinstance(task, Synthesis):  # no character is more than a token
        characters = sum(len(text) for _, text in task.summaries)
        return Usage(_INPUT_TOKENS_PER_REQUEST + characters, max_tokens)
    most = max(len(task.pages) * _MOST_INPUT_TOKENS_PER_PAGE, 2 * task.input_tokens)
    return Usage(_INPUT_TOKENS_PER_REQUEST + most, max_tokens)


class Why(StrEnum):
    """Why a run would send something for a document, or not."""

    NEW = "new"
    CHANGED = "changed"  # the path is known with other bytes
    PROMPT_CHANGED = "prompt changed"  # answered before with another model, prompt or setting
    UNFINISHED = "unfinished"  # an earlier run was stopped before all was sent
    FAILED_BEFORE = "failed before"
    UNCHANGED = "unchanged"
    UNREADABLE = "unreadable"  # cannot be opened; nothing to send


def why(chunks: tuple[PlannedChunk, ...], *, content_changed: bool, content_answered: bool) -> Why:
    """The reason for one document.

    ``content_changed``: an earlier run saw its path with other bytes; ``content_answered``: the ledger has
    answers for its content, under whatever request fingerprint.
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
    if content_answered:
        return Why.PROMPT_CHANGED
    return Why.CHANGED if content_changed else Why.NEW
