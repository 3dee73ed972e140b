"""Attempts without an end as the ledger keeps them: in flight now, or cut off when a process or a host died."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from pipeline.domain import RULES_MODEL, PageRange

# Those in open batches are not among them: the API has them, and will tell.
_UNENDED = """
    a.ended_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM batched r JOIN batches b ON b.id = r.batch WHERE r.attempt = a.id AND b.ended_at IS NULL)
"""


def count(database: sqlite3.Connection) -> int:
    """How many there are."""
    [(number,)] = database.execute(f"SELECT count(*) FROM attempts a WHERE {_UNENDED}")  # noqa: S608 - a constant
    return int(number)


def unanswered(database: sqlite3.Connection) -> Iterator[tuple[int, str, str, bool, str, str, PageRange | None]]:
    """Those whose chunk has neither an answer, that of rules aside, nor parts in its place; the oldest first.

    Each with its run, its begin and whether it is the last one of its chunk; then the chunk's id, content and pages.
    """
    rows = database.execute(
        f"""
        SELECT a.id, a.run, a.begun_at, NOT EXISTS (SELECT 1 FROM attempts l WHERE l.chunk = a.chunk AND l.id > a.id),
            c.id, c.content, c.first_page, c.last_page
        FROM attempts a JOIN chunks c ON c.id = a.chunk
        WHERE {_UNENDED} AND c.state != 'split'
            AND NOT EXISTS (SELECT 1 FROM answers w WHERE w.chunk = a.chunk AND w.model IS NOT ?)
        ORDER BY a.id
        """,  # noqa: S608 - a constant
        (RULES_MODEL,),
    )
    for attempt, run, begun_at, is_last, chunk, content, first, last in rows:
        # A salvage that found the attempt alone knows neither content nor pages.
        yield attempt, run, begun_at, bool(is_last), chunk, content, PageRange(first, last) if first else None


def hold(database: sqlite3.Connection, chunk: str, reason: str) -> bool:
    """A chunk counts as lost, for this ``reason``; whether it did not before."""
    written = database.execute(
        """
        UPDATE chunks SET state = 'failed', failure = 'lost', reason = ?
        WHERE id = ? AND (failure IS NOT 'lost' OR reason IS NOT ?)
        """,
        (reason, chunk, reason),
    )
    return written.rowcount > 0
