"""Whether the quotes of an answer stand in its document, on which page, and where on it.

Everything here runs in a worker process (see ``sandbox``): a document is hostile input, and so are quotes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import image_files, pdfium, quotes, splitter
from pipeline.domain import Box, ChunkProof, Claim, PageRange, Proof, QuoteCheck
from pipeline.pdf import PdfError, Source, SourceChangedError, is_changed
from pipeline.pdfium import Pages, PageText
from pipeline.quotes import Quote, Span, Text
from pipeline.text import encodable, shortened

_LEAST_CHARS = 50  # of a normal form: a page with fewer has no text layer worth the name; it may be a scan with a stamp
_MOST_PAGES = 1_000  # beside those of the chunk that are read for a quote: half a second to some seconds
_MOST_HELD_CHARS = 20_000_000
_MOST_FOUND_CHARS = 2_000
_MOST_BOXES = 200  # of a quote


@dataclass(frozen=True, slots=True)
class _Place:
    """What was found for a claim: the ``page``, and where in its text; ``differs``: other words than the quote's."""

    check: QuoteCheck
    page: int | None
    spans: tuple[Span, ...] = ()
    differs: bool = False


def prove(source: Source, pages: PageRange, claims: tuple[Claim, ...]) -> ChunkProof:
    """What becomes of the claims of the chunk that has these ``pages``, in their order.

    A quote is looked for on the page that its claim names and across the breaks beside it, then on the pages beside
    it, on the chunk's, and on the nearest thousand of the document; a quote of a few letters on the named page alone.
    What cannot be read, an image file or a PDF that pdfium does not open, makes its claims not checkable.

    Raises:
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    with Path(source.path).open("rb") as file:
        is_image = image_files.media_type(file.read(image_files.HEAD_BYTES)) is not None
    if is_image and is_changed(source):
        raise SourceChangedError(source.path)
    try:
        if is_image:
            return _not_checkable(claims)
        with splitter.opened(source) as copier:
            reader = copier.reader
            count = len(reader.pages)
            with pdfium.opened(reader.file, count, reader.password) as document:
                texts = _Texts(source, document, count)
                chunk = [page for page in range(pages.first, pages.last + 1) if page <= count]
                places = [_place(claim, texts, chunk) for claim in claims]
                return ChunkProof(tuple(_with_boxes(places, texts, document)))
    except PdfError:
        return _not_checkable(claims)


def _not_checkable(claims: Iterable[Claim]) -> ChunkProof:
    return ChunkProof(tuple(Proof(QuoteCheck.NOT_CHECKABLE, claim.page) for claim in claims))


# The texts of the document that was read last, since its next chunk is likely to be asked for next. One thread.
_held: dict[Source, dict[int, Text]] = {}


class _Texts:
    """The texts of a document's pages, each read once."""

    def __init__(self, source: Source, document: Pages, count: int) -> None:
        if source not in _held:
            _held.clear()
        self._texts = _held.setdefault(source, {})
        self._chars = sum(len(text.raw) for text in self._texts.values())
        self._document = document
        self.count = count

    def __getitem__(self, page: int) -> Text:
        if page not in self._texts:
            text = Text(self._document.text(page))
            self._chars += len(text.raw)
            if self._chars > _MOST_HELD_CHARS:
                self._texts.clear()
                self._chars = len(text.raw)
            self._texts[page] = text
        return self._texts[page]

    def has_text(self, page: int) -> bool:
        """Whether so much text was read of a page that a quote would be among it."""
        return len(self[page].normal) >= _LEAST_CHARS

    def existing(self, pages: Iterable[int]) -> list[int]:
        """Those of the pages that the document has."""
        return [page for page in pages if 1 <= page <= self.count]


def _place(claim: Claim, texts: _Texts, chunk: Sequence[int]) -> _Place:
    sought = quotes.quote(claim.quote)
    named = claim.page if claim.page is not None and 1 <= claim.page <= texts.count else None
    nearby = [] if named is None else texts.existing((named, named + 1, named - 1))
    order = list(dict.fromkeys((*nearby, *chunk)))
    place = _on_named(sought, texts, named) or (None if sought.is_short else _on_another(sought, texts, order))
    if place:
        return place
    is_readable = _is_readable(texts, named, chunk)
    otherwise = QuoteCheck.NOT_FOUND if is_readable else QuoteCheck.NOT_CHECKABLE
    compared = order if is_readable and not sought.is_short else nearby[:1]
    return _changed(sought, texts, compared) or _Place(otherwise, claim.page)


def _on_named(sought: Quote, texts: _Texts, named: int | None) -> _Place | None:
    if named is None:
        return None
    spans = quotes.find(sought, texts[named])
    if not spans:
        across = _across(sought, texts, named), _across(sought, texts, named - 1)
        spans = across[0][:1] or across[1][1:]
    return _Place(QuoteCheck.VERIFIED, named, spans) if spans else None


def _across(sought: Quote, texts: _Texts, first: int) -> tuple[Span, ...]:
    """Where a quote stands on a page and on the one after it; nothing if it does not."""
    if not 1 <= first < texts.count or not quotes.may_cross(sought, texts[first], texts[first + 1]):
        return ()
    around = [texts[page] for page in texts.existing(range(first - 1, first + 3))]
    return quotes.find_across(sought, texts[first], texts[first + 1], quotes.running_lines(around)) or ()


def _on_another(sought: Quote, texts: _Texts, order: Sequence[int]) -> _Place | None:
    for page in _nearest_first(order, texts.count):
        spans = quotes.find(sought, texts[page]) or _across(sought, texts, page)[:1]
        if spans:
            return _Place(QuoteCheck.PAGE_CORRECTED, page, spans)
    return None


def _nearest_first(order: Sequence[int], count: int) -> Iterator[int]:
    """These pages, and then a thousand others, by their distance from them."""
    yield from order
    done, middle = set(order), order[0]
    others = sorted((p for p in range(1, count + 1) if p not in done), key=lambda page: abs(page - middle))
    yield from others[:_MOST_PAGES]


def _is_readable(texts: _Texts, named: int | None, chunk: Sequence[int]) -> bool:
    """Whether the named page, or else any of the chunk, has text that a quote could be found in."""
    return any(texts.has_text(page) for page in (chunk if named is None else (named,)))


def _changed(sought: Quote, texts: _Texts, order: Sequence[int]) -> _Place | None:
    """The words that resemble a quote most; of the same resemblance those on the page that comes first."""
    best: tuple[float, int, Span] | None = None
    for page in order:
        near = quotes.nearest(sought, texts[page])
        if near and (best is None or near.share > best[0]):
            best = near.share, page, near.span
    return _Place(QuoteCheck.ALTERED, best[1], (best[2],), differs=True) if best else None


def _with_boxes(places: Sequence[_Place], texts: _Texts, document: Pages) -> list[Proof]:
    """The proofs; the places of characters are read once for each page, and held for one alone."""
    on_page: dict[int, list[int]] = defaultdict(list)
    proofs = []
    for index, place in enumerate(places):
        found = _words(texts[place.page], place.spans) if place.differs and place.page else ""
        proofs.append(Proof(place.check, place.page, found))
        if place.spans and place.page:
            on_page[place.page].append(index)
    for page, indexes in on_page.items():
        characters = document.page(page)
        for index in indexes:
            proofs[index] = replace(proofs[index], boxes=boxes(characters, places[index].spans))
    return proofs


def _words(text: Text, spans: Iterable[Span]) -> str:
    return shortened(encodable(" ".join(text.raw[start:end] for start, end in spans)), _MOST_FOUND_CHARS)


_SAME_LINE = 0.5  # of the lower of two characters, beside each other
_GUTTER = 0.04  # of the page's width: words of one line are nearer to each other, columns mostly are not
_LEADING = 0.004  # of the page's height, between characters above each other in a line that runs down


def boxes(page: PageText, spans: Iterable[Span]) -> tuple[Box, ...]:
    """Where passages of a page stand: a box for each line, or for the part of it in one column."""
    lines: list[Box] = []
    for start, end in spans:
        before: Box | None = None
        for index in range(start, min(end, len(page.text))):
            box = None if page.text[index].isspace() else page.box(index)
            if box is None:
                continue
            if before is not None and _is_next(before, box):
                lines[-1] = _around(lines[-1], box)
            elif len(lines) < _MOST_BOXES:
                lines.append(box)
            else:
                break
            before = box
    return tuple(filter(None, map(_on_page, lines)))


def _is_next(before: Box, box: Box) -> bool:
    """Whether two characters in a row are of one line, across or down, in whichever direction it is read."""
    wide, high = box.right - box.left, box.bottom - box.top
    beside = min(before.bottom, box.bottom) - max(before.top, box.top)
    above = min(before.right, box.right) - max(before.left, box.left)
    apart_across, apart_down = -above, -beside
    if beside >= _SAME_LINE * min(high, before.bottom - before.top):
        return apart_across <= _GUTTER
    return above >= _SAME_LINE * min(wide, before.right - before.left) and apart_down <= _LEADING


def _around(a: Box, b: Box) -> Box:
    return Box(min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom))


def _on_page(box: Box) -> Box | None:
    """What of a box shows on the page; None for one that does not."""
    left, top, right, bottom = (round(min(1.0, max(0.0, s)), 4) for s in (box.left, box.top, box.right, box.bottom))
    return Box(left, top, right, bottom) if left < right and top < bottom else None
