"""Reading contracts by rules: page texts in, the object that is asked of a model out. No PDF library, no HTTP.

Page texts are hostile. So every step is linear in them: sentences have a greatest length, clauses are
found by plain words (``clauses``), and a regular expression with a gap sees one sentence at most.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.clauses import CLAUSES, Clause, Wording
from pipeline.domain import Severity

_QUOTE_CHARACTERS = 400
_SUMMARY_CHARACTERS = 700
_JOINED_SUMMARY_CHARACTERS = 2_000
_SENTENCE_CHARACTERS = 2_000  # a table without a full stop must not become one endless sentence
_PAGE_CHARACTERS = 100_000  # a dense page has ten thousand; more is an attack on the reader


def read_document(pages: Sequence[str]) -> dict[str, Any]:
    """The contract in ``pages`` as summary, document_type, parties, key_dates and risks.

    ``pages`` holds the text of each page, "" for a page without a text layer; page numbers in the
    result count from 1 within it. Each page is read by itself, so the answer for a page does not depend
    on its neighbours. A quote is the sentence as it stands on the page, line breaks read as spaces.
    """
    read = [page[:_PAGE_CHARACTERS] for page in pages]
    sentences = [list(_sentences(page)) for page in read]
    first_text = next((page for page in read if page.strip()), "")
    return {
        "summary": _summary(sentences),
        "document_type": _document_type(first_text),
        "parties": _parties(first_text),
        "key_dates": _key_dates(sentences),
        "risks": [*_unread_pages(pages), *_risks(read, sentences)],
    }


def join_summaries(parts: Sequence[tuple[str, str]]) -> str:
    """One summary from those of consecutive parts, each a label such as "Pages 1-20" and a text."""
    share = max(80, _JOINED_SUMMARY_CHARACTERS // max(1, len(parts)))
    return "\n".join(f"{label}: {_cut(' '.join(text.split()), share)}" for label, text in parts)


# --- sentences ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sentence:
    raw: str  # with the line breaks of the page

    @cached_property
    def text(self) -> str:
        return " ".join(self.raw.split())

    @cached_property
    def words(self) -> str:
        """What ``clauses.Wording`` is matched against."""
        return _words(self.raw)


_NO_WORD = re.compile(r"[\W\u200b]+")


def _words(text: str) -> str:
    whole = re.sub(r"(?<=\w)[-\u00ad]\s*\n\s*(?=[^\W\d_])", "", text)  # a word parted at the end of a line
    return " " + _NO_WORD.sub(" ", whole).strip().lower() + " "


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Possessive, and never begun inside a run of its own characters: linear on any text.
_SENTENCE_END = re.compile(r"""(?<![.!?])[.!?]++["'”’»“)\]]*+(?=\s|$)|[。！？；]++""")
_ABBREVIATIONS = _set(
    "nr art abs ziff no nos inc ltd corp co llc bros st dr mr mrs ms prof ca bzw ggf evtl usw vgl inkl zzgl gem lit "
    "sec cl para approx cf vs fig vol ref tel str bd hr fr jan feb aug sept oct nov dec mio mrd max min"
)
_DOTTED = re.compile(r"\w(?:\.\w){0,4}")  # initials; z.B, e.g, U.S
_OPENERS = _set("the this these in if each either neither all any it der die das dieser diese jede es bei")
_MONTHS = _set(
    "january february march april may june july august september october november december "
    "januar jänner februar märz mai juni juli oktober dezember"
)
_MONTH_NAME = rf"(?:{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b"
_ORDINAL_PREPOSITIONS = _set("am im vom zum zur der des dem den bis ab seit")
_REFERENCES = _set("section sections clause article ziffer § §§ nr. no. art. abs. and or und oder of in to the gemäß")

# The numbering or bullet that begins a paragraph, and a capital after it.
_PARAGRAPH_START = re.compile(
    r"\s{0,40}(?:§{1,2}\s?\d{1,4}|\d{1,3}(?:\.\d{1,3}){1,4}[.)]?\s|\d{1,3}[.)]\s|\(?[a-z]{1,4}[.)]\s|"
    r"(?i:article|section|clause|artikel|ziffer)\s\d{1,3}[.:)]?\s|[•●▪■–—-]\s)\s{0,9}(?=[^\Wa-zäöü_]|[\"“„(])"
    r"|\s{0,40}第[一二三四五六七八九十百0-9]{1,4}[条章]"
)
_DAY_AND_MONTH = re.compile(rf"\s{{0,40}}\d{{1,2}}\. ?{_MONTH_NAME}", re.IGNORECASE)


def _sentences(page: str) -> Iterator[_Sentence]:
    for paragraph in _paragraphs(page):
        begin = 0
        for match in _SENTENCE_END.finditer(paragraph):
            if match[0][0] != "." or not _is_abbreviation(paragraph, begin, match.start(), match.end()):
                yield from _pieces(paragraph[begin : match.end()])
                begin = match.end()
        yield from _pieces(paragraph[begin:])


def _pieces(raw: str) -> Iterator[_Sentence]:
    """``raw`` as one sentence, or in pieces cut between words when no sentence is that long."""
    begin = 0
    while begin < len(raw):
        end = begin + _SENTENCE_CHARACTERS
        if end < len(raw):
            space = max(raw.rfind(" ", begin, end), raw.rfind("\n", begin, end))
            end = space if space > begin else end
        if any(map(str.isalnum, raw[begin:end])):
            yield _Sentence(raw[begin:end].strip())
        begin = end


def _paragraphs(page: str) -> Iterator[str]:
    """The runs of lines that no heading, number, bullet or blank line parts."""
    lines: list[str] = []
    blank = False
    for line in page.splitlines():
        if not line.strip():
            blank = True
            continue
        if lines and (_ends_paragraph(lines[-1], line) or (blank and not line.lstrip()[0].islower())):
            yield "\n".join(lines)
            lines = []
        lines.append(line)
        blank = False
    if lines:
        yield "\n".join(lines)


def _ends_paragraph(line: str, following: str) -> bool:
    last_word = line[-20:].split()[-1].lower()
    if last_word in _REFERENCES or last_word in _ORDINAL_PREPOSITIONS:
        return False
    if _PARAGRAPH_START.match(following) and not _DAY_AND_MONTH.match(following):
        return True
    return _is_heading(line) and not following.lstrip()[0].islower() and following.upper() != following


def _is_heading(line: str) -> bool:
    """A short line that is numbered or in capitals and does not end like a sentence."""
    text = line.strip()
    if len(text) > 60 or text[-1] in ".,;:，。；：" or len(text.split()) > 8:
        return False
    return bool(_PARAGRAPH_START.match(line)) or (text.isupper() and len(text) > 3)


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


def _cut(text: str, limit: int) -> str:
    """``text``, or as many of its first words as fit."""
    if len(text) <= limit:
        return text
    space = text.rfind(" ", 0, limit + 1)
    return text[: space if space > 0 else limit]


# --- risks -------------------------------------------------------------------------------------------

_Groups = tuple[tuple[str, ...], ...]


def _compiled(wording: Wording) -> tuple[_Groups, re.Pattern[str]]:
    def needle(word: str) -> str:
        if word[0] == "=":
            return f" {word[1:]} "
        return word[1:] if word[0] == "*" else word if word[0] >= "\u2e80" else f" {word}"

    groups = tuple(tuple(map(needle, group.split("|"))) for group in wording.groups)
    return groups, re.compile(wording.unless)


_CompiledWording = tuple[Clause, _Groups, re.Pattern[str]]
_WORDINGS: tuple[_CompiledWording, ...] = tuple(
    (clause, *_compiled(wording)) for clause in CLAUSES for wording in clause.wordings
)


def _first_word(words: str, groups: _Groups) -> str | None:
    """The first word of each group that stands in ``words``: one of them, or None if a group has none."""
    found = None
    for group in groups:
        found = next((needle for needle in group if needle in words), None)
        if found is None:
            return None
    return found


def _risks(pages: Sequence[str], sentences: Sequence[Sequence[_Sentence]]) -> Iterator[dict[str, Any]]:
    """One risk for each sentence and category; the same words twice on a page count once."""
    for number, (page, on_page) in enumerate(zip(pages, sentences, strict=True), 1):
        page_words = _words(page)
        likely = [wording for wording in _WORDINGS if _first_word(page_words, wording[1])]
        seen: set[tuple[str, str]] = set()
        for sentence in on_page if likely else ():
            for clause, quote in _clauses_in(sentence, likely):
                if (clause.category, quote) not in seen:
                    seen.add((clause.category, quote))
                    yield _risk(clause, number, quote)


def _clauses_in(sentence: _Sentence, likely: Sequence[_CompiledWording]) -> Iterator[tuple[Clause, str]]:
    """Of each category the first clause that stands in the sentence, with its quote."""
    categories: set[str] = set()
    for clause, groups, unless in likely:
        if clause.category not in categories:
            word = _first_word(sentence.words, groups)
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
    return _cut(text, _QUOTE_CHARACTERS)


def _unread_pages(pages: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the rules cannot read is itself a risk: one for all images, one for all endless pages."""
    images = [number for number, page in enumerate(pages, 1) if not page.strip()]
    endless = [number for number, page in enumerate(pages, 1) if len(page) > _PAGE_CHARACTERS]
    if images:
        yield _unread("The page is an image that the built-in rules cannot read", "Without a text layer", images)
    if endless:
        yield _unread("The page holds more text than the built-in rules read", "Read only at their beginning", endless)


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


# --- dates -------------------------------------------------------------------------------------------

_DATE = re.compile(
    r"\b(?:[12]\d{3}-[01]\d-[0-3]\d\b"
    rf"|[0-3]?\d(?:st|nd|rd|th)?\.? (?:day of )?{_MONTH_NAME},? [12]\d{{3}}\b"
    rf"|{_MONTH_NAME} [0-3]?\d(?:st|nd|rd|th)?,? [12]\d{{3}}\b"
    r"|[0-3]?\d\.[01]?\d\.[12]\d{3}\b)"
    r"|(?<!\d)[12]\d{3} ?年 ?[01]?\d ?月 ?[0-3]?\d ?日",
    re.IGNORECASE,
)
_DATE_MEANINGS = {
    "effective date": "effective|commenc|begin|start|takes effect|in kraft|beginnt|beginn |ab dem|生效|起|自|期限为",
    "expiry": "expir|terminates|ends |end on|ending|until|endet|läuft aus|bis zum|befristet|届满|终止|止|至",
    "payment due": "payable|payment|due |due on|paid|invoice|fällig|zahlbar|zahlung|付款|支付",
    "delivery": "deliver|liefer|交付|交货",
    "last day for notice": "notice|kündig|通知",
    "signature": "signed|dated|made on|entered into|unterzeichn|unterschrieben|签订|签署",
    "renewal": "renew|verlänger|续",
}
_DATE_WORD = re.compile(
    "|".join(f"(?P<m{number}>{words})" for number, words in enumerate(_DATE_MEANINGS.values())), re.IGNORECASE
)
_MEANING_CHARACTERS = 120


def _key_dates(sentences: Sequence[Sequence[_Sentence]]) -> list[dict[str, Any]]:
    """The dates as written, each with the meaning that the nearest word before it gives."""
    found = dict.fromkeys(
        (date, meaning, number)
        for number, on_page in enumerate(sentences, 1)
        for sentence in on_page
        for date, meaning in _dates_in(sentence.text)
    )
    return [{"date": date, "meaning": meaning, "page": number} for date, meaning, number in found]


def _dates_in(sentence: str) -> Iterator[tuple[str, str]]:
    dates = list(_DATE.finditer(sentence))
    words = list(_DATE_WORD.finditer(sentence)) if dates else []
    starts = [word.start() for word in words]
    for date in dates:
        nearest = words[max(0, bisect_right(starts, date.start()) - 1)] if words else None
        yield date[0], _meaning(nearest, sentence)


def _meaning(word: re.Match[str] | None, sentence: str) -> str:
    if word is None or word.lastgroup is None:
        return _cut(sentence, _MEANING_CHARACTERS)
    return tuple(_DATE_MEANINGS)[int(word.lastgroup[1:])]


# --- what the document is ----------------------------------------------------------------------------

_TITLE_CHARACTERS = 500
_DOCUMENT_TYPES = {
    "non-disclosure agreement": "non disclosure|nda |confidentiality agreement|geheimhaltungsvereinbarung|保密协议",
    "framework agreement": "framework|rahmenvertrag|rahmenvereinbarung|master |框架",
    "maintenance contract": "maintenance|wartungsvertrag|维护|维保",
    "lease": "lease|rental agreement|mietvertrag|pachtvertrag|租赁",
    "licence agreement": "licence|license|lizenzvertrag|许可",
    "purchase contract": "purchase|sale of|kaufvertrag|采购|买卖",
    "supply contract": "supply|liefervertrag|供货|供应",
    "employment contract": "employment|arbeitsvertrag|劳动合同",
    "loan agreement": "loan|darlehensvertrag|借款",
    "data processing agreement": "data processing|auftragsverarbeitung|数据处理",
    "services agreement": "services|service agreement|consulting|dienstleistungsvertrag|dienstvertrag|服务",
    "invoice": "invoice|rechnung|发票",
}
_TITLE_WORDS = {kind: _compiled(Wording((words,)))[0][0] for kind, words in _DOCUMENT_TYPES.items()}


def _document_type(first_text: str) -> str:
    """By the title word that stands first at the head of the document."""
    head = _words(first_text[:_TITLE_CHARACTERS])
    places = [
        (head.find(needle), kind) for kind, needles in _TITLE_WORDS.items() for needle in needles if needle in head
    ]
    return min(places, key=lambda place: place[0])[1] if places else "document"


_PARTIES_CHARACTERS = 4_000
_PARTY_CHARACTERS = 80
_ROLES = _set(
    "party parties customer client supplier contractor provider buyer seller company landlord tenant licensor licensee "
    "employer employee recipient discloser auftraggeber auftragnehmer kunde lieferant vermieter mieter verkäufer "
    "käufer parteien vertragsparteien you us we"
)
_ARTICLE = re.compile(r"^(?:the|der|die|dem|den|das|firma|(?:\(?[12ab]\)))\s+", re.IGNORECASE)
_COMPANY_SUFFIX = re.compile(
    r"\s*(?:inc|ltd|llc|l\.l\.c|corp|co|limited|gmbh|ag|plc|s\.a|b\.v|llp)\b\.?", re.IGNORECASE
)
_AFTER_A_NAME = re.compile(r"\s[–—-]\s|[\"“„:]|\. (?=[A-ZÄÖÜ])|\s(?:for|on|dated|regarding|whereby|über|wird)\s")
_CHINESE_PARTY = re.compile(r"[甲乙丙]方\s?(?:[（(][^）)]{0,20}[）)])?\s?[：:]\s?([^\s，。；;（(]{2,60})")


def _parties(first_text: str) -> list[str]:
    """The names after "between", "zwischen" or 甲方, as they stand at the head of the document."""
    head = " ".join(first_text[:_PARTIES_CHARACTERS].split())
    names = [match[1] for match in _CHINESE_PARTY.finditer(head)]
    for match in re.finditer(r"\b(?:between|zwischen)\b:?", head, re.IGNORECASE):
        if names:
            break
        # A definition in brackets ends a name; (UK) and the like belong to it.
        passage = re.sub(r"\((?![A-Z]{2,12}\))[^()]{0,200}\)", ",", head[match.end() : match.end() + 500])
        found = [_party(part) for part in re.split(r"\s(?:and|und)\s|;", passage)[:4]]
        names = [name for name in found if name] if all(found[:2]) and len(found) > 1 else []
    return list(dict.fromkeys(names))


def _party(text: str) -> str:
    """The name at the beginning of ``text``; "" when there is none."""
    text = text.strip(' ,–-—:"“”„')
    name, _, rest = _ARTICLE.sub("", text, count=1).partition(",")
    if suffix := _COMPANY_SUFFIX.match(rest):
        name += "," + suffix[0]
    name = _AFTER_A_NAME.split(name)[0].strip()
    is_name = 1 < len(name) <= _PARTY_CHARACTERS and name[0].isupper() and name.lower() not in _ROLES
    return name if is_name else ""


_TELLING = tuple(
    _compiled(Wording(groups))[0]
    for groups in (
        ("between|zwischen|甲方", "agreement|contract|vertrag|=made|合同|甲方"),
        (
            "agreement|contract|vertrag|=parties|合同",
            "=for|govern|purpose|provide|supply|subject|gegenstand|regelt|标的|服务",
        ),
        (
            "=term|laufzeit|initial|effective|commence|vertragsdauer|beginnt|läuft|期限|有效期",
            "year|month|jahr|monat|=on|=am|date|年|月",
        ),
        ("=fee|=fees|price|=eur|=usd|=gbp|vergütung|preis|*entgelt|价款|金额|rent",),
    )
)
_TELLING_PAGES = 5
_TELLING_CHARACTERS = range(25, 400)


def _summary(sentences: Sequence[Sequence[_Sentence]]) -> str:
    """Sentences of the document itself: between whom, what, for how long, at what price."""
    with_text = [on_page for on_page in sentences if on_page]
    if not with_text:
        return "No page has a text that the built-in rules can read."
    near = [s for on_page in with_text[:_TELLING_PAGES] for s in on_page if len(s.text) in _TELLING_CHARACTERS]
    chosen: list[_Sentence] = []
    room = _SUMMARY_CHARACTERS
    for groups in _TELLING:
        found = next((s for s in near if s not in chosen and _first_word(s.words, groups)), None)
        if found and len(found.text) < room:
            chosen.append(found)
            room -= len(found.text) + 1
    in_order = " ".join(dict.fromkeys(s.text for s in near if s in chosen))
    return in_order or _cut(with_text[0][0].text, _SUMMARY_CHARACTERS)
