"""PDF files as objects: the only module that knows pypdf, with its reader made safe for large and broken files.

Other modules take the types of objects from here. A file is hostile: whatever an object holds, looking it up
gives an object, None or an exception, in a time that does not grow with the file.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

from pypdf import PageObject, PdfReader, apply_configuration
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

from pipeline.pdf_repair import Key, Repair, object_headers

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
    "PageObject",
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
    "words",
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

# Entries that only pages and branches of their tree have (ISO 32000-1, 7.7.3).
_ONLY_OF_PAGES = frozenset({"/Parent", "/MediaBox", "/Resources"})


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


def words(error: Exception) -> str:
    """What an exception of pypdf says, in the same words in every process: it names objects with their address."""
    return re.sub(r", \d{9,}\)", ")", f"{type(error).__name__}: {error}")


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

    def __init__(self, file: BinaryIO, repair: Repair | None = None, passwords: Sequence[str] = ()) -> None:
        """Read ``file``, whose index was made by ``repair``, if it was; what is locked with one of ``passwords``."""
        self.file = file
        self.repair = repair
        self.missed = 0  # look-ups of objects that are not there, or broken
        self.is_numbering_certain = True  # of the pages, in spite of gaps in their tree
        self._places: dict[Key, int] | None = {} if repair else None
        self._broken: dict[Key, Exception] = {}
        self._cut_short: set[Key] = set()
        self._held_streams: list[Key] = []
        self._held_bytes = 0
        self._opened = False
        _listener.left_out = _LeftOut()
        try:
            super().__init__(file)
        finally:
            if _listener.left_out.too_deep:
                raise PdfReadError(_NESTED_TOO_DEEP)
        self.password = self._unlocked(passwords) if self.is_encrypted else None
        self.resolved_objects.clear()  # a cross-reference stream is among them, under whatever number it claims
        self._opened = True
        self._fill_gaps_in_the_page_tree()

    def _unlocked(self, passwords: Sequence[str]) -> str | None:
        """The password that opens the file; None where none is needed, or none does."""
        if self.decrypt(""):
            return None
        return next((password for password in passwords if self.decrypt(password)), None)

    def get_object(self, indirect_reference: int | IndirectObject) -> PdfObject | None:
        """The object; None where the file has none of this number.

        Raises:
            PdfReadError: it is broken, or anything else that pypdf raises.
            OSError: the file cannot be read.
        """
        if not self._opened:
            return super().get_object(indirect_reference)
        if isinstance(indirect_reference, int):
            indirect_reference = IndirectObject(indirect_reference, 0, self)
        key = indirect_reference.generation, indirect_reference.idnum
        if key in self.resolved_objects:
            return self.resolved_objects[key]
        if key in self._broken:
            self.missed += 1
            raise self._broken[key].with_traceback(None)
        if not self._is_found(key):
            self.missed += 1
            return None
        around, _listener.left_out = _listener.left_out, _LeftOut()  # reading a stream looks its length up
        try:
            return self._noted(key, super().get_object(indirect_reference))
        except (MemoryError, FileNotDecryptedError):
            raise
        except Exception as error:  # noqa: BLE001 - what pypdf raises for a broken object is not known beforehand
            self._note_broken(key, error)
            if key in self.resolved_objects:  # another object of the same object stream is the broken one
                return self.resolved_objects[key]
            self.missed += 1
            raise self._broken[key] from None
        finally:
            _listener.left_out = around

    def _noted(self, key: Key, target: PdfObject | None) -> PdfObject | None:
        """Note what a new object needs in memory, and that it was not read to its end."""
        if _listener.left_out.too_deep:
            raise PdfReadError(_NESTED_TOO_DEEP)
        if _listener.left_out.anything:
            self._cut_short.update(self._read_with(key))
        if isinstance(target, StreamObject):
            self._held_streams.append(key)
            if target.get("/Type") == "/ObjStm":
                self._held_bytes += _COMPRESSION * len(encoded(target))
        elif key[1] in self.xref.get(key[0], {}):
            self._held_bytes += self.file.tell() - self.xref[key[0]][key[1]]
        return target

    def _note_broken(self, key: Key, error: Exception) -> None:
        together = list(self._read_with(key))
        if _listener.left_out.too_deep:  # how deep that is depends on the stack, so what came of it means nothing
            error = PdfReadError(_NESTED_TOO_DEEP)
            for other in together:
                self.resolved_objects.pop(other, None)
        elif isinstance(error, OSError):
            # An offset before the file is the object's fault; a disk that fails is noted by the file itself.
            error = PdfReadError(str(error))
        for other in together:
            # What comes later in an object stream is out of reach too; it is not decoded again for each.
            if other not in self.resolved_objects:
                self._broken[other] = error

    def _read_with(self, key: Key) -> Iterator[Key]:
        """The object, and those that are read when it is: all of its object stream."""
        yield key
        if key[0] == 0 and key[1] in self.xref_objStm:
            stream = self.xref_objStm[key[1]][0]
            yield from ((0, number) for number, (other, _) in self.xref_objStm.items() if other == stream)

    def _is_found(self, key: Key) -> bool:
        """Whether the object is where the table says; if it is elsewhere, the table is put right."""
        if key[0] == 0 and key[1] in self.xref_objStm:
            return True
        place = self.xref.get(key[0], {}).get(key[1])
        if place is not None and self._header_at(place) == key:
            return True
        if self._places is None:
            self._places = dict(object_headers(self.file))
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
        """Have a page without content stand where a page object is broken, missing or something else.

        Without it pypdf passes over such an object, and all pages behind it would be counted wrongly. Only if as many
        pages are there as the tree says, the missing ones were removed.

        Raises:
            PdfReadError: not even the root of the tree is there.
        """
        root = found(self.root_object.get("/Pages"))
        declared = found(root.get("/Count")) if isinstance(root, DictionaryObject) else None
        if self._kind(root) is None and declared:
            raise PdfReadError("the page tree is broken")
        waiting, seen, pages = [root], {id(root)}, 0
        gaps: list[tuple[ArrayObject, int]] = []
        while waiting:
            kids = _kids(waiting.pop())
            for place, kid in enumerate(kids):
                target = found(kid)
                # A reference to a reference: pypdf stops at the first.
                kind = self._kind(target) if getattr(target, "indirect_reference", kid) == kid else None
                if kind is None:
                    gaps.append((kids, place))
                elif kind == "/Page":
                    pages += 1
                elif id(target) not in seen:
                    seen.add(id(target))
                    waiting.append(target)
        # A count that is a lie brings no more pages than there are objects.
        objects = sum(map(len, self.xref.values())) + len(self.xref_objStm)
        missed = min(declared - pages, objects) if isinstance(declared, int) else 0
        gaps = [(kids, place) for kids, place in gaps if missed > 0 or self._is_broken(kids[place])]
        more = max(0, missed - len(gaps))  # what is gone may be a branch with many pages
        self.is_numbering_certain = more == 0 or len(gaps) == 1
        for kids, place in reversed(gaps):  # behind a place, places change
            kids[place : place + 1] = [self._no_page()] * (1 + more)
            more = 0

    def _kind(self, node: object) -> str | None:
        """What pypdf is to take an entry of the page tree for; None for what is neither a page nor a branch.

        A wrong type is put right where it is plain what the entry is.
        """
        if not isinstance(node, DictionaryObject) or not node:
            return None
        kind = found(node.get("/Type"))
        has_content = isinstance(found(node.get("/Contents")), StreamObject | ArrayObject)
        looks_like_a_page = kind == "/Page" or (kind is None and not node.keys().isdisjoint(_ONLY_OF_PAGES))
        if isinstance(found(node.get("/Kids")), ArrayObject) and not (kind == "/Page" and has_content):
            plain = "/Pages"
        elif has_content or (looks_like_a_page and "/Count" not in node):
            plain = "/Page"
        else:
            return None
        if kind != plain:
            node[NameObject("/Type")] = NameObject(plain)
        return plain

    def _is_broken(self, value: object) -> bool:
        return isinstance(value, IndirectObject) and (value.generation, value.idnum) in self._broken

    def _no_page(self) -> IndirectObject:
        """A page whose content is missing."""
        page, content = (IndirectObject(0, generation, self) for generation in (65534, 65535))  # no object's numbers
        entries = {NameObject("/Type"): NameObject("/Page"), NameObject("/Contents"): content}
        self.resolved_objects[page.generation, 0] = DictionaryObject(entries)
        return page

    def is_cut_short(self, target: PdfObject) -> bool:
        """Whether parts of an object that was looked up could not be read and were left out."""
        reference = target.indirect_reference
        return reference is not None and (reference.generation, reference.idnum) in self._cut_short

    @property
    def is_truncated(self) -> bool:
        """Whether objects are missing because the file was cut off."""
        return self.repair is not None and self.repair.is_truncated

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


def _kids(node: object) -> ArrayObject:
    kids = found(node.get("/Kids")) if isinstance(node, DictionaryObject) else None
    return kids if isinstance(kids, ArrayObject) else ArrayObject()


@dataclass(slots=True)
class _LeftOut:
    """What was left out of an object while it was read."""

    anything: bool = False
    too_deep: bool = False


class _Listener(logging.Handler):
    """Hears what pypdf leaves out of broken dictionaries: it says so in its log and nowhere else.

    It stops reading a dictionary at what it cannot read, nesting beyond the depth of the stack included, and
    gives what it has until then.
    """

    left_out = _LeftOut()

    def emit(self, record: logging.LogRecord) -> None:
        """Note what a warning says."""
        self.left_out.anything = True
        self.left_out.too_deep |= _PYPDFS_WORDS in record.getMessage()


_NESTED_TOO_DEEP = "nested too deep"
_PYPDFS_WORDS = "Error reading PDF file."  # for a RecursionError or MemoryError within a dictionary
_listener = _Listener(logging.WARNING)
_dictionaries = logging.getLogger("pypdf.generic._data_structures")
_dictionaries.setLevel(logging.WARNING)
_dictionaries.propagate = False
_dictionaries.addHandler(_listener)

_BLANK = rb"[\0\t\n\f\r ]"
# Possessive quantifiers: hostile bytes make no search long.
_HEADER = re.compile(rb"%b*+(?:%%[^\r\n]*+%b*+)*+(\d{1,10})%b++(\d{1,5})%b*+obj" % (_BLANK, _BLANK, _BLANK, _BLANK))
