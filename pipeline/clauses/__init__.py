"""What the built-in rules look for: clauses of contracts worth a second look, in English, German and Chinese.

Data only; ``rules`` reads it. Raise ``domain.RULES_MODEL`` when an entry changes.
"""

from __future__ import annotations

from pipeline.clauses.binding import BINDING
from pipeline.clauses.burdens import BURDENS
from pipeline.clauses.wording import Clause, Wording

__all__ = ["CLAUSES", "Clause", "Wording"]

CLAUSES: tuple[Clause, ...] = (*BURDENS, *BINDING)
