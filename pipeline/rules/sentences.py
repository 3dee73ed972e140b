"""The text of a page in sentences and headings. Knows no contract.

Page texts are hostile. So every step is linear in them: sentences have a greatest length, and no
expression is begun inside a run of its own characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_SENTENCE_CHARACTERS = 2_000  # a table without a full stop must not become one endless sentence
_HEADING_CHARACTERS = 70

# Without the ideographic space U+3000, which is white space: a run of it is then looked at once.
_CHINESE = r"[\u2e80-\u2fff\u3001-\u9fff\uf900-\ufaff\uff00-\uffef]"
_SPACE_WITHIN_CHINESE = re.compile(rf"(?<={_CHINESE})\s++(?={_CHINESE})")
_NO_WORD = re.compile(r"[\W\u200b]+")


@dataclass(frozen=True)
class Sentence:
    """One sentence, one heading or one cell of a table; ``raw`` has the line breaks of the page."""

    raw: str
    is_heading: bool

    @cached_property
    def text(self) -> str:
        """As it stands on the page, line breaks read as spaces, or as nothing between Chinese characters."""
        return one_line(self.raw)

    @cached_property
    def words(self) -> str:
        """What ``clauses.Wording`` is matched against."""
        return words(self.raw)

    @cached_property
    def is_whole(self) -> bool:
        """Whether it begins and ends on this page: a capital or a number first, a full stop last."""
        return bool(_WHOLE.search(self.text)) and not self.text[0].islower()


def one_line(text: str) -> str:
    """``text`` with white space joined, and without it between Chinese characters."""
    return _SPACE_WITHIN_CHINESE.sub("", " ".join(text.split()))


def words(text: str) -> str:
    """The words of ``text`` in lower case, a space around each; a word parted at a line end is whole again."""
    whole = re.sub(r"(?<=\w)[-\u00ad]\s*\n\s*(?=[^\W\d_])", "", text)
    return " " + _NO_WORD.sub(" ", _SPACE_WITHIN_CHINESE.sub("", whole)).strip().lower() + " "


def without_number(text: str) -> str:
    """A sentence without the number of its clause."""
    return _NUMBER.sub("", text, count=1)


def word_set(text: str) -> frozenset[str]:
    """The words of ``text``, which white space parts."""
    return frozenset(text.split())


def sentences(page: str) -> Iterator[Sentence]:
    """The sentences of a page in their order; running page numbers are left out."""
    for paragraph in _paragraphs(page):
        if _is_heading(paragraph):
            yield Sentence(paragraph.strip(), is_heading=True)
            continue
        begin = 0
        for match in _SENTENCE_END.finditer(paragraph):
            if match[0][0] != "." or not _is_abbreviation(paragraph, begin, match.start(), match.end()):
                yield from _pieces(paragraph[begin : match.end()])
                begin = match.end()
        yield from _pieces(paragraph[begin:])


def printed_number(page: str) -> int | None:
    """The number that the page bears in a line such as "Page 3 of 9", if it is among the first ten or the last."""
    lines = page.splitlines()
    for line in [*lines[:10], *lines[-1:]]:
        if match := _PAGE_NUMBER.fullmatch(line):
            return int(next(group for group in match.groups() if group))
    return None


def is_page_number(line: str) -> bool:
    """Whether the line holds nothing but "Page 3 of 9", "Seite 3" or "第 3 页 共 9 页"."""
    return bool(_PAGE_NUMBER.fullmatch(line))


def cut(text: str, limit: int) -> str:
    """``text``, or as many of its first words as fit."""
    if len(text) <= limit:
        return text
    space = text.rfind(" ", 0, limit + 1)
    return text[: space if space > 0 else limit]


# Possessive, and never begun inside a run of its own characters: linear on any text.
_SENTENCE_END = re.compile(r"""(?<![.!?])[.!?]++["'”’»“)\]]*+(?=\s|$)|[。！？；]++""")
_WHOLE = re.compile(r"""[.!?。！？；]["'”’»“)\]]{0,3}$""")
_ABBREVIATIONS = word_set(
    "nr art abs ziff no nos inc ltd corp co llc bros st dr mr mrs ms prof ca bzw ggf evtl usw vgl inkl zzgl gem lit "
    "sec cl para approx cf vs fig vol ref tel str bd hr fr jan feb aug sept oct nov dec mio mrd max min"
)
_DOTTED = re.compile(r"\w(?:\.\w){0,4}")  # initials; z.B, e.g, U.S
_OPENERS = word_set("the this these in if each either neither all any it der die das dieser diese jede es bei")
_MONTHS = word_set(
    "january february march april may june july august september october november december "
    "januar jänner februar märz mai juni juli oktober dezember"
)
MONTH_NAME = rf"(?:{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b"
_ORDINAL_PREPOSITIONS = word_set("am im vom zum zur der des dem den bis ab seit")
_REFERENCES = word_set(
    "section sections clause article annex schedule appendix service ziffer anlage "
    "§ §§ nr. no. art. abs. and or und oder of in to the gemäß"
)

_PAGE_NUMBER = re.compile(
    r"\s{0,9}(?:(?:page|seite)\s{1,3}(\d{1,5})(?:\s{0,3}(?:of|von|/)\s{0,3}\d{1,5})?"
    r"|第\s{0,3}(\d{1,5})\s{0,3}页(?:\s{0,3}[，,/]?\s{0,3}共\s{0,3}\d{1,5}\s{0,3}页)?)\s{0,9}",
    re.IGNORECASE,
)
_PART = (
    r"(?:(?i:article|section|clause|annex|schedule|service|appendix|exhibit|chapter|part|"
    r"artikel|ziffer|anlage|anhang|abschnitt)\s(?:\d{1,3}|[IVX]{1,5}|[A-Z])\b[.:)]?)"
)
# The numbering or bullet that begins a paragraph, and a capital after it.
_PARAGRAPH_START = re.compile(
    rf"\s{{0,40}}(?:§{{1,2}}\s?\d{{1,4}}|\d{{1,3}}(?:\.\d{{1,3}}){{1,4}}[.)]?\s|\d{{1,3}}[.)]\s|\(?[a-z]{{1,4}}[.)]\s|"
    rf"{_PART}\s|[•●▪■–—-]\s)\s{{0,9}}(?=[^\Wa-zäöü_]|[\"“„(])"
    r"|\s{0,40}第[一二三四五六七八九十百0-9]{1,4}[条章]"
)
# What stands in a block of names and signatures, one to a line.
_LABEL = re.compile(
    r"\s{0,40}(?:(?:(?:place and )?date|name|title|position|signature|signed by|in the presence of|"
    r"(?:ort, )?datum|name|unterschrift)\s?:|"
    r"(?:合同编号|授权代表|法定代表人|日期|签订日期|签字|[甲乙丙丁买卖供需]方)(?:[（(][^）)\n]{0,20}[）)])?\s?[：:])",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"^(?:§{1,2}\s?\d{1,4}\s|\(?[a-zA-Z0-9]{1,3}[.)]\s|\d{1,3}(?:\.\d{1,3}){1,4}[.)]?\s"
    r"|第[一二三四五六七八九十百0-9]{1,4}[条章]\s?)\s?"
)
_DAY_AND_MONTH = re.compile(rf"\s{{0,40}}\d{{1,2}}\. ?{MONTH_NAME}", re.IGNORECASE)
_HEADING_NUMBER = re.compile(
    rf"(?:§{{1,2}}\s?\d{{1,4}}|\d{{1,3}}\.|\d{{1,3}}(?:\.\d{{1,3}}){{1,3}}|{_PART})[ \t]{{1,9}}"
    r"|第[一二三四五六七八九十百0-9]{1,4}[条章]\s{0,9}"
)
# Of which a numbered line is a sentence, be it ever so short.
_VERBS = word_set(
    "is are be has have does shall may will must can renews pays applies ends begins "
    "ist sind hat haben wird werden kann darf muss gilt endet beginnt beträgt"
)


def _pieces(raw: str) -> Iterator[Sentence]:
    """``raw`` as one sentence, or in pieces cut between words when no sentence is that long."""
    begin = 0
    while begin < len(raw):
        end = begin + _SENTENCE_CHARACTERS
        if end < len(raw):
            space = max(raw.rfind(" ", begin, end), raw.rfind("\n", begin, end))
            end = space if space > begin else end
        if any(map(str.isalnum, raw[begin:end])):
            yield Sentence(raw[begin:end].strip(), is_heading=False)
        begin = end


def _paragraphs(page: str) -> Iterator[str]:
    """The runs of lines that no heading, number, bullet, label, page number or blank line parts."""
    lines: list[str] = []
    blank = False
    for line in page.splitlines():
        if not line.strip():
            blank = True
            continue
        is_number = is_page_number(line)
        if lines and (is_number or _ends_paragraph(lines[-1], line) or (blank and not line.lstrip()[0].islower())):
            yield "\n".join(lines)
            lines = []
        if not is_number:
            lines.append(line)
        blank = False
    if lines:
        yield "\n".join(lines)


def _ends_paragraph(line: str, following: str) -> bool:
    if _LABEL.match(following):
        return True
    last_word = line[-20:].split()[-1].lower()
    if last_word in _REFERENCES or last_word in _ORDINAL_PREPOSITIONS:
        return False
    if _PARAGRAPH_START.match(following) and not _DAY_AND_MONTH.match(following):
        return True
    return _looks_like_heading(line) and not following.lstrip()[0].islower() and following.upper() != following


def _looks_like_heading(line: str) -> bool:
    """A short line that is numbered or in capitals and does not end like a sentence."""
    text = line.strip()
    if len(text) > 60 or text[-1] in ".,;:，。；：" or len(text.split()) > 8:
        return False
    return bool(_PARAGRAPH_START.match(line)) or (text.isupper() and len(text) > 3)


def _is_heading(paragraph: str) -> bool:
    """Whether the paragraph is one line, numbered or in capitals, whose few words say no more than a title does."""
    text = paragraph.strip()
    if "\n" in text or len(text) > _HEADING_CHARACTERS or text[-1] in ".,;:!?，。；：！？":
        return False
    number = _HEADING_NUMBER.match(text)
    title = text[number.end() :] if number else text
    has_form = text.isupper() or (number is not None and title[:1].isupper())
    is_chinese = number is not None and title[:1] >= "\u2e80" and len(title) <= 12
    is_short = not any(map(str.isdigit, title)) and not _VERBS.intersection(title.lower().split())
    return (has_form or is_chinese) and is_short


def _is_abbreviation(text: str, begin: int, dot: int, end: int) -> bool:
    """Whether the dot belongs to a number or a short form, so that the sentence goes on.

    ``begin`` is where the sentence begins, ``end`` where the dot and the brackets after it end.
    """
    before = text[max(begin, dot - 24) : dot].split()
    after = text[end : end + 24].split(maxsplit=1)
    if not before or not after:
        return False
    word, following = before[-1].lstrip("(\"“„'‘[").lower(), after[0].strip(".,;:()\"“„”'").lower()
    if after[0][0].islower():
        return True
    if dot - begin <= 16 and not any(map(str.isalpha, text[begin:dot])):  # the sentence's own number: 12.3.
        return True
    if word.isdigit() and len(word) <= 2:
        is_ordinal = len(before) > 1 and before[-2].lower() in _ORDINAL_PREPOSITIONS
        return is_ordinal or following in _MONTHS
    return (word in _ABBREVIATIONS or bool(_DOTTED.fullmatch(word))) and following not in _OPENERS
