"""A job's own fields, as far as words beside a value tell them: "Total amount: EUR 1,440.00". Else they stay empty.

A value is looked for after its label in the same line, or in the line below a line that is nothing but the label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from pipeline.fields import FieldType, ResultField
from pipeline.rules.dates import DATE
from pipeline.rules.parties import company
from pipeline.rules.sentences import one_line, word_set

_LINES = 2_000  # of a document: more is no form
_LINE_CHARACTERS = 300
_FULL_CHARACTERS = 60  # a line of so many may go on in the next
_MOST_JOINED = 5
_LABEL_CHARACTERS = 60

_LIKE = {
    word: group[0]
    for group in (
        ("number", "no", "nr", "nummer", "id", "reference", "ref", "rechnungsnummer"),
        ("total", "gross", "sum", "gesamtbetrag", "gesamt", "brutto", "bruttobetrag", "summe", "payable"),
        ("net", "netto", "subtotal", "nettobetrag"),
        ("tax", "vat", "mwst", "ust", "umsatzsteuer"),
        ("date", "dated", "datum", "rechnungsdatum"),
        ("due", "fällig", "zahlbar"),
        ("sender", "supplier", "seller", "vendor", "issuer", "from", "lieferant"),
        ("author", "authors", "by", "prepared", "verfasser"),
        ("finding", "findings"),
        ("invoice", "rechnung", "rechnungsnummer", "rechnungsdatum"),
    )
    for word in group
}
_SAYS_NOTHING = word_set("the a an of in on at as is are was for to and or with that this it its which who whether all")
_WORD = re.compile(r"[^\W\d_]+")

# Amounts with two or no decimals, thousands set apart by a comma, a point, an apostrophe or a blank.
_AMOUNT = re.compile(
    r"(?<![\w.,/-])(?P<sign>[-−]?)(?P<whole>\d{1,3}(?:[,.'’ \u00a0\u202f]\d{3}){1,4}|\d{1,12})"
    r"(?:[.,](?P<part>\d{1,2}))?(?![\w/-]|[.,]\d)(?!\s?%)"
)
_CURRENCY = re.compile(r"\b(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|JPY|CNY|Euro)\b|[€$£¥]")
_YES = re.compile(r"(?i:(yes|ja|true)|no|nein|false)\b")
_MONTHS = (
    ("jan",), ("feb",), ("mar", "mär"), ("apr",), ("may", "mai"), ("jun",), ("jul",), ("aug",), ("sep",),
    ("oct", "okt"), ("nov",), ("dec", "dez"),
)  # fmt: skip

_EMPTY: Mapping[FieldType, Any] = {"text": "", "number": None, "date": None, "boolean": None, "list": []}


def read_fields(pages: Sequence[str], fields: Sequence[ResultField]) -> dict[str, Any]:
    """A value for each field by name, in the shape that its schema asks for; the empty one where nothing is found."""
    lines = [line for page in pages for line in _lines(page)][:_LINES]
    return {field.name: _value(lines, field) for field in fields}


def _lines(page: str) -> Iterator[str]:
    """The lines of a page; one that is full and goes on with a small letter is one with the next."""
    parts: list[str] = []
    for line in (one_line(line)[:_LINE_CHARACTERS] for line in page.splitlines() if line.strip()):
        goes_on = parts and len(parts) < _MOST_JOINED and len(parts[-1]) >= _FULL_CHARACTERS and line[:1].islower()
        if parts and not goes_on:
            yield " ".join(parts)
            parts = []
        parts.append(line)
    yield " ".join(parts)


def _value(lines: Sequence[str], field: ResultField) -> Any:
    named, described = _words(field.name.replace("_", " ")), _words(field.description)
    best, best_score = _EMPTY[field.type], (0, 0, 0)
    for label, value in _labelled(lines, field.type):
        words = _words(label)
        score = (len(words & named), len(words & described), -len(words))
        if 2 * score[0] >= len(named) and score > best_score:
            best, best_score = value, score
    if not best and field.type == "text" and "sender" in named:
        return next(filter(None, map(company, lines)), "")
    return best


def _words(text: str) -> frozenset[str]:
    """The words that tell something, those that mean the same as one."""
    found = (word.casefold() for word in _WORD.findall(text))
    return frozenset(_LIKE.get(word, word) for word in found if word not in _SAYS_NOTHING)


def _labelled(lines: Sequence[str], kind: FieldType) -> Iterator[tuple[str, Any]]:
    """Each value of a type with the words before it."""
    for number, line in enumerate(lines):
        before = lines[number - 1].rstrip(": ") if number else ""
        for label, value in _VALUES[kind](line):
            if label.strip(" :"):
                yield label[-_LABEL_CHARACTERS:], value
            elif len(before) <= _LABEL_CHARACTERS and not any(map(str.isdigit, before)):
                yield before, value


def _amounts(line: str) -> Iterator[tuple[str, float | int]]:
    dates = [match.span() for match in DATE.finditer(line)]
    for match in _AMOUNT.finditer(line):
        if any(begin <= match.start() < end for begin, end in dates):
            continue
        whole = re.sub(r"\D", "", match["whole"])
        number = float(f"{whole}.{match['part']}") if match["part"] else int(whole)
        yield _CURRENCY.sub(" ", line[: match.start()]), -number if match["sign"] else number


def _dates(line: str) -> Iterator[tuple[str, str]]:
    for match in DATE.finditer(line):
        if day := iso_date(match[0]):
            yield line[: match.start()], day


def iso_date(text: str) -> str | None:
    """A date as a document has it as ``YYYY-MM-DD``; None for one that can be read in two ways, or is none."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    month = next((at for at, names in enumerate(_MONTHS, 1) if re.search(rf"\b(?:{'|'.join(names)})", text, re.I)), 0)
    if month and len(numbers) == 2:
        day, year = numbers
    elif len(numbers) != 3:
        return None
    elif numbers[0] > 31:
        year, month, day = numbers
    elif "/" not in text or numbers[0] > 12 or numbers[0] == numbers[1]:
        day, month, year = numbers
    elif numbers[1] > 12:
        month, day, year = numbers
    else:
        return None
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def _answers(line: str) -> Iterator[tuple[str, bool]]:
    label, colon, rest = line.partition(":")
    if match := _YES.match(rest.strip() if colon else ""):
        yield label, bool(match[1])


def _texts(line: str) -> Iterator[tuple[str, str]]:
    label, colon, rest = line.partition(":")
    if colon and rest.strip() and len(label) <= _LABEL_CHARACTERS:
        yield label, rest.strip()


def _lists(line: str) -> Iterator[tuple[str, list[str]]]:
    for label, text in _texts(line):
        mark = ";" if ";" in text else ","
        yield label, [item.strip(" .") for item in text.split(mark) if item.strip(" .")]


_VALUES = {"text": _texts, "number": _amounts, "date": _dates, "boolean": _answers, "list": _lists}
