"""The form in which a quote and a page are compared. Pure.

It forgives what extraction and copying change: white space, hyphenation, ligatures, quotation marks, dashes, case,
punctuation between words. It keeps what meaning hangs on: letters with their accents, digits, currencies, percent
and mathematical signs, check boxes, and every sign that belongs to a number: 1.5 is not 15, -5 is not 5, 5 10 is not
510, 10² is not 102, (500) is not 500.
"""

from __future__ import annotations

import re
import unicodedata
from array import array

_BRACKET = "\x01"  # of a number in brackets, as books write a loss; no other character folds to it
_MINUS_MINUS = "\u2212"  # nothing else is: a minus by itself folds to a hyphen
_ALIKE = {
    **dict.fromkeys("\x02\u00ad\u2212\ufffe", "-"),  # pdfium's marks of a hyphen at a line's end among them
    **dict.fromkeys("'’‘ʼ′＇", "'"),
    **dict.fromkeys("()（）", "("),  # either way: right-to-left text mirrors them
    **dict.fromkeys("/⁄∕", "/"),
    **dict.fromkeys("·٫", "."),
    "٬": ",", "∶": ":", "٪": "%", "—": "-",
    **dict.fromkeys("|~¬™®©℠∙⋅∗∘_", " "),
}  # fmt: skip
_KEPT = frozenset("%‰‱☐☑☒✓✔✗✘")
_IN_NUMBERS = frozenset(".,:/-'(^")
# Accents that stand before their letter, as TeX writes them, are moved behind it; until then they are private.
_SPACING_ACCENTS = dict(zip("¨´¯¸ˆˇ˘˙˚˛˜˝", "\u0308\u0301\u0304\u0327\u0302\u030c\u0306\u0307\u030a\u0328\u0303\u030b", strict=True))  # fmt: skip # noqa: E501
_PRIVATE = 0xE000
_OPTIONAL_MARKS = re.compile("[\u0591-\u05c7\u064b-\u065f\u0670\u0640]")  # vowels of Hebrew and Arabic; the tatweel

MONEY = "$¢£¤¥₠-⃀"
"""Signs of currencies, to stand in a class of a regular expression."""
_NUMBER_IN_BRACKETS = re.compile(rf"\(( ?-? ?[{MONEY}]? ?[0-9][0-9., ]{{0,20}}[%{MONEY}]? ?)\(")
_ACCENT_FIRST = re.compile("([\ue300-\ue36f])(.?)", re.DOTALL)
_BETWEEN = re.compile(r"[ .,:/'(^-]+")


class _Folds(dict[int, str]):
    """What each character becomes by itself; made as characters are met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _folded(chr(code))
        return folded


def _folded(character: str) -> str:
    """Letters and digits, decomposed and in lower case; signs; a space for all that only separates."""
    if character in _ALIKE:
        return _ALIKE[character]
    if character in _SPACING_ACCENTS:
        return chr(_PRIVATE + ord(_SPACING_ACCENTS[character]))
    category = unicodedata.category(character)
    if category == "Sm":  # before it is decomposed: "not equal" would lose its stroke
        return " " if "\u2190" <= character <= "\u21ff" else unicodedata.normalize("NFKC", character)
    if category in ("Cf", "Mn") and (category == "Cf" or _OPTIONAL_MARKS.match(character)):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    pieces = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    plain = "".join(_plain(piece) for piece in pieces)
    if category == "No":  # a number by itself, not digits of the one beside it
        is_raised = "<super>" in unicodedata.decomposition(character)
        return f"^{plain}" if is_raised else f" {plain} "
    return plain


def _plain(piece: str) -> str:
    """What is kept of a decomposed character."""
    if piece in _ALIKE:
        return _ALIKE[piece]
    category = unicodedata.category(piece)
    if category == "Pd":
        return "-"
    if _OPTIONAL_MARKS.match(piece):
        return ""
    kept = category[0] in "LNM" or category in ("Sc", "Sm") or piece in _KEPT or piece in _IN_NUMBERS
    return piece if kept else " "


_FOLDS = _Folds()


def normal_form(raw: str) -> str:
    """``raw`` as it is compared. Linear in its length, some 2 ms for a page of 6,000 characters."""
    folded = _numbers_and_accents(raw.translate(_FOLDS))
    return _BETWEEN.sub(_sign, folded)


def origins(raw: str) -> array[int]:
    """For each character of the normal form, the index in ``raw`` of that which it comes from."""
    pieces = [_FOLDS[ord(character)] for character in raw]
    sources = array("I")
    for index, piece in enumerate(pieces):
        sources.extend([index] * len(piece))
    folded, kept, done = _numbers_and_accents("".join(pieces)), array("I"), 0
    for run in _BETWEEN.finditer(folded):
        kept.extend(sources[done : run.start()])
        sign = _sign(run)
        if sign:
            kept.append(sources[run.start() + max(run[0].rfind(sign), 0)])
        done = run.end()
    kept.extend(sources[done:])
    return kept


def _numbers_and_accents(folded: str) -> str:
    """The same, as long as before, with numbers in brackets marked, and accents behind their letters."""
    folded = _NUMBER_IN_BRACKETS.sub(lambda match: _BRACKET + match[1] + _BRACKET, folded)
    return _ACCENT_FIRST.sub(_accent_behind, folded)


def _accent_behind(match: re.Match[str]) -> str:
    accent, letter = chr(ord(match[1]) - _PRIVATE), match[2]
    base = "i" if letter == "ı" else letter
    # An acute before an s is an apostrophe typed wrongly, a ring before a c a degree.
    belongs = letter != "s" and len(unicodedata.normalize("NFC", base + accent)) == 1
    return base + accent if letter and belongs else " " + letter


def _sign(run: re.Match[str]) -> str:
    """What is kept of a run of separators: one sign where it belongs to a number, else nothing."""
    text, signs = run[0], run[0].replace(" ", "")
    before, after = run.string[run.start() - 1 : run.start()], run.string[run.end() : run.end() + 1]
    if after.isdigit() and before.isdigit():
        return _between_digits(text, signs)
    if signs.endswith("-") and (after.isdigit() or is_money(after)):
        return _MINUS_MINUS if text.endswith("--") else "-"
    if after.isdigit() and text[-1] in ".," and (len(text) > 1 or not before or is_money(before)):
        return text[-1]  # .5 without its zero
    return ""


def _between_digits(text: str, signs: str) -> str:
    if "^" in signs:
        return "^"
    if signs[-1:] == "-":
        return _MINUS_MINUS if text.endswith("--") else "-"
    if len(signs) == 1 and (signs in ":/" or signs == text) and signs != "(":
        return signs
    return " "


def is_money(character: str) -> bool:
    """Whether it is the sign of a currency."""
    return bool(character) and unicodedata.category(character) == "Sc"


def belongs_to_number(character: str) -> bool:
    """Whether a character of the normal form beside a digit is part of the same number or amount."""
    return bool(character) and (
        character.isdigit() or character in ".,:/-\u2212'^%‰‱" or character == _BRACKET or is_money(character)
    )
