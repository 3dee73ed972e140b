"""What the whole program knows of PDFs and image files. Parsing them is work for the sandbox alone.

The main process never loads the library that parses: a hostile file has nothing to work on there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version

from pipeline.domain import Layout, MediaType, PageRange, Picture

READER = f"pypdf {version('pypdf')}, pillow {version('pillow')}, repairs 1"
"""What decides whether a file can be opened: another version may open what this one could not."""


_NOTHING_SEEN = Layout()


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
    """Where a content lies and how to tell that it is still the same."""

    path: str
    size_bytes: int
    mtime_ns: int


def is_changed(source: Source) -> bool:
    """Whether the file is gone, or no longer the one that the scanner saw."""
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
