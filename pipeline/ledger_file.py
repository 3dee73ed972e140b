"""The ledger's file: its tables and their migrations, the lock beside it, and ways to open it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import LedgerError, LockedError
from pipeline.text import printable

_PATIENCE_S = 60.0  # with another program that holds the file, such as a backup
_APPLICATION_ID = 0x646F6370  # "docp"

# Each runs once, in order, in one transaction together with the version it leads to. Never change one
# that was released: add another.
_MIGRATIONS = (
    """
    CREATE TABLE files (            -- what the scanner saw last; names as bytes: not every one is UTF-8
        folder BLOB NOT NULL,       -- the source folder; jobs may share a ledger
        path BLOB NOT NULL,         -- relative to it
        size_bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT,                -- NULL: could not be read, and problem says why
        problem TEXT,
        PRIMARY KEY (folder, path)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE contents (         -- what distinct bytes turned out to be
        sha256 TEXT PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        pages INTEGER,              -- NULL: cannot be opened, and problem says why
        encrypted INTEGER NOT NULL,
        problem TEXT,
        reader TEXT NOT NULL        -- the version that says so; another one looks again at what it could not open
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        job TEXT NOT NULL,
        started_at TEXT NOT NULL,
        finished_at TEXT,           -- NULL: running, or killed
        status TEXT NOT NULL,
        exit_code INTEGER,
        endpoint TEXT NOT NULL,
        model TEXT NOT NULL,
        version TEXT NOT NULL,
        fingerprint TEXT NOT NULL,  -- of its requests
        stopped_because TEXT
    ) STRICT;                       -- in the order of their rowids: a clock may jump
    CREATE TABLE chunks (           -- chunks of pages, and syntheses (first_page and last_page NULL)
        id TEXT PRIMARY KEY,
        content TEXT NOT NULL,
        first_page INTEGER,
        last_page INTEGER,
        state TEXT NOT NULL CHECK (state IN ('open', 'answered', 'failed', 'split')),
        failure TEXT,
        reason TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX chunks_of_content ON chunks (content);
    CREATE TABLE answers (
        chunk TEXT PRIMARY KEY REFERENCES chunks (id),
        result TEXT NOT NULL,       -- the JSON object, its pages counted within the chunk
        model TEXT,
        request_id TEXT,
        run TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE attempts (         -- one HTTP request each
        id INTEGER PRIMARY KEY,
        chunk TEXT NOT NULL REFERENCES chunks (id),
        run TEXT NOT NULL,
        begun_at TEXT NOT NULL,
        ended_at TEXT,              -- NULL: in flight, or cut off by the end of the process
        outcome TEXT,               -- 'answered' or the class of the failure
        reason TEXT,
        status INTEGER,
        request_id TEXT,
        latency_s REAL,
        model TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cost_usd REAL               -- NULL: unknown
    ) STRICT;
    CREATE INDEX attempts_of_chunk ON attempts (chunk);
    CREATE INDEX attempts_of_run ON attempts (run);
    """,
    """
    ALTER TABLE runs ADD COLUMN expected_input_tokens INTEGER;  -- NULL: nothing was sent
    ALTER TABLE runs ADD COLUMN expected_output_tokens INTEGER;
    ALTER TABLE runs ADD COLUMN expected_usd REAL;              -- NULL: unknown
    CREATE TABLE unfinished (       -- documents that a run which came to its end left partial or failed
        run TEXT NOT NULL REFERENCES runs (id),
        path BLOB NOT NULL,         -- as in files
        PRIMARY KEY (run, path)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE contents ADD COLUMN note TEXT;
    ALTER TABLE contents ADD COLUMN text_chars TEXT NOT NULL DEFAULT '[]';  -- JSON, one number for each page
    ALTER TABLE contents ADD COLUMN scans TEXT NOT NULL DEFAULT '[]';       -- JSON, pages
    ALTER TABLE contents ADD COLUMN bookmarks TEXT NOT NULL DEFAULT '[]';   -- JSON, pages
    ALTER TABLE chunks ADD COLUMN split_after INTEGER;  -- the last page of the first part; NULL: in the middle
    """,
    """
    ALTER TABLE contents ADD COLUMN media_type TEXT NOT NULL DEFAULT 'application/pdf';
    """,
    """
    ALTER TABLE attempts ADD COLUMN may_be_billed INTEGER;  -- without a count of tokens; NULL: in flight or cut off
    UPDATE attempts SET may_be_billed = status IS 200 WHERE ended_at IS NOT NULL;
    """,
    """
    CREATE TABLE proofs (           -- what was found of the quotes of an answer
        chunk TEXT PRIMARY KEY REFERENCES chunks (id),
        prover INTEGER NOT NULL,    -- the version that says so; another one looks again
        proof TEXT NOT NULL         -- JSON
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN by_rules INTEGER;   -- rules read, not a model; NULL: its report is not remembered
    CREATE TABLE reported (         -- what the last runs that came to their end reported: so from this run on
        job TEXT NOT NULL,
        by_rules INTEGER NOT NULL,
        path BLOB NOT NULL,         -- as in files
        run TEXT NOT NULL REFERENCES runs (id),
        status TEXT,                -- NULL: it was there no more
        sha256 TEXT,
        pages INTEGER,
        risks TEXT NOT NULL,        -- JSON, a list for each: id, title, category, severity, page, quote, own_check
        carried TEXT NOT NULL,      -- JSON, the same
        PRIMARY KEY (job, by_rules, path, run)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX reported_in_run ON reported (run);
    """,
    """
    CREATE TABLE files_of_jobs (    -- what the scanner saw last, each job with its own patterns
        job TEXT NOT NULL,
        folder BLOB NOT NULL,       -- the source folder
        path BLOB NOT NULL,         -- relative to it; names as bytes: not every one is UTF-8
        size_bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT,                -- NULL: could not be read, and problem says why
        problem TEXT,
        PRIMARY KEY (job, folder, path)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO files_of_jobs SELECT j.job, f.* FROM files f, (SELECT DISTINCT job FROM runs) j;
    DROP TABLE files;
    ALTER TABLE files_of_jobs RENAME TO files;
    """,
    """
    CREATE TABLE batches (          -- Message Batches
        id TEXT PRIMARY KEY,        -- ours: the ids of its requests at the API begin with it
        account TEXT NOT NULL,      -- a hash of the endpoint's address and the key
        begun_at TEXT NOT NULL,     -- before it left
        name TEXT,                  -- the API's id; NULL: whether the API has it is not known
        status TEXT,                -- as the API said last
        ended_at TEXT               -- NULL: its results are not on record
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE batched (          -- the requests of batches, and how each was asked
        attempt INTEGER PRIMARY KEY REFERENCES attempts (id),
        batch TEXT NOT NULL REFERENCES batches (id),
        custom_id TEXT NOT NULL,
        max_tokens INTEGER NOT NULL,
        by_schema INTEGER NOT NULL,
        reduced INTEGER NOT NULL,
        note TEXT                   -- what was sent in the pages' place
    ) STRICT;
    CREATE INDEX batched_in ON batched (batch);
    """,
    """
    CREATE TABLE unused (           -- contents that no file had at the end of a run that removes such
        content TEXT PRIMARY KEY,
        since TEXT NOT NULL         -- the first such run
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE removed_attempts ( -- what removed attempts came to, a row for each removal; columns as in Spending
        id INTEGER PRIMARY KEY,
        removed_at TEXT NOT NULL,
        requests INTEGER NOT NULL,
        retries INTEGER NOT NULL,
        chunks_recovered INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        known_usd REAL NOT NULL,
        unpriced INTEGER NOT NULL,
        retries_known_usd REAL NOT NULL,
        retries_unpriced INTEGER NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE identity (         -- one row: which ledger this is
        id TEXT PRIMARY KEY CHECK (length(id) = 32 AND id NOT GLOB '*[^0-9a-f]*')
    ) STRICT;
    INSERT INTO identity VALUES (lower(hex(randomblob(16))));
    """,
    """
    ALTER TABLE files ADD COLUMN etag TEXT;     -- of a file behind a URL, where its store gives one
    """,
)


class Lock:
    """The right to write one ledger: an ``flock`` beside it, which no crash leaves behind.

    Raises:
        LockedError: another process holds it; the message names it.
        LedgerError: the folder takes no file.
    """

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(ledger.name + ".lock")

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise LedgerError(f"the ledger's folder cannot be written: {error}") from None
        if not os.access(self._path.parent, os.W_OK):  # what a killed run left may be enough for SQLite to begin
            os.close(self._file)
            raise LedgerError(f"the ledger's folder {self._path.parent} cannot be written; make it writable")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 100).decode("utf-8", "replace").strip()
            os.close(self._file)
            raise LockedError(f"another run of this job is under way ({printable(owner) or 'owner unknown'})") from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"process {os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger at ``path``, made or migrated where needed; under its ``Lock``.

    Raises:
        LedgerError: damaged, from a newer version, not a ledger, or not writable.
    """
    with _explained(path), _connected(path, "rwc") as database:
        _version(database)  # before the first pragma: another program's file is left as it is
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # an answer that was paid survives a power cut
        database.execute("PRAGMA foreign_keys = ON")
        _migrate(database)
        yield database


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger at ``path`` for looking only, also while a run writes; an empty one if there is none.

    Raises:
        LedgerError: damaged, from another version, or not a ledger.
    """
    with _explained(path):
        if not _exists(path):
            with _connected(None, "memory") as database:
                _migrate(database)
                yield database
            return
        with _connected(path, "ro") as database:
            version = _version(database)
            if version == 0:  # a run has made the file a moment ago
                with _connected(None, "memory") as empty:
                    _migrate(empty)
                    yield empty
                return
            if version < len(_MIGRATIONS):
                raise LedgerError(f"{path} is from an older version; the next run of the job migrates it")
            yield database


def needs_migrating(path: Path) -> bool:
    """Whether the next run brings the ledger to this version.

    Raises:
        LedgerError: damaged, from a newer version, or not a ledger.
    """
    if not _exists(path):
        return False
    with _explained(path), _connected(path, "ro") as database:
        return 0 < _version(database) < len(_MIGRATIONS)


@contextmanager
def loading(path: Path, version: int) -> Iterator[sqlite3.Connection]:
    """A new ledger of an older ``version`` to be filled: one transaction, and rows may come in any order.

    Raises:
        LedgerError: the file cannot be written.
    """
    with _explained(path), _connected(path, "rwc") as database:
        database.execute("PRAGMA foreign_keys = OFF")
        _migrate(database, version)
        database.execute("BEGIN")
        yield database
        database.execute("COMMIT")


@contextmanager
def as_it_is(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """A ledger of any version, damaged or not, and its version. Errors of SQLite in the block are the caller's.

    Raises:
        LedgerError: not even its first pages can be read; from a newer version; another program's.
    """
    with _connected(path, "rw") as database:
        with _explained(path):
            version = _version(database)
        yield database, version


@contextmanager
def _connected(path: Path | None, mode: str) -> Iterator[sqlite3.Connection]:
    if path is None:
        database = sqlite3.connect(":memory:", isolation_level=None)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{path.resolve().as_uri()}?mode={mode}"
        database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_S)
    try:
        yield database
    finally:
        database.close()


def _version(database: sqlite3.Connection) -> int:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    application = int(database.execute("PRAGMA application_id").fetchone()[0])
    tables = int(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if (version or tables) and application != _APPLICATION_ID:
        raise LedgerError("the file is another program's database; set [ledger] path to a file of its own")
    if version > len(_MIGRATIONS):
        raise LedgerError("the ledger was written by a newer version of docpipe; use that version")
    return version


def _migrate(database: sqlite3.Connection, to: int = len(_MIGRATIONS)) -> None:
    version = _version(database)
    for number, script in enumerate(_MIGRATIONS[version:to], version + 1):
        marks = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {number}"
        database.executescript(f"BEGIN IMMEDIATE; {script}; {marks}; COMMIT")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be looked at: {error.strerror}") from None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors as trouble with the run: one line and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise LedgerError(
            f"the ledger {path} cannot be used: {error}; check the disk, and the permissions of the ledger and of"
            " the files beside it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise LedgerError(
            f"the ledger {path} is damaged: {error}; restore it from a backup, or save what can still be read with "
            "`docpipe salvage`"
        ) from error
