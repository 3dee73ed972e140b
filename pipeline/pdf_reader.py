"""PDF files as objects: the only module that knows pypdf, with its reader made safe for large and broken files.

Other modules take the types of objects from here. A file is hostile: whatever an object holds, looking it up
gives an object, None or an exception, in a time that does not grow with the file.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from pypdf import PdfReader, apply_configuration
from pypdf.errors import FileNotDecryptedError, PdfReadError
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    ByteStringObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NameObject,
    NullObject,
    NumberObject,
    PdfObject,
    StreamObject,
    TextStringObject,
)

__all__ = [
    "ArrayObject",
    "BooleanObject",
    "ByteStringObject",
    "DictionaryObject",
    "FileNotDecryptedError",
    "FloatObject",
    "IndirectObject",
    "NameObject",
    "NullObject",
    "NumberObject",
    "PdfObject",
    "Reader",
    "StreamObject",
    "TextStringObject",
    "WatchedFile",
    "decoded",
    "encoded",
    "found",
    "limits",
    "resolved",
]

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings are about files, not about the run

# Names are bytes, and every byte is a character of Latin-1: read so, a name can be written as it was. By
# default pypdf guesses UTF-8 or GBK, and a font whose name was guessed would not be found any more.
NameObject.CHARSETS = ("latin1", "latin1", "latin1")

# pypdf refuses single streams over 75 MB; a raw scan may be larger and is copied, never decoded.
_LARGEST_STREAM_BYTES = 300_000_000

# Parsed objects need some 25 times the memory of their text in the file; text of so many bytes is held at most.
_MOST_HELD_BYTES = 1_500_000
_COMPRESSION = 4  # of object streams, roughly

Key = tuple[int, int]
"""Generation and number of an object, in pypdf's order."""


def limits(file_bytes: int = 0) -> AbstractContextManager[object]:
    """The limits of pypdf as needed for a file of this size; they hold for the code inside."""
    return apply_configuration(maximum_declared_stream_length=max(_LARGEST_STREAM_BYTES, file_bytes))


def encoded(stream: StreamObject) -> bytes:
    """The bytes of a stream as they lie in the file, decrypted but not decoded."""
    return StreamObject.get_data(stream)  # the base class's method; its heirs decode


def decoded(stream: StreamObject) -> bytes:
    """The bytes of a stream with its filters undone; one that makes a picture file (JPEG, JPEG 2000) stays.

    Raises:
        Exception: broken, or more than 300 MB; anything that pypdf raises.
    """
    most = _LARGEST_STREAM_BYTES
    with apply_configuration(zlib_maximum_output_length=most, stream_decoding_work_maximum_length=2 * most):
        return stream.get_data()


def resolved(value: object) -> object:
    """The object behind a reference, and behind what that refers to; None where there is none.

    Raises:
        Exception: the object cannot be read; anything that pypdf raises.
    """
    for _ in range(8):
        if not isinstance(value, IndirectObject):
            return value
        value = value.get_object()
    return None


def found(value: object) -> object:
    """The object behind a reference; None where there is none or it is broken.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return resolved(value)
    except (MemoryError, OSError):
        raise
    except Exception:  # noqa: BLE001 - what pypdf raises for a broken object is not known beforehand
        return None


class WatchedFile(io.FileIO):
    """A file that remembers that it could not be read: pypdf may take that for broken syntax and go on."""

    trouble: OSError | None = None

    def readinto(self, buffer: Any, /) -> int | None:
        """As for every file."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.trouble = error
            raise


class Reader(PdfReader):
    """pypdf's reader, for files whose cross-reference table is wrong, and for memory that stays small.

    pypdf searches the whole file for each object that is not where the table says, and may answer a second
    look-up of a broken object in other words than the first. Here the file is searched once, and a broken
    object stays what it was.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._places: dict[Key, int] | None = None
        self._broken: dict[Key, Exception] = {}
        self._held_streams: list[Key] = []
        self._held_bytes = 0
        self._opened = False
        super().__init__(file)
        self._opened = True
        self._fill_gaps_in_the_page_tree()

    def get_object(self, indirect_reference: int | IndirectObject) -> PdfObject | None:
        """The object; None where the file has none of this number.

        Raises:
            PdfReadError: it is broken, or anything else that pypdf raises.
            OSError: the file cannot be read.
        """
        if not self._opened or isinstance(indirect_reference, int):
            return super().get_object(indirect_reference)
        key = indirect_reference.generation, indirect_reference.idnum
        if key in self.resolved_objects:
            return self.resolved_objects[key]
        if key in self._broken:
            raise self._broken[key].with_traceback(None)
        if not self._is_found(key):
            return None
        try:
            return self._noted(key, super().get_object(indirect_reference))
        except (MemoryError, FileNotDecryptedError):
            raise
        except Exception as error:  # noqa: BLE001 - what pypdf raises for a broken object is not known beforehand
            if key in self.resolved_objects:  # another object of the same object stream is the broken one
                return self.resolved_objects[key]
            # An offset before the file is the object's fault; a disk that fails is noted by the file itself.
            self._note_broken(key, PdfReadError(str(error)) if isinstance(error, OSError) else error)
            raise self._broken[key] from None

    def _noted(self, key: Key, target: PdfObject | None) -> PdfObject | None:
        """Note what a new object needs in memory."""
        if isinstance(target, StreamObject):
            self._held_streams.append(key)
            if target.get("/Type") == "/ObjStm":
                self._held_bytes += _COMPRESSION * len(encoded(target))
        elif key[1] in self.xref.get(key[0], {}):
            self._held_bytes += self.file.tell() - self.xref[key[0]][key[1]]
        return target

    def _note_broken(self, key: Key, error: Exception) -> None:
        self._broken[key] = error
        if key[0] == 0 and key[1] in self.xref_objStm:
            # What comes later in the object stream is out of reach too; it is not decoded again for each.
            stream = self.xref_objStm[key[1]][0]
            for number, (other, _) in self.xref_objStm.items():
                if other == stream and (0, number) not in self.resolved_objects:
                    self._broken[0, number] = error

    def _is_found(self, key: Key) -> bool:
        """Whether the object is where the table says; if it is elsewhere, the table is put right."""
        if key[0] == 0 and key[1] in self.xref_objStm:
            return True
        place = self.xref.get(key[0], {}).get(key[1])
        if place is not None and self._header_at(place) == key:
            return True
        if self._places is None:
            self._places = dict(_object_headers(self.file))
        if key not in self._places:
            return False
        self.xref.setdefault(key[0], {})[key[1]] = self._places[key]
        self.xref_free_entry.get(key[0], {}).pop(key[1], None)
        return True

    def _header_at(self, place: int) -> Key | None:
        if place < 0:
            return None
        self.file.seek(place)
        header = _HEADER.match(self.file.read(64))
        return (int(header[2]), int(header[1])) if header else None

    def _fill_gaps_in_the_page_tree(self) -> None:
        """Have a page without content stand where a page object is broken or missing.

        Without it pypdf passes over a missing one, and all pages behind it would be counted wrongly. Only if as many
        pages are there as the tree says, the missing ones were removed.
        """
        root = found(self.root_object.get("/Pages"))
        waiting, seen, pages, gaps = [root], {id(root)}, 0, []
        while waiting:
            for kid in _kids(waiting.pop()):
                target = found(kid)
                if isinstance(target, DictionaryObject) and "/Kids" not in target:
                    pages += 1
                elif isinstance(target, DictionaryObject) and id(target) not in seen:
                    seen.add(id(target))
                    waiting.append(target)
                elif target is None and isinstance(kid, IndirectObject):
                    gaps.append((kid.generation, kid.idnum))
        declared = found(root.get("/Count")) if isinstance(root, DictionaryObject) else None
        for key in gaps:
            if key in self._broken or (isinstance(declared, int) and declared > pages):
                nothing = IndirectObject(0, 65535, self)  # a number that no object has
                page = {NameObject("/Type"): NameObject("/Page"), NameObject("/Contents"): nothing}
                self.resolved_objects[key] = DictionaryObject(page)

    def drop(self, stream: IndirectObject) -> None:
        """Forget a stream, which may be large; the next look-up reads it again."""
        self.resolved_objects.pop((stream.generation, stream.idnum), None)

    def trim(self) -> None:
        """Forget parsed objects if they are many."""
        if self._held_bytes > _MOST_HELD_BYTES:
            self.resolved_objects.clear()
            self._held_streams.clear()
            self._held_bytes = 0

    def forget(self) -> None:
        """Forget all streams, and other parsed objects if they are many: what pages share is soon needed again."""
        for key in self._held_streams:
            self.resolved_objects.pop(key, None)
        self._held_streams.clear()
        self.trim()


def _kids(node: object) -> list[object]:
    kids = found(node.get("/Kids")) if isinstance(node, DictionaryObject) else None
    return list(kids) if isinstance(kids, ArrayObject) else []


_BLANK = rb"[\0\t\n\f\r ]"
# Possessive quantifiers: hostile bytes make no search long.
_HEADER = re.compile(rb"%b*+(?:%%[^\r\n]*+%b*+)*+(\d{1,10})%b++(\d{1,5})%b*+obj" % (_BLANK, _BLANK, _BLANK, _BLANK))
_HEADER_BEFORE = re.compile(rb"(?<!\d)(\d{1,10})%b+(\d{1,5})%b*$" % (_BLANK, _BLANK))
_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 40


def _object_headers(file: BinaryIO) -> Iterator[tuple[Key, int]]:
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
