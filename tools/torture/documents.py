"""The documents of the rounds: small, no two pages alike, each page with a clause that the rules know."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

_TROUBLE = Path(__file__).resolve().parents[2] / "sample_docs" / "trouble"

_CLAUSES = (
    "The Supplier may increase the fees of schedule K{number:03} at any time in its sole discretion.",
    "The Customer shall pay a penalty of EUR {number}00 for each day of delay under schedule K{number:03}.",
    "This Agreement renews automatically for {number} further months unless schedule K{number:03} says otherwise.",
)

_PAGES = {
    "a letter.pdf": 1,
    "lease.pdf": 2,
    "2026/licence.pdf": 3,
    "2026/maintenance.pdf": 5,
    "supply.PDF": 7,
    "2026/Q3/framework.pdf": 12,
    "hosting.pdf": 8,
    "ünïcödé.pdf": 4,
    "catering.pdf": 6,
    "sealed.pdf": 3,
}
_SEALED = "sealed.pdf"  # opens without a password, but must be decrypted to be sent
_TWINS = {"2026/licence (copy).pdf": "2026/licence.pdf", "old/supply.pdf": "supply.PDF"}
_UNREADABLE = {"locked.pdf": "locked.pdf", "2026/download.pdf": "really-html.pdf", "empty.pdf": "empty.pdf"}


@dataclass(frozen=True, slots=True)
class Document:
    """A file to be put into a round's folder. ``pages`` is None when nobody can open it."""

    path: str
    content: bytes
    pages: int | None


def pool(scratch: Path) -> tuple[Document, ...]:
    """Every document there is; ``scratch`` is a folder for making them."""
    made: dict[str, Document] = {}
    first = 1
    for path, pages in _PAGES.items():
        made[path] = Document(path, _pdf(scratch / "new.pdf", first, pages, sealed=path == _SEALED), pages)
        first += pages
    twins = (Document(path, made[of].content, made[of].pages) for path, of in _TWINS.items())
    unreadable = (Document(path, (_TROUBLE / name).read_bytes(), None) for path, name in _UNREADABLE.items())
    return (*made.values(), *twins, *unreadable)


def _pdf(scratch: Path, first: int, pages: int, sealed: bool) -> bytes:
    encryption = StandardEncryption("", ownerPassword="owner", strength=128) if sealed else None
    canvas = Canvas(str(scratch), invariant=1, encrypt=encryption)
    for number in range(first, first + pages):
        canvas.drawString(60, 780, f"Schedule {number}")
        canvas.drawString(60, 760, _CLAUSES[number % len(_CLAUSES)].format(number=number))
        canvas.showPage()
    canvas.save()
    return scratch.read_bytes()


def drawn(documents: Sequence[Document], chance: random.Random) -> list[Document]:
    """Some of the documents, the one of the most pages first and the others in any order."""
    chosen = chance.sample(documents, chance.randint(7, 11))
    largest = max(chosen, key=lambda document: document.pages or 0)
    return [largest, *(document for document in chosen if document is not largest)]
