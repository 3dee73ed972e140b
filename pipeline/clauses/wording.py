"""How a clause is described: what it is called, how it is worded, what to say of it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.domain import Severity


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to say something: words that must all stand in one sentence, in any order.

    ``groups``: of each group one word, the words of a group parted by "|". A word is the beginning of a
    word of the sentence; "=" in front makes it the whole word, "*" in front lets it begin anywhere.
    ``unless``: a regular expression that must not match. Both see the sentence in lower case, with one
    space instead of all that is not a letter or digit, and a space at each end.
    """

    groups: tuple[str, ...]
    unless: str = r"(?!)"


@dataclass(frozen=True, slots=True)
class Clause:
    """A kind of clause and what to say of it. Within a category the first clause that fits counts."""

    category: str
    severity: Severity
    title: str
    explanation: str
    recommendation: str
    wordings: tuple[Wording, ...]


MUTUAL = (
    r" (?:either|each|neither|both|any) part(?:y|ies) "
    r"| jede[rs]? (?:partei|vertragsp)| beiden? (?:part|vertragsp)"
)
FORCE_MAJEURE = r" force majeure | höhere[r]? gewalt| beyond (?:its|the|their) (?:reasonable )?control"
