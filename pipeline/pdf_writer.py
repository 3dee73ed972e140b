"""How a PDF file is written: syntax of names and strings, numbered objects, the table at the end.

Knows nothing of where objects come from. The form is that of ISO 32000-1, 7.3 and 7.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

# The second line tells transports that the file is binary (7.5.2).
_HEADER = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
_CATALOG = b"<</Type/Catalog/Pages 2 0 R"
_TABLE_ENTRY_BYTES = 20
_TRAILER = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"

_IRREGULAR = re.compile(rb"[^!-~]|[#()<>\[\]{}/%]")


@lru_cache(maxsize=4096)
def name(text: str) -> bytes:
    """A name in PDF syntax. ``text`` begins with a slash; each character stands for one byte (Latin-1)."""
    return b"/" + _IRREGULAR.sub(lambda found: b"#%02X" % found[0][0], text[1:].encode("latin1"))


def string(data: bytes) -> bytes:
    """A string in PDF syntax."""
    # A bare carriage return would be read as a line feed (7.3.4.2).
    escaped = data.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)").replace(b"\r", b"\\r")
    return b"(" + escaped + b")"


def real(value: float) -> bytes:
    """A number in PDF syntax, which has no exponents, with all its digits."""
    text = float.__repr__(value)
    return (text if "e" not in text else f"{value:.20f}").encode()


def reference(number: int) -> bytes:
    """A reference to the object of this number."""
    return b"%d 0 R" % number


@dataclass(frozen=True, slots=True)
class Mark:
    """A state that a ``Writer`` can go back to."""

    size_bytes: int
    objects: int
    pages: int
    kids_bytes: int


class Writer:
    """A file under construction: objects in any order, pages in theirs.

    What it would be as a finished file is known at every moment, and it can go back to an earlier state.

    Args:
        out: empty, opened for writing in binary, seekable.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._offsets = [0, 0]  # of catalog and page tree, which are written last
        self._kids: list[bytes] = []
        self._kids_bytes = 0
        self._size_bytes = out.write(_HEADER)

    @property
    def pages(self) -> int:
        """How many pages the file has."""
        return len(self._kids)

    def reserve(self) -> int:
        """The number for an object that is written later."""
        self._offsets.append(0)
        return len(self._offsets)

    def write(self, number: int, *parts: bytes) -> None:
        """Write the object that a number was reserved for."""
        self._offsets[number - 1] = self._size_bytes
        self._put(b"%d 0 obj\n" % number, *parts, b"\nendobj\n")

    def write_stream(self, number: int, entries: bytes, data: bytes) -> None:
        """Write a stream; ``entries`` are those of its dictionary but for the length."""
        self.write(number, b"<<%b/Length %d>>\nstream\n" % (entries, len(data)), data, b"\nendstream")

    def write_page(self, entries: bytes) -> None:
        """Write the next page; ``entries`` are those of its dictionary but for type and parent."""
        number = self.reserve()
        self.write(number, b"<</Type/Page/Parent 2 0 R%b>>" % entries)
        self._kids.append(reference(number))
        self._kids_bytes += len(self._kids[-1]) + 1

    def _put(self, *parts: bytes) -> None:
        for part in parts:
            self._out.write(part)
            self._size_bytes += len(part)

    def mark(self) -> Mark:
        """The present state."""
        return Mark(self._size_bytes, len(self._offsets), len(self._kids), self._kids_bytes)

    def back_to(self, mark: Mark) -> None:
        """Take back whatever was written and reserved since."""
        del self._offsets[mark.objects :]
        del self._kids[mark.pages :]
        self._size_bytes, self._kids_bytes = mark.size_bytes, mark.kids_bytes
        self._out.seek(mark.size_bytes)
        self._out.truncate()

    def finished_bytes(self, entries: bytes) -> int:
        """The size that the file would have if ``finish`` came now."""
        catalog = len(b"1 0 obj\n%b%b>>\nendobj\n" % (_CATALOG, entries))
        tree = len(b"2 0 obj\n%b\nendobj\n" % _page_tree(self.pages, b"")) + self._kids_bytes
        table_at = self._size_bytes + catalog + tree
        entries_count = len(self._offsets) + 1
        table = len(b"xref\n0 %d\n" % entries_count) + _TABLE_ENTRY_BYTES * entries_count
        return table_at + table + len(_TRAILER % (entries_count, table_at))

    def finish(self, entries: bytes) -> int:
        """Write what ends the file, and give its size; ``entries`` of the catalog but for type and pages."""
        self.write(1, b"%b%b>>" % (_CATALOG, entries))
        self.write(2, _page_tree(self.pages, b"".join(kid + b"\n" for kid in self._kids)))
        table_at = self._size_bytes
        count = len(self._offsets) + 1
        table = b"".join(b"%010d 00000 n \n" % offset for offset in self._offsets)
        self._put(b"xref\n0 %d\n0000000000 65535 f \n" % count, table, _TRAILER % (count, table_at))
        return self._size_bytes


def _page_tree(pages: int, kids: bytes) -> bytes:
    return b"<</Type/Pages/Count %d/Kids[%b]>>" % (pages, kids)
