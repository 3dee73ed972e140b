"""The text of a page with its normal form, and where a passage of it may begin and end. Pure.

A passage is whole when it begins and ends with whole words and amounts, and no negation stands right beside it:
"5 million" is not 5, "10 000" is not 10, "shall not" is not "shall".
"""

from __future__ import annotations

import re
import unicodedata
from array import array

from pipeline.normal_form import MONEY, belongs_to_number, is_money, normal_form, origins

Span = tuple[int, int]
"""From and up to which character of a page's text."""

# Scripts without spaces between words: Thai to Lao, Burmese, Khmer, and what stands from the CJK radicals to Yi.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff]")
"""A letter of a script that puts no spaces between words."""

_SENTENCE_END = re.compile(r"[.;!?。；！？](?!\w)|\n\s*\n")
_BROKEN_WORD = re.compile("[^\\W_][-\u2010\u2011\u00ad\x02\ufffe](?:[ \t]{0,4}[\r\n]\\s{0,8})?\\Z")
_WORD_GOES_ON = re.compile("[-\u2010\u2011\u00ad\x02\ufffe](?:[ \t]{0,4}[\r\n]\\s{0,8})?[^\\W\\d_]")
_MARKS = r"[\"'“”‘’„«»*(\[)\]]{0,3}"  # around a word that is made to stand out
_WORD_BEFORE = re.compile(rf"([^\W_][\w'’]*){_MARKS}\s{{1,8}}{_MARKS}\Z")
_WORD_AFTER = re.compile(rf"{_MARKS}\s{{1,8}}{_MARKS}([^\W_][\w'’]*)")
_WORDS = re.compile(r"[^\W_][\w'’]*")
_LONGEST_WORD = 60

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
_CONTRACTED = re.compile(r"['’]t\b")  # behind "can"
_NON_BEFORE = re.compile(r"\bnon ?[-–—‐‑−] ?\Z", re.IGNORECASE)

_RANGE = re.compile(r"\d-")
_AMOUNT_BEFORE = re.compile(rf"[0-9{MONEY}][0-9.,/:'’]{{0,12}}[ ]?[-–—−][ ]?\Z|[-–—−.,/:'’(0-9{MONEY}]{{1,12}}[ ]?\Z")
_AMOUNT_AFTER = re.compile(rf"[ ]?[%‰‱){MONEY}]|[ ]?[-–—−][ ]?[0-9][0-9.,]*|[.,/:'’^][0-9][0-9.,]*")
# What goes on behind a blank: groups of three digits, fractions, "million".
_BLANK = "[ \u00a0\u2009\u202f]"
_THREE_DIGITS = re.compile(_GROUP := r"[0-9]{3}(?![0-9]|,[0-9]{3}|\.[0-9])")  # not the next column's 298,000
_GROUP_BEFORE = re.compile(rf"(?<![0-9.,])[0-9]{{1,3}}(?:{_BLANK}[0-9]{{3}}){{0,5}}{_BLANK}\Z")
_GROUP_AFTER = re.compile(rf"(?:{_BLANK}{_GROUP}){{1,5}}")
_FIRST_GROUP = re.compile(r"(?<![0-9.,])[0-9]{1,3}\Z")
_FRACTION = re.compile(r"[ ]?(?:[¼-¾⅐-⅞]|[0-9]{1,2}[/⁄][0-9]{1,2})")
_SCALE = (
    r"(?:hundred|thousand|[mb]illions?|trillions?|per\s?cent|mio|mrd|tausend|millionen|milliarden?|prozent|mill?e"
    r"|milliards?|mil(?:lón|lones|ioni|ione|iardi|iardo|hão|hões)|bilh(?:ão|ões)|miljoen|miljard|procent)\b"
)
_SCALE_HERE = re.compile(_SCALE, re.IGNORECASE)
_SCALE_AFTER = re.compile(rf"\s{{1,8}}{_SCALE}", re.IGNORECASE)
_SCALED_BEFORE = re.compile(r"[0-9][0-9.,]{0,12}\s{1,8}\Z")
_MINUS_BEFORE = re.compile(r"\bminus\s{1,8}\Z", re.IGNORECASE)


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


def is_whole(text: Text, start: int, end: int) -> bool:
    """Whether what stands there in the normal form begins and ends as it does in the text: see above."""
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
    if (first.isdigit() and is_money(before)) or (is_money(first) and raw[begin - 1 : begin].isalpha()):  # A$5
        return True
    if _number_before(raw, begin) or _number_after(raw, begin, stop):
        return True
    if last.isdigit() and after and (is_money(after) or after in "%‰‱"):
        return True
    if (first.isdigit() and _RANGE.match(normal[max(0, start - 2) : start])) or (
        last.isdigit() and _RANGE.match(normal[end : end + 2][::-1])
    ):
        return True
    return (last.isdigit() or is_money(last)) and belongs_to_number(after) and not raw[stop : stop + 1].isspace()


def _number_before(raw: str, begin: int) -> re.Match[str] | None:
    """The beginning of the number that goes on at ``begin``, behind a blank or a "minus"."""
    least = max(0, begin - 24)
    if _SCALE_HERE.match(raw, begin):
        return _SCALED_BEFORE.search(raw, least, begin)
    if _THREE_DIGITS.match(raw, begin) and (group := _GROUP_BEFORE.search(raw, least, begin)):
        return group
    return _MINUS_BEFORE.search(raw, least, begin) if raw[begin].isdigit() or is_money(raw[begin]) else None


def _number_after(raw: str, begin: int, stop: int) -> re.Match[str] | None:
    """How the number goes on that ends before ``stop``, as does the passage from ``begin`` on."""
    if not raw[stop - 1].isdigit():
        return None
    if _FIRST_GROUP.search(raw, max(begin, stop - 4), stop) and (group := _GROUP_AFTER.match(raw, stop)):
        return group
    return _FRACTION.match(raw, stop) or _SCALE_AFTER.match(raw, stop)


def _spaced(character: str) -> bool:
    """Whether it is a letter or digit of a script that writes spaces between words."""
    return character.isalnum() and not UNSPACED.match(character)


def _negated_before(raw: str, begin: int) -> bool:
    word = _WORD_BEFORE.search(raw, max(0, begin - 40), begin)
    if raw[begin].isdigit():  # No 5 is a number
        return False
    if _NON_BEFORE.search(raw, max(0, begin - 8), begin):
        return True
    return (word is not None and _negates(word[1])) or raw[max(0, begin - 1) : begin] in _NEGATING


def _negated_after(raw: str, stop: int) -> bool:
    word = _WORD_AFTER.match(raw, stop)
    if _CONTRACTED.match(raw, stop):
        return True
    return (word is not None and _negates(word[1])) or raw[stop : stop + 1] in _NEGATING


def _negates(word: str) -> bool:
    """Whether it turns a sentence into its opposite: "not", "isn't"."""
    folded = word.casefold().replace("’", "'")
    return folded.strip("'") in _NEGATIONS or folded.endswith("n't")


def is_negation_left_out(between: str) -> bool:
    """Whether what was left out between two parts of a quote turns their sentence into its opposite."""
    if _SENTENCE_END.search(between):
        return False  # whole sentences were left out
    return any(map(_negates, _WORDS.findall(between))) or not _NEGATING.isdisjoint(between)


def whole_words(raw: str, start: int, end: int) -> Span:
    """The same from the beginning of a word or amount to the end of one, and with a negation beside it."""
    start, end = _word_start(raw, start), _word_end(raw, end)
    if cut := _number_after(raw, start, end):
        end = cut.end()
    if cut := _number_before(raw, start):
        start = cut.start()
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
