"""What of the ledger nobody needs any more, and how it is removed."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from pipeline import ledger_spending

_RUNS_KEPT = 100  # of each job: so far back is looked for documents that no run could read

# What any file has that a job saw at its last scan, and what is compared with the next report.
_NEEDED = "SELECT sha256 FROM files WHERE sha256 IS NOT NULL UNION SELECT sha256 FROM reported WHERE sha256 IS NOT NULL"


def remove_unused(database: sqlite3.Connection, now: datetime, keep_days: int) -> int:
    """Remove contents that no file has had for so many days, and runs that nothing is left of; how many contents.

    What the last run of each job sent stays, for ``status`` and ``report`` tell of it, and what is in a batch that is
    under way. In a transaction.
    """
    until = (now - timedelta(days=keep_days)).isoformat(timespec="milliseconds")
    database.execute(f"DELETE FROM unused WHERE content IN ({_NEEDED})")  # noqa: S608 - a constant
    if database.execute("SELECT 1 FROM files WHERE sha256 IS NULL LIMIT 1").fetchone():
        return 0
    database.execute(
        f"""
        INSERT OR IGNORE INTO unused
        SELECT content, ? FROM (SELECT sha256 AS content FROM contents UNION SELECT content FROM chunks)
        WHERE content NOT IN ({_NEEDED}) AND content != '' -- a chunk of which a salvage found the answer alone
        """,  # noqa: S608 - a constant
        (now.isoformat(timespec="milliseconds"),),
    )
    database.execute("CREATE TEMP TABLE going (content TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
    removed = database.execute(
        """
        INSERT INTO going SELECT content FROM unused WHERE since <= ? AND content NOT IN (
            SELECT c.content FROM attempts t JOIN chunks c ON c.id = t.chunk
            WHERE t.run IN (SELECT id FROM runs r WHERE rowid = (SELECT max(rowid) FROM runs WHERE job = r.job))
                OR t.id IN (SELECT q.attempt FROM batched q JOIN batches b ON b.id = q.batch WHERE b.ended_at IS NULL))
        """,
        (until,),
    ).rowcount
    if removed:
        ledger_spending.keep_the_sum(database, "going", now.isoformat(timespec="milliseconds"))
        chunks = "SELECT id FROM chunks WHERE content IN going"
        database.execute(f"DELETE FROM batched WHERE attempt IN (SELECT id FROM attempts WHERE chunk IN ({chunks}))")  # noqa: S608
        database.execute("DELETE FROM batches WHERE id NOT IN (SELECT batch FROM batched) AND ended_at IS NOT NULL")
        for table in ("proofs", "answers", "attempts"):
            database.execute(f"DELETE FROM {table} WHERE chunk IN ({chunks})")  # noqa: S608 - constants
        database.execute("DELETE FROM chunks WHERE content IN going")
        database.execute("DELETE FROM contents WHERE sha256 IN going")
        database.execute("DELETE FROM unused WHERE content IN going")
    database.execute("DROP TABLE going")
    _remove_runs(database, until)
    return removed


def _remove_runs(database: sqlite3.Connection, until: str) -> None:
    going = """
        SELECT id FROM (
            SELECT id, started_at, row_number() OVER (PARTITION BY job ORDER BY rowid DESC) AS age,
                row_number() OVER (PARTITION BY job, by_rules ORDER BY rowid DESC) AS age_alike
            FROM runs)
        WHERE started_at <= ? AND age > ? AND age_alike > 2 -- what the next report is compared with
            AND id NOT IN (SELECT run FROM attempts) AND id NOT IN (SELECT run FROM reported)
    """
    database.execute(f"DELETE FROM unfinished WHERE run IN ({going})", (until, _RUNS_KEPT))  # noqa: S608 - a constant
    database.execute(f"DELETE FROM runs WHERE id IN ({going})", (until, _RUNS_KEPT))  # noqa: S608 - a constant
