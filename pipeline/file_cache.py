"""Copies of files that lie behind URLs, on a disk of this machine: each under the hash of its bytes.

A copy is made under another name, hashed, flushed and renamed, so whatever bears a hash is whole, after a kill and a
power cut too. Several processes may share the folder: who uses a file holds a lock on it that the kernel drops when the
process dies, and only what nobody holds is removed. Bytes are counted, not blocks of the disk.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.pdf import Source, SourceChangedError
from pipeline.text import printable

DEFAULT_BYTES = 10_000_000_000
_PART_PREFIX = "part-"
_TRIES = 3
_COUNTED_ANEW = 20  # times while the whole bound is brought: another process may have added as much meanwhile
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Hashed:
    """What a file's bytes turned out to be."""

    sha256: str
    size_bytes: int


def users_folder() -> Path:
    """Where this user's copies lie: below ``XDG_CACHE_HOME``, or ``~/.cache`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "docpipe" / "files"


class FileCache:
    """Files of at most ``max_bytes`` in ``folder``, the user's by default; made when the first is brought.

    A single file that is larger stays as long as it is used. Of several processes each may go over the bound by a
    twentieth.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES, folder: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._folder = folder
        self._room_bytes = 0  # that may be brought before the files are counted again
        self._parts: dict[Path, int] = {}  # under way, with the size that each will have
        self._wanted: Counter[Path] = Counter()  # by whoever holds them, or waits for them to come
        self._coming: dict[str, asyncio.Task[Path]] = {}

    @asynccontextmanager
    async def held(self, source: Source) -> AsyncGenerator[Source, None]:
        """A copy of a remote ``source`` that stays while the block lasts; brought here if it is not.

        Raises:
            SourceChangedError: its bytes are no longer those that were hashed.
            OSError: it cannot be had; ``strerror`` says why.
            SettingsError: the folder cannot be made, or a package is missing.
        """
        path = self._place() / source.sha256
        self._wanted[path] += 1
        try:
            async with self._locked(path, source) as local:
                yield local
        finally:
            self._wanted[path] -= 1
            if not self._wanted[path]:
                del self._wanted[path]
            self._keep_to_the_bound(path.parent)

    @asynccontextmanager
    async def _locked(self, path: Path, source: Source) -> AsyncGenerator[Source, None]:
        descriptor = _lock(path)
        if descriptor is not None and os.fstat(descriptor).st_size != source.size_bytes:  # a disk lost its end
            os.close(descriptor)
            path.unlink(missing_ok=True)
            descriptor = None
        for _ in range(_TRIES):  # another process may remove it before it is held
            if descriptor is not None:
                break
            await self._brought(source)
            descriptor = _lock(path)
        if descriptor is None:
            raise OSError(errno.EBUSY, "its local copy was removed before it could be read")
        try:
            facts = os.fstat(descriptor)
            with suppress(OSError):  # another user's
                os.utime(path, ns=(time.time_ns(), facts.st_mtime_ns))  # when it was used last
            yield Source(str(path), facts.st_size, facts.st_mtime_ns)
        finally:
            os.close(descriptor)

    async def hash(self, source: Source) -> Hashed:
        """Bring a file here, whatever is here, and say what it is; ``source.size_bytes`` is what it is thought to have.

        Raises:
            OSError: it cannot be had; ``strerror`` says why.
            SettingsError: the folder cannot be made, or a package is missing.
        """
        path = await self._bring(replace(source, sha256=""))
        found = Hashed(path.name, path.stat().st_size)
        self._keep_to_the_bound(path.parent)
        return found

    async def copy(self, source: Source, target: Path) -> int:
        """Put the bytes of a remote ``source`` at ``target``, and count them. Raises as ``held``.

        A link would do for reading, but who writes to ``target`` later would write to the copy here.
        """
        async with self.held(source) as local:
            await asyncio.to_thread(shutil.copyfile, local.path, target)
            return local.size_bytes

    async def _brought(self, source: Source) -> None:
        """Bring a file once, however many ask for it at the same time."""
        coming = self._coming.get(source.sha256)
        if coming is None:
            coming = self._coming[source.sha256] = asyncio.create_task(self._bring(source))
            coming.add_done_callback(lambda task: self._came(source.sha256, task))
        await asyncio.shield(coming)

    def _came(self, sha256: str, task: asyncio.Task[Path]) -> None:
        self._coming.pop(sha256, None)
        if not task.cancelled():
            task.exception()  # told to whoever still awaits it

    async def _bring(self, source: Source) -> Path:
        folder = self._place()
        self._make_room(folder, source.size_bytes)
        with _naming(folder):
            part = _Part(folder)
        self._parts[part.path] = source.size_bytes
        try:
            sha256 = await _downloaded(source, part)
            place = folder / sha256
            if not _has_size(place, part.path.stat().st_size):  # else others read it, and know it by its time
                part.path.replace(place)
        finally:
            del self._parts[part.path]
            part.close()
        return place

    def _place(self) -> Path:
        folder = self._folder or users_folder()
        with _naming(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _keep_to_the_bound(self, folder: Path) -> None:
        """Files that came while others were in use may be too many once they are not."""
        if self._room_bytes < 0:
            self._make_room(folder, 0)

    def _make_room(self, folder: Path, size_bytes: int) -> None:
        """Remove what was used longest ago until so many bytes fit in."""
        if size_bytes > self._room_bytes:
            files = _files(folder)
            coming_bytes = sum(self._parts.values())
            room_bytes = self._max_bytes - coming_bytes - sum(f.st_size for path, f in files if path not in self._parts)
            wanted_bytes = size_bytes + self._max_bytes // _COUNTED_ANEW
            for path, facts in sorted(files, key=lambda file: file[1].st_atime_ns):
                if room_bytes >= wanted_bytes:
                    break
                room_bytes += facts.st_size * (not self._wanted[path] and _removed(path))
            self._room_bytes = min(room_bytes, wanted_bytes)
        self._room_bytes -= size_bytes


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say where on this machine nothing can be made, and what to do."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"no copies of remote files can be made in {printable(str(folder))} on this machine: {error.strerror}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from None


class _Part:
    """A file that is being brought: its lock tells it from what a killed process left."""

    def __init__(self, folder: Path) -> None:
        self._descriptor, name = tempfile.mkstemp(prefix=_PART_PREFIX, dir=folder)
        self.path = Path(name)

    def held(self) -> Path:
        """Where it is, under its lock; made anew if somebody removed it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        while not _is_at(self.path, self._descriptor):
            os.close(self._descriptor)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self.path

    def close(self) -> None:
        """Remove what still bears its name."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _lock(path: Path) -> int | None:
    """A descriptor that keeps a file from being removed, None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is_at(path, descriptor):
        return descriptor
    os.close(descriptor)  # it was removed a moment ago
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


async def _downloaded(source: Source, part: _Part) -> str:
    """Bring a source, or a twin that still has its bytes, and say what the hash of what came is."""
    waiting = deque((source.path, *source.twins))
    while True:
        url = waiting.popleft()
        try:
            await storage.download(url, part.held)
            sha256 = await asyncio.to_thread(_flushed_hash, part.path)
            if source.sha256 not in ("", sha256):
                raise SourceChangedError(url)
            return sha256
        except (OSError, SourceChangedError) as error:
            if isinstance(error, OSError) and error.errno in storage.DISK_IS_FULL:
                raise _full(part.path.parent, error) from None
            if not waiting:
                raise


def _full(folder: Path, error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"no room for a copy in {printable(str(folder))} ({error.strerror}); make room there, lower cache_mb, or set "
        "XDG_CACHE_HOME to a folder on another disk",
    )


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _removed(path: Path) -> bool:
    """Remove a file, unless somebody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Every copy, whole or not, without what killed processes left, which is removed."""
    found = []
    for entry in os.scandir(folder):
        with suppress(OSError):  # gone meanwhile
            path, facts = Path(entry.path), entry.stat(follow_symlinks=False)
            left = entry.name.startswith(_PART_PREFIX) and _removed(path)
            if not left and (_NAME.fullmatch(entry.name) or entry.name.startswith(_PART_PREFIX)):
                found.append((path, facts))
    return found


def _flushed_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
