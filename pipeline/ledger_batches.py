"""Message Batches as the ledger keeps them: which are open, and how each of their requests was asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.domain import OpenBatch, PageRange
from pipeline.text import moment


@dataclass(frozen=True, slots=True)
class Batched:
    """One request of a batch: its id there, and how it was asked. ``attempt`` is 0 until it has a number.

    ``note`` says what was sent in the pages' place, where it was not they.
    """

    custom_id: str
    max_tokens: int
    by_schema: bool
    reduced: bool
    note: str | None = None
    attempt: int = 0


def begin(database: sqlite3.Connection, batch: OpenBatch, attempts: Sequence[int], requests: Sequence[Batched]) -> None:
    """A batch and its requests, whose ``attempts`` have begun; each chunk says where it is."""
    database.execute(
        "INSERT INTO batches (id, account, begun_at) VALUES (?, ?, ?)", (batch.id, batch.account, batch.begun_at)
    )
    database.executemany(
        "INSERT INTO batched VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (attempt, batch.id, r.custom_id, r.max_tokens, r.by_schema, r.reduced, r.note)
            for attempt, r in zip(attempts, requests, strict=True)
        ],
    )
    _explain(database, batch.id, f"in a batch that was sent at {moment(batch.begun_at)}")


def told(database: sqlite3.Connection, batch: str, name: str, status: str) -> None:
    """What the API says of a batch."""
    (before,) = database.execute("SELECT name FROM batches WHERE id = ?", (batch,)).fetchone()
    database.execute("UPDATE batches SET name = ?, status = ? WHERE id = ?", (name, status, batch))
    if before is None:
        _explain(database, batch, f"in the batch {name}")


def end(database: sqlite3.Connection, batch: str, ended_at: str) -> None:
    """Nothing more is expected of a batch."""
    _explain(database, batch, None)
    database.execute("UPDATE batches SET ended_at = ? WHERE id = ?", (ended_at, batch))


def forget(database: sqlite3.Connection, batch: str) -> None:
    """Take a batch that never was, and its attempts, off the record."""
    _explain(database, batch, None)
    attempts = database.execute("SELECT attempt FROM batched WHERE batch = ?", (batch,)).fetchall()
    database.execute("DELETE FROM batched WHERE batch = ?", (batch,))
    database.executemany("DELETE FROM attempts WHERE id = ?", attempts)
    database.execute("DELETE FROM batches WHERE id = ?", (batch,))


def open_batches(database: sqlite3.Connection) -> tuple[OpenBatch, ...]:
    """Batches without an end, the oldest first."""
    rows = database.execute(
        """
        SELECT b.id, b.account, b.begun_at, (SELECT count(*) FROM batched r WHERE r.batch = b.id), b.name, b.status
        FROM batches b WHERE b.ended_at IS NULL ORDER BY b.begun_at, b.id
        """
    )
    return tuple(OpenBatch(*row) for row in rows)


def requests(database: sqlite3.Connection, batch: str) -> Iterator[tuple[Batched, str, str, PageRange | None]]:
    """The requests of a batch without a result: each with its chunk, that one's content and pages."""
    rows = database.execute(
        """
        SELECT r.custom_id, r.max_tokens, r.by_schema, r.reduced, r.note, r.attempt,
            c.id, c.content, c.first_page, c.last_page
        FROM batched r JOIN attempts a ON a.id = r.attempt JOIN chunks c ON c.id = a.chunk
        WHERE r.batch = ? AND a.ended_at IS NULL ORDER BY r.attempt
        """,
        (batch,),
    )
    for custom_id, max_tokens, by_schema, reduced, note, attempt, chunk, content, first, last in rows:
        pages = PageRange(first, last) if first is not None else None
        yield Batched(custom_id, max_tokens, bool(by_schema), bool(reduced), note, attempt), chunk, content, pages


def _explain(database: sqlite3.Connection, batch: str, reason: str | None) -> None:
    """Say of what has no answer and may still get one why that is so."""
    database.execute(
        """
        UPDATE chunks SET state = 'open', failure = NULL, reason = ?
        WHERE (state = 'open' OR state = 'failed' AND failure = 'transient') AND id IN (
            SELECT a.chunk FROM attempts a JOIN batched r ON r.attempt = a.id
            WHERE r.batch = ? AND a.ended_at IS NULL)
        """,
        (reason, batch),
    )
