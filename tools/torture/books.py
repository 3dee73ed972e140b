"""The books of a round as values: the ledger on disk, what the endpoint saw, the processes that ran."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.faults import FaultKind
from pipeline.serve import Seen

PROCESS_HEADER = "x-torture-process"
"""Each process tells its number in this header, so that every request has its process."""

_HARMLESS = (None, FaultKind.SLOW)


@dataclass(frozen=True, slots=True)
class Run:
    """A row of ``runs``; ``finished_at`` is None when it was killed."""

    id: str
    finished_at: str | None
    status: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of ``chunks``; a synthesis has no pages."""

    id: str
    content: str
    first_page: int | None
    last_page: int | None
    state: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A row of ``answers``; ``result`` is the JSON as it stands there."""

    chunk: str
    result: str
    model: str | None
    request_id: str | None
    run: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of ``attempts``; ``ended_at`` is None when it was cut off.

    ``tokens`` are input, output, cache read and cache write; each is None when it was not reported.
    """

    id: int
    chunk: str
    run: str
    ended_at: str | None
    outcome: str | None
    status: int | None
    request_id: str | None
    cost_usd: float | None
    may_be_billed: int | None
    tokens: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger as it is on disk: ``runs`` and ``attempts`` in their order, ``chunks`` and ``answers`` by chunk id."""

    runs: tuple[Run, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    chunks: Mapping[str, Chunk] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the endpoint saw whole.

    ``asked`` is the same for requests for the same pages, or for the same synthesis. ``is_paid``: a whole
    message went out, so it was billed; ``is_good``: and it was the answer that was asked for.
    """

    process: int
    asked: str
    request_id: str
    is_paid: bool
    is_good: bool


@dataclass(frozen=True, slots=True)
class Process:
    """One process that has ended, of ``docpipe COMMAND``. ``run`` is None when it did not come to begin one.

    ``is_cut``: it ended in a way that may lose what was in flight, as a kill does.
    """

    number: int
    run: str | None
    exit_code: int
    is_cut: bool
    command: str = "run"


def books_of(ledger: Path) -> Books:
    """The ledger at this path; an empty one if there is none.

    A copy is read, its write-ahead log with it, so that the next process finds what the last one left.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="docpipe-books-") as place:
        copy = Path(place) / "ledger"
        for suffix in ("", "-wal"):
            if (source := ledger.with_name(ledger.name + suffix)).exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as database:
            if database.execute("PRAGMA user_version").fetchone() == (0,):
                return Books()
            for check in ("integrity_check", "foreign_key_check"):
                if (found := database.execute(f"PRAGMA {check}").fetchall()) not in ([("ok",)], []):
                    raise sqlite3.DatabaseError(f"{check}: {found}")
            return _books_in(database)


def _books_in(database: sqlite3.Connection) -> Books:
    runs = database.execute("SELECT id, finished_at, status, exit_code FROM runs ORDER BY rowid")
    attempts = database.execute(
        """
        SELECT id, chunk, run, ended_at, outcome, status, request_id, cost_usd, may_be_billed,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens FROM attempts ORDER BY id
        """
    )
    chunks = database.execute("SELECT id, content, first_page, last_page, state FROM chunks")
    answers = database.execute("SELECT chunk, result, model, request_id, run FROM answers")
    return Books(
        tuple(Run(*row) for row in runs),
        tuple(Attempt(*(*row[:9], row[9:])) for row in attempts),
        {row[0]: Chunk(*row) for row in chunks},
        {row[0]: Answer(*row) for row in answers},
    )


def requests_of(seen: Iterable[Seen]) -> tuple[Request, ...]:
    """The endpoint's record; it must have kept the bodies."""
    return tuple(
        Request(
            int(entry.headers[PROCESS_HEADER]),
            _asked(entry.body),
            f"req_offline_{entry.ordinal:06d}",
            entry.answered,
            entry.answered and entry.fault in _HARMLESS,
        )
        for entry in seen
    )


def _asked(body: Any) -> str:
    """What a request is about, however it is worded: its document, or the summaries that it wants joined."""
    *documents, text = body["messages"][0]["content"]
    about = [block["source"]["data"] for block in documents] or re.findall(r"<part .*?</part>", text["text"], re.DOTALL)
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
