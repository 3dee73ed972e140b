"""The dates of a contract, as written, and what each of them means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.rules.sentences import MONTH_NAME, Sentence, without_number

_MEANING_CHARACTERS = 80
_BEFORE_CHARACTERS = 120
_AFTER_CHARACTERS = 25

_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20|21)\d\d"
DATE = re.compile(
    rf"\b(?:{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b"
    rf"|{_DAY}(?:st|nd|rd|th)?\.? (?:day of )?{MONTH_NAME},? {_YEAR}\b"
    rf"|{MONTH_NAME} {_DAY}(?:st|nd|rd|th)?,? {_YEAR}\b"
    rf"|{_DAY}\.{_MONTH}\.{_YEAR}\b"
    rf"|{_MONTH}/{_DAY}/{_YEAR}\b|{_DAY}/{_MONTH}/{_YEAR}\b)"
    rf"|(?<!\d){_YEAR} ?年 ?{_MONTH} ?月 ?{_DAY} ?日",
    re.IGNORECASE,
)
"""A date with its year, in the ways that English, German and Chinese papers have it."""

# What stands before a date, the nearest word first; of two that end at the same place the upper one.
_BEFORE: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (meaning, re.compile(words, re.IGNORECASE))
    for meaning, words in (
        (
            "end of fixed prices",
            r"\b(?:prices?|fees|charges|rates|rent|preise?)\b[^.;]{0,40}\b(?:until|till|bis)\b.{0,9}$",
        ),
        (
            "price review",
            r"\b(?:prices?|fees?|charges|rates?|rent|preise?)\b[^.;]{0,60}\b(?:review|adjust|increas|angepasst)[^.;]{0,30}$",
        ),
        (
            "signature",
            r"(?:\b(?:made|signed|executed|dated|entered into)\b[^.;]{0,12}|\bdate\s?:.{0,30}|日期\s?[：:]\s?)$",
        ),
        ("signature", r"^[A-ZÄÖÜ][\w .-]{1,40}, (?:den|am)? ?$"),
        ("signature", r"\b(?:unterzeichnet|geschlossen)\b.{0,9}$|签订于\s?$|签署于\s?$"),
        ("notice deadline", r"\b(?:notice|notif|kündig)\w*|通知"),
        ("renewal", r"\b(?:renew|verlänger)\w*|续展|续期"),
        (
            "expiry",
            (
                r"\b(?:expir\w*|terminat\w*|ends?|ending|until|through|endet|läuft [^.;]{0,20}bis)\b"
                r"|\b(?:befristet bis|bis zum)\b|(?:届满|终止|截止)[^，。]{0,10}$|至\s?$"
            ),
        ),
        ("payment due", r"\b(?:pay\w*|due|invoiced?|instal\w*|fällig|zahlbar|zahl(?:en|ung))\b|付款|支付"),
        ("delivery", r"\b(?:deliver|liefer)\w*|交付|交货"),
        (
            "effective date",
            (
                r"\b(?:effective\b|effect\b|commenc\w*|begin\w*|start\w*|in kraft\b|ab dem\b|beginn\w*|from(?: the)? $)"
                r"|生效[^，。]{0,6}$|(?:期限为|自|从)\s?$"
            ),
        ),
    )
)
_AFTER: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("payment due", re.compile(r"^.{0,12}\b(?:fällig|zahlbar|due|payable)\b", re.IGNORECASE)),
    (
        "effective date",
        re.compile(r"^ (?:in kraft|\((?:the )?[“\"](?:effective|commencement))|^\s?[起生]", re.IGNORECASE),
    ),
    ("expiry", re.compile(r"^ (?:endet|aus\b)|^\s?[止终届]", re.IGNORECASE)),
    ("signature", re.compile(r"^ (?:between|zwischen|geschlossen|unterzeichnet)\b|^\s?[^，。]{0,4}(?:签订|签署)")),
)
# Another paper, named by its date.
_OF_A_PAPER = re.compile(
    r"\b(offer|proposal|quotation|tender|letter of intent|letter|invoice|purchase order|schedule|report|record|plan|"
    r"protocol|minutes|angebot|schreiben|protokoll)\b(?:[^.;]{0,60}\bsigned\b[^.;]{0,25}| of| dated| vom) (?:the )?$",
    re.IGNORECASE,
)
_TIME = re.compile(r"[ T]\d{1,2}:\d\d")  # of a message or a printout
# When somebody looked something up says nothing of a contract.
_NONSENSE = re.compile(
    r"\b(?:accessed|retrieved|visited|downloaded|abgerufen|received by|printed|version)\b[^.;]{0,30}$", re.IGNORECASE
)


def key_dates(by_page: Sequence[Sequence[Sentence]]) -> list[dict[str, Any]]:
    """The dates of a document, each with each of its meanings once, on the first page that has it."""
    pages: dict[tuple[str, str], int] = {}
    for number, on_page in enumerate(by_page, 1):
        for sentence in on_page:
            for found in _dates_in(sentence):
                pages.setdefault(found, number)
    return [{"date": date, "meaning": meaning, "page": number} for (date, meaning), number in pages.items()]


def _dates_in(sentence: Sentence) -> Iterator[tuple[str, str]]:
    text, begin = sentence.text, 0
    dates = list(DATE.finditer(text))
    for date, following in zip(dates, [*dates[1:], None], strict=False):
        before = text[max(begin, date.start() - _BEFORE_CHARACTERS) : date.start()]
        end = following.start() if following else len(text)
        begin = date.end()
        after = text[begin : min(end, begin + _AFTER_CHARACTERS)]
        if not _NONSENSE.search(before) and not _TIME.match(after):
            meaning = _meaning(before, after)
            if meaning or sentence.is_whole:
                yield date[0], meaning or _words_around(without_number(sentence.text), date[0])


def _meaning(before: str, after: str) -> str:
    """What the words around a date say of it; "" when they say nothing."""
    if paper := _OF_A_PAPER.search(before):
        return f"date of the {paper[1].lower()}"
    nearest, place = "", 0
    for meaning, words in _BEFORE:
        end = max((match.end() for match in words.finditer(before)), default=0)
        if end > place:
            nearest, place = meaning, end
    return nearest or next((meaning for meaning, words in _AFTER if words.search(after)), "")


def _words_around(text: str, date: str) -> str:
    """The sentence; of a long one the words up to the date, as many whole ones as fit."""
    if len(text) <= _MEANING_CHARACTERS:
        return text
    text = text[: text.find(date) + len(date)]
    if len(text) <= _MEANING_CHARACTERS:
        return text
    tail = text[2 - _MEANING_CHARACTERS :]
    return "… " + tail[tail.find(" ", 0, -len(date)) + 1 :]
