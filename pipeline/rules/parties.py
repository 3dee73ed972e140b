"""What a document is and between whom, as its first page says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.rules.sentences import is_page_number, one_line, word_set

# --- the type ----------------------------------------------------------------------------------------

_TITLE_LINES = 12
_TITLE_CHARACTERS = 90
_TITLE_WORDS = 9
_ENGLISH_TITLE = re.compile(
    r"\b(?:agreements?|contracts?|(?:sub)?lease|licen[cs]e|letter of (?:engagement|intent)|engagement letter|invoice|"
    r"purchase order|addendum|amendment|memorandum of understanding|nda|(?:terms(?: and conditions)?)$|terms of \w+)\b",
    re.IGNORECASE,
)
_GERMAN_TITLE = re.compile(
    r"(?:vertrag|vereinbarung|geschäftsbedingungen|\brechnung|auftragsbestätigung)\b", re.IGNORECASE
)
_CHINESE_TITLE = re.compile(r"^[\u4e00-\u9fff（）()]{0,30}(?:合同|协议|协议书|发票)$")
# What follows a title in its line, and what is a part of a document rather than its name.
_AFTER_A_TITLE = re.compile(
    r"\s(?:between|dated|made|by and|zwischen|no\.?|nr\.?)\s.*$|\s?[:–—|(].*$|,.*$|\s-\s.*$", re.IGNORECASE
)
_NO_TITLE = re.compile(r"^\s?(?:annex|schedule|section|appendix|exhibit|anlage|anhang|§|\d|\()", re.IGNORECASE)
_CALLS_ITSELF = re.compile(
    r"\bThis ((?:[A-Z][\w-]{1,30} (?:(?:and|of|for|&) )?){0,6}(?:Agreement|Contract|Lease|Licence|License))\b"
)
_ACRONYMS = word_set("NDA SLA MSA DPA IT EU UK US SAAS")


def document_type(first_text: str) -> str:
    """The title of the document in its own words, "Mutual non-disclosure agreement"; "" when it has none."""
    lines = [one_line(line) for line in first_text[:4_000].splitlines() if line.strip()][:_TITLE_LINES]
    # The running head above the page number is the second choice: it is often shortened.
    number = next((at for at, line in enumerate(lines[:4]) if is_page_number(line)), -1)
    for line in [*lines[number + 1 :], *lines[: number + 1]]:
        if title := _title(line):
            return title
    call = _CALLS_ITSELF.search(one_line(first_text[:4_000]))
    title = _title(call[1]) if call else ""
    return title if len(title.split()) > 1 else ""


def _title(line: str) -> str:
    """The line as a title; "" when it is none."""
    if len(line) > _TITLE_CHARACTERS or _NO_TITLE.match(line) or line[-1] in ".;。；,":
        return ""
    title = _AFTER_A_TITLE.sub("", line).strip()
    if _CHINESE_TITLE.search(title):
        return title
    words = title.split()
    if not 0 < len(words) <= _TITLE_WORDS or not title[0].isupper():
        return ""
    if _GERMAN_TITLE.search(title):
        return title.capitalize() if title.isupper() else title
    match = _ENGLISH_TITLE.search(title)
    return _sentence_case(words) if match and (match[0][0].isupper() or len(words) <= 4) else ""


def _sentence_case(words: Sequence[str]) -> str:
    """SERVICES AGREEMENT and Services Agreement as "Services agreement"; names in capitals stay."""
    shouted = all(word.isupper() for word in words)
    cased = [word if word in _ACRONYMS or not (shouted or word.istitle()) else word.lower() for word in words]
    return cased[0][0].upper() + cased[0][1:] + "".join(f" {word}" for word in cased[1:])


# --- the parties -------------------------------------------------------------------------------------

_HEAD_CHARACTERS = 6_000
_PASSAGE_CHARACTERS = 1_800
_NAME_WORDS = 9
_MOST_PARTIES = 6
_SUFFIXES = word_set(
    "limited ltd plc inc incorporated llc l.l.c corp corporation company co gmbh mbh ag se kg kgaa ohg ug e.v eg gbr "
    "b.v bv n.v nv s.a sa s.a.s sas sarl s.à.r.l s.r.l srl s.p.a spa s.l sl dac llp lp pty pte oy oyj ab as a/s aps oü"
)
# Within a name, in small letters: Bank of Bern AG, van der Meer B.V.
_LINKS = word_set("& + of de la van von der für for")
_NOT_IN_A_NAME = word_set(
    "the this between among and by der die das den dem zwischen und parties party agreement contract lease "
    "firma herr frau herrn mr mrs ms"
)
_INTRODUCTION = re.compile(r"\b(?:between|among|zwischen|parties ?:|parteien ?:)", re.IGNORECASE)
# The definitions or the first clause end the list of parties.
_BODY = re.compile(r"\s(?:1\.1 |1\. |§ ?1 |Background\b|Recitals\b|Whereas\b|WHEREAS\b|Präambel\b|Article 1\b)")
_DEFINED = re.compile(
    r"[(–—,]\s?(?:the |hereinafter |hereafter |referred to as |im folgenden |nachfolgend |kurz |genannt ){0,3}[“\"„‘']"
    r"|\breferred to as\b",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"(?:\b(?:between|among|and|zwischen|und)|\([1-9a-c]\))[:,]?\s(?:\([1-9a-c]\)\s)?"
    r"(?:Mr|Mrs|Ms|Dr|Herrn?|Frau|dem|der)?\.?\s?"
    r"([A-ZÄÖÜ][\w.’'-]{0,30}(?: (?:(?:van|von|de|der|den) ){0,2}[A-ZÄÖÜ][\w.’'-]{0,30}){1,4})"
    r"(?=,| ?\(| [–—-] | geb\.| of )"
)
_CHINESE_ROLE = r"(?:[甲乙丙丁买卖供需]方|(?:出租|承租|委托|受托|买受|出卖|发包|承包|许可|披露|接收|出借|借款)[人方])"
# A name ends before a bracket or a comma, and where a line began that now follows without a gap.
_CHINESE_PARTY = re.compile(
    rf"{_CHINESE_ROLE}\s?(?:[（(][^）)]{{0,20}}[）)])?\s?[：:]\s?([^\s，。；;：:（(]{{2,60}}?)"
    rf"(?=[（(\s，。；;]|$|{_CHINESE_ROLE}\s?[：:（(]|地址|住所|法定代表人|电话|统一社会|注册地|联系)"
)


def parties(first_text: str) -> list[str]:
    """The names that the contract is made between, in the order of its first page."""
    text = first_text[:_HEAD_CHARACTERS]
    if chinese := [match[1] for match in _CHINESE_PARTY.finditer(one_line(text.replace("\n\n", "；")))]:
        return _distinct(chinese)
    best: list[str] = []
    for passage in _passages(one_line(text)):
        names = _distinct(_names(passage))
        if len(names) > 1:
            return names
        if names and not best and _DEFINED.search(passage):
            best = names
    return best


def company(line: str) -> str:
    """The first name with a legal form in a line; "" without one."""
    return next((name for _, name in _companies(line)), "")


def _distinct(names: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.casefold(), name)
    return list(first.values())[:_MOST_PARTIES]


def _passages(head: str) -> Iterator[str]:
    """What follows each "between", up to the first clause; at most five, so the work is bounded."""
    for match, _ in zip(_INTRODUCTION.finditer(head), range(5), strict=False):
        passage = head[match.start() : match.end() + _PASSAGE_CHARACTERS]
        body = _BODY.search(passage)
        yield passage[: body.start()] if body else passage


def _names(passage: str) -> list[str]:
    """The companies by their legal form, and the persons that are given a name of their own in brackets."""
    found = dict(_companies(passage))
    for match in _PERSON.finditer(passage):
        begin, end = match.span(1)
        is_new = not any(at < end and begin < at + len(name) for at, name in found.items())
        if is_new and _DEFINED.search(passage[end : end + 250]):
            found[begin] = match[1]
    return [name for _, name in sorted(found.items())]


def _companies(passage: str) -> Iterator[tuple[int, str]]:
    """Where each name with a legal form begins, and the name."""
    tokens = list(re.finditer(r"\S+", passage))
    last = -1
    for at, token in enumerate(tokens):
        if at <= last or not _is_suffix(token[0]):
            continue
        first = _first_token(tokens, at, last)
        if first == at:
            continue
        last = _last_token(tokens, at)
        begin, end = tokens[first].start(), tokens[last].end()
        yield begin, _trimmed(passage[begin:end])


def _is_suffix(token: str) -> bool:
    return (token[0].isupper() and token.strip('(,;:)“”"„').rstrip(".").lower() in _SUFFIXES) or token.rstrip(
        ",;."
    ) in ("plc", "mbH")


def _first_token(tokens: Sequence[re.Match[str]], suffix: int, after: int) -> int:
    """The first word of the name that ends with the legal form at ``suffix``."""
    nearest = next((tokens[at][0] for at in range(suffix - 1, -1, -1) if tokens[at][0][0] != "("), "")
    shouted = nearest.isupper() and tokens[suffix][0].isupper()  # then the whole name is in capitals
    first = suffix
    for at in range(suffix - 1, max(after, suffix - _NAME_WORDS), -1):
        word = tokens[at][0]
        if not _goes_on(word, is_nearest=at == suffix - 1):
            break
        if word in _LINKS:
            continue  # belongs to the name only if a word of it stands in front
        if word.lower() in _NOT_IN_A_NAME or (shouted and not word.isupper()):
            break
        first = at
    return first


def _goes_on(word: str, is_nearest: bool) -> bool:
    """Whether a name may run on through this word to the next one."""
    if word in _LINKS:
        return True
    if word[0] == "(":
        return word[-1] == ")" and word[1:-1].isalpha() and word.isupper()
    ends = word[-1] in ',;:)”"' and not (is_nearest and word[-1] == ",")
    return not ends and (word[0].isupper() or (word[0].isdigit() and word[-1].isalpha()))


def _last_token(tokens: Sequence[re.Match[str]], suffix: int) -> int:
    """The last word of a legal form of several: Co., Ltd; GmbH & Co. KG."""
    last = suffix
    for at in range(suffix + 1, min(suffix + 4, len(tokens))):
        if _is_suffix(tokens[at][0]):
            last = at
        elif tokens[at][0] != "&":
            break
    return last


def _trimmed(name: str) -> str:
    """Without what follows a name; the full stop of Inc. stays."""
    name = name.strip('"“”„‘ ').rstrip(',;:)”"')
    is_short = re.search(r"(?:\b(?:inc|ltd|corp|co|llc)|\w\.\w)\.$", name, re.IGNORECASE)
    return name if is_short else name.rstrip(".")
