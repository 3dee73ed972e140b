"""Whether the quotes of an answer stand in its document, on which page, and where on it.

Everything here runs in a worker process (see ``sandbox``): a document is hostile input, and so are quotes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import image_files, pdfium, planted, quotes, splitter
from pipeline.domain import ChunkProof, Claim, PageRange, Proof, QuoteCheck
from pipeline.page_boxes import boxes
from pipeline.passages import Span, Text
from pipeline.pdf import PdfError, Source, SourceChangedError, is_changed
from pipeline.pdfium import Examined, Pages
from pipeline.quotes import Quote
from pipeline.text import encodable, shortened

_LEAST_CHARS = 50  # of a normal form: a page with fewer has no text layer worth the name; it may be a scan with a stamp
_MOST_PAGES = 1_000  # beside those of the chunk that are read for a quote: half a second to some seconds
_MOST_HELD_CHARS = 20_000_000
_MOST_FOUND_CHARS = 2_000
_EDGE_CHARS = 500  # from an edge of a page: there a header or a footer may be all that stands between


@dataclass(frozen=True, slots=True)
class _Place:
    """What was found for a claim: the ``page``, and where in its text; ``differs``: other words than the quote's."""

    check: QuoteCheck
    page: int | None
    spans: tuple[Span, ...] = ()
    differs: bool = False


def prove_each(source: Source, asked: tuple[tuple[PageRange, tuple[Claim, ...]], ...]) -> tuple[ChunkProof, ...]:
    """``prove`` for several chunks of a document, each with its pages and claims."""
    return tuple(prove(source, pages, claims) for pages, claims in asked)


def prove(source: Source, pages: PageRange, claims: tuple[Claim, ...]) -> ChunkProof:
    """What becomes of the claims of the chunk that has these ``pages``, in their order.

    A quote is looked for on the page that its claim names and across the breaks beside it, then on the pages beside
    it, on the chunk's, and on the nearest thousand of the document; a quote of a few letters on the named page alone.
    What was planted on the chunk's pages is looked for too (``planted``).
    What cannot be read, an image file or a PDF that pdfium does not open, makes its claims not checkable.

    Raises:
        PdfError: a password that opened the file is not here now.
        SourceChangedError: the file is not the one that the scanner saw.
        OSError: the file cannot be read.
    """
    with Path(source.path).open("rb") as file:
        is_image = image_files.media_type(file.read(image_files.HEAD_BYTES)) is not None
    if is_image and is_changed(source):
        raise SourceChangedError(source.path)
    try:
        if is_image:
            return ChunkProof.not_checkable(claims)
        with splitter.opened(source) as copier:
            reader = copier.reader
            count = len(reader.pages)
            with pdfium.opened(reader.file, count, reader.password) as document:
                texts = _Texts(source, document, count)
                chunk = [page for page in range(pages.first, pages.last + 1) if page <= count]
                found = planted.risks(chunk, texts.examined)
                places = [_place(claim, texts, chunk) for claim in claims]
                return ChunkProof(tuple(_with_boxes(places, texts, document)), found)
    except PdfError as error:
        if error.encrypted:
            raise
        return ChunkProof.not_checkable(claims)


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
        self._examined: dict[int, str] = {}  # of this chunk: their normal form may never be needed
        self._examined_chars = 0
        self.count = count

    def __getitem__(self, page: int) -> Text:
        if page not in self._texts:
            raw = self._examined.get(page)
            text = Text(self._document.text(page) if raw is None else raw)
            self._chars += len(text.raw)
            if self._chars > _MOST_HELD_CHARS:
                self._texts.clear()
                self._chars = len(text.raw)
            self._texts[page] = text
        return self._texts[page]

    def examined(self, page: int, is_doubtful: Callable[[str], bool]) -> Examined:
        """As in ``pdfium.Pages``; the text of the page need not be read again."""
        examined = self._document.examined(page, is_doubtful)
        raw = examined.page.text
        if page not in self._texts and self._examined_chars + len(raw) <= _MOST_HELD_CHARS:
            self._examined[page] = raw
            self._examined_chars += len(raw)
        return examined

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
    spans = _on_page(sought, texts, named)
    if not spans:
        across = _across(sought, texts, named), _across(sought, texts, named - 1)
        spans = across[0][:1] or across[1][1:]
    return _Place(QuoteCheck.VERIFIED, named, spans) if spans else None


def _on_page(sought: Quote, texts: _Texts, page: int) -> tuple[Span, ...]:
    """Where a quote stands on a page; nothing where the words go on beyond it and say something else."""
    spans = quotes.find(sought, texts[page])
    if not spans:
        return ()
    text, (first, last) = texts[page], (spans[0], spans[-1])
    is_first, is_last = first[0] < _EDGE_CHARS, len(text.raw) - last[1] < _EDGE_CHARS
    if not (is_first or is_last):
        return spans
    lines = quotes.running_lines([texts[other] for other in texts.existing(range(page - 2, page + 3))])
    if is_first and page > 1 and quotes.is_cut_before(texts[page - 1], text, first, lines):
        return ()
    if is_last and page < texts.count and quotes.is_cut_behind(text, texts[page + 1], last, lines):
        return ()
    return spans


def _across(sought: Quote, texts: _Texts, first: int) -> tuple[Span, ...]:
    """Where a quote stands on a page and on the one after it; nothing if it does not."""
    if not 1 <= first < texts.count or not quotes.may_cross(sought, texts[first], texts[first + 1]):
        return ()
    around = [texts[page] for page in texts.existing(range(first - 1, first + 3))]
    return quotes.find_across(sought, texts[first], texts[first + 1], quotes.running_lines(around)) or ()


def _on_another(sought: Quote, texts: _Texts, order: Sequence[int]) -> _Place | None:
    for page in _nearest_first(order, texts.count):
        spans = _on_page(sought, texts, page) or _across(sought, texts, page)[:1]
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
