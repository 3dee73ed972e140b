"""Where a passage stands on a page: the places of its characters joined to a box for each line. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.domain import Box
from pipeline.pdfium import PageText

_MOST_BOXES = 200  # of a passage
_SAME_LINE = 0.5  # of the lower of two characters, beside each other
_GUTTER = 0.04  # of the page's width: words of one line are nearer to each other, columns mostly are not
_LEADING = 0.004  # of the page's height, between characters above each other in a line that runs down
_WORD_GAP = 0.02  # the same across a blank: the words of a page that is turned


def boxes(page: PageText, spans: Iterable[tuple[int, int]]) -> tuple[Box, ...]:
    """Where passages of a page stand: a box for each line, or for the part of it in one column."""
    lines: list[Box] = []
    for start, end in spans:
        before, then = None, start
        for index in range(start, min(end, len(page.text))):
            box = None if page.text[index].isspace() else page.box(index)
            if box is None:
                continue
            if before is not None and _is_next(before, box, _gap(page.text[then + 1 : index])):
                lines[-1] = _around(lines[-1], box)
            elif len(lines) < _MOST_BOXES:
                lines.append(box)
            else:
                break
            before, then = box, index
    return tuple(filter(None, map(_on_page, lines)))


def _gap(between: str) -> float:
    """How far apart, down the page, two characters of one line may stand with nothing but ``between`` there."""
    return _LEADING if not between or "\n" in between or "\r" in between else _WORD_GAP


def _is_next(before: Box, box: Box, gap: float) -> bool:
    """Whether two characters in a row are of one line, across or down, in whichever direction it is read."""
    wide, high = box.right - box.left, box.bottom - box.top
    beside = min(before.bottom, box.bottom) - max(before.top, box.top)
    above = min(before.right, box.right) - max(before.left, box.left)
    apart_across, apart_down = -above, -beside
    if beside >= _SAME_LINE * min(high, before.bottom - before.top):
        return apart_across <= _GUTTER
    return above >= _SAME_LINE * min(wide, before.right - before.left) and apart_down <= gap


def _around(a: Box, b: Box) -> Box:
    return Box(min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom))


def _on_page(box: Box) -> Box | None:
    """What of a box shows on the page; None for one that does not."""
    left, top, right, bottom = (round(min(1.0, max(0.0, s)), 4) for s in (box.left, box.top, box.right, box.bottom))
    return Box(left, top, right, bottom) if left < right and top < bottom else None
