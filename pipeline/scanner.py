"""Which files there are, and which of them changed. Reads and hashes; never writes to the folder.

What lies behind a URL is only listed: bringing it here to be hashed takes a while, and another machine may do it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wcmatch import glob

from pipeline import storage
from pipeline.domain import SourceFile
from pipeline.errors import SettingsError
from pipeline.storage import Listed, Url
from pipeline.text import printable

_PATTERN_FLAGS = glob.GLOBSTAR | glob.IGNORECASE | glob.DOTGLOB | glob.BRACE


@dataclass(frozen=True, slots=True)
class Scan:
    """``files`` sorted by path; ``links_left_out`` counts the links that were not followed."""

    files: tuple[SourceFile, ...]
    links_left_out: int


def scan(
    folder: Path | Url,
    include: Sequence[str],
    exclude: Sequence[str],
    follow_links: bool,
    known: Mapping[str, SourceFile],
) -> Scan:
    """Find the files below ``folder`` that match, and hash those that changed.

    Patterns are globs on the path relative to ``folder``, case-insensitive, ``**`` crossing folders.
    Hidden files and folders and the temporary files of editors and browsers never match. A file whose
    size and mtime are those in ``known`` keeps the hash that is known. What cannot be read, a folder
    too, is in the result with its problem. Behind a URL the etag counts with size and time, nothing is hashed
    (``SourceFile.is_unread``), and nothing is a link.

    Raises:
        SettingsError: ``folder`` is not a folder that can be read; a web server's, and ``include`` is a pattern.
    """
    wanted, unwanted = _matcher(include), _matcher(exclude)
    if isinstance(folder, Url):
        if folder.is_listable:
            files = list(_listed(folder, wanted, unwanted, known))
        else:
            files = _named(folder, include, unwanted, known)
        return Scan(tuple(sorted(files, key=lambda file: file.path)), 0)
    files = []
    links_left_out = 0
    for found in _walk(os.fsencode(folder), follow_links):
        if unwanted(found.path):
            continue
        if found.problem is not None:
            files.append(SourceFile(found.path, 0, 0, None, found.problem))
        elif found.is_link and not follow_links:
            links_left_out += bool(wanted(found.path) or Path(os.fsdecode(found.full_path)).is_dir())
        elif wanted(found.path):
            files.append(_looked_at(found, known.get(found.path)))
    return Scan(tuple(sorted(files, key=lambda file: file.path)), links_left_out)


def unmatched(patterns: Sequence[str], files: Sequence[SourceFile]) -> list[str]:
    """The globs that none of the files matches."""
    return [pattern for pattern in patterns if not any(map(_matcher([pattern]), (file.path for file in files)))]


@dataclass(frozen=True, slots=True)
class _Found:
    """A file, or a folder that could not be read (then ``problem`` says why)."""

    path: str
    full_path: bytes
    is_link: bool
    problem: str | None = None


def _walk(folder: bytes, follow_links: bool) -> Iterator[_Found]:
    """Every visible file below ``folder``; a folder that links make reachable twice is entered once."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        name = printable(os.fsdecode(folder))
        raise SettingsError(f"the source folder {name} cannot be read: {error.strerror}") from None
    waiting = [(folder, "")]
    entered: set[tuple[int, int]] = set()
    while waiting:
        current, prefix = waiting.pop()
        try:
            if follow_links:  # without links no folder is reached twice
                identity = _identity(current)
                if identity in entered:
                    continue
                entered.add(identity)
            with os.scandir(current) as listing:
                entries = [entry for entry in listing if not _is_left_alone(entry.name)]
        except OSError as error:
            yield _Found(prefix, current, False, f"the folder cannot be read: {error.strerror}")
            continue
        for entry in entries:
            path = prefix + os.fsdecode(entry.name)
            if _is_folder(entry, follow_links):
                waiting.append((entry.path, path + "/"))
            else:
                yield _Found(path, entry.path, entry.is_symlink())


def _is_folder(entry: os.DirEntry[bytes], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:  # a link that leads in a circle is no folder; as a file it gets its reason
        return False


def _identity(folder: bytes) -> tuple[int, int]:
    facts = os.stat(folder)  # noqa: PTH116 - Path would not take a name of bytes
    return facts.st_dev, facts.st_ino


def _is_left_alone(name: bytes) -> bool:
    """Hidden (also ``.~lock.x.pdf#``), Office's ``~$x``, and what is still being written or downloaded."""
    return name.startswith((b".", b"~$")) or name.lower().endswith(
        (b".tmp", b".part", b".partial", b".crdownload", b"~")
    )


def _looked_at(found: _Found, known: SourceFile | None) -> SourceFile:
    try:
        facts = os.stat(found.full_path)  # noqa: PTH116
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
            return SourceFile(found.path, 0, 0, None, "not a regular file")
        if known and known.sha256 and (known.size_bytes, known.mtime_ns) == (facts.st_size, facts.st_mtime_ns):
            return known
        return _hashed(found)
    except OSError as error:
        return SourceFile(found.path, 0, 0, None, f"the file cannot be read: {error.strerror}")


def _hashed(found: _Found) -> SourceFile:
    with open(found.full_path, "rb") as file:  # noqa: PTH123
        before = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return SourceFile(
            found.path, after.st_size, 0, None, "the file was being written while it was read; the next run tries again"
        )
    return SourceFile(found.path, after.st_size, after.st_mtime_ns, sha256)


def _listed(
    folder: Url,
    wanted: Callable[[str], object],
    unwanted: Callable[[str], object],
    known: Mapping[str, SourceFile],
) -> Iterator[SourceFile]:
    for found in storage.listed(folder):
        steps = [step for step in found.path.split("/") if step not in ("", ".", "..")]
        path = "/".join(steps)
        if any(_is_left_alone(os.fsencode(step)) for step in steps) or unwanted(path) or not wanted(path):
            continue
        if not storage.is_path(found.path.split("/")):
            yield SourceFile(found.path, 0, 0, None, "its key is not the path of a file; give the object another one")
        else:
            yield _as_known(found, known.get(found.path))


def _named(
    folder: Url, include: Sequence[str], unwanted: Callable[[str], object], known: Mapping[str, SourceFile]
) -> list[SourceFile]:
    """The files of a web server, which does not say what it has."""
    patterns = [
        name for name in include if glob.is_magic(name, flags=_PATTERN_FLAGS) or not storage.is_path(name.split("/"))
    ]
    if patterns:
        raise SettingsError(
            f"{folder} cannot be listed, for it is a web server: [source] include must name each file by its path, and "
            f"not say {', '.join(map(printable, patterns))}"
        )
    files = []
    for found in storage.looked_at(folder, [name for name in dict.fromkeys(include) if not unwanted(name)]):
        if isinstance(found, Listed):
            files.append(_as_known(found, known.get(found.path)))
        else:
            path, problem = found
            files.append(SourceFile(path, 0, 0, None, f"the file cannot be read: {problem}"))
    return files


def _as_known(found: Listed, known: SourceFile | None) -> SourceFile:
    """The file as it was read, if nothing says that it is another one now; else still to be read."""
    looks = found.mtime_ns, found.etag
    same_looks = known and looks == (known.mtime_ns, known.etag) and found.size_bytes in (None, known.size_bytes)
    if known and known.sha256 and same_looks and any(looks):
        return known
    return SourceFile(found.path, found.size_bytes or 0, found.mtime_ns, None, None, found.etag)


def _matcher(patterns: Sequence[str]) -> Callable[[str], object]:
    """Whether a path matches one of the globs; none of no globs."""
    if not patterns:
        return lambda path: None
    regexes, _ = glob.translate(list(patterns), flags=_PATTERN_FLAGS)
    return re.compile("|".join(regexes)).fullmatch
