"""Whether the ledger's books are right: the file whole, its rows in accord, what was reported still answered."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.domain import PageRange
from pipeline.text import printable

_NAMED = 10  # of one kind of trouble; the rest is counted

# Rows that no version writes, by what is wrong with them.
_NOT_RIGHT = {
    "chunks count as answered and have no answer": """
        SELECT id FROM chunks WHERE state = 'answered' AND id NOT IN (SELECT chunk FROM answers)""",
    "answers are no JSON object": """
        SELECT chunk FROM answers WHERE CASE WHEN json_valid(result) THEN json_type(result) != 'object' ELSE 1 END""",
    "proofs are no JSON, or of no answer": """
        SELECT chunk FROM proofs WHERE NOT json_valid(proof) OR chunk NOT IN (SELECT chunk FROM answers)""",
    "contents have facts that are no JSON": """
        SELECT sha256 FROM contents
        WHERE NOT (json_valid(text_chars) AND json_valid(scans) AND json_valid(bookmarks))""",
    "runs reported what is no JSON": """
        SELECT DISTINCT run FROM reported WHERE NOT (json_valid(risks) AND json_valid(carried))""",
    "requests cost less than nothing": """
        SELECT chunk FROM attempts WHERE cost_usd < 0 OR min(input_tokens, output_tokens) < 0""",
}

# What a salvage could not bring back; nothing else depends on it.
_MISSING = {
    "answers came from requests that are not known: the spending over all runs is too low": """
        SELECT count(*) FROM answers WHERE chunk NOT IN (SELECT chunk FROM attempts WHERE outcome = 'answered')""",
    "requests are of runs that are not known: only the spending over all runs has them": """
        SELECT count(*) FROM attempts WHERE run NOT IN (SELECT id FROM runs)""",
    "answers are known by their id alone, without content and pages": """
        SELECT count(*) FROM chunks WHERE content = '' AND state = 'answered'""",
}


@dataclass(frozen=True, slots=True)
class Audit:
    """``damage`` needs a backup or a salvage; ``unanswered`` the next run; ``notes`` nothing. Empty: in order."""

    damage: tuple[str, ...]
    unanswered: tuple[str, ...]
    notes: tuple[str, ...]


def audit(database: sqlite3.Connection) -> Audit:
    """Look at the whole ledger as it is at one moment, also while a run writes."""
    damage: list[str] = []
    unanswered: list[str] = []
    notes: list[str] = []
    database.execute("BEGIN")
    try:
        damage += _damage(database)
        if not damage:
            notes += _notes(database)
            unanswered += _unanswered(database)
    except sqlite3.DatabaseError as error:  # so damaged that not even looking goes on
        damage.append(f"the file is damaged: {error}")
    finally:
        database.execute("ROLLBACK")
    return Audit(tuple(damage), tuple(unanswered), tuple(notes))


def damage(database: sqlite3.Connection) -> tuple[str, ...]:
    """What is wrong with the file and its rows; empty: nothing."""
    try:
        return tuple(_damage(database))
    except sqlite3.DatabaseError as error:
        return (f"the file is damaged: {error}",)


def _damage(database: sqlite3.Connection) -> Iterator[str]:
    whole = True
    for (line,) in database.execute(f"PRAGMA integrity_check({_NAMED})"):
        if line != "ok":
            whole = False
            yield f"the file is damaged: {printable(line)}"
    if not whole:  # what is read from such a file says nothing
        return
    for table, _, parent, _ in database.execute("PRAGMA foreign_key_check").fetchmany(_NAMED):
        yield f"a row of {table} is left without its row of {parent}"
    for wrong, query in _NOT_RIGHT.items():
        found = [str(key) for (key,) in database.execute(query)]
        if found:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            yield f"{len(found)} {wrong}: {printable(', '.join(found[:_NAMED]))}{more}"


def _notes(database: sqlite3.Connection) -> Iterator[str]:
    for missing, query in _MISSING.items():
        [(count,)] = database.execute(query)
        if count:
            yield f"{count} {missing}"


def _unanswered(database: sqlite3.Connection) -> Iterator[str]:
    """Documents that the last report called done, whose bytes are the same and some page has no answer."""
    if database.execute("SELECT 1 FROM chunks WHERE content = '' LIMIT 1").fetchone():
        return  # nobody knows the pages of these
    answered: dict[str, list[PageRange]] = defaultdict(list)
    for content, first, last in database.execute(
        """
        SELECT c.content, c.first_page, c.last_page FROM chunks c JOIN answers a ON a.chunk = c.id
        WHERE c.first_page IS NOT NULL ORDER BY c.content, c.first_page
        """
    ):
        answered[content].append(PageRange(first, last))
    reported = database.execute(
        """
        SELECT p.path, p.sha256, p.pages, p.status, max(r.rowid) -- the row that has it
        FROM reported p JOIN runs r ON r.id = p.run
        GROUP BY p.job, p.by_rules, p.path
        """
    )
    for path, content, pages, status, _ in reported:
        missing = _gaps(answered[content], pages) if status == "done" and content and pages else []
        if missing:
            yield f"{printable(os.fsdecode(path))} was reported as done, and no answer has {', '.join(missing)}"


def _gaps(ranges: list[PageRange], pages: int) -> list[str]:
    """The pages that no range holds; ``ranges`` in the order of their first pages."""
    gaps, next_page = [], 1
    for found in [*ranges, PageRange(pages + 1, pages + 1)]:
        if found.first > next_page:
            gaps.append(PageRange(next_page, found.first - 1).label)
        next_page = max(next_page, found.last + 1)
    return gaps
