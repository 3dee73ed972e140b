"""What the last runs that came to their end reported, as the ledger keeps it: rows for what differs alone."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections.abc import Iterable

from pipeline.domain import DocumentStatus, Memory, Remembered, Risk, Severity, ToRemember


def before(database: sqlite3.Connection, job: str, run: str, by_rules: bool) -> Memory | None:
    """What the last run of a job that came to its end before ``run`` reported; None if there was none.

    Of runs that rules read, or those that a model read. Known for the last two that came to their end.
    """
    where = {"job": job, "run": run, "by_rules": by_rules}
    last = database.execute(
        """
        SELECT id, finished_at, fingerprint FROM runs
        WHERE job = :job AND by_rules = :by_rules AND rowid < (SELECT rowid FROM runs WHERE id = :run)
        ORDER BY rowid DESC LIMIT 1
        """,
        where,
    ).fetchone()
    if last is None:
        return None
    rows = database.execute(
        """
        SELECT p.path, p.status, p.sha256, p.pages, p.risks, p.carried, max(r.rowid) -- the row that has it
        FROM reported p JOIN runs r ON r.id = p.run
        WHERE p.job = :job AND p.by_rules = :by_rules AND r.rowid < (SELECT rowid FROM runs WHERE id = :run)
        GROUP BY p.path
        """,
        where,
    )
    identity, finished_at, fingerprint = last
    documents = (
        Remembered(os.fsdecode(path), sha256, pages, DocumentStatus(status), _risks(risks), _risks(carried))
        for path, status, sha256, pages, risks, carried, _ in rows
        if status is not None
    )
    return Memory(identity, finished_at, fingerprint, {document.path: document for document in documents})


def remember(database: sqlite3.Connection, run: str, to_remember: ToRemember) -> None:
    """Add what differs from the run before, and drop what only the run before that one needed. In a transaction."""
    [job] = database.execute("SELECT job FROM runs WHERE id = ?", (run,)).fetchone()
    chain = (job, to_remember.by_rules)
    before = database.execute(
        "SELECT id FROM runs WHERE job = ? AND by_rules = ? ORDER BY rowid DESC LIMIT 1", chain
    ).fetchone()
    if before is not None:
        database.execute(
            """
            DELETE FROM reported WHERE job = ? AND by_rules = ? AND run != ?
                AND path IN (SELECT path FROM reported WHERE run = ?)
            """,
            (*chain, *before, *before),
        )
        database.execute("DELETE FROM reported WHERE run = ? AND status IS NULL", before)
    documents = (
        (*chain, os.fsencode(d.path), run, d.status.value, d.sha256, d.pages, _listed(d.risks), _listed(d.carried))
        for d in to_remember.documents
    )
    removed = ((*chain, os.fsencode(path), run, None, None, None, "[]", "[]") for path in to_remember.removed)
    rows = itertools.chain(documents, removed)
    database.executemany("INSERT INTO reported VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.execute("UPDATE runs SET by_rules = ? WHERE id = ?", (to_remember.by_rules, run))


def _listed(risks: Iterable[Risk]) -> str:
    values = [[r.id, r.title, r.category, r.severity.value, r.page, r.quote, r.own_check] for r in risks]
    return json.dumps(values, separators=(",", ":"))


def _risks(listed: str) -> tuple[Risk, ...]:
    if listed == "[]":  # of most documents, some of thousands
        return ()
    return tuple(
        Risk(title, category, Severity(severity), page, quote, "", "", own_check=own_check, id=identity)
        for identity, title, category, severity, page, quote, own_check in json.loads(listed)
    )
