"""Report files that take their places together, after all of them are whole on disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.text import printable

_FLUSHED_AT_ONCE = 16  # a file system writes its journal once for all that wait for it
_PREFIX, _SUFFIX = ".docpipe-", ".tmp"


class Staging:
    """Contents written under temporary names beside their places, waiting for ``publish``."""

    def __init__(self) -> None:
        self._moves: list[tuple[Path, Path]] = []  # (temporary name, place), in the order of adding

    def add(self, place: Path, blocks: Iterable[bytes]) -> None:
        """Write ``blocks`` one after the other beside ``place``; what stands there stays for now.

        Raises:
            SettingsError: the disk or the folder does not take it.
        """
        temporary = place.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
        self._moves.append((temporary, place))
        with naming(place), temporary.open("xb") as file:
            file.writelines(blocks)

    def publish(self, vanished: Iterable[Path]) -> None:
        """Bring every file to disk, move it into its place and remove ``vanished``; the file added last comes last.

        That one says what the others are: as long as it is the old one, the next run knows what to do again.

        Raises:
            SettingsError: a file cannot be moved or removed.
        """
        with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as threads:
            for _ in threads.map(_flush, *zip(*self._moves, strict=True)):
                pass
        *others, (last, last_place) = self._moves
        for temporary, place in others:
            with naming(place):
                temporary.replace(place)
        for path in vanished:
            with naming(path):
                path.unlink(missing_ok=True)
        with naming(last_place):
            for folder in {place.parent for _, place in others}:
                _sync(folder)
            last.replace(last_place)
            _sync(last_place.parent)

    def discard(self) -> None:
        """Remove the temporary files that were not moved."""
        for temporary, _ in self._moves:
            with suppress(OSError):  # the next write clears what this one cannot
                temporary.unlink()


@contextmanager
def staging(*folders: Path) -> Iterator[Staging]:
    """A ``Staging`` for ``folders``, which are made where missing and cleared of a killed run's temporary files.

    Raises:
        SettingsError: a folder cannot be made or read.
    """
    for folder in folders:
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for stray in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
                stray.unlink(missing_ok=True)
    staged = Staging()
    try:
        yield staged
    finally:
        staged.discard()


def written_ns(folder: Path) -> dict[str, int]:
    """When each file in ``folder`` was last written, by name, in nanoseconds since 1970; links are left out.

    Raises:
        SettingsError: the folder cannot be read.
    """
    with naming(folder), os.scandir(folder) as entries:
        return {e.name: e.stat(follow_symlinks=False).st_mtime_ns for e in entries if not e.is_symlink()}


def _flush(temporary: Path, place: Path) -> None:
    with naming(place), temporary.open("rb+") as file:
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Turn an operating system's refusal into one line that names ``place`` and says what to do."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"cannot write {printable(str(place))}: {error.strerror or error}. Free space there, make it writable or"
            " name another folder under [report] in the job file; then `docpipe report` writes the report from"
            " the ledger without sending anything"
        ) from error
