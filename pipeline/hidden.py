"""Which words of a page a reader cannot see, by the picture of the page and not by what its file says. Pure.

White text on a dark bar is seen, the text under a scan is seen in the scan; white text on white paper, text behind a
picture, text of one point and text beside the page are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pipeline.instructions import Span
from pipeline.pdfium import Gray, PageText

# A word; of scripts without spaces, and of long ones, a part, since a part may be hidden.
_WORD = re.compile(r"[^\W_]{1,12}")
_LETTER_WORD = re.compile(r"[^\W\d_]{2,}")
_CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]")

# Of 255. Print on paper has 100 and more, the weakest watermark that people notice some 15.
_CONTRAST = 10
# Of letters, as high as their font: print of three points is a grey line; footnotes have five and more.
_TINY_PT = 3.0
_TINY_SHARE = _TINY_PT / 595  # of the shorter side, on a page smaller than A4
_WORDS = 5
_LETTERS = 20
_CHINESE_LETTERS = 10


class Reason(StrEnum):
    """Why words are not seen."""

    NO_CONTRAST = "no contrast"
    TINY = "tiny"
    OUTSIDE = "outside the page"


@dataclass(frozen=True, slots=True)
class Passage:
    """Words in a row that a reader cannot see."""

    span: Span
    reason: Reason

    def is_sentence(self, text: str) -> bool:
        """Whether it is long enough to say something: a watermark or a number is not."""
        words = text[self.span.first : self.span.end]
        chinese = len(_CHINESE.findall(words))
        letters = sum(map(str.isalpha, words))
        return chinese >= _CHINESE_LETTERS or (letters >= _LETTERS and len(_LETTER_WORD.findall(words)) >= _WORDS)


def passages(page: PageText, picture: Gray) -> tuple[Passage, ...]:
    """The passages that are not seen, in the order of the text, whatever their length."""
    found = list(_passages(page, picture))
    # An image that cannot be drawn says nothing about the text that lies under it.
    if picture.has_image and picture.samples.count(picture.samples[:1]) == len(picture.samples):
        found = [passage for passage in found if passage.reason is Reason.OUTSIDE]
    return tuple(found)


def _passages(page: PageText, picture: Gray) -> Iterator[Passage]:
    first = end = 0
    reason: Reason | None = None
    for match in _WORD.finditer(page.text):
        word = _word(page, picture, match.start(), match.end())
        if word is None:
            continue
        now = _reason(word, picture)
        if now is not reason:
            if reason is not None:
                yield Passage(Span(first, end), reason)
            first, reason = match.start(), now
        end = match.end()
    if reason is not None:
        yield Passage(Span(first, end), reason)


@dataclass(frozen=True, slots=True)
class _Word:
    """Where a word stands in shares of the page; ``letter_pt``: the longer side of its largest letter."""

    left: float
    top: float
    right: float
    bottom: float
    letter_pt: float


def _word(page: PageText, picture: Gray, first: int, end: int) -> _Word | None:
    """The word between two places of the text; None where none of its letters has a place."""
    numbers = iter(page.shares[4 * first : 4 * end])
    boxes = [box for box in zip(numbers, numbers, numbers, numbers, strict=True) if box[0] < box[2] and box[1] < box[3]]
    if not boxes:
        return None
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    width_pt, height_pt = picture.width_px / picture.dots_per_pt, picture.height_px / picture.dots_per_pt
    # The longer side, since letters may stand on their side.
    letter_pt = max(max((box[2] - box[0]) * width_pt, (box[3] - box[1]) * height_pt) for box in boxes)
    return _Word(min(lefts), min(tops), max(rights), max(bottoms), letter_pt)


def _reason(word: _Word, picture: Gray) -> Reason | None:
    if not (0 <= (word.left + word.right) / 2 <= 1 and 0 <= (word.top + word.bottom) / 2 <= 1):
        return Reason.OUTSIDE
    shorter_pt = min(picture.width_px, picture.height_px) / picture.dots_per_pt
    if word.letter_pt < min(_TINY_PT, _TINY_SHARE * shorter_pt):
        return Reason.TINY
    return None if _is_seen(word, picture) else Reason.NO_CONTRAST


def _is_seen(word: _Word, picture: Gray) -> bool:
    """Whether the picture is not of one shade where the word stands."""
    height = word.bottom - word.top
    # Recognised text lies a little beside the words in a scan; else only the height of small letters counts, lest
    # the lines above and below be taken for the word.
    beside, above, below = (height, -height / 2, -height / 2) if picture.is_scan else (0.0, height / 4, height / 5)
    left = max(0, int((word.left - beside) * picture.width_px))
    right = min(picture.width_px, int((word.right + beside) * picture.width_px) + 1)
    top = max(0, int((word.top + above) * picture.height_px))
    bottom = min(picture.height_px, int((word.bottom - below) * picture.height_px) + 1)
    darkest, lightest = 255, 0
    for row in _from_the_middle(top, bottom):
        pixels = picture.samples[row * picture.width_px + left : row * picture.width_px + right]
        if not pixels:
            return False
        darkest, lightest = min(darkest, min(pixels)), max(lightest, max(pixels))
        if lightest - darkest > _CONTRAST:
            return True
    return False


def _from_the_middle(first: int, end: int) -> Iterator[int]:
    """The numbers from ``first`` up to ``end``, the middle ones first: there a word has most of its ink."""
    middle = (first + end) // 2
    for step in range(end - first):
        row = middle + (step + 1) // 2 * (1 if step % 2 else -1)
        if first <= row < end:
            yield row
