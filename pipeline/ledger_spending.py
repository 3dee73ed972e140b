"""What requests came to, as the ledger has it; of removed ones it keeps the sum."""

from __future__ import annotations

import sqlite3
from typing import Any

from pipeline.domain import Spending, Usage

# In these columns sums can be added up; an unknown cost is a request of which the cost is unknown.
_SUMS = """
    WITH sent AS (
        SELECT t.*,
            EXISTS (SELECT 1 FROM attempts e
                WHERE e.chunk = t.chunk AND e.id < t.id AND e.outcome IS NOT 'answered') AS again,
            EXISTS (SELECT 1 FROM attempts e
                WHERE e.chunk = t.chunk AND e.id < t.id AND e.outcome != 'answered') AS after_failure,
            t.cost_usd IS NULL
                AND (t.ended_at IS NULL OR t.may_be_billed OR t.input_tokens IS NOT NULL) AS unpriced
        FROM attempts t WHERE {where})
    SELECT count(*) AS requests, coalesce(sum(again), 0) AS retries,
        coalesce(sum(after_failure AND outcome = 'answered'), 0) AS chunks_recovered,
        coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
        coalesce(sum(cache_read_tokens), 0) AS cache_read_tokens,
        coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens,
        total(cost_usd) AS known_usd, coalesce(sum(unpriced), 0) AS unpriced,
        total(cost_usd) FILTER (WHERE again) AS retries_known_usd,
        coalesce(sum(again AND unpriced), 0) AS retries_unpriced
    FROM sent
"""
_COLUMNS = (
    "requests, retries, chunks_recovered, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, "
    "known_usd, unpriced, retries_known_usd, retries_unpriced"
)


def spending(database: sqlite3.Connection, run: str | None) -> Spending:
    """What a run's requests came to, or those of all runs, removed ones too."""
    if run is not None:
        return _spending(database.execute(_SUMS.format(where="t.run = ?"), (run,)).fetchone())
    rows = [
        database.execute(_SUMS.format(where="1")).fetchone(),
        *database.execute(f"SELECT {_COLUMNS} FROM removed_attempts"),  # noqa: S608 - a constant
    ]
    return _spending(tuple(sum(column) for column in zip(*rows, strict=True)))


def keep_the_sum(database: sqlite3.Connection, contents: str, removed_at: str) -> None:
    """Note what the attempts for the contents in the table ``contents`` came to, for they are about to be removed.

    All attempts for a chunk go together, else a later one would no longer count as a retry.
    """
    where = f"t.chunk IN (SELECT id FROM chunks WHERE content IN {contents})"  # noqa: S608 - a table's name
    database.execute(
        f"INSERT INTO removed_attempts (removed_at, {_COLUMNS}) SELECT ?, * FROM ({_SUMS.format(where=where)})",  # noqa: S608
        (removed_at,),
    )


def _spending(row: tuple[Any, ...]) -> Spending:
    requests, retries, recovered, *tokens, known_usd, unpriced, retries_known_usd, retries_unpriced = row
    return Spending(
        requests,
        retries,
        recovered,
        Usage(*tokens),
        cost_usd=None if unpriced else known_usd,
        retry_cost_usd=None if retries_unpriced else retries_known_usd,
        known_usd=known_usd,
        unpriced=unpriced,
    )
