"""How many true quotes are verified, and how many changed ones: quotes made from real pages, damaged as copies are.

``python -m tools.bench_quotes [folder]`` takes every PDF below the folder, or the sample contracts.
"""

from __future__ import annotations

import random
import re
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import inspector, pdfium, splitter
from pipeline.domain import Claim, MediaType, PageRange, QuoteCheck
from pipeline.pdf import PdfError, Source
from pipeline.prover import prove

SAMPLES = Path(__file__).resolve().parents[1] / "sample_docs" / "contracts"
QUOTES = 2_000
_TRUE = (QuoteCheck.VERIFIED, QuoteCheck.PAGE_CORRECTED)


@dataclass(frozen=True, slots=True)
class Case:
    """A quote made from a page; ``kind`` says what was done to it."""

    kind: str
    is_true: bool
    claim: Claim


@dataclass(frozen=True, slots=True)
class Row:
    """How quotes of one kind were checked."""

    kind: str
    is_true: bool
    checks: Counter[QuoteCheck]
    wrong: tuple[Claim, ...]

    @property
    def quotes(self) -> int:
        """How many there were."""
        return self.checks.total()

    @property
    def verified(self) -> int:
        """How many were taken for word for word."""
        return sum(self.checks[check] for check in _TRUE)


def measure(folder: Path, count: int) -> list[Row]:
    """Check some ``count`` true quotes, and as many changed ones, from the PDFs of a folder."""
    documents = [(source, texts) for source in _sources(folder) if (texts := _page_texts(source))]
    checks: dict[tuple[str, bool], Counter[QuoteCheck]] = defaultdict(Counter)
    wrong: dict[tuple[str, bool], list[Claim]] = defaultdict(list)
    for number, (source, texts) in enumerate(documents):
        share = count * (number + 1) // len(documents) - count * number // len(documents)
        cases = list(_cases(texts, share, random.Random(number)))
        proof = prove(source, PageRange(1, len(texts)), tuple(case.claim for case in cases))
        for case, proven in zip(cases, proof.proofs, strict=True):
            kind = case.kind, case.is_true
            checks[kind][proven.check] += 1
            if (proven.check in _TRUE) != case.is_true:
                wrong[kind].append(case.claim)
    kinds = sorted(checks, key=lambda kind: (not kind[1], kind[0]))
    return [Row(*kind, checks[kind], tuple(wrong[kind])) for kind in kinds]


def _sources(folder: Path) -> Iterator[Source]:
    for path in sorted(folder.rglob("*.[pP][dD][fF]")):
        stat = path.stat()
        yield Source(str(path), stat.st_size, stat.st_mtime_ns)


def _page_texts(source: Source) -> list[str]:
    """The text of each page, without the marks of hyphens at the ends of lines; none of what has no text."""
    found = inspector.inspect(source, with_layout=False)
    if not found.pages or found.media_type is not MediaType.PDF:
        return []
    try:
        with splitter.opened(source) as copier:
            reader = copier.reader
            with pdfium.opened(reader.file, found.pages, reader.password) as document:
                texts = [document.text(page) for page in range(1, found.pages + 1)]
    except PdfError:
        return []
    return texts if any(len(text.split()) > _FEWEST_WORDS for text in texts) else []


_FEWEST_WORDS = 30
_WORDS = (6, 45)  # of a quote
_CHARS = (12, 120)  # of one from a page without spaces


def _cases(texts: Sequence[str], count: int, rng: random.Random) -> Iterator[Case]:
    """True quotes and changed ones by turns, each from a page of its own choice."""
    pages = [page for page, text in enumerate(texts, 1) if len(_read(text)) > 8 * _FEWEST_WORDS]
    whole = _letters(" ".join(texts))
    made, tries = 0, 0
    while pages and made < count and tries < 30 * count:
        tries += 1
        page = rng.choice(pages)
        quote, cut = _passage(_read(texts[page - 1]), rng)
        if len(quote) < 12:
            continue
        name, change = rng.choice(_CHANGES)
        damage_name, damage = _DAMAGES[made % len(_DAMAGES)]
        is_elided = name != "a word left out" and rng.random() < _ELLIPSES
        changed = change(_with_ellipsis(quote, rng) if is_elided else quote, rng)
        if changed is None or _letters(changed) in whole:
            continue
        made += 1
        yield Case(damage_name, True, Claim(page, damage(quote, rng)))
        if cut:  # of itself a change
            name, changed = "a not or a sign cut off at an end", cut
        yield Case(name, False, Claim(page, rng.choice(_HARMLESS)(changed, rng)))


def _read(text: str) -> str:
    """A page's text as somebody copies it who reads it: lines joined, words that a line's end broke in one piece."""
    joined = re.sub("(?<=[^\\W\\d])[\\x02\ufffe]\\s*(?=[^\\W\\d])", "", text)
    return " ".join(re.sub("[\\x02\ufffe]\\s*", "-", joined).split())


def _passage(text: str, rng: random.Random) -> tuple[str, str]:
    """Some words in a row (characters, on a page without spaces), and the same without a "not" at its end, or "".

    It ends where it leaves out no negation and cuts no amount.
    """
    has_spaces = not re.search("[\u3040-\u9fff]", text)
    words, size = (text.split(" "), _WORDS) if has_spaces else (list(text), _CHARS)
    start = rng.randrange(len(words))
    cut = end = min(len(words), start + rng.randint(*size))
    while start and _NO_END.fullmatch(words[start - 1]):
        start -= 1
    while end < len(words) and _NO_END.fullmatch(words[end]):
        end += 1
    between = " " if has_spaces else ""
    is_cut = cut < end and words[cut] in ("not", "never", "without", "nicht", "ohne", "%") and words[cut - 1].isalnum()
    return between.join(words[start:end]).strip(), between.join(words[start:cut]) if is_cut else ""


def _letters(text: str) -> str:
    """All that says something, so that a change which stands elsewhere in the document is no change."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalnum() or unicodedata.category(c) == "Sc" or c in "%.,-−–")


# --- what copying does to a quote

_LIGATURES = {"ffi": "ﬃ", "ffl": "ﬄ", "fi": "ﬁ", "fl": "ﬂ", "ff": "ﬀ"}

_Alter = Callable[[str, random.Random], str]
_Change = Callable[[str, random.Random], str | None]


def _as_it_is(quote: str, rng: random.Random) -> str:
    return quote


def _lines_broken(quote: str, rng: random.Random) -> str:
    return re.sub(" ", lambda _: rng.choice((" ", " ", " ", "\n", "\r\n", "  ", "\u00a0", " \n ")), quote)


def _hyphenated(quote: str, rng: random.Random) -> str:
    """Long words broken at the end of a line, with a hyphen of one kind or another."""
    return re.sub(
        r"[a-zà-ÿ]{4}(?=[a-zà-ÿ]{4})",
        lambda m: m[0] + (rng.choice(("-\n", "-\r\n", "\u00ad", "\u2010\n")) if rng.random() < 0.3 else ""),
        quote,
    )


def _with_ligatures(quote: str, rng: random.Random) -> str:
    return re.sub("ffi|ffl|fi|fl|ff", lambda match: _LIGATURES[match[0]], quote)


def _other_quotation_marks(quote: str, rng: random.Random) -> str:
    marks = str.maketrans({'"': "“", "'": "’", "“": '"', "”": '"', "’": "'", "„": "»", "‘": "'"})
    return rng.choice(("“{}”", '"{}"', "„{}“", "{}")).format(quote.translate(marks))


def _other_dashes(quote: str, rng: random.Random) -> str:
    return re.sub("[-–—−]", lambda _: rng.choice("-–—‐−"), quote)


def _other_case(quote: str, rng: random.Random) -> str:
    return quote.upper() if rng.random() < 0.5 else quote.title() if rng.random() < 0.5 else quote.lower()


def _decomposed(quote: str, rng: random.Random) -> str:
    return unicodedata.normalize(rng.choice(("NFD", "NFC")), quote)


def _with_ellipsis(quote: str, rng: random.Random) -> str:
    """The middle of a long one left out, where no negation is among it."""
    words = quote.split(" ")
    third = len(words) // 3
    middle = " ".join(words[third : 2 * third])
    if third < 4 or _NEGATION.search(middle) or _NEGATION.search(" ".join(words[third - 1 : 2 * third + 1])):
        return quote
    return " ".join([*words[:third], rng.choice(("…", "[...]", "...", "[…]")), *words[2 * third :]])


def _everything(quote: str, rng: random.Random) -> str:
    for alter in (_with_ligatures, _hyphenated, _other_quotation_marks, _other_dashes, _lines_broken):
        quote = alter(quote, rng)
    return quote


_DAMAGES: tuple[tuple[str, _Alter], ...] = (
    ("as it is", _as_it_is),
    ("lines broken, double spaces", _lines_broken),
    ("words hyphenated", _hyphenated),
    ("ligatures", _with_ligatures),
    ("other quotation marks", _other_quotation_marks),
    ("other dashes", _other_dashes),
    ("other case", _other_case),
    ("accents decomposed", _decomposed),
    ("ellipsis", _with_ellipsis),
    ("several at once", _everything),
)
_HARMLESS = [alter for name, alter in _DAMAGES if name != "ellipsis"]  # which might leave the change out
_ELLIPSES = 0.1  # of the changed quotes

# --- what changes its meaning

_NEGATION = re.compile(
    r"\b(?:not|no|none|non|nor|never|neither|without|cannot|nicht|keine?[nmrs]?|ohne|nie|weder)\b|[不未无非没]",
    re.IGNORECASE,
)
_NO_END = re.compile(rf"(?:{_NEGATION.pattern}).*|[-–—−%‰€$£¥0-9.,/:]+|[a-z]", re.IGNORECASE)
_VERB = re.compile(r"\b(?:shall|may|will|must|is|are|can|darf|muss|kann|ist|sind|wird|werden|hat|haben)\b|[应可得须]")
_CURRENCIES = "€$£¥"
_OTHER_WORDS = ("supplier", "customer", "quarterly", "unlimited", "Mieter", "jährlich", "甲方", "乙方", "fully")


def _replaced(pattern: str | re.Pattern[str], new: Callable[[re.Match[str], random.Random], str]) -> _Change:
    """A change of one place that fits the pattern; None where there is none."""

    def change(quote: str, rng: random.Random) -> str | None:
        matches = list(re.finditer(pattern, quote))
        if not matches:
            return None
        match = rng.choice(matches)
        return quote[: match.start()] + new(match, rng) + quote[match.end() :]

    return change


def _other_word(quote: str, rng: random.Random) -> str | None:
    words = quote.split(" ")
    if len(words) < 3:
        return None
    words[rng.randrange(1, len(words) - 1)] = rng.choice(_OTHER_WORDS)
    return " ".join(words)


def _word_left_out(quote: str, rng: random.Random) -> str | None:
    words = quote.split(" ")
    if len(words) < 3:
        return None
    at = rng.randrange(1, len(words) - 1)
    return " ".join(words[:at] + words[at + 1 :]) if sum(map(str.isalnum, words[at])) > 0 else None


def _other_digit(match: re.Match[str], rng: random.Random) -> str:
    return str((int(match[0]) + rng.randint(1, 9)) % 10)


_CHANGES: tuple[tuple[str, _Change], ...] = (
    ("a digit changed", _replaced(r"[0-9]", _other_digit)),
    ("a digit added", _replaced(r"[0-9](?![0-9])", lambda m, r: m[0] + "0")),
    ("a decimal sign moved or dropped", _replaced(r"(?<=[0-9])[.,](?=[0-9])", lambda m, r: r.choice(("", " ")))),
    ("point and comma exchanged", _replaced(r"(?<=[0-9])[.,](?=[0-9])", lambda m, r: ".," [m[0] == "."])),
    ("a minus added", _replaced(r"(?<![-–0-9.,/:'’])[0-9]", lambda m, r: "-" + m[0])),
    ("a currency changed", _replaced(f"[{_CURRENCIES}]", lambda m, r: _CURRENCIES[_CURRENCIES.index(m[0]) - 1])),
    ("a currency added", _replaced(r"(?<![0-9.,])[0-9]{3,}", lambda m, r: r.choice(_CURRENCIES) + m[0])),
    ("a percent sign added or dropped", _replaced(r"%|(?<=[0-9])(?= )", lambda m, r: "" if m[0] else "%")),
    ("a not added", _replaced(_VERB, lambda m, r: m[0] + ("不" if m[0] in "应可得须" else " not"))),
    ("a not dropped", _replaced(re.compile(r"(?<=\S )" + _NEGATION.pattern + r"(?= \S)"), lambda m, r: "")),
    ("shall for may", _replaced(r"\b(?:shall|may|must)\b", lambda m, r: "may" if m[0] == "shall" else "shall")),
    ("another word", _other_word),
    ("a word left out", _word_left_out),
)  # fmt: skip


def main(folder: Path = SAMPLES) -> None:
    """Measure and print a line for each kind of quote, and every quote that was taken for what it is not."""
    begun = time.process_time()
    rows = measure(folder, QUOTES)
    spent_s = time.process_time() - begun
    for row in rows:
        print(f"{'true' if row.is_true else 'changed':8} {row.kind:34} {row.quotes:6} verified {row.verified:6}")
    for truth, name in ((True, "true"), (False, "changed")):
        of_these = [row for row in rows if row.is_true is truth]
        quotes, verified = sum(r.quotes for r in of_these), sum(r.verified for r in of_these)
        print(f"{name}: {verified} of {quotes} verified ({verified / max(quotes, 1):.1%})")
    print(f"{spent_s:.1f} s of processor time")
    for row in rows:
        for claim in row.wrong:
            print(f"{'not verified' if row.is_true else 'verified'}, {row.kind}: {claim!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
