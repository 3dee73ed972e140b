"""Quotes looked for in the text of pages. Pure.

A quote stands on a page when its normal form stands there, from the beginning of a word to the end of one, with no
number cut and no negation left out beside it. How much words resemble each other never decides that: a ratio takes
"shall" for "shall not". It only finds what stands where a quote was changed.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pipeline.normal_form import MONEY, belongs_to_number, is_money, normal_form, origins

Span = tuple[int, int]
"""From and up to which character of a page's text."""

_SHORT_CHARS = 12  # of a normal form: fewer are found anywhere by accident
_PART_CHARS = 6  # of a part between ellipses
_DENSE = 3  # a character of a script without spaces says as much as so many letters
_EDGE_LINES = 3
_MOST_PLACES = 50  # that are looked at where a quote stands often, but never as whole words

_ELLIPSIS = re.compile(r"[\[(]\s*(?:…|\.{3,})\s*[\])]|…|\.{3,}|(?:\. ){2,}\.")
_BULLET = re.compile(r"\s*[-–—•▪●·*]\s+")
_SENTENCE_END = re.compile(r"[.;!?。；！？](?!\w)|\n\s*\n")
_BROKEN_WORD = re.compile("[^\\W_][-\u2010\u2011\u00ad\x02\ufffe](?:[ \t]{0,4}[\r\n]\\s{0,8})?\\Z")
_WORD_GOES_ON = re.compile("[-\u2010\u2011\u00ad\x02\ufffe](?:[ \t]{0,4}[\r\n]\\s{0,8})?[^\\W\\d_]")
_WORD_BEFORE = re.compile(r"([^\W_][\w'’]*)\s{1,8}\Z")
_WORD_AFTER = re.compile(r"\s{1,8}([^\W_][\w'’]*)")
_RANGE = re.compile(r"\d-")
_AMOUNT_BEFORE = re.compile(rf"[0-9{MONEY}][0-9.,/:'’]{{0,12}}[ ]?[-–—−][ ]?\Z|[-–—−.,/:'’(0-9{MONEY}]{{1,12}}[ ]?\Z")
_AMOUNT_AFTER = re.compile(rf"[ ]?[%‰‱){MONEY}]|[ ]?[-–—−][ ]?[0-9][0-9.,]*|[.,/:'’^][0-9][0-9.,]*")
_WORDS = re.compile(r"[^\W_][\w'’]*")

# fmt: off
_NEGATIONS = frozenset({
    "not", "no", "never", "nor", "neither", "none", "without", "cannot",
    "nicht", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals", "ohne", "weder",
    "ne", "pas", "jamais", "sans", "non", "ni", "nunca", "jamás", "sin", "não", "nem", "sem", "senza",
    "niet", "geen", "nooit", "zonder", "ikke", "inte", "не", "ни", "без",
    "لا", "لم", "لن", "ليس", "غير", "دون", "לא", "אין", "בלי", "אינו", "אינה",
})
# fmt: on
_NEGATING = frozenset("不未无無非没沒勿莫否毋")  # in Chinese and Japanese, written without spaces

# Scripts without spaces between words: Thai to Lao, Burmese, Khmer, and what stands from the CJK radicals to Yi.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff]")


class Text:
    """The text of a page with its normal form."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.normal = normal_form(raw)
        self._origins: array[int] | None = None

    @property
    def origins(self) -> array[int]:
        """Where in ``raw`` each character of ``normal`` comes from; made when it is needed first."""
        if self._origins is None:
            self._origins = origins(self.raw)
        return self._origins

    def span(self, start: int, end: int) -> Span:
        """The characters of ``raw`` behind those of ``normal``."""
        return self.origins[start], self.origins[end - 1] + 1


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
        if _is_whole(text, start, end):
            return start, end
    return None


def _places(normal: str, text: str, begin: int, most: int = _MOST_PLACES) -> Iterator[int]:
    place = text.find(normal, begin)
    for _ in range(most):
        if place < 0:
            return
        yield place
        place = text.find(normal, place + 1)


def _is_whole(text: Text, start: int, end: int) -> bool:
    """Whether what stands there begins and ends as it does in the text: no word or number cut, no "not" left out."""
    raw, normal = text.raw, text.normal
    begin, stop = text.span(start, end)
    before, after = normal[start - 1 : start], normal[end : end + 1]
    if start and text.origins[start - 1] == begin:
        return False
    if after and (text.origins[end] == stop - 1 or unicodedata.combining(after)):
        return False
    if _cuts_number(raw, normal, start, end, begin, stop):
        return False
    if _spaced(raw[begin]) and (_spaced(raw[begin - 1 : begin]) or _BROKEN_WORD.search(raw, max(0, begin - 16), begin)):
        return False
    if _spaced(raw[stop - 1]) and (_spaced(raw[stop : stop + 1]) or _WORD_GOES_ON.match(raw, stop)):
        return False
    return not (before and _negated_before(raw, begin)) and not (after and _negated_after(raw, stop))


def _cuts_number(raw: str, normal: str, start: int, end: int, begin: int, stop: int) -> bool:
    """Whether an amount goes on beyond an edge: a digit, a sign, a currency, a percent sign."""
    first, before = normal[start], normal[start - 1 : start] if start else ""
    last, after = normal[end - 1], normal[end : end + 1]
    if (first.isdigit() or is_money(first)) and belongs_to_number(before) and not raw[begin - 1].isspace():
        return True
    if first.isdigit() and is_money(before):
        return True
    if last.isdigit() and after and (is_money(after) or after in "%‰‱"):
        return True
    if (first.isdigit() and _RANGE.match(normal[max(0, start - 2) : start])) or (
        last.isdigit() and _RANGE.match(normal[end : end + 2][::-1])
    ):
        return True
    return (last.isdigit() or is_money(last)) and belongs_to_number(after) and not raw[stop : stop + 1].isspace()


def _spaced(character: str) -> bool:
    """Whether it is a letter or digit of a script that writes spaces between words."""
    return character.isalnum() and not _UNSPACED.match(character)


def _negated_before(raw: str, begin: int) -> bool:
    word = _WORD_BEFORE.search(raw, max(0, begin - 40), begin)
    if raw[begin].isdigit():  # No 5 is a number
        return False
    is_negation = word is not None and word[1].casefold() in _NEGATIONS
    return is_negation or raw[max(0, begin - 1) : begin] in _NEGATING


def _negated_after(raw: str, stop: int) -> bool:
    word = _WORD_AFTER.match(raw, stop)
    is_negation = word is not None and word[1].casefold() in _NEGATIONS
    return is_negation or raw[stop : stop + 1] in _NEGATING


def _in_parts(parts: tuple[str, ...], text: Text) -> tuple[Span, ...]:
    """The parts in their order; between them nothing may be left out that turns a sentence into its opposite."""
    spans: list[Span] = []
    begin = 0
    for part in parts:
        place = _first(part, text, begin)
        if place is None:
            return ()
        span = text.span(*place)
        if spans and _is_negation_left_out(text.raw[spans[-1][1] : span[0]]):
            return ()
        spans.append(span)
        begin = place[1]
    return tuple(spans)


def _is_negation_left_out(between: str) -> bool:
    if _SENTENCE_END.search(between):
        return False  # whole sentences were left out
    return any(word.casefold() in _NEGATIONS for word in _WORDS.findall(between)) or not _NEGATING.isdisjoint(between)


def _weight(normal: str) -> int:
    """How much a normal form says, in letters of a script with spaces."""
    return len(normal) + (_DENSE - 1) * len(_UNSPACED.findall(normal))


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
    return Near(share, _whole_words(text.raw, *text.span(start, end))) if share >= _ALIKE_FROM else None


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


def _whole_words(raw: str, start: int, end: int) -> Span:
    """The same from the beginning of a word or amount to the end of one, and with a negation beside it."""
    start, end = _word_start(raw, start), _word_end(raw, end)
    if raw[start].isdigit() and (cut := _AMOUNT_BEFORE.search(raw, max(0, start - 24), start)):
        start = cut.start()
    if raw[end - 1].isdigit() and (cut := _AMOUNT_AFTER.match(raw, end)):
        end = cut.end()
    before = _WORD_BEFORE.search(raw, max(0, start - 40), start)
    if _negated_before(raw, start):
        start = before.start() if before and before[1].casefold() in _NEGATIONS else start - 1
    after = _WORD_AFTER.match(raw, end)
    if _negated_after(raw, end):
        end = after.end() if after and after[1].casefold() in _NEGATIONS else end + 1
    return start, end


_LONGEST_WORD = 60


def _word_start(raw: str, start: int) -> int:
    least = max(0, start - _LONGEST_WORD)
    while start > least and _spaced(raw[start]):
        broken = _BROKEN_WORD.search(raw, max(0, start - 16), start)
        if not broken and not _spaced(raw[start - 1]):
            break
        start = broken.start() if broken else start - 1
    return start


def _word_end(raw: str, end: int) -> int:
    most = min(len(raw), end + _LONGEST_WORD)
    while end < most and _spaced(raw[end - 1]):
        goes_on = _WORD_GOES_ON.match(raw, end)
        if not goes_on and not _spaced(raw[end]):
            break
        end = goes_on.end() if goes_on else end + 1
    return end
