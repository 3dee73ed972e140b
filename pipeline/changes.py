"""What a run reports that the last one did not: each risk known again from run to run. Pure.

A document is the one with the same path; a path that was not there before takes over from one with the same
bytes. Of two versions of a document, each risk is at most one risk of the other: first one with the same words,
then the most similar one of its category near its page.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from pipeline import quotes
from pipeline.domain import (
    Before,
    Change,
    Comparison,
    DocumentResult,
    DocumentStatus,
    Memory,
    Remembered,
    Risk,
    RunResult,
    ToRemember,
)
from pipeline.normal_form import normal_form
from pipeline.passages import Text

_ALIKE = 0.6  # see _likeness
_LOOKED_AT = 10  # on each side of a risk's own place: a thousand risks of one category on one page stay cheap


def compare(result: RunResult, memory: Memory | None) -> tuple[RunResult, ToRemember]:
    """The result with what is new, changed and gone, and what the next run needs to know of it.

    ``memory`` is that of the run to compare with; None when there is none: then every risk gets its ``id`` and
    nothing is called new. A risk is gone only where what was read tells: its page is answered, or, in a file with
    other bytes, all pages are.
    """
    then = memory.documents if memory else {}
    origins = _origins(result.documents, then)
    documents, remembered = [], []
    for document in result.documents:
        compared, memorable = _compared(document, origins.get(document.path), memory is not None)
        documents.append(compared)
        if memorable != then.get(document.path):
            remembered.append(memorable)
    here = {document.path for document in documents}
    forgotten = tuple(path for path in then if path not in here)
    update = ToRemember(result.reads_with_rules, tuple(remembered), forgotten)
    result = replace(result, documents=tuple(documents))
    if memory is None:
        return result, update
    moved = {origin.then.path for origin in origins.values()}
    removed = tuple(path for path in forgotten if path not in moved)
    same_request = memory.fingerprint == result.run.fingerprint
    return replace(result, compared=Comparison(memory.run, memory.finished_at, removed, same_request)), update


# --- documents


@dataclass(frozen=True, slots=True)
class _Origin:
    """What is remembered of a document. ``is_copy``: of another one of the same bytes, which is still there."""

    then: Remembered
    is_copy: bool = False


def _origins(documents: Iterable[DocumentResult], then: Mapping[str, Remembered]) -> dict[str, _Origin]:
    """What each document was, by its path now; a file that moved is what it was under its old path."""
    documents = sorted(documents, key=lambda document: document.path)
    here = {document.path for document in documents}
    copies: dict[str | None, str] = {}
    left: dict[str | None, deque[str]] = defaultdict(deque)  # of these bytes, where no file is any more
    for path in sorted(then):
        copies.setdefault(then[path].sha256, path)
        if path not in here:
            left[then[path].sha256].append(path)
    origins = {}
    for document in documents:
        sha256 = document.sha256
        if document.path in then:
            origins[document.path] = _Origin(then[document.path])
        elif sha256 and left.get(sha256):
            origins[document.path] = _Origin(then[left[sha256].popleft()])
        elif sha256 and sha256 in copies:
            origins[document.path] = _Origin(then[copies[sha256]], is_copy=True)
    return origins


def _compared(document: DocumentResult, origin: _Origin | None, has_memory: bool) -> tuple[DocumentResult, Remembered]:
    if origin is None:
        risks = _identified(document, (), [None] * len(document.risks), has_memory)
        new = replace(document, risks=risks, change=Change.NEW if has_memory else None)
        return new, _remembered(new, None, ())
    then = origin.then
    is_same_file = document.sha256 in (None, then.sha256)  # None: it could not be read, so nothing tells
    old = [_Old(risk, is_same_file) for risk in then.risks] + [_Old(risk, False) for risk in then.carried]
    found = _matches(document, then, old)
    risks = _identified(document, old, found, True)
    if origin.is_copy:
        copy = replace(document, risks=risks, change=Change.NEW)
        return copy, _remembered(copy, None, ())
    kept = {id(match) for match in found}
    lost = [one for one in old if id(one) not in kept]
    gone = [one for one in lost if _is_gone(document, one)]
    left = [one for one in lost if not _is_gone(document, one)]
    is_done = document.status is DocumentStatus.DONE
    known = replace(
        document,
        risks=risks,
        change=Change.CHANGED if then.sha256 and not is_same_file else None,
        recovered=is_done and then.status is not DocumentStatus.DONE,
        gone_risks=tuple(one.risk for one in gone),
    )
    return known, _remembered(known, then, left)


def _is_gone(document: DocumentResult, old: _Old) -> bool:
    """Whether what was read tells that a risk which was not found again is not there any more.

    What docpipe itself saw in the same bytes is still in them, though it may not have looked this time.
    """
    if old.risk.own_check and old.same_bytes:
        return False
    if document.status is DocumentStatus.DONE:
        return True
    page = old.risk.page
    if not old.same_bytes or page is None or page > (document.pages or 0):
        return False
    return not any(pages.first <= page <= pages.last for pages in document.missing_pages)


def _remembered(document: DocumentResult, then: Remembered | None, left: Iterable[_Old]) -> Remembered:
    """What the next run needs to know; ``left`` are risks of before that are neither found again nor gone."""
    left = list(left)
    here = [_stripped(risk) for risk in document.risks] + [one.risk for one in left if one.same_bytes]
    return Remembered(
        document.path,
        document.sha256 or (then.sha256 if then else None),
        document.pages or (then.pages if then else None),
        document.status,
        tuple(here),
        tuple(one.risk for one in left if not one.same_bytes),
    )


def _stripped(risk: Risk) -> Risk:
    return Risk(
        risk.title, risk.category, risk.severity, risk.page, risk.quote, "", "", own_check=risk.own_check, id=risk.id
    )


# --- risks


@dataclass(frozen=True, slots=True)
class _Old:
    """A risk that was reported before. ``same_bytes``: from the bytes that the file has now."""

    risk: Risk
    same_bytes: bool


def _identified(
    document: DocumentResult, old: Sequence[_Old], found: Sequence[_Old | None], has_memory: bool
) -> tuple[Risk, ...]:
    """The document's risks with id and change; ``found`` has for each the one that it was."""
    fresh = Change.NEW if has_memory else None
    ids = _new_ids(document, old, found)
    return tuple(
        _known(risk, was) if was else replace(risk, id=ids[place], change=fresh)
        for place, (risk, was) in enumerate(zip(document.risks, found, strict=True))
    )


def _known(risk: Risk, was: _Old) -> Risk:
    change, old = _change(risk, was), was.risk
    before = Before(old.severity, old.page, old.quote) if change else None
    return replace(risk, id=old.id, change=change, before=before)


def _change(risk: Risk, was: _Old) -> Change | None:
    """A risk has changed with its severity or the words on the page; the same bytes have the same words."""
    if risk.severity is not was.risk.severity:
        return Change.CHANGED
    if was.same_bytes or risk.quote == was.risk.quote:
        return None
    now, then = quotes.quote(risk.quote), quotes.quote(was.risk.quote)
    # A quote may begin earlier or end later than the one before it.
    is_part = quotes.find(now, Text(was.risk.quote)) or quotes.find(then, Text(risk.quote))
    return None if now.normal == then.normal or is_part else Change.CHANGED


def _new_ids(document: DocumentResult, old: Sequence[_Old], found: Sequence[_Old | None]) -> dict[int, str]:
    """Ids for the risks that were not there before, by their place; no risk of before had one of them."""
    fresh = [place for place, was in enumerate(found) if was is None]
    taken = {one.risk.id for one in old}
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(2))
    ids = {}
    for one in sorted((_seen(place, document.risks[place]) for place in fresh), key=_order):
        name = os.fsencode(document.path) + b"\0" + one.words.encode("utf-8", "surrogatepass")
        identity = digest = hashlib.sha256(name).hexdigest()[:12]
        while identity in taken:
            identity = f"{digest}-{next(numbers[digest])}"
        taken.add(identity)
        ids[one.place] = identity
    return ids


def _matches(document: DocumentResult, then: Remembered, old: Sequence[_Old]) -> Sequence[_Old | None]:
    """For each risk of the document the one that it was, if it was there before."""
    if len(old) == len(document.risks) and all(map(_is_equal, document.risks, old)):
        return old
    new = [_seen(place, risk) for place, risk in enumerate(document.risks)]
    before = [_seen(place, one.risk) for place, one in enumerate(old)]
    # A clause can have moved by as many pages as were added or taken away, and by one for what flows over.
    reach = abs((document.pages or 0) - (then.pages or document.pages or 0)) + 1
    pairs = _pairs(sorted(new, key=_order), sorted(before, key=_order), reach)
    return [old[pairs[place]] if place in pairs else None for place in range(len(new))]


def _is_equal(risk: Risk, old: _Old) -> bool:
    was = old.risk
    return (risk.quote, risk.page, risk.category, risk.title) == (was.quote, was.page, was.category, was.title)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A risk as it is compared: ``words`` is the normal form of its quote, or of its title where it quotes nothing.

    ``place`` is that in its list. A page of 0 is not known.
    """

    place: int
    risk: Risk
    page: int
    category: str
    words: str


def _seen(place: int, risk: Risk) -> _Seen:
    words = quotes.quote(risk.quote).normal or normal_form(risk.title)
    return _Seen(place, risk, risk.page or 0, risk.category.casefold(), words)


def _order(one: _Seen) -> tuple[object, ...]:
    """An order that follows from what the risks are, not from how they are listed."""
    risk = one.risk
    written = (risk.title, risk.category, risk.quote, risk.explanation, risk.recommendation)
    return one.page, one.words, one.category, risk.severity.rank, *written


def _pairs(new: Sequence[_Seen], old: Sequence[_Seen], reach: int) -> dict[int, int]:
    """The places of old risks by those of the new ones that they are; both lists are in ``_order``."""
    pairs: dict[int, int] = {}
    same: Sequence[Callable[[_Seen], Hashable]] = (
        lambda one: (one.words, one.category, one.page),
        lambda one: (one.words, one.category),
        lambda one: one.words,
    )
    for key in same:
        waiting: dict[Hashable, deque[int]] = defaultdict(deque)
        for was in old:
            waiting[key(was)].append(was.place)
        for one in new:
            if places := waiting.get(key(one)):
                pairs[one.place] = places.popleft()
        taken = set(pairs.values())
        new = [one for one in new if one.place not in pairs]
        old = [was for was in old if was.place not in taken]
    taken = set()
    for *_, place, old_place in sorted(_similar(new, old, reach), key=lambda pair: pair[:3]):
        if place not in pairs and old_place not in taken:
            pairs[place] = old_place
            taken.add(old_place)
    return pairs


def _similar(new: Sequence[_Seen], old: Sequence[_Seen], reach: int) -> Iterator[tuple[float, int, int, int, int]]:
    """Pairs that may be one risk, less for better ones: minus likeness, pages apart, risks apart; and their places."""
    of_category: dict[str, tuple[list[_Seen], list[_Seen]]] = defaultdict(lambda: ([], []))
    for one in new:
        of_category[one.category][0].append(one)
    for was in old:
        of_category[was.category][1].append(was)
    for ones, others in of_category.values():
        grams = {id(one): (_grams(one.words), _grams(normal_form(one.risk.title))) for one in (*ones, *others)}
        for one, was, apart in _near(ones, others, reach):
            likeness = _likeness(grams[id(one)], grams[id(was)])
            if likeness >= _ALIKE:
                yield -likeness, abs(one.page - was.page), apart, one.place, was.place


def _near(new: Sequence[_Seen], old: Sequence[_Seen], reach: int) -> Iterator[tuple[_Seen, _Seen, int]]:
    """Pairs at most ``reach`` pages apart, of those a bounded number for each risk, and how many risks lie between."""
    new_pages, old_pages = [one.page for one in new], [was.page for was in old]
    for place, one in enumerate(new):
        first, last = bisect_left(old_pages, one.page - reach), bisect_right(old_pages, one.page + reach)
        # The one at the same place among those of its page is the likeliest.
        middle = bisect_left(old_pages, one.page) + place - bisect_left(new_pages, one.page)
        for other in range(max(first, middle - _LOOKED_AT), min(last, middle + _LOOKED_AT + 1)):
            yield one, old[other], abs(other - middle)


_Grams = tuple[frozenset[str], frozenset[str]]


def _likeness(one: _Grams, other: _Grams) -> float:
    """From 0 to 1: three parts quote and one part title.

    With the same title half of the quote may differ; with another title it is nearly the same quote.
    """
    return (3 * _shared(one[0], other[0]) + _shared(one[1], other[1])) / 4


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    """The Dice coefficient: 1 for the same, 0 for nothing in common."""
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


def _grams(words: str) -> frozenset[str]:
    """Each three characters in a row: alike in every script, also in those without blanks between words."""
    return frozenset(words[place : place + 3] for place in range(max(len(words) - 2, 1)))
