"""A few sentences that tell what a document, or a part of one, is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.domain import Severity
from pipeline.rules.risks import compiled, first_word
from pipeline.rules.sentences import Sentence, cut, without_number

_SUMMARY_CHARACTERS = 1_200
_JOINED_CHARACTERS = 2_400
_SENTENCE_CHARACTERS = range(25, 360)
_FIRST_PAGES = 5  # where a contract says what it is for
_HEADINGS_CHARACTERS = 420
_COVERS = "Covers "

_Mark = tuple[str, ...]
# Of each the first line that any sentence fits; written as ``clauses.Wording.groups``.
_SUBJECT: tuple[_Mark, ...] = (
    (
        (
            "lets to|shall provide|provides|shall supply|shall manufacture|supplies|sells|shall sell|grants|translates|"
            "wishes to obtain|wish to explore|shall perform|übernimmt|liefert|erbringt|vermietet|überlässt|verkauft|"
            "提供|出售|出租"
        ),
    ),
    ("purpose|apply to|wish|states the terms|sets out the terms|gegenstand|verpflichtet sich|采购|买卖",),
)
_TERM: tuple[_Mark, ...] = (
    (
        "takes effect|commence|=begins|=beginning|beginnt|期限为",
        "=year|=years|=month|=months|jahr|*jahren|monat|年|个月",
    ),
    (
        "initial term|initial subscription|term of this|=runs|laufzeit|有效期|期限",
        "=year|=years|=month|=months|thirty six|jahr|*jahren|monat|年|个月",
    ),
    ("this agreement commences|this agreement begins|takes effect on|der vertrag beginnt|tritt in kraft|生效",),
)
_PRICE: tuple[_Mark, ...] = (
    (
        "=rent|=fee|=fees|price|charges|*pauschale|*vergütung|*preis|*miete",
        "shall pay|is|are|beträgt",
        "=eur|=gbp|=usd|=chf|euro",
    ),
    ("合同总价|总价|价款|租金", "支付|付款"),
    ("=fees|invoices|=rent|=price|charges|rechnung|*vergütung", "payable|fällig|zahlbar"),
    ("shall pay|zahlt", "=fee|=fees|charges|=price|=rent|*vergütung|*preis"),
)
_FACTS = tuple(tuple(map(compiled, marks)) for marks in (_SUBJECT, _TERM, _PRICE))
# What a reader wants to hear of first among clauses that are equally bad.
_WORST_FIRST = ("liability", "indemnity", "termination", "price-escalation", "data-transfer")
_NOT_RETOLD = ("prompt-injection",)  # an instruction to a reader is reported, and not repeated as a fact


def summary(
    by_page: Sequence[Sequence[Sentence]],
    risks: Sequence[Mapping[str, Any]],
    kind: str,
    names: Sequence[str],
    begins_here: bool,
) -> str:
    """What the pages are about, in at most five sentences.

    A contract that begins here: its type, parties and subject, its term, its price and its worst clause.
    Pages from inside a document: their headings and their worst clauses. Anything else: its first sentences.
    """
    if not any(by_page):
        return "No page has a text that the built-in rules can read."
    whole = [s for on_page in by_page for s in on_page if _can_be_told(s)]
    if begins_here and (kind or names):
        return _joined(_contract(by_page, whole, risks, kind, names))
    if (not begins_here or risks) and (headings := _headings(by_page)):
        return _joined([f"{_COVERS}{headings}.", *_worst(risks, 2)])
    first = whole[:2] or [s for on_page in by_page for s in on_page][:1]
    return _joined(list(dict.fromkeys([*(without_number(s.text) for s in first), *_worst(risks, 1)])))


def join_summaries(parts: Sequence[tuple[str, str]]) -> str:
    """One summary from those of consecutive parts, each a label such as "Pages 1-20" and a text.

    What a part says that one before it has said already is left out.
    """
    share = max(80, _JOINED_CHARACTERS // max(1, len(parts)))
    seen: set[str] = set()
    lines = []
    for label, text in parts:
        told = [sentence for sentence in _SENTENCE_GAP.split(" ".join(text.split())) if sentence not in seen]
        seen.update(told)
        if told:
            lines.append(_labelled(label, cut(" ".join(told), share)))
    return "\n".join(lines)


_SENTENCE_GAP = re.compile(r"(?<=[.!?。]) (?=[^\Wa-zäöü_])")


def _labelled(label: str, text: str) -> str:
    if text.startswith(_COVERS):
        return f"{label} {'cover' if label.startswith('Pages') else 'covers'} {text.removeprefix(_COVERS)}"
    return f"{label}: {text}"


_REFERS_BACK = re.compile(r"(?:It|They|He|She|Such|Sie|Es|Er|Diese\w?)\b")
_DEFINITION = re.compile(r"[”“\"] (?:means?|bedeutet)\b")


def _can_be_told(sentence: Sentence) -> bool:
    """Whether it is whole, neither short nor long, and no definition."""
    if sentence.is_heading or not sentence.is_whole or len(sentence.text) not in _SENTENCE_CHARACTERS:
        return False
    return not _DEFINITION.search(sentence.text)


def _contract(
    by_page: Sequence[Sequence[Sentence]],
    whole: Sequence[Sentence],
    risks: Sequence[Mapping[str, Any]],
    kind: str,
    names: Sequence[str],
) -> Iterator[str]:
    on_first_pages = {id(s) for on_page in by_page[:_FIRST_PAGES] for s in on_page}
    near = [s for s in whole if id(s) in on_first_pages and not _REFERS_BACK.match(without_number(s.text))]
    subject, term, price = (
        _first(candidates, marks) for candidates, marks in zip((near, whole, whole), _FACTS, strict=True)
    )
    yield _opening(kind, names, subject)
    told = {subject}
    for fact in (term, price, *_worst(risks, 1)):
        if fact and fact not in told:
            told.add(fact)
            yield fact


def _opening(kind: str, names: Sequence[str], subject: str) -> str:
    """Type and parties, in the language of the type, and what they agree on."""
    if not names:
        return f"{kind}: {subject}" if subject else f"{kind}."
    if kind[-1:] >= "\u2e80" or names[0][0] >= "\u2e80":
        head = f"{kind or '合同'}，当事人为{'、'.join(names)}"
        return f"{head}：{subject}" if subject else f"{head}。"
    german = kind.lower().split(" ")[0].endswith(("vertrag", "vereinbarung"))
    between, last = (" zwischen ", " und ") if german else (" between ", " and ")
    listed = last.join(filter(None, [", ".join(names[:-1]), names[-1]]))
    # One party alone: the other has no name on the first page.
    head = f"{kind or 'Contract'}{between if len(names) > 1 else (' mit ' if german else ' with ')}{listed}"
    head = head.rstrip(".")
    return f"{head}: {subject}" if subject else f"{head}."


def _first(candidates: Sequence[Sentence], marks: Sequence[tuple[tuple[str, ...], ...]]) -> str:
    for mark in marks:
        for sentence in candidates:
            if first_word(sentence.words, mark):
                text = without_number(sentence.text)
                return f"{text[:-1]}。" if text[-1] == "；" else text
    return ""


def _worst(risks: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """The sentences of the worst clauses, as far as they are whole and short enough."""

    def badness(risk: Mapping[str, Any]) -> tuple[int, int]:
        category = risk["category"]
        order = _WORST_FIRST.index(category) if category in _WORST_FIRST else len(_WORST_FIRST)
        return Severity(risk["severity"]).rank, order

    tellable = [
        risk
        for risk in risks
        if risk["category"] not in _NOT_RETOLD
        and len(risk["quote"]) in _SENTENCE_CHARACTERS
        and risk["quote"][-1] in ".!。"
    ]
    return list(dict.fromkeys(without_number(risk["quote"]) for risk in sorted(tellable, key=badness)))[:count]


def _headings(by_page: Sequence[Sequence[Sentence]]) -> str:
    """The numbered headings, those of the highest level where there are such; "" without any."""
    found = [s.text for on_page in by_page for s in on_page if s.is_heading and not s.text.isupper()]
    upper = [text for text in found if not _SUBHEADING.match(text)]
    headings = list(dict.fromkeys(upper or found))
    shown: list[str] = []
    room = _HEADINGS_CHARACTERS
    for heading in headings:
        room -= len(heading) + 2
        if room < 0 and shown:
            return f"{'; '.join(shown)}; and {len(headings) - len(shown)} more"
        shown.append(heading)
    return "; ".join(shown)


_SUBHEADING = re.compile(r"\d{1,3}\.\d")


def _joined(told: Sequence[str] | Iterator[str]) -> str:
    """The sentences one after the other, as many whole ones as fit."""
    text = ""
    for sentence in told:
        gap = "" if text[-1:] in ("", "。") else " "
        if text and len(text) + len(sentence) >= _SUMMARY_CHARACTERS:
            break
        text = f"{text}{gap}{sentence}"
    return cut(text, _SUMMARY_CHARACTERS)
