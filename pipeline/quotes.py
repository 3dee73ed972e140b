"""Quotes looked for in the text of pages. Pure.

A quote stands on a page when its normal form stands there, from the beginning of a word to the end of one, with no
number cut and no negation left out beside it. How much words resemble each other never decides that: a ratio takes
"shall" for "shall not". It only finds what stands where a quote was changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pipeline.normal_form import belongs_to_number, normal_form
from pipeline.passages import UNSPACED, Span, Text, cuts_words, is_negation_left_out, is_whole, whole_words

_SHORT_CHARS = 12  # of a normal form: fewer are found anywhere by accident
_PART_CHARS = 6  # of a part between ellipses
_DENSE = 3  # a character of a script without spaces says as much as so many letters
_EDGE_LINES = 3
_ACROSS_CHARS = 300  # of the next page that tell how words go on
_MOST_PLACES = 50  # that are looked at where a quote stands often, but never as whole words

# Three dots, or four with a full stop; more are a leader of a table of contents, behind which nothing was left out.
_DOTS = r"(?<!\.)(?<!\. )(?:\.{3,4}|\.(?: \.){2,3})(?! ?\.)"
_ELLIPSIS = re.compile(rf"[\[(]\s*(?:…|\.{{3,}})\s*[\])]|(?<!…)…(?!…)|{_DOTS}")
_BULLET = re.compile(r"\s*[-–—•▪●·*]\s+")


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote ready to be looked for: its normal form, and those of its ``parts`` where an ellipsis cuts it.

    ``is_short``: it says so little that it may stand on many pages by accident. ``is_dense``: most of it is of a
    script without spaces, in which a character is nearly a word.
    """

    normal: str
    parts: tuple[str, ...]
    is_short: bool
    is_dense: bool


def quote(raw: str) -> Quote:
    """A quote as a model gives it, without the bullet that it may begin with."""
    bullet = _BULLET.match(raw)
    text = raw[bullet.end() :] if bullet else raw
    parts = tuple(filter(None, map(normal_form, _ELLIPSIS.split(text))))
    is_cut = len(parts) > 1 and all(_weight(part) >= _PART_CHARS for part in parts)
    normal = normal_form(text)
    weight = _weight(normal)
    return Quote(normal, parts if is_cut else (), weight < _SHORT_CHARS, 2 * weight > (1 + _DENSE) * len(normal))


def find(sought: Quote, text: Text) -> tuple[Span, ...]:
    """Where a quote stands in a text word for word: one span, or one for each part; nothing if it does not."""
    if not sought.normal:
        return ()
    whole = _first(sought.normal, text, 0)
    if whole is not None:
        return (text.span(*whole),)
    return _in_parts(sought.parts, text)


def may_cross(sought: Quote, first: Text, second: Text) -> bool:
    """Whether the longer part of a quote stands on one of two pages: else it cannot go from the first to the second."""
    half = len(sought.normal) // 2
    return not sought.is_short and (sought.normal[:half] in first.normal or sought.normal[half:] in second.normal)


def find_across(sought: Quote, first: Text, second: Text, running: Collection[str]) -> tuple[Span, Span] | None:
    """Where a quote stands that begins on one page and ends on the ``second``, once for each.

    Lines of which ``running`` has the likes (see ``running_lines``) may stand between: a footer, a header.
    """
    if not sought.normal:
        return None
    room = 2 * len(sought.normal) + 200
    foot = _without_last(first.raw, running)
    for tail_end, head in ((len(first.raw), 0), (foot, _without_first(second.raw, running))):
        tail_start = max(0, tail_end - room)
        tail, rest = first.raw[tail_start:tail_end], second.raw[head : head + room]
        joined = Text(f"{tail}\n{rest}")
        found = _first(sought.normal, joined, 0)
        if found is None:
            continue
        start, end = joined.span(*found)
        if start < len(tail) < end:
            return (tail_start + start, tail_end), (head, head + end - len(tail) - 1)
    return None


def is_cut_before(before: Text, text: Text, span: Span, running: Collection[str]) -> bool:
    """Whether words with which a page begins go on from the page ``before``: from "un-", or from "not"."""
    start, end = span
    if text.raw[_without_first(text.raw, running) : start].strip():
        return False
    foot = _without_last(before.raw, running)
    tail = before.raw[max(0, foot - _ACROSS_CHARS) : foot] + "\n"
    return cuts_words(tail + text.raw[start:end], len(tail), len(tail) + end - start)


def is_cut_behind(text: Text, after: Text, span: Span, running: Collection[str]) -> bool:
    """Whether words with which a page ends go on with the page ``after``."""
    start, end = span
    if text.raw[end : _without_last(text.raw, running)].strip():
        return False
    head = _without_first(after.raw, running)
    return cuts_words(f"{text.raw[start:end]}\n{after.raw[head : head + _ACROSS_CHARS]}", 0, end - start)


def running_lines(texts: Sequence[Text]) -> frozenset[str]:
    """Lines at the edges of pages that several of them have, but for numbers: headers and footers."""
    seen: dict[str, int] = {}
    for text in texts:
        lines = [line for line, _ in _lines(text.raw)]
        for line in {_likeness(line) for line in (*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:])}:
            seen[line] = seen.get(line, 0) + 1
    return frozenset(line for line, times in seen.items() if times > 1)


def _likeness(line: str) -> str:
    return "".join(c for c in normal_form(line) if not belongs_to_number(c)) or "#"


def _lines(raw: str) -> list[tuple[str, Span]]:
    """The lines of a text that say anything."""
    return [(match[0], match.span()) for match in re.finditer(r"[^\r\n]+", raw) if match[0].strip()]


def _without_last(raw: str, running: Collection[str]) -> int:
    """Where a page ends before its footer."""
    end = len(raw)
    for line, (start, _) in reversed(_lines(raw[-2_000:])[-_EDGE_LINES:]):
        if _likeness(line) not in running:
            break
        end = max(0, len(raw) - 2_000) + start
    return end


def _without_first(raw: str, running: Collection[str]) -> int:
    """Where a page begins behind its header."""
    begin = 0
    for line, (_, end) in _lines(raw[:2_000])[:_EDGE_LINES]:
        if _likeness(line) not in running:
            break
        begin = end
    return begin


def _first(normal: str, text: Text, begin: int) -> Span | None:
    """The first place from ``begin`` on where a normal form stands as whole words and numbers, none left out."""
    for start in _places(normal, text.normal, begin):
        end = start + len(normal)
        if is_whole(text, start, end):
            return start, end
    return None


def _places(normal: str, text: str, begin: int, most: int = _MOST_PLACES) -> Iterator[int]:
    place = text.find(normal, begin)
    for _ in range(most):
        if place < 0:
            return
        yield place
        place = text.find(normal, place + 1)


def _in_parts(parts: tuple[str, ...], text: Text) -> tuple[Span, ...]:
    """The parts in their order; between them nothing may be left out that turns a sentence into its opposite."""
    spans: list[Span] = []
    begin = 0
    for part in parts:
        place = _first(part, text, begin)
        if place is None:
            return ()
        span = text.span(*place)
        if spans and is_negation_left_out(text.raw[spans[-1][1] : span[0]]):
            return ()
        spans.append(span)
        begin = place[1]
    return tuple(spans)


def _weight(normal: str) -> int:
    """How much a normal form says, in letters of a script with spaces."""
    return len(normal) + (_DENSE - 1) * len(UNSPACED.findall(normal))


# --- what stands where a quote was changed

_COMPARED_CHARS = 3_000  # of a quote
_ANCHORS = 48
_TIMES = 6  # that an anchor is looked for on a page
_ALIKE_FROM = 0.5


@dataclass(frozen=True, slots=True)
class Near:
    """Words that resemble a quote: ``share`` of its short runs of letters stand in them."""

    share: float
    span: Span


def nearest(sought: Quote, text: Text) -> Near | None:
    """The passage that a quote was changed from, if at least half of it stands there.

    Bounded: from a quote, 3,000 characters and 48 runs of letters are looked for, each at most six times.
    """
    normal = sought.normal[:_COMPARED_CHARS]
    if len(normal) < _PART_CHARS // 2:
        return None
    run = 2 if sought.is_dense else 3
    window = _densest(_hits(normal, text.normal, run), len(normal) * 13 // 10 + 20)
    if window is None:
        return None
    start, end = max(0, window[0]), min(len(text.normal), window[1])
    of_quote = {normal[i : i + run] for i in range(len(normal) - run + 1)}
    there = {text.normal[i : i + run] for i in range(start, end - run + 1)}
    share = len(of_quote & there) / max(len(of_quote), 1)
    return Near(share, whole_words(text.raw, *text.span(start, end))) if share >= _ALIKE_FROM else None


def _hits(normal: str, text: str, run: int) -> list[tuple[int, int, int]]:
    """Where runs from all over a quote stand: place, and where the quote would begin and end by that."""
    length = min(2 * run, max(run, len(normal) // 3))
    last = len(normal) - length
    offsets = sorted({last * i // (_ANCHORS - 1) for i in range(_ANCHORS)})
    return sorted(
        (place, place - offset, place - offset + len(normal))
        for offset in offsets
        for place in _places(normal[offset : offset + length], text, 0, _TIMES)
    )


def _densest(hits: Sequence[tuple[int, int, int]], width: int) -> Span | None:
    """From where to where the quote would stand by the first and the last of the most hits within ``width``."""
    best, first = (0, 0), 0
    for last, (place, _, _) in enumerate(hits):
        while place - hits[first][0] > width:
            first += 1
        if last - first >= best[1] - best[0]:
            best = first, last
    return (hits[best[0]][1], hits[best[1]][2]) if hits else None
