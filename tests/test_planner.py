"""Which chunks a document needs, and what is due."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.domain import (
    Chunk,
    ChunkRecord,
    ChunkState,
    Content,
    FailureClass,
    Layout,
    MediaType,
    PageRange,
    Synthesis,
    Task,
)
from pipeline.messages import chunk_id
from pipeline.models import facts
from pipeline.planner import (
    Limits,
    PlannedChunk,
    Why,
    chunks_of,
    expected_usage,
    is_due,
    most_usage,
    page_ranges,
    parts,
    why,
)

PAGES = st.integers(1, 700)
MAX_PAGES = st.integers(1, 100)
HUGE = 10**12
OLD = facts("claude-sonnet-4-5")
unhurried = settings(deadline=None)


def pages_of(*ranges: PageRange) -> list[int]:
    return [page for r in ranges for page in range(r.first, r.last + 1)]


@unhurried
@given(PAGES, MAX_PAGES)
def test_every_page_is_in_exactly_one_range(pages: int, max_pages: int) -> None:
    """Without an overlap the ranges follow each other without gap or repetition."""
    assert pages_of(*page_ranges(pages, Limits(max_pages, 0, HUGE))) == list(range(1, pages + 1))


@unhurried
@given(PAGES, MAX_PAGES)
def test_ranges_are_as_few_and_as_equal_as_can_be(pages: int, max_pages: int) -> None:
    """No range passes the limit, none could be spared, and no two differ by more than one page."""
    sizes = [len(r) for r in page_ranges(pages, Limits(max_pages, 0, HUGE))]

    assert max(sizes) <= max_pages
    assert len(sizes) == math.ceil(pages / max_pages)
    assert max(sizes) - min(sizes) <= 1


@unhurried
@given(PAGES, MAX_PAGES, st.integers(0, 99), st.integers(0, HUGE), st.integers(1, HUGE))
def test_with_any_limits_every_page_is_covered_and_none_is_too_many(
    pages: int, max_pages: int, overlap: int, size_bytes: int, max_bytes: int
) -> None:
    """With an overlap and limits of bytes and tokens, at bookmarks or not: all pages, in order, never too many."""
    assume(overlap < max_pages)
    chance = random.Random(size_bytes)
    tokens = [chance.randrange(9000) for _ in range(pages)]
    bookmarks = sorted(chance.sample(range(1, pages + 1), chance.randint(0, pages)))

    limits = Limits(max_pages, overlap, max_bytes, chance.randint(1, 100_000))
    ranges = list(page_ranges(pages, limits, size_bytes, tokens, bookmarks))

    assert set(pages_of(*ranges)) == set(range(1, pages + 1))
    assert all(len(r) <= max_pages for r in ranges)
    assert all(before.first <= after.first and before.last < after.last for before, after in pairwise(ranges))


@pytest.mark.parametrize(
    ("bookmarks", "last_pages"),
    [
        ((), [20, 40]),
        ((16,), [20, 40]),  # the last quarter of twenty pages begins with the sixteenth
        ((17,), [16, 28, 40]),
        ((17, 19), [18, 29, 40]),
        ((17, 33), [16, 32, 40]),
        ((1, 21, 22, 40), [20, 40]),
    ],
)
def test_a_range_ends_where_a_section_does(bookmarks: tuple[int, ...], last_pages: list[int]) -> None:
    """Before the last bookmark in the last quarter of what it may hold; what is left is shared equally."""
    assert [r.last for r in page_ranges(40, Limits(20, 0, HUGE), bookmarks=bookmarks)] == last_pages


def test_tokens_limit_a_range() -> None:
    """As many pages as are expected to fit, and one at least."""
    tokens = [100, 100, 100, 5000, 100, 100]

    ranges = list(page_ranges(6, Limits(100, 0, HUGE, 300), tokens=tokens))

    assert [ends(r) for r in ranges] == [(1, 3), (4, 4), (5, 6)]


@unhurried
@given(PAGES, MAX_PAGES, st.integers(1, 99))
def test_each_range_but_the_first_repeats_the_overlap(pages: int, max_pages: int, overlap: int) -> None:
    """A clause that crosses the cut is whole in the later chunk."""
    assume(overlap < max_pages)

    ranges = list(page_ranges(pages, Limits(max_pages, overlap, HUGE)))

    for before, after in pairwise(ranges):
        assert after.first == max(1, before.last + 1 - overlap)


def test_an_overlap_makes_no_more_ranges_than_it_must() -> None:
    """Ten pages, six at most, two repeated: 1-6 and 5-10 are enough."""
    assert len(list(page_ranges(10, Limits(6, 2, HUGE)))) == 2


def test_nine_pages_at_most_eight_each_are_cut_in_the_middle() -> None:
    """5 + 4, not 8 + 1."""
    assert list(page_ranges(9, Limits(8, 0, HUGE))) == [PageRange(1, 5), PageRange(6, 9)]


def test_a_document_within_the_limits_is_one_range() -> None:
    """An overlap does not cut what fits."""
    assert list(page_ranges(8, Limits(8, 3, HUGE))) == [PageRange(1, 8)]


def test_heavy_pages_make_more_ranges() -> None:
    """Ten pages of 1 MB each, at most 3 MB a request: ranges with a margin; one page cannot be cut further."""
    assert [len(r) for r in page_ranges(10, Limits(100, 0, 3_000_000), 10_000_000)] == [2, 2, 2, 2, 2]
    assert [len(r) for r in page_ranges(10, Limits(100, 0, 3_500_000), 10_000_000)] == [3, 3, 2, 2]
    assert list(page_ranges(1, Limits(100, 0, 1_000), 10_000)) == [PageRange(1, 1)]


def chunk(first: int, last: int) -> Chunk:
    pages = PageRange(first, last)
    return Chunk(chunk_id("c0ffee", pages, "fp"), "c0ffee", pages, 3500 * len(pages))


def ends(pages: PageRange) -> tuple[int, int]:
    return pages.first, pages.last


@unhurried
@given(PAGES, st.integers(1, 700))
def test_parts_partition_their_chunk(first: int, count: int) -> None:
    """Together they are the chunk, as equal as can be, with ids of their own: three for three pages, none for one."""
    whole = chunk(first, first + count - 1)

    smaller = parts(whole, "fp")

    assert len(smaller) == {1: 0, 3: 3}.get(count, 2)
    if smaller:
        assert pages_of(*(part.pages for part in smaller)) == pages_of(whole.pages)
        lengths = [len(part.pages) for part in smaller]
        assert max(lengths) - min(lengths) <= 1
        assert smaller == tuple(chunk(*ends(part.pages)) for part in smaller)


def test_a_chunk_that_was_split_is_replaced_by_its_parts() -> None:
    """Parts of parts too, in page order, each with what the ledger knows of it."""
    content = Content("c0ffee", 100, 8)
    split, answered = ChunkRecord(ChunkState.SPLIT), ChunkRecord(ChunkState.ANSWERED)
    known = {chunk(1, 8).id: split, chunk(1, 4).id: split, chunk(3, 4).id: answered}

    planned = chunks_of(content, Limits(20, 0, HUGE), "fp", OLD, known)

    assert [(ends(p.chunk.pages), p.record.state) for p in planned] == [
        ((1, 2), ChunkState.OPEN),
        ((3, 4), ChunkState.ANSWERED),
        ((5, 8), ChunkState.OPEN),
    ]


@unhurried
@given(st.integers(1, 60), st.integers(1, 20), st.lists(st.integers(0, 30), max_size=20))
def test_whatever_was_split_the_chunks_are_all_pages_once(pages: int, max_pages: int, splits: list[int]) -> None:
    """Any tree of halved chunks still covers each page exactly once, in order."""
    content, limits = Content("c0ffee", 100, pages), Limits(max_pages, 0, HUGE)
    known: dict[str, ChunkRecord] = {}
    for number in splits:
        planned = chunks_of(content, limits, "fp", OLD, known)
        known[planned[number % len(planned)].chunk.id] = ChunkRecord(ChunkState.SPLIT)

    planned = chunks_of(content, limits, "fp", OLD, known)

    assert pages_of(*(p.chunk.pages for p in planned)) == list(range(1, pages + 1))


def test_a_content_that_cannot_be_opened_has_no_chunks() -> None:
    """There is nothing to send for it."""
    assert chunks_of(Content("c0ffee", 100, None, problem="not a PDF"), Limits(20, 0, HUGE), "fp", OLD, {}) == ()


def test_another_fingerprint_makes_other_chunks() -> None:
    """What was answered under another prompt is asked again."""
    content, limits = Content("c0ffee", 100, 3), Limits(20, 0, HUGE)
    (before,) = chunks_of(content, limits, "fp", OLD, {})

    (after,) = chunks_of(content, limits, "other", OLD, {before.chunk.id: ChunkRecord(ChunkState.ANSWERED)})

    assert after.record.state is ChunkState.OPEN


FAILED_FOR_GOOD = [kind for kind in FailureClass if kind is not FailureClass.TRANSIENT]


@pytest.mark.parametrize(
    ("record", "run", "retry"),
    [
        (ChunkRecord(ChunkState.OPEN), True, False),
        (ChunkRecord(ChunkState.ANSWERED), False, False),
        (ChunkRecord(ChunkState.SPLIT), False, False),
        (ChunkRecord(ChunkState.FAILED, FailureClass.TRANSIENT), True, True),
        *((ChunkRecord(ChunkState.FAILED, kind), False, True) for kind in FAILED_FOR_GOOD),
    ],
)
def test_what_is_due(record: ChunkRecord, run: bool, retry: bool) -> None:
    """``run`` sends what is open or failed for the moment, ``retry`` what failed, and nobody what is answered."""
    assert is_due(record, failed_only=False) is run
    assert is_due(record, failed_only=True) is retry


def test_what_is_expected_grows_with_the_pages() -> None:
    """Each request costs its prompt once and each page the same; nothing is expected to be free."""
    one, two, three = (expected_usage(chunk(1, pages)) for pages in (1, 2, 3))

    assert two.input_tokens - one.input_tokens == three.input_tokens - two.input_tokens > 0
    assert two.output_tokens - one.output_tokens == three.output_tokens - two.output_tokens > 0
    assert 2 * one.input_tokens > two.input_tokens
    assert 2 * one.output_tokens > two.output_tokens


@pytest.mark.parametrize(
    "task", [chunk(1, 1), chunk(1, 100), Synthesis("s", "c", ((PageRange(1, 2), "x" * 5000),))], ids=lambda t: t.id[:5]
)
def test_the_most_is_more_than_what_is_expected(task: Task) -> None:
    """And all of max_tokens may be used."""
    expected, most = expected_usage(task), most_usage(task, 16_000)

    assert most.input_tokens > expected.input_tokens
    assert most.output_tokens == 16_000


OPEN, ANSWERED, FAILED = ChunkState.OPEN, ChunkState.ANSWERED, ChunkState.FAILED


@pytest.mark.parametrize(
    ("states", "changed", "asked", "reason"),
    [
        ([], False, False, Why.UNREADABLE),
        ([OPEN, OPEN], False, False, Why.NEW),
        ([OPEN], True, False, Why.CHANGED),
        ([OPEN], False, True, Why.PROMPT_CHANGED),
        ([OPEN], True, True, Why.PROMPT_CHANGED),
        ([OPEN, ANSWERED], False, True, Why.UNFINISHED),
        ([OPEN, ANSWERED, FAILED], False, True, Why.FAILED_BEFORE),
        ([FAILED], True, True, Why.FAILED_BEFORE),
        ([ANSWERED, ANSWERED], True, True, Why.UNCHANGED),
    ],
)
def test_why_a_document_is_sent(states: list[ChunkState], changed: bool, asked: bool, reason: Why) -> None:
    """The plan gives the nearest reason for each document."""
    chunks = tuple(PlannedChunk(chunk(n, n), ChunkRecord(state)) for n, state in enumerate(states, 1))

    assert why(chunks, content_changed=changed, content_answered=asked) is reason


def test_a_chunk_that_was_cut_to_fit_is_replaced_by_what_fitted_and_the_rest() -> None:
    """The ledger knows after which page it was cut; three pages too are two parts then."""
    content = Content("c0ffee", 100, 3)
    known = {chunk(1, 3).id: ChunkRecord(ChunkState.SPLIT, split_after=1)}

    planned = chunks_of(content, Limits(20, 0, HUGE), "fp", OLD, known)

    assert [(ends(p.chunk.pages), p.chunk.input_tokens) for p in planned] == [((1, 1), 3500), ((2, 3), 7000)]


def test_what_is_expected_of_a_page_follows_from_its_text() -> None:
    """Its picture, and its characters by the model's tokenizer; pages nobody has looked at are taken for full."""
    layout = Layout(text_chars=(0, 2700))
    for name, tokens in (("claude-sonnet-4-5", [1568, 1568 + 771]), ("claude-sonnet-5-5", [2240, 2240 + 1000])):
        (planned,) = chunks_of(Content("c0ffee", 100, 2, layout=layout), Limits(20, 0, HUGE), "fp", facts(name), {})
        assert planned.chunk.input_tokens == sum(tokens)
    (blind,) = chunks_of(Content("c0ffee", 100, 2), Limits(20, 0, HUGE), "fp", OLD, {})
    assert blind.chunk.input_tokens == 7000


def test_pages_of_an_image_file_are_expected_as_images() -> None:
    """Whatever its bytes: they are not those of the pictures that go out."""
    content = Content("c0ffee", 10**9, 40, media_type=MediaType.TIFF)
    planned = chunks_of(content, Limits(20, 0, 1000), "fp", facts("claude-sonnet-5-5"), {})

    assert [(len(p.chunk.pages), p.chunk.input_tokens) for p in planned] == [(20, 20 * 4784)] * 2
