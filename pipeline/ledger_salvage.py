"""What of a damaged ledger can still be read, in a new one.

SQLite reads a table from its beginning to the first damaged page, from its end backwards to the last one, and
between them from any key that it is given. Keys are known from the other tables and from the indexes, and those
of chunks and contents are hashes, which lie evenly. What is damaged within a page without SQLite noticing is told
by its JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import ledger_audit, ledger_file
from pipeline.errors import LedgerError

_PREFIXES = [f"{number:03x}" for number in range(4096)]  # where to look for hashes that no other table knows
_GAP = 2000  # rows; so many numbers in a row without one are the end

_HASHES = {"chunks": "id", "answers": "chunk", "proofs": "chunk", "contents": "sha256", "unused": "content"}
_NUMBERS = {"runs": "rowid", "attempts": "id", "removed_attempts": "id", "batched": "attempt"}
_OF_CONTENTS = ("contents", "unused")

# Keys of chunks, and of contents, by the tables that were read and by the indexes of the damaged file.
_CHUNKS_READ = "SELECT id FROM chunks UNION SELECT chunk FROM attempts UNION SELECT chunk FROM answers"
_CONTENTS_READ = "SELECT sha256 FROM files WHERE sha256 IS NOT NULL UNION SELECT content FROM chunks"
_CHUNKS_INDEXED = (
    "SELECT id FROM chunks INDEXED BY chunks_of_content ORDER BY content {order}",
    "SELECT chunk FROM attempts INDEXED BY attempts_of_chunk ORDER BY chunk {order}",
)
_CONTENTS_INDEXED = ("SELECT content FROM chunks INDEXED BY chunks_of_content ORDER BY content {order}",)

_JSON = {"result", "proof", "text_chars", "scans", "bookmarks", "risks", "carried"}  # columns


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was saved. ``kept_as`` is where the damaged file lies now.

    ``rows`` are those that were read, by table; ``damaged`` the tables of which some may be missing. ``lost`` counts
    the chunks that were answered and whose answer could not be read: the next run asks again.
    """

    kept_as: Path
    rows: dict[str, int]
    damaged: tuple[str, ...]
    lost: int


def salvage(path: Path, time: str) -> Salvaged | None:
    """Put a new ledger with all that can be read in the place of a damaged one; None for one in order. Under its lock.

    The damaged file is never changed: it is read in a copy, and kept beside as ``….damaged-<time>``, with its
    ``-wal``.

    Raises:
        LedgerError: there is none; its first pages cannot be read, so nothing can; from a newer version; the folder
            has no room for two copies.
    """
    if not path.is_file():
        raise LedgerError(f"there is no ledger {path}")
    try:
        with tempfile.TemporaryDirectory(prefix=f"{path.name}.salvage-", dir=path.parent) as folder:
            old, new = Path(folder) / "old", Path(folder) / "new"
            shutil.copyfile(path, old)
            if _wal(path).exists():
                shutil.copyfile(_wal(path), _wal(old))
            found = _read_into(old, new)
            if found is None:
                return None
            kept_as = path.with_name(f"{path.name}.damaged-{time}")
            _put_in_place(new, path, kept_as)
    except OSError as error:
        raise LedgerError(f"{path} cannot be salvaged: {error}") from None
    rows, damaged, lost = found
    return Salvaged(kept_as, rows, damaged, lost)


def _read_into(old: Path, new: Path) -> tuple[dict[str, int], tuple[str, ...], int] | None:
    """Rows by table, damaged tables and lost answers; None if nothing is wrong with the ``old`` one."""
    with ledger_file.as_it_is(old) as (source, version):
        if not ledger_audit.damage(source):
            return None
        with ledger_file.loading(new, version) as target:
            names = [name for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            names.sort(key=lambda name: name not in _NUMBERS)  # attempts name the chunks
            tables = [_Table(source, target, name) for name in names]
            for table in tables:
                table.read()
            for table in (*tables, *tables):  # again with the keys that the others had
                if table.is_damaged:
                    table.read_between(_known(source, target, of_contents=table.name in _OF_CONTENTS))
            lost = _mended(target, names)
            rows = {name: int(target.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in names}  # noqa: S608 - a constant
    return rows, tuple(table.name for table in tables if table.is_damaged), lost


def _known(source: sqlite3.Connection, target: sqlite3.Connection, of_contents: bool) -> set[str]:
    keys = {key for (key,) in target.execute(_CONTENTS_READ if of_contents else _CHUNKS_READ)}
    for query in _CONTENTS_INDEXED if of_contents else _CHUNKS_INDEXED:
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.DatabaseError):
                keys.update(key for (key,) in source.execute(query.format(order=order)) if isinstance(key, str))
    return keys


def _mended(target: sqlite3.Connection, names: Sequence[str]) -> int:
    """Make the rows fit each other again; how many answers were lost.

    An answer is found by the id of its chunk, so one whose chunk was lost is kept: of content "" and page 0.
    """
    target.execute(
        """
        INSERT OR IGNORE INTO chunks (id, content, first_page, last_page, state)
        SELECT chunk, '', 0, 0, 'answered' FROM answers UNION SELECT chunk, '', 0, 0, 'open' FROM attempts
        WHERE chunk NOT IN (SELECT chunk FROM answers)
        """
    )
    if "identity" in names:  # the one that was read, so that what hosts hold for this ledger is found; else the new one
        target.execute("DELETE FROM identity WHERE rowid < (SELECT max(rowid) FROM identity)")
    if "proofs" in names:
        target.execute("DELETE FROM proofs WHERE chunk NOT IN (SELECT chunk FROM answers)")
    for name in {"unfinished", "reported"} & set(names):
        target.execute(f"DELETE FROM {name} WHERE run NOT IN (SELECT id FROM runs)")  # noqa: S608 - a constant
    if "batched" in names:
        target.execute("DELETE FROM batched WHERE attempt NOT IN (SELECT id FROM attempts)")
        target.execute("DELETE FROM batched WHERE batch NOT IN (SELECT id FROM batches)")
    lost = "state = 'answered' AND id NOT IN (SELECT chunk FROM answers)"
    return target.execute(f"UPDATE chunks SET state = 'open' WHERE {lost}").rowcount  # noqa: S608 - a constant


class _Table:
    """One table on its way from ``source`` to ``target``."""

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection, name: str) -> None:
        self.name = name
        self.is_damaged = False
        self._source, self._target = source, target
        facts = target.execute(f"PRAGMA table_info({name})").fetchall()
        self._columns = ["rowid"] * (name == "runs") + [fact[1] for fact in facts]  # whose order is that of the runs
        primary = [column for _, column in sorted((fact[5], fact[1]) for fact in facts if fact[5])]
        self._keys = [_HASHES[name]] if name in _HASHES else [_NUMBERS[name]] if name in _NUMBERS else primary
        self._had: set[tuple[Any, ...]] = set()
        self._looked: set[str | int] = set()  # a key that led to damage once does so again

    def read(self) -> None:
        """From the beginning to the first damaged page, and from the end back to the last."""
        if not self._take_all("", (), "ASC"):
            self.is_damaged = True
            self._take_all("", (), "DESC")

    def read_between(self, known: Iterable[str]) -> None:
        """From every key that may stand between damaged pages, to the next of them on both sides."""
        if self.name in _HASHES:
            for key in (*known, *_PREFIXES):
                self._take_around(key)
        elif self.name in _NUMBERS:
            number, end = 1, _GAP
            while number <= end:
                self._take_around(number)
                number += 1
                if number > end:
                    end = max(self._had, default=(0,))[0] + _GAP

    def _take_around(self, key: str | int) -> None:
        if (key,) not in self._had and key not in self._looked:
            self._looked.add(key)
            self._take_all(f"WHERE {self._keys[0]} >= ?", (key,), "ASC")
            self._take_all(f"WHERE {self._keys[0]} < ?", (key,), "DESC")

    def _take_all(self, where: str, values: tuple[Any, ...], order: str) -> bool:
        """Whether there was an end other than a damaged page; a row that was read before is one."""
        last = None
        try:
            for row in self._source.execute(self._query(where, order), values):
                last = tuple(row[self._columns.index(column)] for column in self._keys)
                if last in self._had:
                    return True
                self._take(last, row)
        except sqlite3.DatabaseError:
            # Python steps ahead, so the row before the damage is not given out; alone it is.
            if last is not None:
                where = f"WHERE ({', '.join(self._keys)}) {'>' if order == 'ASC' else '<'} ({_marks(last)})"
                values = last
            with suppress(sqlite3.DatabaseError):
                for row in self._source.execute(self._query(where, order) + " LIMIT 1", values):
                    self._take(tuple(row[self._columns.index(column)] for column in self._keys), row)
            return False
        return True

    def _query(self, where: str, order: str) -> str:
        ordered = ", ".join(f"{column} {order}" for column in self._keys)
        return f"SELECT {', '.join(self._columns)} FROM {self.name} {where} ORDER BY {ordered}"  # noqa: S608 - constants

    def _take(self, key: tuple[Any, ...], row: Sequence[Any]) -> None:
        if key in self._had:
            return
        self._had.add(key)
        try:
            self._check(row)
            columns = ", ".join(self._columns)
            self._target.execute(f"INSERT INTO {self.name} ({columns}) VALUES ({_marks(row)})", row)  # noqa: S608
        except (ValueError, sqlite3.DatabaseError):  # garbage
            self.is_damaged = True

    def _check(self, row: Sequence[Any]) -> None:
        for column, value in zip(self._columns, row, strict=True):
            if column in _JSON and not isinstance(json.loads(value), dict if column in ("result", "proof") else list):
                raise ValueError(column)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _put_in_place(new: Path, path: Path, kept_as: Path) -> None:
    """At no moment is there no ledger: a run would begin anew, and pay for everything again."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    try:
        kept_as.hardlink_to(path)
    except OSError:  # not every file system has them
        shutil.copyfile(path, kept_as)
    with suppress(FileNotFoundError):  # what it holds was read; it must not be taken for the new one's
        _wal(path).rename(_wal(kept_as))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    new.replace(path)
