"""What a document's own page shows beside its texts: risks in page order, their places, pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.domain import DocumentResult, PagePicture, Risk
from pipeline.storage import Url

Draw = Callable[[DocumentResult, Sequence[int]], Mapping[int, PagePicture]]
"""Gives pictures of some pages of a document, without those that cannot be drawn."""


@dataclass(frozen=True, slots=True)
class Originals:
    """Where the documents lie, and how their pages are drawn."""

    folder: Path | Url
    draw: Draw


MOST_PICTURE_BYTES = 6_000_000
"""All pictures of one document's page in base64: a browser opens more slowly, a mailbox may refuse it."""

_AT_ONCE = 16  # pages drawn before the next are asked for: of a long document most are not needed
_MARGIN = 0.004  # shares of the page around a box, so that the letters are not touched
_LABEL_PX = 28.0  # between the middles of two labels
_MOST_APART = 100  # labels of a page that are kept apart: with more, they cover it whatever is done


@dataclass(frozen=True, slots=True)
class Mark:
    """A rectangle on a picture, in its pixels; ``label`` is where its number stands, at the first of a risk alone."""

    number: int
    severity: str
    x: float
    y: float
    width: float
    height: float
    label: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Section:
    """One page of a document with its risks, each with its number; ``page`` is None where it is not known.

    ``source`` is the picture as a data URI. Without a ``picture``, ``problem`` says why, or is empty where no
    picture belongs.
    """

    page: int | None
    risks: tuple[tuple[int, Risk], ...]
    picture: PagePicture | None
    source: str
    marks: tuple[Mark, ...]
    problem: str


def numbered(document: DocumentResult) -> list[tuple[int, Risk]]:
    """The risks by page, those without one last, and of one page worst first; numbered from 1."""
    risks = sorted(document.risks, key=lambda r: (r.page is None, r.page or 0, _top(r), r.severity.rank))
    return list(enumerate(risks, 1))


def _top(risk: Risk) -> float:
    return risk.boxes[0].top if risk.boxes else 1.0


def pictures(document: DocumentResult, draw: Draw) -> tuple[dict[int, PagePicture], list[int]]:
    """Pictures of the pages with risks, as many as there is room for; and the pages left out for want of it."""
    pages = sorted({r.page for r in document.risks if r.page is not None})
    drawn: dict[int, PagePicture] = {}
    room_bytes = MOST_PICTURE_BYTES
    for start in range(0, len(pages), _AT_ONCE):
        batch = pages[start : start + _AT_ONCE]
        found = draw(document, batch)
        for place, page in enumerate(batch, start):
            if page not in found:
                continue
            room_bytes -= len(found[page].data) * 4 // 3
            if room_bytes < 0:
                return drawn, pages[place:]
            drawn[page] = found[page]
    return drawn, []


def sections(
    document: DocumentResult, pictures: Mapping[int, PagePicture], left_out: Iterable[int], draws: bool
) -> list[Section]:
    """The risks page by page. ``draws``: a page without a picture needs a word why."""
    by_page: dict[int | None, list[tuple[int, Risk]]] = {}
    for number, risk in numbered(document):
        by_page.setdefault(risk.page, []).append((number, risk))
    without_room = set(left_out)
    found = []
    for page, risks in by_page.items():
        picture = pictures.get(page) if page is not None else None
        problem = ""
        if draws and page is not None and picture is None:
            full = (
                f"Its picture is left out: this report page has room for {MOST_PICTURE_BYTES // 1_000_000} MB of them."
            )
            problem = full if page in without_room else "This page could not be drawn."
        found.append(Section(page, tuple(risks), picture, _data_uri(picture), _marks(picture, risks), problem))
    return found


def _data_uri(picture: PagePicture | None) -> str:
    return f"data:image/webp;base64,{base64.b64encode(picture.data).decode()}" if picture else ""


def _marks(picture: PagePicture | None, risks: Sequence[tuple[int, Risk]]) -> tuple[Mark, ...]:
    if picture is None:
        return ()
    across, down = picture.width_px, picture.height_px
    marks: list[Mark] = []
    labels: list[tuple[float, float]] = []
    for number, risk in risks:
        for place, box in enumerate(risk.boxes):
            left, top = max(0.0, box.left - _MARGIN) * across, max(0.0, box.top - _MARGIN) * down
            right, bottom = min(1.0, box.right + _MARGIN) * across, min(1.0, box.bottom + _MARGIN) * down
            if place == 0:
                taken = labels if len(labels) < _MOST_APART else ()
                labels.append(_free(taken, left - 0.6 * _LABEL_PX, (top + bottom) / 2))
            x, y, width, height = (round(value, 1) for value in (left, top, right - left, bottom - top))
            marks.append(Mark(number, risk.severity, x, y, width, height, labels[-1] if place == 0 else None))
    return tuple(marks)


def _free(taken: Sequence[tuple[float, float]], x: float, y: float) -> tuple[float, float]:
    """A place for a label at ``x``, ``y`` or to the left of it, else below: two risks may quote the same words."""
    x = max(x, _LABEL_PX / 2)
    while any(abs(x - a) < _LABEL_PX and abs(y - b) < _LABEL_PX for a, b in taken):
        if x > 1.5 * _LABEL_PX:
            x -= _LABEL_PX
        else:
            y += _LABEL_PX
    return round(x, 1), round(y, 1)
