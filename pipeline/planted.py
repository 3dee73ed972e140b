"""What was planted in a document for the program that reads it: risks that are found whatever a model says.

Two things are looked for: words that speak to a program (``instructions``), and words that a reader cannot see
(``hidden``). Everything here runs in a worker process (see ``sandbox``): a document is hostile input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from pipeline import hidden, instructions
from pipeline.domain import Box, QuoteCheck, Risk, Severity
from pipeline.hidden import Passage, Reason
from pipeline.instructions import Span
from pipeline.page_boxes import boxes
from pipeline.pdfium import Examined, PageText
from pipeline.text import encodable, shortened

CATEGORY = "prompt-injection"
"""The category of these risks, and the one that a model is asked to give such things."""

_MOST_ON_PAGE = 4
_MOST_IN_CHUNK = 12
_QUOTE_CHARS = 400

_UNSEEN = {
    Reason.NO_CONTRAST: "The words are in the file, but the page does not show them: they have the colour of what is "
    "behind them, or something lies over them, or they are not painted at all.",
    Reason.TINY: "The words are too small to be read on the page.",
    Reason.OUTSIDE: "The words are in the file, but beside the visible page.",
}
_TO_A_PROGRAM = (
    "These words speak to a program that reads the document, not to the parties. They may have been put there to "
    "change what this report says."
)
_ASK_WHY = "Read the pages around it yourself, and ask the sender why the words are there."


@dataclass(frozen=True, slots=True)
class _Finding:
    severity: Severity
    title: str
    explanation: str
    quote: str
    boxes: tuple[Box, ...]


def risks(pages: Iterable[int], examined: Callable[[int, Callable[[str], bool]], Examined]) -> tuple[Risk, ...]:
    """What is planted on these pages of a document, counted from 1: worst first, at most twelve, each once.

    Args:
        pages: which are looked at.
        examined: gives a page; ``pdfium.Pages.examined``.
    """
    found: dict[str, Risk] = {}
    also: dict[str, list[int]] = {}
    for number in pages:
        for finding in _findings(examined(number, _is_doubtful)):
            words = instructions.squashed(finding.quote)
            if words in found:
                also[words].append(number)
            elif len(found) < _MOST_IN_CHUNK * len(Severity):
                found[words] = _risk(finding, number)
                also[words] = []
    worst = sorted(found.items(), key=lambda item: (item[1].severity.rank, item[1].page or 0))[:_MOST_IN_CHUNK]
    return tuple(_with_pages(risk, also[words]) for words, risk in worst)


def _is_doubtful(text: str) -> bool:
    return bool(instructions.find(text))


def _risk(finding: _Finding, page: int) -> Risk:
    return Risk(
        title=finding.title,
        category=CATEGORY,
        severity=finding.severity,
        page=page,
        quote=finding.quote,
        explanation=finding.explanation,
        recommendation=_ASK_WHY,
        quote_check=QuoteCheck.VERIFIED,
        boxes=finding.boxes,
        own_check=True,
    )


def _with_pages(risk: Risk, also: list[int]) -> Risk:
    others = sorted({page for page in also if page != risk.page})
    if not others:
        return risk
    named = shortened(", ".join(map(str, others)), 60)
    return replace(risk, explanation=f"{risk.explanation} The same words stand on page {named} too.")


def _findings(page: Examined) -> list[_Finding]:
    """The findings of one page, worst first."""
    unseen = hidden.passages(page.page, page.picture) if page.picture else ()
    found = [*_in_text(page.page, unseen), *_in_notes(page)]
    return sorted(found, key=lambda finding: finding.severity.rank)[:_MOST_ON_PAGE]


def _in_text(page: PageText, unseen: tuple[Passage, ...]) -> Iterator[_Finding]:
    spoken = instructions.find(page.text)
    for passage in unseen:
        first, end = passage.span.first, passage.span.end
        if any(_overlap(span, passage.span) for span in spoken) or instructions.find(page.text[first:end]):
            explanation = f"{_UNSEEN[passage.reason]} {_TO_A_PROGRAM}"
            yield _finding(page, passage.span, Severity.CRITICAL, "Hidden instructions to a program", explanation)
        elif passage.is_sentence(page.text):
            yield _finding(
                page, passage.span, Severity.MEDIUM, "Text that a reader cannot see", _UNSEEN[passage.reason]
            )
    seen = [span for span in spoken if not any(_overlap(span, passage.span) for passage in unseen)]
    last = 0
    for span in seen:
        if span.first < last:  # in the sentence before
            continue
        whole = instructions.sentence(page.text, span)
        last = whole.end
        yield _finding(page, whole, Severity.HIGH, "Instructions to a program", _TO_A_PROGRAM)


def _in_notes(page: Examined) -> Iterator[_Finding]:
    for note in page.notes:
        for span in instructions.find(note.text)[:1]:
            whole = instructions.sentence(note.text, span)
            quote = _quote(note.text[whole.first : whole.end])
            if instructions.squashed(quote) in instructions.squashed(page.page.text):
                continue  # shown as text, and judged as such
            where = "a comment or form field that is not shown" if note.is_hidden else "a comment or form field"
            yield _Finding(
                Severity.CRITICAL if note.is_hidden else Severity.HIGH,
                "Hidden instructions to a program" if note.is_hidden else "Instructions to a program",
                f"The words stand in {where}. {_TO_A_PROGRAM}",
                quote,
                (note.box,),
            )


def _finding(page: PageText, span: Span, severity: Severity, title: str, explanation: str) -> _Finding:
    end = min(span.end, span.first + _QUOTE_CHARS)
    quote = _quote(page.text[span.first : end])
    places = boxes(page, [(span.first, end)]) if page.shares else ()
    return _Finding(severity, title, explanation, quote, places)


def _quote(text: str) -> str:
    """As it stands there, on one line."""
    return shortened(encodable(text.replace("\ufffe", "").replace("\x02", "")), _QUOTE_CHARS)


def _overlap(a: Span, b: Span) -> bool:
    return a.first < b.end and b.first < a.end
