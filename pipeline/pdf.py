"""What the whole program knows of PDFs and image files. Parsing them is work for the sandbox alone.

The main process never loads the library that parses: a hostile file has nothing to work on there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from pipeline.domain import Layout, MediaType, PageRange, Picture
from pipeline.errors import SettingsError
from pipeline.storage import is_url

READER = f"pypdf {version('pypdf')}, pillow {version('pillow')}, repairs 1"
"""What decides whether a file can be opened: another version may open what this one could not."""

PROVER = 4
"""Raise the number when quotes, or what was planted, are looked for otherwise: older proofs are then made anew."""


_NOTHING_SEEN = Layout()


_MOST_PASSWORDS = 100


@dataclass(frozen=True, slots=True)
class Passwords:
    """What to try on locked files, from the environment variable ``name``; its repr shows no password."""

    name: str = ""
    candidates: tuple[str, ...] = field(default=(), repr=False)


def passwords_of(name: str | None, environment: Mapping[str, str]) -> Passwords:
    """The passwords in a variable, one on each line; none without a name.

    Raises:
        SettingsError: the variable has none, or too many.
    """
    if name is None:
        return Passwords()
    lines = environment.get(name, "").splitlines()
    candidates = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not candidates:
        raise SettingsError(
            f"the passwords for locked files are missing: set the environment variable {name}, one password a line "
            "(or take passwords_env out of the job file)"
        )
    if len(candidates) > _MOST_PASSWORDS:
        raise SettingsError(f"the environment variable {name} holds more than {_MOST_PASSWORDS} passwords")
    return Passwords(name, candidates)


class PdfError(Exception):
    """The bytes cannot be used as a PDF; the message is a reason for the user.

    ``encrypted``: a password stands in the way, not damage.
    """

    def __init__(self, reason: str, encrypted: bool = False) -> None:
        super().__init__(reason, encrypted)  # the arguments as they are: this travels between processes
        self.reason = reason
        self.encrypted = encrypted

    def __str__(self) -> str:
        return self.reason


class ImageError(Exception):
    """The bytes cannot be used as an image; the message is a reason for the user."""


class SourceChangedError(Exception):
    """The file is no longer the one that was hashed; its pages must not be filed under the old hash."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a content lies and how to tell that it is still the same.

    ``path`` may be a URL: then ``sha256`` is what its bytes are known to be, "" if nobody has seen them, and ``twins``
    are URLs that had the same bytes, for when these are no longer there.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str = ""
    twins: tuple[str, ...] = ()

    @property
    def is_remote(self) -> bool:
        """Whether it must be brought to this machine before anybody can open it."""
        return is_url(self.path)


@dataclass(frozen=True, slots=True)
class Original:
    """The file that a chunk is cut from. ``must_be_cut``: as it lies there it cannot be sent, not even as a whole."""

    source: Source
    page_count: int
    must_be_cut: bool
    media_type: MediaType = MediaType.PDF


def is_changed(source: Source) -> bool:
    """Whether the file is gone, or no longer the one that the scanner saw.

    Never of a remote one: what is read of it is a copy that has the hash.
    """
    if source.is_remote:
        return False
    try:
        facts = os.stat(source.path)  # noqa: PTH116 - follows links as opening does
    except OSError:
        return True
    return (facts.st_size, facts.st_mtime_ns) != (source.size_bytes, source.mtime_ns)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one look at a file finds out, as in ``Content``."""

    pages: int | None
    encrypted: bool = False
    problem: str | None = None
    note: str | None = None
    layout: Layout = _NOTHING_SEEN
    media_type: MediaType = MediaType.PDF


@dataclass(frozen=True, slots=True)
class Copied:
    """What was cut: the range of the source's pages that the new file holds, and its size."""

    pages: PageRange
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Depicted:
    """What of a range of pages goes out as pictures: the range that fits, a picture for each of its pages.

    ``unchanged``: the source file itself is the picture, and nothing was written.
    """

    pages: PageRange
    pictures: tuple[Picture, ...]
    unchanged: bool = False
