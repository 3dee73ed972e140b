"""Words in a document that speak to the program which reads it. Pure; knows no PDF.

A contract is full of duties, and its words are those of an attack: "shall ignore previous instructions". What tells
them apart is who is spoken to. A contract says what a party shall do; an attack commands its reader, or names it. So
a phrase counts where it is a command, not where somebody shall or may, and commands about things of daily life
("respond only in writing") are not in the table.

Phrases are looked for in a text without its spaces, marks, accents and look-alikes, so nothing is hidden by them.
Texts are hostile: each expression begins with fixed letters and has no repetition without an end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from pipeline.instruction_phrases import PHRASES, Phrase

_MOST_FOUND = 50
_MOST_TRIED = 20_000
_MOST_KNOWN = 50_000  # characters; there are a million
_BEFORE = 160  # characters of a sentence that are looked at before a phrase, and after it

# Letters of other scripts that look like Latin ones (Unicode Technical Standard 39 has the long list).
_LOOK_ALIKE = str.maketrans(
    "абвгдеёзікмнорстухцѕіјԁԛԝһӏ" + "αβεικνορτυχϲϳ" + "ɑɡıɩʟᴀᴄᴇᴏᴠᴡ",
    "a6brдeeзikmhopctyxцsijdqwhl" + "abeiknoptuxcj" + "agiilaceovw",
)
_END = "."  # of a sentence


class _Folding(dict[int, str]):
    """What each character counts as: letters and digits in lower case, a sentence's end, or nothing."""

    def __missing__(self, code: int) -> str:
        folded = _folded(chr(code))
        if len(self) < _MOST_KNOWN:
            self[code] = folded
        return folded


def _folded(character: str) -> str:
    if character in ".!?。！？;；:：":
        return _END
    if character in "\u3164\u115f\u1160\uffa0":  # fillers: letters by name, that show nothing
        return ""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(part for part in plain if part.isalnum()).translate(_LOOK_ALIKE)


_FOLDING = _Folding()


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text: the index of its first character, and of the first one behind it."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A phrase with its letters folded as texts are."""

    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    is_command: bool
    unless_after: re.Pattern[str] | None


def _compiled(phrase: Phrase) -> _Compiled:
    after = re.compile(_folded_pattern(phrase.unless_after)) if phrase.unless_after else None
    signs = tuple(map(_folded_pattern, phrase.signs.split()))
    return _Compiled(signs, re.compile(_folded_pattern(phrase.pattern)), phrase.is_command, after)


def _folded_pattern(pattern: str) -> str:
    return "".join(c if c.isascii() else _folded(c) for c in "".join(pattern.split()))


_PHRASES = tuple(map(_compiled, PHRASES))

# What the templates of language models put around the turns of a conversation.
_MARKUP = re.compile(
    r"<\s?\|\s?(?:im_start|im_end|endoftext|system|assistant|user|begin_of_text|start_header_id|eot_id)\s?\|\s?>"
    r"|\[\s?/?INST\s?\]|<<\s?/?SYS\s?>>|<\s?/?\s?(?:system|system_prompt|system-reminder|start_of_turn)\s?>"
    r"|(?m:^[ \t]{0,4}(?:\#{1,4} ?)?(?:system|assistant) ?(?:prompt|message|override)? ?: ?"
    r"(?=you (?:are|must|will)\b|ignore|do not|from now))",
    re.IGNORECASE,
)

_WORD = re.compile(r"[^\W_]+")
_DUTY = frozenset({
    "shall", "must", "may", "will", "should", "would", "can", "could", "cannot", "might", "to", "not", "never",
    "who", "which", "that", "has", "have", "had", "is", "are", "was", "were", "muss", "soll", "darf", "kann",
    "wird", "zu", "nicht", "müssen", "sollen", "dürfen", "können", "werden", "hat", "haben",
})  # fmt: skip
_LEADS_ON = frozenset({
    "and", "then", "please", "now", "so", "also", "first", "or", "but", "simply", "just", "instead", "therefore",
    "always", "only", "und", "dann", "bitte", "jetzt", "nun", "et", "puis", "alors", "y", "ahora", "favor", "e",
    "ora", "favore", "agora", "en", "nu", "proszę", "i", "и", "теперь", "пожалуйста",
})  # fmt: skip
_BEFORE_COMMAND = frozenset(":,“”\"'«»„(（[*–—|>#/-：，、")
_CHINESE_DUTY = re.compile(r"(?:应当?|须|必须|得|可以?|会|将|能|否|以|不|被|其|方|人)\s?$")


@lru_cache(maxsize=4)  # whether a page deserves a look, and what is on it, are asked one after the other
def find(text: str) -> tuple[Span, ...]:
    """The passages that speak to a program, in order and apart; at most 50. Linear in the length of ``text``."""
    folded = text.translate(_FOLDING)
    hits = [Span(*match.span()) for match in _MARKUP.finditer(text)][:_MOST_FOUND]
    place: Callable[[int], int] | None = None
    tried = 0
    for phrase in _PHRASES:
        if not any(sign in folded for sign in phrase.signs):
            continue
        for match in phrase.pattern.finditer(folded):
            tried += 1
            if tried > _MOST_TRIED:
                break
            place = place or _places(text)
            span = Span(place(match.start()), place(match.end() - 1) + 1)
            if phrase.unless_after and phrase.unless_after.match(folded, match.end()):
                continue
            if _stands_alone(text, span) and (not phrase.is_command or _is_command(text, span.first)):
                hits.append(span)
    return tuple(_joined(sorted(hits, key=lambda span: span.first)))[:_MOST_FOUND]


def sentence(text: str, span: Span) -> Span:
    """``span`` up to the beginning and the end of its sentence, where they are near."""
    before = max(
        text.rfind(mark, max(0, span.first - _BEFORE), span.first) for mark in (". ", ".\r", ".\n", "。", "! ")
    )
    first = span.first if before < 0 else before + 1
    ends = [text.find(mark, span.end, span.end + _BEFORE) for mark in (". ", ".\r", ".\n", "。", "! ", "\r\n\r\n")]
    end = min((place + 1 for place in ends if place >= 0), default=min(len(text), span.end + _BEFORE // 2))
    while first < span.first and not text[first].isalnum():
        first += 1
    return Span(first, end)


def squashed(text: str) -> str:
    """Its letters and digits alone, look-alikes and accents undone: the same for all ways to write the same words."""
    return text.translate(_FOLDING).replace(_END, "")


def _places(text: str) -> Callable[[int], int]:
    """Where in ``text`` a character of its folded form comes from."""
    origins = [index for index, character in enumerate(text) for _ in _FOLDING[ord(character)]]
    return origins.__getitem__


def _stands_alone(text: str, span: Span) -> bool:
    """Whether it begins with a word: "signore" holds no "ignore". Letters set apart are words of one letter each."""
    before, first = text[span.first - 1 : span.first], text[span.first]
    return not (before.isalpha() and before.isascii() and first.isascii())


def _is_command(text: str, first: int) -> bool:
    """Whether the reader is told to do what is said at ``first``, and not somebody who shall or may."""
    start = max(0, first - _BEFORE)
    before = text[start:first]
    cut = max(before.rfind(mark) for mark in (". ", ".\r", ".\n", "!", "?", ";", "。", "；", "！", "\r\n\r\n", "\n\n"))
    before = before[cut + 1 :]
    if _CHINESE_DUTY.search(before):
        return bool(re.search(r"(?:你|您|AI|模型)[^，。,]{0,6}$", before))
    written = _WORD.findall(before)
    words = [word.lower() for word in written]
    if words and (words[-1] in _DUTY or any(a == "you" and b in _DUTY for a, b in pairwise(words[-4:]))):
        return _is_to_reader(words)
    if not words or (text[first].isupper() and not written[-1].isupper()):
        return True
    is_new_part = before.endswith("\n") or before.rstrip()[-1:] in _BEFORE_COMMAND or not text[first].isascii()
    if words[-1] in _LEADS_ON or is_new_part:
        return _is_to_reader(words) or not _DUTY & set(words)
    return False


def _is_to_reader(words: list[str]) -> bool:
    near = words[-8:]
    return bool({"ai", "llm", "chatgpt", "claude", "assistant", "model", "models", "ki"} & set(near)) or (
        len(words) > 1 and "you" in words[-3:]
    )


def _joined(spans: list[Span]) -> Iterator[Span]:
    current: Span | None = None
    for span in spans:
        if current and span.first <= current.end + 40:  # the same breath
            current = Span(current.first, max(current.end, span.end))
            continue
        if current:
            yield current
        current = span
    if current:
        yield current
