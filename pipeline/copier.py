"""Copies pages of a PDF to a smaller PDF, with what the pages show and nothing else.

pypdf parses, and the objects are written here one by one as they are met: so the size is known after each
page, streams pass through as they are, and the same pages give the same bytes. Left behind are outlines,
links' targets, actions, scripts, attached files, structure and resources that no content names.

::

    Copier ── Uses (which resources are used)        one for each document
      └── _Copy ── Writer (the file)                 one for each chunk
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline import pdf_annotations, pdf_writer
from pipeline.domain import PageRange
from pipeline.pdf import Copied, PdfError
from pipeline.pdf_reader import (
    ArrayObject,
    BooleanObject,
    ByteStringObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NameObject,
    NullObject,
    NumberObject,
    Reader,
    StreamObject,
    TextStringObject,
    encoded,
    found,
    resolved,
    words,
)
from pipeline.pdf_resources import NAMED, Uses, is_decodable, names_in
from pipeline.pdf_writer import Mark, Writer
from pipeline.text import shortened

# ISO 32000-1, 7.7.3.3: what a page looks like. The reader has filled in what is inherited.
_PAGE_KEYS = ("/MediaBox", "/CropBox", "/BleedBox", "/TrimBox", "/ArtBox", "/Rotate", "/UserUnit", "/Group")

_INHERITED = frozenset({"/MediaBox", "/Resources"})  # from the page tree; without them nothing can be drawn

# Never needed for how a page looks, and each may lead to the whole document.
_LEFT_BEHIND = frozenset({
    "/Page", "/Pages", "/Catalog", "/StructTreeRoot", "/StructElem", "/Outlines", "/Thread", "/Bead",
    "/Annot", "/Action", "/Filespec", "/EmbeddedFile", "/Sig", "/Metadata",
})  # fmt: skip
_LEFT_BEHIND_OF_STREAMS = frozenset({
    "/Length", "/Metadata", "/PieceInfo", "/StructParent", "/StructParents", "/AF", "/Alternates", "/OPI",
    "/Ref",
})  # fmt: skip


Replaced = Callable[[StreamObject], StreamObject]


def _as_it_is(stream: StreamObject) -> StreamObject:
    return stream


class Copier:
    """Copies ranges of pages of one document. Its bytes depend on source and range alone."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.uses = Uses()
        pages = (getattr(page, "indirect_reference", None) for page in reader.pages)
        self.page_keys = frozenset((page.generation, page.idnum) for page in pages if page is not None)

    def copy(
        self, pages: PageRange, out: BinaryIO, max_bytes: int | None = None, replaced: Replaced = _as_it_is
    ) -> Copied:
        """Write as many pages of the range as fit in ``max_bytes``, but at least its first, as a PDF.

        Nothing is written twice but the page that was one too many. A broken object becomes null.

        Args:
            pages: a range within the document.
            out: empty, opened for writing in binary, seekable.
            max_bytes: for the whole file; no limit if None.
            replaced: gives for each stream the one that is written in its place.

        Raises:
            PdfError: a page cannot be copied; the reason names it.
            OSError: the source cannot be read, or ``out`` not written.
        """
        copy = _Copy(self, out, replaced)
        last = pages.first
        try:
            for number in range(pages.first, pages.last + 1):
                mark = copy.mark()
                copy.add(number)
                if max_bytes is not None and number > pages.first and copy.finished_bytes() > max_bytes:
                    copy.back_to(mark)
                    break
                last = number
                self.reader.trim()
            return Copied(PageRange(pages.first, last), copy.finish())
        finally:
            self.reader.forget()


@dataclass(frozen=True, slots=True)
class _CopyMark:
    file: Mark
    numbers: int
    layers: int
    fonts: int
    widgets: int


class _Copy:
    """One chunk under construction."""

    def __init__(self, copier: Copier, out: BinaryIO, replaced: Replaced) -> None:
        self._copier = copier
        self._replaced = replaced
        self._reader = copier.reader
        self._file = Writer(out)
        self._numbers: dict[tuple[int, int], int] = {}  # by generation and number in the source
        self._waiting: list[tuple[int, IndirectObject | StreamObject]] = []
        self._layers: dict[tuple[int, int], int] = {}  # optional content groups that were met
        self._form_fonts: dict[str, bytes] = {}  # of the form's default resources, those in use
        self._widgets: list[int] = []

    # The state, and the way back

    def mark(self) -> _CopyMark:
        counts = (len(self._numbers), len(self._layers), len(self._form_fonts), len(self._widgets))
        return _CopyMark(self._file.mark(), *counts)

    def back_to(self, mark: _CopyMark) -> None:
        self._file.back_to(mark.file)
        for entries, count in ((self._numbers, mark.numbers), (self._layers, mark.layers)):
            while len(entries) > count:
                entries.popitem()
        while len(self._form_fonts) > mark.fonts:
            self._form_fonts.popitem()
        del self._widgets[mark.widgets :]

    def finished_bytes(self) -> int:
        return self._file.finished_bytes(self._catalog())

    def finish(self) -> int:
        return self._file.finish(self._catalog())

    # Pages

    def add(self, number: int) -> None:
        """Copy one page, counted from 1."""
        missed = self._reader.missed
        try:
            page = self._reader.pages[number - 1]
            self._file.write_page(self._page_entries(page))
            self._write_waiting()
            if self._reader.is_truncated and self._reader.missed > missed:
                raise PdfError("the file is truncated, and a part of the page is lost")
        except (MemoryError, OSError):
            raise
        except Exception as error:  # broken in a way that pypdf or we did not foresee
            reason = error.reason if isinstance(error, PdfError) else words(error)
            raise PdfError(f"page {number} cannot be read: {shortened(reason, 160)}") from error

    def _page_entries(self, page: DictionaryObject) -> bytes:
        if "/Contents" not in page and self._reader.is_cut_short(page):
            raise PdfError("its dictionary is broken")
        contents = list(_contents(page))
        streams = [stream for _, stream in contents]
        if self._reader.is_truncated:
            _check_whole(page, streams)
        entries = [self._entry(key, page.raw_get(key)) for key in _PAGE_KEYS if key in page]
        if contents:
            references = b" ".join(self._serialised(reference) for reference, _ in contents)
            entries.append(b"/Contents " + (references if len(contents) == 1 else b"[%b]" % references))
        if "/Resources" in page:
            resources = self._resources(page.raw_get("/Resources"), streams)
            if contents and resources == b"null":
                raise PdfError("its resources are missing or broken")
            entries.append(b"/Resources " + resources)
        annotations = [self._annotation(a) for a in _items(page.get("/Annots"))]
        kept = b" ".join(pdf_writer.reference(number) for number in annotations if number is not None)
        if kept:
            entries.append(b"/Annots[%b]" % kept)
        return b"".join(entries)

    def _annotation(self, value: object) -> int | None:
        source = found(value)
        annotation = pdf_annotations.kept(source) if isinstance(source, DictionaryObject) else None
        if annotation is None:
            return None
        body = self._serialised(annotation)
        number = self._file.reserve()
        self._file.write(number, body)
        self._add_form_fonts(names_in(pdf_annotations.default_appearance(annotation)))
        if pdf_annotations.is_widget(annotation):
            self._widgets.append(number)
        return number

    # Resources

    def _resources(self, value: object, contents: list[StreamObject]) -> bytes:
        resources = found(value)
        if not isinstance(resources, DictionaryObject):
            return b"null"
        if self._brings_something_new(resources):
            pruned = self._copier.uses.pruned(resources, contents)
            if pruned is not None:
                return self._serialised(pruned)
        # Inherited resources were looked up already; what they were referred to by is still known.
        return self._serialised(getattr(resources, "indirect_reference", None) or resources)

    def _brings_something_new(self, resources: DictionaryObject) -> bool:
        parts = (found(resources.get(key)) for key in NAMED)
        return any(
            self._is_new(entry) for part in parts if isinstance(part, DictionaryObject) for entry in part.values()
        )

    def _is_new(self, value: object) -> bool:
        """Whether a value refers to an object that is not in the file yet."""
        if isinstance(value, IndirectObject):
            return (value.generation, value.idnum) not in self._numbers
        if isinstance(value, ArrayObject):
            return any(self._is_new(item) for item in value)
        return isinstance(value, DictionaryObject) and any(self._is_new(item) for item in value.values())

    # Objects

    def _write_waiting(self) -> None:
        """Write what was referred to, and what that refers to, without recursion: chains may be long."""
        for number, value in self._waiting:  # grows meanwhile
            self._write_object(number, value)
        self._waiting.clear()

    def _write_object(self, number: int, value: IndirectObject | StreamObject) -> None:
        target = found(value)
        if isinstance(target, DictionaryObject):
            kind = target.get("/Type")
            if isinstance(kind, NameObject) and kind in _LEFT_BEHIND:
                target = None
            elif kind == "/OCG" and isinstance(value, IndirectObject):
                self._layers[value.generation, value.idnum] = number
        if isinstance(target, StreamObject):
            target = self._replaced(target)
            self._file.write_stream(number, self._stream_entries(target), encoded(target))
            if isinstance(value, IndirectObject):
                self._reader.drop(value)
        else:
            self._file.write(number, self._serialised(target))

    def _stream_entries(self, stream: StreamObject) -> bytes:
        draws = stream.get("/Subtype") == "/Form" or "/PatternType" in stream
        return b"".join(
            b"/Resources " + self._resources(value, [stream])
            if key == "/Resources" and draws
            else self._entry(key, value)
            for key, value in stream.items()
            if key not in _LEFT_BEHIND_OF_STREAMS
        )

    def _entry(self, key: str, value: object) -> bytes:
        return b"%b %b" % (pdf_writer.name(key), self._serialised(value))

    def _serialised(self, value: object) -> bytes:
        """A value in PDF syntax; what it refers to gets a number and waits to be written."""
        write = _WRITERS.get(type(value)) or next((w for kind, w in _WRITERS.items() if isinstance(value, kind)), None)
        return write(self, value) if write else b"null"

    def _reference(self, value: IndirectObject) -> bytes:
        key = value.generation, value.idnum
        number = self._numbers.get(key)
        if number is None:
            if key in self._copier.page_keys:
                return b"null"
            number = self._numbers[key] = self._file.reserve()
            self._waiting.append((number, value))
        return pdf_writer.reference(number)

    def _direct_stream(self, value: StreamObject) -> bytes:
        number = self._file.reserve()  # a stream must be an object of its own
        self._waiting.append((number, value))
        return pdf_writer.reference(number)

    def _dictionary(self, value: DictionaryObject) -> bytes:
        return b"<<%b>>" % b"".join([self._entry(key, entry) for key, entry in value.items()])

    def _array(self, value: ArrayObject) -> bytes:
        return b"[%b]" % b" ".join([self._serialised(item) for item in value])

    # What the catalog holds besides the pages: without it, fields may be drawn wrong and hidden layers shown

    def _catalog(self) -> bytes:
        return self._form() + self._optional_content()

    def _source_form(self) -> DictionaryObject:
        form = found(self._reader.root_object.get("/AcroForm"))
        return form if isinstance(form, DictionaryObject) else DictionaryObject()

    def _add_form_fonts(self, names: set[str]) -> None:
        defaults = found(self._source_form().get("/DR"))
        fonts = found(defaults.get("/Font")) if isinstance(defaults, DictionaryObject) else None
        if isinstance(fonts, DictionaryObject):
            for name in sorted(names & fonts.keys() - self._form_fonts.keys()):
                self._form_fonts[name] = self._serialised(fonts.raw_get(name))

    def _form(self) -> bytes:
        if not self._widgets and not self._form_fonts:
            return b""
        form = self._source_form()
        entries = [b"/Fields[%b]" % b" ".join(pdf_writer.reference(number) for number in self._widgets)]
        for key in ("/DA", "/Q", "/NeedAppearances"):
            value = found(form.get(key))
            if isinstance(value, TextStringObject | ByteStringObject | NumberObject | BooleanObject):
                entries.append(self._entry(key, value))
        fonts = b"".join(b"%b %b" % (pdf_writer.name(name), font) for name, font in self._form_fonts.items())
        return b"/AcroForm<<%b/DR<</Font<<%b>>>>>>" % (b"".join(entries), fonts)

    def _optional_content(self) -> bytes:
        """Which layers are shown, for those that the pages have (8.11.4)."""
        properties = found(self._reader.root_object.get("/OCProperties")) if self._layers else None
        if not isinstance(properties, DictionaryObject):
            return b""
        default = found(properties.get("/D"))
        default = default if isinstance(default, DictionaryObject) else DictionaryObject()
        entries = [_names_entry(default, key) for key in ("/BaseState", "/Intent")]
        entries += [b"%b%b" % (pdf_writer.name(key), self._known_layers(default, key)) for key in ("/ON", "/OFF")]
        states = [self._automatic_state(state) for state in _items(default.get("/AS"))]
        entries.append(b"/AS[%b]" % b"".join(states))
        return b"/OCProperties<</OCGs%b/D<<%b>>>>" % (self._known_layers(properties, "/OCGs"), b"".join(entries))

    def _automatic_state(self, value: object) -> bytes:
        state = found(value)
        if not isinstance(state, DictionaryObject):
            return b""
        entries = [_names_entry(state, key) for key in ("/Event", "/Category")]
        return b"<<%b/OCGs%b>>" % (b"".join(entries), self._known_layers(state, "/OCGs"))

    def _known_layers(self, owner: DictionaryObject, key: str) -> bytes:
        groups = (g for g in _items(owner.get(key)) if isinstance(g, IndirectObject))
        numbers = (self._layers.get((group.generation, group.idnum)) for group in groups)
        return b"[%b]" % b" ".join(pdf_writer.reference(number) for number in numbers if number is not None)


def _items(value: object) -> list[object]:
    """The items of an array, not looked up yet; none where it is something else."""
    array = found(value)
    return list(array) if isinstance(array, ArrayObject) else []


def _names_entry(owner: DictionaryObject, key: str) -> bytes:
    """An entry whose value is a name or an array of names; b"" where it is something else."""
    value = found(owner.get(key))
    names = [found(item) for item in value] if isinstance(value, ArrayObject) else [value]
    if not all(isinstance(item, NameObject) for item in names):
        return b""
    body = b"".join(pdf_writer.name(str(item)) for item in names)
    return b"%b%b" % (pdf_writer.name(key), b"[%b]" % body if isinstance(value, ArrayObject) else body)


def _contents(page: DictionaryObject) -> Iterator[tuple[object, StreamObject]]:
    """The content streams of a page, each with what refers to it.

    Raises:
        PdfError: one of them is not there or not a stream: a page without it would look complete.
    """
    value = page.get("/Contents")
    whole = _content(value)
    if isinstance(whole, StreamObject):
        yield value, whole
        return
    for item in whole if isinstance(whole, ArrayObject) else ():
        stream = _content(item)
        if isinstance(stream, StreamObject):
            yield item, stream


def _content(value: object) -> object:
    target = resolved(value)
    if isinstance(value, IndirectObject) and target is None:
        raise PdfError("its content is missing")
    if not (value is None or isinstance(target, StreamObject | ArrayObject | NullObject)):
        raise PdfError("its content is broken")
    return target


def _check_whole(page: DictionaryObject, contents: Iterable[StreamObject]) -> None:
    """Refuse a page of a truncated file that lacks what it inherits, or whose content nobody has the key for."""
    if not page.keys() >= _INHERITED:
        raise PdfError("the file is truncated, and what the page inherits is lost")
    if not all(is_decodable(content) for content in contents):
        raise PdfError("the file is truncated, and the content of the page cannot be decoded")


_WRITERS: dict[type, Callable[[_Copy, Any], bytes]] = {
    NameObject: lambda _, value: pdf_writer.name(value),
    IndirectObject: _Copy._reference,
    NumberObject: lambda _, value: b"%d" % value,
    FloatObject: lambda _, value: pdf_writer.real(value),
    TextStringObject: lambda _, value: pdf_writer.string(value.original_bytes),
    ByteStringObject: lambda _, value: pdf_writer.string(value),
    BooleanObject: lambda _, value: b"true" if value.value else b"false",
    ArrayObject: _Copy._array,
    StreamObject: _Copy._direct_stream,
    DictionaryObject: _Copy._dictionary,
}
