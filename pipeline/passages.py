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
_SHOWS_NOTHING = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
_UNSEEN = re.compile(f"[{_SHOWS_NOTHING}]")
_BETWEEN = re.compile(rf"[\s{_SHOWS_NOTHING}\"'“”‘’„«»*_()\[\]]")  # blanks, and marks that make a word stand out
_GAP_CHARS = 200
_WORD = re.compile(rf"[^\W_](?:[\w'’{_SHOWS_NOTHING}]*[^\W_])?")
_LAST_WORD = re.compile(rf"{_WORD.pattern}\Z")
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
_SCALE = re.compile(
    r"(?:hundred|thousand|[mb]illions?|trillions?|per\s?cent|mio|mrd|tausend|millionen|milliarden?|prozent|mill?e"
    r"|milliards?|mil(?:lón|lones|ioni|ione|iardi|iardo|hão|hões)|bilh(?:ão|ões)|miljoen|miljard|procent)\b",
    re.IGNORECASE,
)
_SCALED_BEFORE = re.compile(r"[0-9][0-9.,]{0,12}\Z")
_MINUS_BEFORE = re.compile(r"\bminus\Z", re.IGNORECASE)


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
    after = normal[end : end + 1]
    if start and text.origins[start - 1] == begin:
        return False
    if after and (text.origins[end] == stop - 1 or unicodedata.combining(after)):
        return False
    if _cuts_number(raw, normal, start, end, begin, stop):
        return False
    return not cuts_words(raw, begin, stop)


def cuts_words(raw: str, begin: int, stop: int) -> bool:
    """Whether a passage of a text cuts a word at its edges, or leaves a negation out beside it."""
    edge, rim = _gap_before(raw, begin, _UNSEEN), _gap_after(raw, stop, _UNSEEN)
    if _spaced(raw[begin]) and (_spaced(raw[edge - 1 : edge]) or _BROKEN_WORD.search(raw, max(0, begin - 16), begin)):
        return True
    if _spaced(raw[stop - 1]) and (_spaced(raw[rim : rim + 1]) or _WORD_GOES_ON.match(raw, stop)):
        return True
    return _negation_before(raw, begin) is not None or _negation_after(raw, stop) is not None


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
    least, end = max(0, begin - 24), _gap_before(raw, begin)
    if _SCALE.match(raw, begin):
        return _SCALED_BEFORE.search(raw, max(0, end - 14), end)
    if _THREE_DIGITS.match(raw, begin) and (group := _GROUP_BEFORE.search(raw, least, begin)):
        return group
    return _MINUS_BEFORE.search(raw, max(0, end - 6), end) if raw[begin].isdigit() or is_money(raw[begin]) else None


def _number_after(raw: str, begin: int, stop: int) -> re.Match[str] | None:
    """How the number goes on that ends before ``stop``, as does the passage from ``begin`` on."""
    if not raw[stop - 1].isdigit():
        return None
    if _FIRST_GROUP.search(raw, max(begin, stop - 4), stop) and (group := _GROUP_AFTER.match(raw, stop)):
        return group
    return _FRACTION.match(raw, stop) or _SCALE.match(raw, _gap_after(raw, stop))


def _spaced(character: str) -> bool:
    """Whether it is a letter or digit of a script that writes spaces between words."""
    return character.isalnum() and not UNSPACED.match(character)


def _negation_before(raw: str, begin: int) -> int | None:
    """Where the negation begins that stands right before a passage, if one does."""
    if raw[begin].isdigit():  # No 5 is a number
        return None
    if non := _NON_BEFORE.search(raw, max(0, begin - 8), begin):
        return non.start()
    end = _gap_before(raw, begin)
    if (word := _LAST_WORD.search(raw, max(0, end - 40), end)) and _negates(word[0]):
        return word.start()
    return begin - 1 if begin and raw[begin - 1] in _NEGATING else None


def _negation_after(raw: str, stop: int) -> int | None:
    """Where the negation ends that stands right behind a passage, if one does."""
    if contracted := _CONTRACTED.match(raw, stop):
        return contracted.end()
    if (word := _WORD.match(raw, _gap_after(raw, stop))) and _negates(word[0]):
        return word.end()
    return stop + 1 if raw[stop : stop + 1] in _NEGATING else None


def _gap_before(raw: str, begin: int, of: re.Pattern[str] = _BETWEEN) -> int:
    """Where the characters ``of`` a kind begin that stand right before ``begin``."""
    least = max(0, begin - _GAP_CHARS)
    while begin > least and of.match(raw, begin - 1):
        begin -= 1
    return begin


def _gap_after(raw: str, stop: int, of: re.Pattern[str] = _BETWEEN) -> int:
    """Where the characters ``of`` a kind end that stand right behind ``stop``."""
    most = min(len(raw), stop + _GAP_CHARS)
    while stop < most and of.match(raw, stop):
        stop += 1
    return stop


def _negates(word: str) -> bool:
    """Whether it turns a sentence into its opposite: "not", "isn't"."""
    folded = _UNSEEN.sub("", word).casefold().replace("’", "'")
    return folded in _NEGATIONS or folded.endswith("n't")


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
    before, after = _negation_before(raw, start), _negation_after(raw, end)
    return start if before is None else before, end if after is None else after


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
