"""The SQLite file that knows every file, chunk, attempt and answer; the ledger's modules alone know sqlite3.

One process writes, under a lock that the kernel drops when the process dies; others may read meanwhile
(write-ahead log). An answer counts only when it is on disk: each transaction is flushed. It is found again by
its chunk id whatever became of the file, until ``remove_unused`` is asked to remove what no file has.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pipeline import (
    ledger_audit,
    ledger_batches,
    ledger_file,
    ledger_memory,
    ledger_retention,
    ledger_spending,
    ledger_unended,
    proofs,
)
from pipeline.domain import (
    RULES_MODEL,
    Answer,
    ChunkProof,
    ChunkRecord,
    ChunkState,
    Content,
    Expected,
    Failure,
    FailureClass,
    Layout,
    MediaType,
    Memory,
    OpenBatch,
    Outcome,
    PageRange,
    RunInfo,
    RunStatus,
    SourceFile,
    Spending,
    Split,
    ToRemember,
    Usage,
)
from pipeline.errors import ExitCode
from pipeline.ledger_batches import Batched
from pipeline.storage import Url
from pipeline.text import moment

_RUNS_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one attempt. ``state`` is the chunk's from now on.

    ``ended_at`` is None where its host was lost: it has no end, and a later run may find one.
    """

    attempt: int
    chunk: str
    outcome: Outcome
    state: ChunkState
    ended_at: str | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk, or a synthesis (``pages`` None), that an attempt begins for."""

    id: str
    content: str
    pages: PageRange | None


@dataclass(frozen=True, slots=True)
class Unended:
    """An attempt of which no end is on record, and whose chunk has neither an answer nor parts in its place.

    ``begun_at`` is ISO 8601 in UTC. ``is_last``: no other attempt for its chunk has begun since.
    """

    attempt: int
    chunk: NewChunk
    run: str
    begun_at: str
    is_last: bool = True

    @property
    def reason(self) -> str:
        """Why its chunk has no answer, for people."""
        return f"it may have been billed: sent at {moment(self.begun_at)} and cut off before its answer"


class Ledger:
    """Open one with ``writing`` (under a ``Lock``) or ``reading``; use it as a context manager."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Self]:
        """The ledger at ``path``, made or migrated where needed.

        Raises:
            LedgerError: damaged, from a newer version, not a ledger, or not writable.
        """
        with ledger_file.writing(path) as database:
            yield cls(database)

    @classmethod
    @contextmanager
    def reading(cls, path: Path) -> Iterator[Self]:
        """The ledger at ``path`` for looking only, also while a run writes; an empty one if there is none.

        Raises:
            LedgerError: damaged, from another version, or not a ledger.
        """
        with ledger_file.reading(path) as database:
            yield cls(database)

    def identity(self) -> str:
        """Which ledger this is: 32 hexadecimal digits, drawn when it was made or migrated.

        A copy has the same, and so does what a salvage brings back. Both may give the number of an attempt a second
        time, so only ledger, chunk and attempt together name an attempt for good.
        """
        return str(self._database.execute("SELECT id FROM identity").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written together and is on disk when the block ends, or not at all."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    # --- files and contents

    def files(self, job: str, folder: Path | Url) -> dict[str, SourceFile]:
        """What a job's last scan of a folder saw, by path."""
        rows = self._database.execute(
            """
            SELECT path, size_bytes, mtime_ns, sha256, problem, etag FROM files
            WHERE job = ? AND folder = ? ORDER BY path
            """,
            (job, os.fsencode(str(folder))),
        )
        return {path: SourceFile(path, *values) for path, *values in ((os.fsdecode(row[0]), *row[1:]) for row in rows)}

    def record_scan(self, job: str, folder: Path | Url, files: Iterable[SourceFile]) -> None:
        """These files, and no others, are in the folder now, as far as a job looks at it."""
        name = os.fsencode(str(folder))
        rows = [(job, name, os.fsencode(f.path), f.size_bytes, f.mtime_ns, f.sha256, f.problem, f.etag) for f in files]
        with self.transaction():
            self._database.execute("DELETE FROM files WHERE job = ? AND folder = ?", (job, name))
            self._database.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def contents(self, reader: str) -> dict[str, Content]:
        """The contents that were opened before, and those that this ``reader`` could not open."""
        rows = self._database.execute(
            """
            SELECT sha256, size_bytes, pages, encrypted, problem, note, text_chars, scans, bookmarks, media_type
            FROM contents WHERE pages IS NOT NULL OR reader = ?
            """,
            (reader,),
        )
        return {
            row[0]: Content(row[0], row[1], row[2], bool(row[3]), row[4], row[5], _layout(*row[6:9]), MediaType(row[9]))
            for row in rows
        }

    def record_contents(self, contents: Iterable[Content], reader: str) -> None:
        """What bytes turned out to be."""
        with self.transaction():
            self._database.executemany(
                "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        c.sha256,
                        c.size_bytes,
                        c.pages,
                        c.encrypted,
                        c.problem,
                        reader,
                        c.note,
                        *_columns(c.layout),
                        c.media_type.value,
                    )
                    for c in contents
                ],
            )

    # --- chunks

    def chunks(self) -> dict[str, ChunkRecord]:
        """Every chunk without its result, by id."""
        rows = self._database.execute(
            """
            SELECT c.id, c.state, c.failure, c.reason, a.model, c.split_after
            FROM chunks c LEFT JOIN answers a ON a.chunk = c.id
            """
        )
        return {
            row[0]: ChunkRecord(
                ChunkState(row[1]), FailureClass(row[2]) if row[2] else None, row[3], model=row[4], split_after=row[5]
            )
            for row in rows
        }

    def answered_contents(self) -> frozenset[str]:
        """The contents of which any chunk was ever answered, under whatever request fingerprint."""
        rows = self._database.execute("SELECT DISTINCT content FROM chunks WHERE state = 'answered'")
        return frozenset(row[0] for row in rows)

    def full_record(self, chunk: str) -> ChunkRecord:
        """One chunk with its result, its attempts and the id of its last request."""
        row = self._database.execute(
            """
            SELECT c.state, c.failure, c.reason, a.result, a.model, c.split_after, p.proof,
                (SELECT count(*) FROM attempts t WHERE t.chunk = c.id),
                coalesce(a.request_id, (SELECT t.request_id FROM attempts t
                    WHERE t.chunk = c.id AND t.request_id IS NOT NULL ORDER BY t.id DESC LIMIT 1))
            FROM chunks c LEFT JOIN answers a ON a.chunk = c.id LEFT JOIN proofs p ON p.chunk = c.id WHERE c.id = ?
            """,
            (chunk,),
        ).fetchone()
        if row is None:
            return ChunkRecord(ChunkState.OPEN)
        state, failure, reason, result, model, split_after, proof, attempts, request_id = row
        return ChunkRecord(
            ChunkState(state),
            FailureClass(failure) if failure else None,
            reason,
            attempts,
            request_id,
            _parsed(result, chunk) if result is not None or state == ChunkState.ANSWERED else None,
            model,
            split_after,
            proofs.loaded(proof) if proof is not None else None,
        )

    def unproven(self, prover: int) -> frozenset[str]:
        """The answered chunks of pages whose quotes nobody has looked for, or only another version of the prover."""
        rows = self._database.execute(
            """
            SELECT c.id FROM chunks c JOIN answers a ON a.chunk = c.id LEFT JOIN proofs p ON p.chunk = c.id
            WHERE c.first_page IS NOT NULL AND p.prover IS NOT ?
            """,
            (prover,),
        )
        return frozenset(row[0] for row in rows)

    def record_proof(self, chunk: str, proof: ChunkProof, prover: int) -> None:
        """What was found of the quotes of an answer, by this version of the prover. Inside a ``transaction``."""
        self._database.execute("INSERT OR REPLACE INTO proofs VALUES (?, ?, ?)", (chunk, prover, proofs.dumped(proof)))

    def begin(self, chunk: NewChunk, run: str, begun_at: str) -> int:
        """An attempt is about to be sent; its number. Inside a ``transaction``."""
        self._add(chunk)
        cursor = self._database.execute(
            "INSERT INTO attempts (chunk, run, begun_at) VALUES (?, ?, ?)", (chunk.id, run, begun_at)
        )
        return cursor.lastrowid or 0

    def settle(self, settled: Settled, run: str) -> None:
        """An attempt ended: its cost, and for an answer the answer. Inside a ``transaction``.

        ``run`` takes it in; of a batch it may be a later one than that which sent it.
        """
        outcome, wire = settled.outcome, settled.outcome.exchange
        name, reason = ("answered", None) if isinstance(outcome, Answer) else (outcome.kind.value, outcome.reason)
        usage = wire.usage
        tokens = (
            (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
            if usage
            else (None,) * 4
        )
        self._database.execute(
            """
            UPDATE attempts SET ended_at = ?, outcome = ?, reason = ?, status = ?, request_id = ?, latency_s = ?,
                model = ?, input_tokens = ?, output_tokens = ?, cache_read_tokens = ?, cache_write_tokens = ?,
                cost_usd = ?, may_be_billed = ?, run = ? WHERE id = ?
            """,
            (settled.ended_at, name, reason, wire.status, wire.request_id, wire.latency_s, wire.model, *tokens,
             settled.cost_usd, wire.may_be_billed, run, settled.attempt),
        )  # fmt: skip
        self._set_state(settled.chunk, settled.state, outcome)
        if isinstance(outcome, Answer):
            written = self._database.execute(
                """
                INSERT INTO answers VALUES (?, ?, ?, ?, ?) ON CONFLICT (chunk) DO UPDATE
                SET result = excluded.result, model = excluded.model,
                    request_id = excluded.request_id, run = excluded.run
                WHERE answers.model = ? -- what rules have answered, a model may answer; else the first answer stays
                """,
                (settled.chunk, _json(outcome.result), wire.model, wire.request_id, run, RULES_MODEL),
            )
            if written.rowcount:  # a proof was of the answer before
                self._database.execute("DELETE FROM proofs WHERE chunk = ?", (settled.chunk,))

    def record_unsent(self, chunk: NewChunk, outcome: Failure | Split, state: ChunkState) -> None:
        """What became of a chunk that could not be sent at all. Inside a ``transaction``."""
        self._add(chunk)
        self._set_state(chunk.id, state, outcome)
        if isinstance(outcome, Split) and outcome.after is not None:
            self._database.execute("UPDATE chunks SET split_after = ? WHERE id = ?", (outcome.after, chunk.id))

    def _add(self, chunk: NewChunk) -> None:
        pages = (chunk.pages.first, chunk.pages.last) if chunk.pages else (None, None)
        self._database.execute(
            "INSERT OR IGNORE INTO chunks (id, content, first_page, last_page, state) VALUES (?, ?, ?, ?, 'open')",
            (chunk.id, chunk.content, *pages),
        )

    def _set_state(self, chunk: str, state: ChunkState, outcome: Outcome | Split) -> None:
        failure = outcome.kind if isinstance(outcome, Failure) else None
        reason = outcome.note if isinstance(outcome, Answer) else outcome.reason
        # What failed for good and meets passing trouble when it is tried again keeps the better reason.
        passing = failure in (FailureClass.TRANSIENT, FailureClass.ACCOUNT)
        self._database.execute(
            """
            UPDATE chunks SET state = ?, failure = ?, reason = ?
            WHERE id = ? AND NOT (? AND state = 'failed' AND failure NOT IN ('transient', 'lost'))
                AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.chunk = chunks.id AND a.model IS NOT ?)
            """,
            (state.value, failure and failure.value, reason, chunk, passing, RULES_MODEL),
        )

    # --- batches

    def begin_batch(self, batch: OpenBatch, requests: Sequence[Batched], chunks: Sequence[NewChunk], run: str) -> None:
        """A batch is about to leave: it, an attempt for each of its ``chunks``, and how each was asked."""
        with self.transaction():
            attempts = [self.begin(chunk, run, batch.begun_at) for chunk in chunks]
            ledger_batches.begin(self._database, batch, attempts, requests)

    def batch_told(self, batch: str, name: str, status: str) -> None:
        """The API has it under this name, and this is how it is getting on."""
        with self.transaction():
            ledger_batches.told(self._database, batch, name, status)

    def end_batch(self, batch: str, ended_at: str) -> None:
        """No more is expected of it; a request without a result is cut off. Inside a ``transaction``."""
        ledger_batches.end(self._database, batch, ended_at)

    def forget_batch(self, batch: str) -> None:
        """It never came to the API: nothing of it was sent."""
        with self.transaction():
            ledger_batches.forget(self._database, batch)

    def open_batches(self) -> tuple[OpenBatch, ...]:
        """Those that were begun and have not ended, the oldest first."""
        return ledger_batches.open_batches(self._database)

    def batched(self, batch: str) -> tuple[tuple[Batched, NewChunk], ...]:
        """The requests of a batch whose results are not on record, and what each is for."""
        return tuple(
            (batched, NewChunk(chunk, content, pages))
            for batched, chunk, content, pages in ledger_batches.requests(self._database, batch)
        )

    # --- runs and money

    def begin_run(self, job: str, run: RunInfo) -> None:
        """A run of a job begins; its end is not known."""
        with self.transaction():
            self._database.execute(
                """
                INSERT INTO runs (id, job, started_at, status, endpoint, model, version, fingerprint)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (
                    run.id,
                    job,
                    run.started_at,
                    RunStatus.RUNNING.value,
                    run.endpoint,
                    run.model,
                    run.version,
                    run.fingerprint,
                ),
            )

    def expect(self, run: str, usage: Usage, cost_usd: float | None) -> None:
        """What a run is about to spend, as far as can be told before."""
        with self.transaction():
            self._database.execute(
                """
                UPDATE runs SET expected_input_tokens = ?, expected_output_tokens = ?, expected_usd = ? WHERE id = ?
                """,
                (usage.input_tokens, usage.output_tokens, cost_usd, run),
            )

    def finish_run(self, run: RunInfo, unfinished: Iterable[str] = (), to_remember: ToRemember | None = None) -> None:
        """How a run ended, and the paths of the documents that it left partial or failed.

        ``to_remember`` is what ``memory_before`` gives the next run; left out for one that was stopped.
        """
        with self.transaction():
            if to_remember is not None:
                ledger_memory.remember(self._database, run.id, to_remember)
            self._database.executemany(
                "INSERT INTO unfinished VALUES (?, ?)", [(run.id, os.fsencode(path)) for path in unfinished]
            )
            self._database.execute(
                """
                UPDATE runs SET finished_at = ?, status = ?, exit_code = ?, model = ?, stopped_because = ? WHERE id = ?
                """,
                (run.finished_at, run.status.value, run.exit_code, run.model, run.stopped_because, run.id),
            )

    def last_run(self, job: str) -> RunInfo | None:
        """The run of a job that began last; ``finished_at`` is "" while it runs, or when it was killed."""
        row = self._database.execute(
            """
            SELECT id, started_at, coalesce(finished_at, ''), status, coalesce(exit_code, -1), endpoint, model, version,
                fingerprint, stopped_because FROM runs WHERE job = ? ORDER BY rowid DESC LIMIT 1
            """,
            (job,),
        ).fetchone()
        if row is None:
            return None
        identity, started_at, finished_at, status, *rest = row
        return RunInfo(identity, started_at, finished_at, RunStatus(status), *rest)

    def last_success(self, job: str) -> str | None:
        """When the last run of a job that was complete ended, ISO 8601 in UTC; None when none was."""
        row = self._database.execute(
            "SELECT max(finished_at) FROM runs WHERE job = ? AND status = ?", (job, RunStatus.COMPLETE.value)
        ).fetchone()
        return str(row[0]) if row[0] else None

    def expected(self, run: str) -> Expected | None:
        """What a run was about to spend; None when it sent nothing."""
        row = self._database.execute(
            "SELECT expected_input_tokens, expected_output_tokens, expected_usd FROM runs WHERE id = ?", (run,)
        ).fetchone()
        return Expected(Usage(row[0], row[1]), row[2]) if row and row[0] is not None else None

    def unfinished_before(self, job: str, run: str) -> dict[str, int]:
        """For each path, how many runs of a job in a row left it partial or failed, up to the one before ``run``.

        Only runs that came to their end count, one that got no answer to the end among them: a document that
        fails alone cannot be told from an API that is down. One that was stopped says nothing about its documents.
        """
        rows = self._database.execute(
            """
            WITH ended AS (
                SELECT id, row_number() OVER (ORDER BY rowid DESC) AS age FROM runs
                WHERE job = ? AND (status IN ('complete', 'incomplete') OR exit_code = ?)
                    AND rowid < (SELECT rowid FROM runs WHERE id = ?)
                ORDER BY rowid DESC LIMIT ?)
            SELECT u.path, e.age FROM unfinished u JOIN ended e ON e.id = u.run ORDER BY e.age
            """,
            (job, int(ExitCode.API_DOWN), run, _RUNS_LOOKED_AT),
        )
        in_a_row: dict[str, int] = {}
        for path, age in rows:
            name = os.fsdecode(path)
            if in_a_row.get(name, 0) == age - 1:
                in_a_row[name] = age
        return in_a_row

    def memory_before(self, job: str, run: str, by_rules: bool) -> Memory | None:
        """What the last run of a job that came to its end before ``run`` reported; None if there was none.

        Of runs that rules read, or those that a model read. Known for the last two that came to their end.
        """
        return ledger_memory.before(self._database, job, run, by_rules)

    def contents_sent_in(self, run: str) -> frozenset[str]:
        """The contents that a run began an attempt for."""
        rows = self._database.execute(
            "SELECT DISTINCT c.content FROM attempts t JOIN chunks c ON c.id = t.chunk WHERE t.run = ?", (run,)
        )
        return frozenset(row[0] for row in rows)

    def spending(self, run: str | None = None) -> Spending:
        """What a run's requests came to, or those of all runs, removed ones too.

        A cost is unknown as soon as that of one request is that may have been billed.
        """
        return ledger_spending.spending(self._database, run)

    def remove_unused(self, now: datetime, keep_days: int) -> int:
        """Remove the contents that no file has had for so many days, with all that is known of them; how many.

        What they cost stays known as a sum. A content counts as unused from the first call that finds it so, and
        none is removed while there is a file that cannot be read: nobody knows what it holds.
        """
        with self.transaction():
            return ledger_retention.remove_unused(self._database, now, keep_days)

    def audit(self) -> ledger_audit.Audit:
        """Whether the file is whole and its books are right; reads all of it."""
        return ledger_audit.audit(self._database)

    # --- attempts without an end

    def cut_off_attempts(self) -> int:
        """Requests without an end: in flight now, or cut off, and then perhaps billed without an answer.

        Those in open batches are not among them.
        """
        return ledger_unended.count(self._database)

    def unended(self) -> tuple[Unended, ...]:
        """Attempts without an end whose chunk still wants an answer, the oldest first; none of open batches.

        When a run begins, under the lock, all of them are of runs that are no more.
        """
        return tuple(
            Unended(attempt, NewChunk(chunk, content, pages), run, begun_at, is_last)
            for attempt, run, begun_at, is_last, chunk, content, pages in ledger_unended.unanswered(self._database)
        )

    def hold(self) -> int:
        """Chunks whose last attempt has no end count as lost, so that only ``retry`` sends them; how many new ones.

        Before anything is begun, and after what hosts could tell is on record: all of them are cut off.
        """
        with self.transaction():
            lost = [one for one in self.unended() if one.is_last]
            return sum(ledger_unended.hold(self._database, one.chunk.id, one.reason) for one in lost)


def _parsed(result: str | None, chunk: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        value = json.loads(result or "")
        if isinstance(value, dict):
            return value
    raise sqlite3.DatabaseError(f"the answer of chunk {chunk} is {'no JSON object' if result else 'not there'}")


def _layout(text_chars: str, scans: str, bookmarks: str) -> Layout:
    return Layout(*map(tuple, json.loads(f"[{text_chars},{scans},{bookmarks}]")))  # a third of the time of three calls


def _columns(layout: Layout) -> tuple[str, str, str]:
    return _json(layout.text_chars), _json(layout.scans), _json(layout.bookmarks)


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
