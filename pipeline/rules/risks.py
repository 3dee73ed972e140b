"""Which clauses stand on a page: the table of ``clauses`` held against its sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.clauses import CLAUSES, Clause, Wording
from pipeline.domain import Severity
from pipeline.rules.sentences import Sentence, cut

_QUOTE_CHARACTERS = 400

Groups = tuple[tuple[str, ...], ...]
_CompiledWording = tuple[Clause, Groups, re.Pattern[str]]


def risks_on(page: int, page_words: str, on_page: Sequence[Sentence]) -> Iterator[dict[str, Any]]:
    """One risk for each sentence and category; the same words twice on a page count once.

    ``page_words`` are the ``words`` of the whole page. Headings are no risks: the clause below is.
    """
    likely = [wording for wording in _WORDINGS if first_word(page_words, wording[1])]
    seen: set[tuple[str, str]] = set()
    for sentence in on_page if likely else ():
        for clause, quote in _clauses_in(sentence, likely) if not sentence.is_heading else ():
            if (clause.category, quote) not in seen:
                seen.add((clause.category, quote))
                yield _risk(clause, page, quote)


def unread_pages(pages: Sequence[str], page_characters: int) -> Iterator[dict[str, Any]]:
    """What the rules cannot read is itself a risk: one for all images, one for all endless pages."""
    images = [number for number, page in enumerate(pages, 1) if not page.strip()]
    endless = [number for number, page in enumerate(pages, 1) if len(page) > page_characters]
    if images:
        yield _unread("The page is an image that the built-in rules cannot read", "Without a text layer", images)
    if endless:
        yield _unread("The page holds more text than the built-in rules read", "Read only at their beginning", endless)


def compiled(groups: Sequence[str]) -> Groups:
    """The groups of a ``Wording`` as what to look for in the ``words`` of a sentence."""
    return tuple(tuple(map(_needle, group.split("|"))) for group in groups)


def first_word(words: str, groups: Groups) -> str | None:
    """The first word of the last group that stands in ``words``; None if any group has none there."""
    found = None
    for group in groups:
        found = next((needle for needle in group if needle in words), None)
        if found is None:
            return None
    return found


def _needle(word: str) -> str:
    if word[0] == "=":
        return f" {word[1:]} "
    return word[1:] if word[0] == "*" else word if word[0] >= "\u2e80" else f" {word}"


def _compiled_wording(clause: Clause, wording: Wording) -> _CompiledWording:
    return clause, compiled(wording.groups), re.compile(wording.unless)


_WORDINGS = tuple(_compiled_wording(clause, wording) for clause in CLAUSES for wording in clause.wordings)


def _clauses_in(sentence: Sentence, likely: Sequence[_CompiledWording]) -> Iterator[tuple[Clause, str]]:
    """Of each category the first clause that stands in the sentence, with its quote."""
    categories: set[str] = set()
    for clause, groups, unless in likely:
        if clause.category not in categories:
            word = first_word(sentence.words, groups)
            if word is not None and not unless.search(sentence.words):
                categories.add(clause.category)
                yield clause, _quote(sentence.text, word)


def _risk(clause: Clause, page: int, quote: str) -> dict[str, Any]:
    return {
        "title": clause.title,
        "category": clause.category,
        "severity": clause.severity.value,
        "page": page,
        "quote": quote,
        "explanation": clause.explanation,
        "recommendation": clause.recommendation,
    }


def _quote(text: str, word: str) -> str:
    """The sentence; of a long one the words around ``word``."""
    if len(text) > _QUOTE_CHARACTERS:
        at = text.lower().find(word.split()[0])
        if at > _QUOTE_CHARACTERS * 3 // 4:
            text = text[text.rfind(" ", 0, at - _QUOTE_CHARACTERS // 2) + 1 :]
    return cut(text, _QUOTE_CHARACTERS)


def _unread(title: str, what: str, numbers: Sequence[int]) -> dict[str, Any]:
    pages = ("page " if len(numbers) == 1 else "pages ") + ", ".join(_ranges(numbers))
    explanation = f"{what}, counted within the part that was read: {pages}."
    recommendation = "Read these pages yourself, or let a model read them."
    return _risk(Clause("unreadable", Severity.MEDIUM, title, explanation, recommendation, ()), numbers[0], "")


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    """1, 2, 3, 7 as "1-3", "7"."""
    first = last = numbers[0]
    for number in [*numbers[1:], 0]:
        if number != last + 1:
            yield str(first) if first == last else f"{first}-{last}"
            first = number
        last = number
