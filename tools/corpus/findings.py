"""What can be found out about a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.domain import PageRange


class Kind(StrEnum):
    """What must never happen; the values are the words for it in the table and the keys in JSON."""

    HUNG = "hung"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "pages_lost"
    NOT_REOPENED = "chunks_that_do_not_reopen"
    TEXT_DIFFERS = "pages_whose_text_differs"
    PICTURE_DIFFERS = "pages_whose_picture_differs"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not happen. ``pages`` is None when it concerns the file as a whole."""

    kind: Kind
    detail: str
    pages: PageRange | None = None

    @property
    def weight(self) -> int:
        """What it counts for in the table: pages where pages are counted, else 1."""
        in_pages = self.kind in (Kind.LOST, Kind.TEXT_DIFFERS, Kind.PICTURE_DIFFERS)
        return len(self.pages) if self.pages and in_pages else 1


@dataclass(slots=True)
class Examined:
    """One file, filled in while it is examined.

    ``pages`` is None when it could not be opened; then ``problem`` says why. ``uncut`` are the pages that
    were refused, with the reason. ``reading_s`` is wall time in ``inspect`` and ``cut``; ``peak_mb`` is that
    of the process that has read it, and of what that process has read before. ``uncompared`` counts why
    pages were not compared.
    """

    path: str
    size_bytes: int
    pages: int | None = None
    problem: str | None = None
    note: str | None = None
    chunk_bytes: int = 0
    chunks: int = 0
    pages_cut: int = 0
    reading_s: float = 0.0
    peak_mb: float = 0.0
    compared: int = 0
    uncut: list[tuple[int, str]] = field(default_factory=list)
    uncompared: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
