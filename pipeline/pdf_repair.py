"""A PDF without a usable index gets a new one: for files that were cut off, or whose cross-reference table is broken.

The objects are found by their own headers, those of object streams too, and an index of them is thought to stand
behind the file's own bytes. Nothing is written, and nothing is guessed: what was lost stays missing.
"""

from __future__ import annotations

import io
import itertools
import mmap
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

_MOST_OBJECTS = 500_000
_HIGHEST_NUMBER = 4_000_000  # pdfium takes up to 4 * 1024 * 1024; those above are ours, for what is lost may be named
_LARGEST_STREAM_BYTES = 50_000_000  # an object stream, decoded
_LARGEST_HEAD_BYTES = 1_000_000  # a dictionary; one of a page tree may name thousands of pages
_LARGEST_TRAILER_BYTES = 10_000
_MOST_TRAILERS = 100

_BLANK = rb"[\0\t\n\f\r ]"


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """``_`` in it stands for blanks that may be there, ``~`` for a reference: its number is a group."""
    return re.compile(text.replace(b"~", rb"_(\d{1,7})_\d{1,5}_R").replace(b"_", _BLANK + b"*+"), re.DOTALL)


_END_OF_HEAD = _pattern(rb"endobj|(?<!end)stream(?:\r\n|\n|\r|(?= ))")
_AFTER_STREAM = _pattern(rb"_endstream")
_TYPE = _pattern(rb"/Type_/(Catalog|Pages|Page|ObjStm|XRef)(?![\w-])")
_LENGTH, _LENGTH_ELSEWHERE = _pattern(rb"/Length_(\d{1,12})"), _pattern(rb"/Length~")
_NUMBER = _pattern(rb"[^j]{1,40}obj_(\d{1,12})")
_FLATE = _pattern(rb"/Filter_(?:\[_/FlateDecode_\]|/FlateDecode(?![\w-]))")
_COUNT_IN_STREAM, _FIRST_IN_STREAM = _pattern(rb"/N_(\d{1,9})"), _pattern(rb"/First_(\d{1,9})")
_ROOT, _PAGES, _PARENT, _ENCRYPT = (_pattern(b"/" + key + b"~") for key in (b"Root", b"Pages", b"Parent", b"Encrypt"))
_COUNT = _pattern(rb"/Count_(\d{1,6})")
_ENCRYPTION = _pattern(rb"/Encrypt_<<|/Filter_/Standard(?![\w-])")
_ID = _pattern(rb"/ID_\[(?:_(?:<[0-9A-Fa-f\s]*+>|\((?:\\.|[^\\)])*+\)))*+_\]")


Key = tuple[int, int]
"""Generation and number of an object, in pypdf's order."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found of a broken file.

    ``is_truncated``: objects are missing, most likely with its end. ``is_tree_lost``: so is the root of the page
    tree; the pages are those that were found, in the order of the file, and there may have been more.
    """

    index: bytes  # to be read after the file's own bytes
    is_truncated: bool
    is_tree_lost: bool


def repair(file: BinaryIO) -> Repair | None:
    """An index of the objects in a file; None where there is no page, or where encryption hides what there is.

    Raises:
        OSError: the file cannot be read.
    """
    headers = list(itertools.islice(object_headers(file), _MOST_OBJECTS + 1))
    if not 0 < len(headers) <= _MOST_OBJECTS:
        return None
    with view(file) as data:
        found = _Objects(data, dict(headers))
        ends = [place for _, place in headers[1:]] + [len(data)]
        for ((_, number), place), end in zip(headers, ends, strict=True):
            found.take(number, place, end)
        found.look_at_the_end()
        return found.repair()


@contextmanager
def view(file: BinaryIO) -> Iterator[mmap.mmap | bytes]:
    """The bytes of a file that is not empty, without reading them all where that can be."""
    try:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:  # bytes in memory, or a network share that maps no files
        file.seek(0)
        yield file.read()
        file.seek(0)
        return
    with mapped:
        yield mapped


class _Objects:
    """The objects of a file as they are met in its order: the last of one number is the valid one."""

    def __init__(self, view: mmap.mmap | bytes, headers: Mapping[Key, int]) -> None:
        self._view = view
        self._headers = headers
        self._entries: dict[int, tuple[int, int, int]] = {}  # as in a cross-reference stream: kind and two numbers
        self._nodes: dict[int, tuple[bytes, bytes]] = {}  # catalogs and nodes of page trees: type and text
        self._trailers: list[bytes] = []
        self._next_endstream = -1  # the search is not begun anew for each object
        self._is_hidden = False
        self._is_truncated = False
        self._last: tuple[int, bytes] = 0, b""  # the number and type of the object that came last
        self._end: int | None = 0  # of that object; None where it has none

    def take(self, number: int, place: int, limit: int) -> None:
        """The next object: its header is at ``place``, and the next header at ``limit``.

        It is none if its header is inside of the object before.
        """
        if place < (self._end or 0) or number > _HIGHEST_NUMBER:
            return
        view = self._view
        begin = view.find(b"obj", place) + 3
        limit = min(limit, begin + _LARGEST_HEAD_BYTES)
        stop = _END_OF_HEAD.search(view, begin, limit)
        text = bytes(view[begin : stop.start() if stop else limit])
        match = _TYPE.search(text)
        kind = match[1] if match else b""
        self._note(number, (1, place, self._generation(number, place)), kind, text)
        self._last, self._end = (number, kind), stop.end() if stop else None
        if stop and stop[0] != b"endobj":
            self._end = self._end_of_stream(text, stop.end())
            if kind == b"ObjStm" and self._end is not None:
                self._take_stream(number, text, stop.end(), self._end)
        if kind == b"XRef":
            self._trailers.append(text)
        elif _ENCRYPTION.search(text):
            self._is_hidden = True

    def look_at_the_end(self) -> None:
        """Whether the last object is whole, and whether what follows the objects of a whole file is there."""
        number, kind = self._last
        if self._end is None and kind != b"XRef":
            self._entries.pop(number, None)
            self._nodes.pop(number, None)
            self._is_truncated = True
        rest = self._view.rfind(b"xref") if kind != b"XRef" else len(self._view)
        if max(rest, self._view.rfind(b"trailer")) < (self._end or 0):
            self._is_truncated = True
        place = len(self._view)
        for _ in range(_MOST_TRAILERS):
            place = self._view.rfind(b"trailer", 0, place)
            if place < 0:
                break
            text = bytes(self._view[place : place + _LARGEST_TRAILER_BYTES]).partition(b"startxref")[0]
            self._trailers.insert(0, text)

    def repair(self) -> Repair | None:
        """The index, once all objects were taken."""
        trailers = [text for text in self._trailers if _ROOT.search(text)]
        encrypt = next((match[0] for text in reversed(trailers) if (match := _ENCRYPT.search(text))), b"")
        if self._is_hidden and not encrypt:
            return None
        identity = next((match[0] for text in reversed(trailers) if (match := _ID.search(text))), b"")
        added: list[bytes] = []
        root, is_tree_lost = self._root(trailers, added)
        if root is None:
            return None
        index = self._written(added, b"/Root %d 0 R%b%b" % (root, encrypt, identity))
        return Repair(index, self._is_truncated, is_tree_lost)

    def _generation(self, number: int, place: int) -> int:
        return next((g for g in (0, 1, 2) if self._headers.get((g, number)) == place), 0)

    def _note(self, number: int, entry: tuple[int, int, int], kind: bytes, text: bytes) -> None:
        self._entries[number] = entry
        self._nodes.pop(number, None)
        if kind in (b"Catalog", b"Pages", b"Page"):
            self._nodes[number] = kind, text

    def _end_of_stream(self, text: bytes, begin: int) -> int | None:
        """Where a stream ends: after its length, or where the word for it stands first; None where it does not."""
        length = _LENGTH.search(text)
        elsewhere = _LENGTH_ELSEWHERE.search(text)
        if elsewhere:
            place = self._headers.get((0, int(elsewhere[1])))
            length = _NUMBER.match(self._view, place) if place is not None else None
        end = _AFTER_STREAM.match(self._view, begin + int(length[1])) if length else None
        if end:
            return end.end()
        if self._next_endstream < begin:
            place = self._view.find(b"endstream", begin)
            self._next_endstream = place if place >= 0 else len(self._view)
        return self._next_endstream if self._next_endstream < len(self._view) else None

    def _take_stream(self, number: int, text: bytes, begin: int, end: int) -> None:
        """The objects in an object stream (ISO 32000-1, 7.5.7)."""
        content = _decoded(text, bytes(self._view[begin:end]))
        first, count = _FIRST_IN_STREAM.search(text), _COUNT_IN_STREAM.search(text)
        words = content[: int(first[1])].split()[: 2 * int(count[1])] if first and count else []
        if first is None or not words or not all(word.isdigit() and len(word) < 10 for word in words):
            self._is_truncated = True
            return
        places = [int(first[1]) + int(word) for word in words[1::2]]
        for position, (inner, (place, end)) in enumerate(
            zip(map(int, words[::2]), itertools.pairwise([*places, len(content)]), strict=False)
        ):
            inside = content[place:end]
            match = _TYPE.search(inside)
            if inner <= _HIGHEST_NUMBER and inner != number:
                self._note(inner, (2, number, position), match[1] if match else b"", inside)

    # The root

    def _root(self, trailers: Sequence[bytes], added: list[bytes]) -> tuple[int | None, bool]:
        """The number of the catalog, and whether the root of the page tree is lost; what must be written for it."""
        named = [int(match[1]) for text in reversed(trailers) if (match := _ROOT.search(text))]
        catalogs = [number for number, (kind, _) in reversed(self._nodes.items()) if kind == b"Catalog"]
        catalog = next((number for number in (*named, *catalogs) if number in catalogs), None)
        text = self._nodes[catalog][1] if catalog is not None else b""
        pages = _PAGES.search(text)
        if pages and self._is_tree(int(pages[1])):
            return catalog, False
        tops = [n for n, (kind, _) in self._nodes.items() if kind != b"Catalog" and not self._has_parent(n)]
        if not tops:
            return None, True
        top = tops[0]
        is_tree_lost = len(tops) > 1 or not self._is_tree(top) or _PARENT.search(self._nodes[top][1]) is not None
        if is_tree_lost:
            kids = b" ".join(b"%d 0 R" % number for number in tops)
            count = sum(self._leaves(number) for number in tops)
            top = self._added(added, b"<</Type/Pages/Count %d/Kids[%b]>>" % (count, kids))
        reference = b"/Pages %d 0 R" % top
        body = _PAGES.sub(reference, text) if pages else b"<</Type/Catalog%b>>" % reference
        return self._added(added, body), is_tree_lost

    def _is_tree(self, number: int) -> bool:
        return self._nodes.get(number, (b"",))[0] == b"Pages"

    def _has_parent(self, number: int) -> bool:
        parent = _PARENT.search(self._nodes[number][1])
        return parent is not None and self._is_tree(int(parent[1]))

    def _leaves(self, number: int) -> int:
        kind, text = self._nodes[number]
        count = _COUNT.search(text)
        return int(count[1]) if kind == b"Pages" and count else 1

    def _added(self, added: list[bytes], body: bytes) -> int:
        added.append(body)
        return _HIGHEST_NUMBER + len(added)

    # The index

    def _written(self, added: Sequence[bytes], trailer: bytes) -> bytes:
        """The objects that are added, and a cross-reference stream (ISO 32000-1, 7.5.8)."""
        out, entries = bytearray(b"\n"), dict(self._entries)
        for number, body in enumerate(added, _HIGHEST_NUMBER + 1):
            entries[number] = 1, len(self._view) + len(out), 0
            out += b"%d 0 obj%b\nendobj\n" % (number, body)
        begin, number = len(self._view) + len(out), _HIGHEST_NUMBER + len(added) + 1
        entries[number] = 1, begin, 0
        numbers = sorted(entries)
        rows = b"".join(_row(*entries[number]) for number in numbers)
        sections = b" ".join(b"%d %d" % section for section in _sections(numbers))
        head = b"/Type/XRef/Size %d/W[1 6 3]/Index[%b]/Length %d" % (number + 1, sections, len(rows))
        out += b"%d 0 obj<<%b%b>>stream\n%b\nendstream\nendobj\n" % (number, head, trailer, rows)
        return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % begin


def _row(kind: int, place: int, rest: int) -> bytes:
    return bytes([kind]) + place.to_bytes(6) + rest.to_bytes(3)


def _sections(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of numbers without gaps: the first, and how many."""
    first = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            yield first, previous - first + 1
            first = number
        previous = number
    yield first, previous - first + 1


def _decoded(head: bytes, data: bytes) -> bytes:
    """An object stream's content; b"" where its encoding is one that they rarely have, or it is broken."""
    if b"/Filter" not in head:
        return data
    if not _FLATE.search(head) or b"/DecodeParms" in head:
        return b""
    try:
        return zlib.decompressobj().decompress(data, _LARGEST_STREAM_BYTES)
    except zlib.error:
        return b""


class Mended(io.RawIOBase):
    """A file with an index behind it, for reading; the file itself stays as it is."""

    def __init__(self, file: BinaryIO, index: bytes) -> None:
        self._file = file
        self._index = index
        self._size = file.seek(0, io.SEEK_END)
        self._position = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As for every file."""
        begin = (0, self._position, self._size + len(self._index))[whence]
        if begin + offset < 0:
            raise ValueError(f"negative seek position {begin + offset}")
        self._position = begin + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """As for every file."""
        if self._position < self._size:
            self._file.seek(self._position)
            data = self._file.read(min(len(buffer), self._size - self._position))
        else:
            begin = self._position - self._size
            data = self._index[begin : begin + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


_HEADER_BEFORE = re.compile(rb"(?<!\d)(\d{1,10})%b+(\d{1,5})%b*$" % (_BLANK, _BLANK))
_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 40


def object_headers(file: BinaryIO) -> Iterator[tuple[Key, int]]:
    """Where in the file objects seem to begin, in file order: the last of one number is the valid one."""
    file.seek(0)
    begin, data = 0, b""
    while block := file.read(_BLOCK_BYTES):
        data += block
        for found in re.finditer(rb"obj", data):
            start = max(0, found.start() - _HEADER_BYTES)
            header = _HEADER_BEFORE.search(data[start : found.start()])
            if header:
                yield (int(header[2]), int(header[1])), begin + start + header.start()
        kept = data[-_HEADER_BYTES - 3 :]
        begin += len(data) - len(kept)
        data = kept
